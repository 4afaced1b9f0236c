"""Prometheus' text, read strictly.

Owns the grammar (https://prometheus.io/docs/instrumenting/exposition_formats/)
and what must hold of any page. Must not know which metrics there are.
"""

import math
import re

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


class Page:
    """One look at the metrics: `values` maps a name and its labels to a number."""

    def __init__(self, text):
        self.types = {}
        self.values = {}
        current = None
        helped = set()
        assert text.endswith("\n"), "the last line has no end"
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name, words = line[7:].split(" ", 1)
                assert words.strip() and name not in helped, line
                helped.add(name)
                current = name
            elif line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                assert name == current and name not in self.types, line
                assert kind in ("counter", "gauge", "histogram"), line
                assert (kind == "counter") == name.endswith("_total"), line
                self.types[name] = kind
            else:
                self._sample(line, current)
        assert helped == set(self.types)
        for name in [name for name, kind in self.types.items() if kind == "histogram"]:
            self._check_histogram(name)

    def _sample(self, line, family):
        found = SAMPLE.fullmatch(line)
        assert found, f"not a sample: {line!r}"
        name, labels, number = found.groups()
        suffixes = ("_bucket", "_sum", "_count") if self.types[family] == "histogram" else ("",)
        assert name in [family + suffix for suffix in suffixes], f"{line!r} stands below {family}"
        pairs = re.findall(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"', labels or "")
        assert len(dict(pairs)) == len(pairs), line
        key = (name, frozenset(pairs))
        assert key not in self.values, f"twice: {line!r}"
        self.values[key] = float(number)
        if self.types[family] != "gauge":
            assert self.values[key] >= 0, line

    def _check_histogram(self, name):
        series = {}
        for (of, labels), number in self.values.items():
            if of == name + "_bucket":
                bound = dict(labels)["le"]
                rest = frozenset(pair for pair in labels if pair[0] != "le")
                series.setdefault(rest, []).append((float(bound), number))
        for labels, buckets in series.items():
            assert buckets == sorted(buckets), f"{name} is not in order: {buckets}"
            counts = [count for _, count in buckets]
            assert counts == sorted(counts), f"{name} is not cumulative: {buckets}"
            assert buckets[-1][0] == math.inf, f"{name} has no last bucket"
            assert counts[-1] == self.values[(name + "_count", labels)], f"{name} does not add up"
            assert (name + "_sum", labels) in self.values

    def value(self, name, **labels):
        """The number that stands behind a name and exactly these labels, or None."""
        return self.values.get((name, frozenset(labels.items())))

    def counters(self):
        """What never goes down: counters, and all of histograms."""
        ends = ("_total", "_bucket", "_sum", "_count")
        return {key: number for key, number in self.values.items() if key[0].endswith(ends)}

    def functions(self):
        """The functions that have any series."""
        return {value for _, labels in self.values for key, value in labels if key == "function"}
