"""docs/coap-interop.md has all of ETSI's tests, and names the cases that there are."""

import re
import sys
import unittest

from blackbox.coap_case import INTEROP
from blackbox.server import REPOSITORY

# How many tests each group has.
GROUPS = {"CORE": [*range(1, 24), 31], "BLOCK": range(1, 7), "OBS": range(1, 15), "LINK": range(1, 10), "DTLS": range(1, 4)}


class Table(unittest.TestCase):
    def rows(self):
        lines = (REPOSITORY / "docs" / "coap-interop.md").read_text().splitlines()
        rows = [line for line in lines if line.startswith("| ") and not line.startswith("| test ")]
        for row in rows:
            self.assertRegex(row, r"^\| TD_COAP_[A-Z]+_\d\d \| .+ \| `[\w.]+` \|$")
        return [(row.split()[1], re.search(r"`([\w.]+)` \|$", row)[1]) for row in rows]

    def test_every_test_stands_there(self):
        there = {f"TD_COAP_{group}_{number:02}" for group, numbers in GROUPS.items() for number in numbers}
        self.assertEqual({identifier for identifier, _ in self.rows()}, there)

    def test_every_case_named_is_there(self):
        for _, name in self.rows():
            with self.subTest(name=name):
                module, kind, case = re.match(r"(.+)\.(\w+)\.(\w+)$", name).groups()
                self.assertTrue(callable(getattr(getattr(sys.modules.get(module), kind, None), case, None)))

    def test_every_case_of_these_is_named(self):
        there = set()
        for name, module in list(sys.modules.items()):
            if name.startswith("coap.test_etsi"):
                for kind in vars(module).values():
                    if isinstance(kind, type) and issubclass(kind, unittest.TestCase) and kind.__module__ == name:
                        there |= {f"{name}.{kind.__name__}.{case}" for case in unittest.TestLoader().getTestCaseNames(kind)}
        self.assertGreater(len(there), 50)
        self.assertEqual(there - {name for _, name in self.rows()}, set())

    def test_every_function_is_told_of(self):
        told = set(re.findall(r"`([\w-]+)`", (INTEROP / "README.md").read_text()))
        self.assertEqual({folder.name for folder in INTEROP.iterdir() if folder.is_dir()} - told, set())


if __name__ == "__main__":
    unittest.main()
