"""A minute of random schedule, and whether its judge sees what is wrong."""

import unittest

from blackbox.case import Run, need_tool
from schedule import plan
from schedule.history import ABSENT, PRESENT, Effect, impossible
from schedule.run import Wrong, run

SECONDS = 20


class Schedule(unittest.TestCase):
    """Seeds are the same every time; `make proof` takes fresh ones."""

    def play(self, seed, room):
        if Run.remote:
            self.skipTest("needs servers of its own; this run is pointed at a running one")
        need_tool(self, "node")
        said = []
        try:
            run(seed, SECONDS, rate=40, room=room, say=said.append)
        except Wrong as wrong:
            self.fail("\n".join([*said, str(wrong)]))

    def test_twenty_seconds_with_much_room(self):
        self.play(1, "wide")

    def test_twenty_seconds_with_little_room(self):
        self.play(2, "narrow")

    def test_a_seed_is_a_schedule(self):
        one, same, other = (list(map(str, plan.schedule(seed, "a", 10, 40))) for seed in (7, 7, 8))
        self.assertEqual(one, same)
        self.assertNotEqual(one, other)


def upload(start, end, version, **more):
    return Effect(start, end, "write", version, **more)


def delete(start, end):
    return Effect(start, end, "take")


def sees(start, end, value):
    return Effect(start, end, "read", value)


class Judging(unittest.TestCase):
    def check(self, effects, right):
        found = impossible(effects)
        self.assertEqual(found is None, right, found)

    def test_one_after_the_other(self):
        self.check([sees(0, 1, ABSENT), upload(2, 3, "v1"), sees(4, 5, "v1"), sees(4, 5, PRESENT)], True)
        self.check([sees(0, 1, "v1"), upload(2, 3, "v1")], False)
        self.check([upload(2, 3, "v1"), sees(4, 5, ABSENT)], False)
        self.check([upload(0, 1, "v1"), upload(2, 3, "v2"), sees(4, 5, "v1")], False)
        self.check([upload(0, 1, "v1"), delete(2, 3), sees(4, 5, PRESENT)], False)
        self.check([delete(0, 1)], False)
        self.check([upload(0, 1, "v1"), delete(2, 3), delete(4, 5)], False)
        self.check([upload(0, 1, "v1", replaced=False), upload(2, 3, "v2", replaced=True)], True)
        self.check([upload(0, 1, "v1"), upload(2, 3, "v2", replaced=False)], False)
        self.check([upload(0, 1, "v1", replaced=True)], False)

    def test_at_the_same_time(self):
        both = [upload(0, 3, "v1"), upload(0, 3, "v2")]
        self.check([*both, sees(4, 5, "v1")], True)
        self.check([*both, sees(4, 5, "v1"), sees(6, 7, "v2")], False)
        # What was seen first may not come back.
        self.check([upload(0, 1, "v1"), upload(2, 9, "v2"), sees(3, 4, "v2"), sees(5, 6, "v1")], False)
        self.check([upload(0, 1, "v1"), upload(2, 9, "v2"), sees(3, 4, "v1"), sees(5, 6, "v2")], True)
        self.check([upload(0, 1, "v1"), delete(2, 9), delete(2, 9), upload(2, 9, "v2")], True)
        self.check([upload(0, 1, "v1"), delete(2, 9), delete(2, 9)], False)

    def test_an_upload_whose_caller_left(self):
        left = upload(0, float("inf"), "v1", optional=True)
        self.check([left, sees(2, 3, ABSENT), sees(4, 5, "v1")], True)
        self.check([left, sees(2, 3, "v1"), sees(4, 5, ABSENT)], False)
        self.check([left, sees(2, 3, ABSENT)], True)


if __name__ == "__main__":
    unittest.main()
