"""Failures that are known: what a server that is only judged, such as the original,
does otherwise.

Owns the list's form and the judgement. Must not know how cases are run.

A line is a pattern of case names (`GROUP.test_FILE.CLASS.test_NAME`, `*` for any
part), blanks, and the reason. A case whose reason begins with `not run:` is skipped:
it would harm that server's machine. One whose reason begins with `sometimes:` may
pass as well, where others that pass are told of. Empty lines and those that begin with `#` are
comments.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase


class BadList(Exception):
    """The list cannot be used; says which lines are wrong, all at once."""


@dataclass(frozen=True)
class Known:
    """One line of the list."""

    line: int
    pattern: str
    reason: str

    def covers(self, name):
        return fnmatchcase(name, self.pattern)

    @property
    def not_run(self):
        return self.reason.startswith("not run:")

    @property
    def sometimes(self):
        return self.reason.startswith("sometimes:")


def parse(text, names):
    """Reads a list. `names` are all cases there are: a pattern that none of them
    matches is stale, and so an error."""
    found, wrong = [], []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        pattern, _, reason = line.partition(" ")
        known = Known(number, pattern, reason.strip())
        found.append(known)
        if not known.reason:
            wrong.append(f"line {number}: {pattern} has no reason behind it")
        if not any(known.covers(name) for name in names):
            wrong.append(f"line {number}: no case matches {pattern}; was it renamed?")
    if wrong:
        raise BadList("\n".join(wrong))
    return found


def line_of(known, name):
    """The first line that covers a case, or None."""
    return next((one for one in known if one.covers(name)), None)


@dataclass
class Verdict:
    """What the failures of a run come to."""

    # Names of cases that failed and are in no list: what makes a run bad.
    unknown: list
    # Pairs of a name and the line that expected its failure.
    expected: list
    # Lines that expected failures and saw cases pass only, with their names.
    passed: list


def judge(known, failed, passed):
    """Holds a run against the list: names of cases that failed and that passed."""
    lines = [(name, line_of(known, name)) for name in sorted(failed)]
    expected = [(name, line) for name, line in lines if line]
    failing = {line for _, line in expected}
    passing = {}
    for name in sorted(passed):
        line = line_of(known, name)
        if line and line not in failing and not line.sometimes:
            passing.setdefault(line, []).append(name)
    return Verdict([name for name, line in lines if line is None], expected, list(passing.items()))
