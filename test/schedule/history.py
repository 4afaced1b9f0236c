"""Whether what was seen of one name can have happened one after the other.

Owns the search: each operation takes effect at one moment between its start and
its end, and what is read is what was written last before it (linearizability of
a register). Must not know HTTP, nor what an operation is made of.

Reads are placed as early as they fit, which loses nothing; writes as late as
something needs them (G. Lowe, Testing for linearizability, 2017).
"""

from dataclasses import dataclass
from typing import Any

# What a read may have seen beside a version: nothing there; some version.
ABSENT = None
PRESENT = "some version"


@dataclass
class Effect:
    """What one operation did to a name, or saw of it, between two moments."""

    start: float
    end: float
    # "read", "write" or "take": that removes what must be there.
    kind: str
    value: Any = ABSENT
    # Whether a write has found something there; None where that is not known.
    replaced: Any = None
    # It may as well have done nothing.
    optional: bool = False
    # What it is part of, for who is told.
    record: Any = None

    def sees(self, value):
        return value is not ABSENT if self.value == PRESENT else value == self.value

    def after(self, value):
        """What is there after it; raises where it cannot happen."""
        if self.kind == "take":
            if value is ABSENT:
                raise ValueError("nothing to take")
            return ABSENT
        if self.replaced is not None and self.replaced == (value is ABSENT):
            raise ValueError("another one was there")
        return self.value


def impossible(effects, at_first=ABSENT):
    """The first effect that no order explains, or None."""
    moments = [(effect.start, 0, n) for n, effect in enumerate(effects)]
    moments += [(effect.end, 1, n) for n, effect in enumerate(effects)]
    # What may have been: the value, and which of the pending have happened.
    may_be = {(at_first, frozenset())}
    pending = _Pending(effects)
    for _, ends, number in sorted(moments):
        effect = effects[number]
        if not ends:
            pending.add(number)
            if effect.kind == "read":
                may_be = {(value, done | {number} if effect.sees(value) else done) for value, done in may_be}
            continue
        may_be = _likely(effects, _happened(pending, number, may_be))
        pending.remove(number)
        if not may_be:
            return effect
    return None


class _Pending:
    """The effects that have begun and not ended."""

    def __init__(self, effects):
        self.effects = effects
        self.writes = set()
        # By what they see.
        self.reads = {}

    def _of(self, number):
        effect = self.effects[number]
        return self.writes if effect.kind != "read" else self.reads.setdefault(effect.value, set())

    def add(self, number):
        self._of(number).add(number)

    def remove(self, number):
        self._of(number).discard(number)

    def who_see(self, value):
        found = self.reads.get(value, set())
        return found if value is ABSENT else found | self.reads.get(PRESENT, set())


def _happened(pending, number, may_be):
    """All that may be once this effect has happened."""
    effects = pending.effects
    after, seen, to_do = set(), set(may_be), list(may_be)
    while to_do:
        value, done = to_do.pop()
        if number in done:
            after.add((value, done - {number}))
            continue
        if effects[number].optional:
            after.add((value, done))
        for other in pending.writes - done:
            try:
                next_value = effects[other].after(value)
            except ValueError:
                continue
            one = next_value, done | {other} | pending.who_see(next_value)
            if one not in seen:
                seen.add(one)
                to_do.append(one)
    return after


def _likely(effects, may_be):
    """Leaves out what can explain no more than another that is there: with the same
    value and the same writes done it has fewer reads behind it, or has spent an
    optional write that the other has still to spend."""
    if len(may_be) < 2:
        return may_be
    alike = {}
    for value, done in may_be:
        reads = frozenset(n for n in done if effects[n].kind == "read")
        spent = frozenset(n for n in done - reads if effects[n].optional)
        alike.setdefault((value, done - reads - spent), []).append((reads, spent, done))
    kept = set()
    for (value, _), ones in alike.items():
        best = []
        # The most reads first: only those before can be better.
        for reads, spent, done in sorted(ones, key=lambda one: (-len(one[0]), len(one[1]))):
            if not any(reads <= more and fewer <= spent for more, fewer in best):
                best.append((reads, spent))
                kept.add((value, done))
    return kept
