"""The schedule: which operation is begun when, with which arguments.

Owns the dice. All of it is made from the seed before anything runs, so the same
seed gives the same schedule; what the machine makes of the times is not in it.
"""

import random
from dataclasses import dataclass, field

from . import functions

# Names whose functions do nothing wicked: their callers are never told so.
CALM = ("calm-a", "calm-b", "calm-c")
WILD = ("wild-a", "wild-b", "wild-c")
NAMES = CALM + WILD

DEADLINE_S = 5.0
DRAIN_DELETE_S = 2.0
# How long results of asynchronous calls are kept.
KEEP_S = 4

# What servers may be like, by the room that they give.
SETTINGS = {
    "wide": {"TF_UPLOADS_MAX": 8},
    "narrow": {
        "TF_UPLOADS_MAX": 3,
        "TF_WAITING_PER_FUNCTION": 2,
        "TF_CALLS_PER_HANDLER": 1,
        "TF_CALLS_PER_HANDLER_BINARY": 1,
        "TF_WAITING_TOTAL": 6,
        "TF_ASYNC_WAITING": 12,
        "TF_ASYNC_ENDED": 8,
        "TF_ASYNC_RESULTS": "1MiB",
        "TF_ASYNC_RESULT_MAX": "256KiB",
        "TF_HELD_BYTES": "4MiB",
        "TF_LOG_BYTES_MAX": "64KiB",
    },
}
COMMON = {
    "TF_CALL_DEADLINE": f"{int(DEADLINE_S * 1000)}ms",
    "TF_DRAIN_DELETE": f"{int(DRAIN_DELETE_S * 1000)}ms",
    "TF_DRAIN_STOP": "2s",
    "TF_ASYNC_KEEP": f"{KEEP_S}s",
    # The C library gives each thread an arena of its own, which keeps what its
    # thread once needed; with one of them memory tells what is in use.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "131072",
}


@dataclass
class Operation:
    """One operation of the schedule."""

    number: int
    # Seconds after the schedule's begin.
    at: float
    what: str
    name: str = ""
    details: dict = field(default_factory=dict)

    def __str__(self):
        details = " ".join(f"{key}={value}" for key, value in self.details.items())
        return f"#{self.number} {self.what} {self.name} {details}".rstrip()


def room_of(seed):
    """Whether the server has much room or little."""
    return random.Random(f"room {seed}").choice(sorted(SETTINGS))


def schedule(seed, part, seconds, rate, murders=0):
    """The operations of one part of the schedule, in the order of their begin;
    among them `murders` of the process that starts all handlers."""
    return _Dice(random.Random(f"{seed} {part}"), part).roll(seconds, rate, murders)


class _Dice:
    def __init__(self, dice, part):
        self.dice, self.part = dice, part
        self.operations = []

    def roll(self, seconds, rate, murders):
        for _ in range(murders):
            self.add(self.dice.uniform(0.2, 0.9) * seconds, "murder")
        for name in NAMES:
            self.add(self.dice.uniform(0, 1), "upload", name, self.good_upload())
        at = 0.0
        while True:
            at += self.dice.expovariate(rate)
            if at >= seconds:
                break
            self.any(at, self.dice.choice(NAMES))
        for _ in range(max(1, int(seconds / 6))):
            self.burst(self.dice.uniform(0, seconds))
        self.operations.sort(key=lambda operation: operation.at)
        for number, operation in enumerate(self.operations):
            operation.number = number
            if operation.what == "upload":
                operation.details["version"] = f"v{self.part}.{number}"
        return self.operations

    def add(self, at, what, name="", details=None):
        self.operations.append(Operation(0, at, what, name, details or {}))

    def burst(self, at):
        """Many operations at the same moment, on one name or two."""
        names = self.dice.sample(NAMES, self.dice.choice((1, 1, 2)))
        for _ in range(self.dice.choice((20, 60, 120, 200))):
            self.any(at + self.dice.uniform(0, 0.05), self.dice.choice(names))

    def any(self, at, name):
        what, = self.dice.choices(
            ("call", "accept", "upload", "bad upload", "delete", "list", "look", "logs", "state", "wipe"),
            (60, 16, 6, 3, 1, 5, 3, 4, 1, 0.06),
        )
        if what == "call":
            self.add(at, what, name, self.call(name))
        elif what == "accept":
            self.add(at, what, name, self.accept(name))
        elif what == "upload":
            self.add(at, what, name, self.good_upload())
        elif what == "bad upload":
            self.add(at, what, name, self.bad_upload())
        elif what == "logs":
            self.add(at, what, self.dice.choice((name, name, "")))
        elif what in ("list", "wipe"):
            self.add(at, what, "", self.api())
        elif what == "state":
            self.add(at, what, "", {"of": self.dice.choice(("/healthz", "/readyz", "/v1/server", "/v1/calls"))})
        elif what == "delete":
            self.add(at, what, name, self.api())
        else:
            self.add(at, what, name)

    def api(self):
        return {"by": self.dice.choice(("call", "v1"))}

    def call(self, name):
        details = self.asked(name)
        leaves = self.dice.random() < 0.08
        if leaves:
            details["leaves after"] = round(self.dice.choice((0, 0.01, 0.2, 1)), 2)
            # In the midst of its body, or behind it.
            details["cut"] = self.dice.random() < 0.3
        elif self.dice.random() < 0.06:
            details["reads slowly"] = self.dice.choice((0.1, 1, 3))
        elif self.dice.random() < 0.5:
            details["kept"] = True
        return details

    def accept(self, name):
        details = self.asked(name)
        if self.dice.random() < 0.4:
            details |= {"kind": "mark", "argument": "-"}
        details["then"], = self.dice.choices(("wait", "poll", "forget", "cancel"), (4, 2, 1, 2))
        if details["then"] == "cancel":
            details["after"] = round(self.dice.choice((0, 0.05, 0.5)), 2)
            details |= self.api()
        return details

    def asked(self, name):
        """What a call asks of its function."""
        kinds = {"echo": 40, "sleep": 22, "fail": 5, "teapot": 3, "stream": 8, "take": 6, "give": 6, "print": 4, "litter": 2, "mark": 12}
        if name in WILD:
            kinds |= {"daemon": 3, "crash": 3, "late": 2, "hog": 1}
        kind, = self.dice.choices(list(kinds), list(kinds.values()))
        argument = "-"
        if kind == "sleep":
            argument = round(self.dice.choice((0.01, 0.1, 0.5, 1, 2)) * self.dice.uniform(0.5, 1.5), 3)
        elif kind == "late":
            kind, argument = "sleep", DEADLINE_S + 3
        elif kind == "stream":
            argument = self.dice.choice((1, 5, 50))
        elif kind in ("take", "give"):
            argument = self.dice.choice((0, 1000, 70_000, 300_000, 3_000_000))
        elif kind == "print":
            argument = self.dice.choice((1, 20, 500))
        elif kind == "crash":
            argument = self.dice.choice(("exit", "signal", "guard", "stopped", "socket"))
        elif kind == "hog":
            argument = round(self.dice.choice((0.5, DEADLINE_S + 2)), 1)
        return {"kind": kind, "argument": argument}

    def good_upload(self):
        details = {
            "environment": self.dice.choice(functions.ENVIRONMENTS),
            "threads": self.dice.choice((1, 1, 2, 3)),
            "by": self.dice.choice(("zip", "zip", "url", "put", "stream")),
        }
        if self.dice.random() < 0.06:
            details["leaves after"] = round(self.dice.choice((0, 0.05, 0.3)), 2)
        return details

    def bad_upload(self):
        how = self.dice.choice((
            *functions.BROKEN, *functions.BROKEN, "no zip", "empty zip", "cut", "not JSON", "environment",
            "threads", "name", "url gone", "url no zip", "subfolder",
        ))
        environment = self.dice.choice(functions.ENVIRONMENTS[:2])
        return {"how": how, "environment": environment}
