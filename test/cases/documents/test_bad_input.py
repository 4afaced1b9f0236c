"""docs/bad-input.md names the cases that there are."""

import re
import sys
import unittest

from blackbox.bad_input import BadInput
from blackbox.misbehaving import Misbehaving
from blackbox.server import REPOSITORY

# Classes whose cases stand there though they leave nothing by their nature: no
# server comes up, or its disk is its own.
OTHERS = {
    "starting.test_bad_settings.BadSettings", "starting.test_small_machines.Disks",
    "starting.test_small_machines.TooFewFiles",
}


def cases_of(name, kind):
    return {f"{name}.{case}" for case in unittest.TestLoader().getTestCaseNames(kind)}


class Table(unittest.TestCase):
    def named(self):
        rows = [line for line in (REPOSITORY / "docs" / "bad-input.md").read_text().splitlines() if line.startswith("| ")]
        rows = [row for row in rows if not row.startswith("| input ")]
        self.assertGreater(len(rows), 50)
        for row in rows:
            self.assertRegex(row, r"^\| .+ \| .+ \| (the same|`[\w.]+`) \|$")
        return set(re.findall(r"`([a-z_0-9]+\.test_\w+\.\w+\.test_\w+)` \|$", "\n".join(rows), flags=re.MULTILINE))

    def test_every_case_named_is_there(self):
        for name in self.named():
            with self.subTest(name=name):
                module, kind, case = re.match(r"(.+)\.(\w+)\.(\w+)$", name).groups()
                self.assertTrue(callable(getattr(getattr(sys.modules.get(module), kind, None), case, None)))

    def test_every_case_of_bad_input_is_named(self):
        there = set()
        for module in list(sys.modules.values()):
            for kind in vars(module).values():
                if not isinstance(kind, type) or not issubclass(kind, unittest.TestCase):
                    continue
                name = f"{kind.__module__}.{kind.__name__}"
                if issubclass(kind, (BadInput, Misbehaving)) or name in OTHERS:
                    there |= cases_of(name, kind)
        self.assertGreater(len(there), 50)
        self.assertEqual(there - self.named(), set())


if __name__ == "__main__":
    unittest.main()
