"""Judging another server by the suite: known failures are no news, others are."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from blackbox.known import BadList, judge, parse
from blackbox.server import REPOSITORY

sys.path.insert(0, str(Path(__file__).resolve().parent))

import original  # noqa: E402

NAMES = ["calling.test_http.Http.test_any_method", "calling.test_http.Http.test_http_1_0", "samples.test_samples.Samples.test_echo"]
# What the runs below pick: two that the original passes, one that it fails, one that
# needs servers of its own.
PICKED = ["OtherCalls.test_a_deleted_function_can_come_again", "Upload.test_line_breaks_inside_the_zip_are_allowed", "Upload.test_an_unknown_environment_is_refused", "DataDirectory.test_two_servers"]
FAILS = "management.test_upload.Upload.test_an_unknown_environment_is_refused"
PASSES = "management.test_upload.Upload.test_line_breaks_inside_the_zip_are_allowed"


class Lists(unittest.TestCase):
    def test_a_line_is_a_pattern_and_a_reason(self):
        text = "# about http\n\ncalling.*  no statuses\n  samples.test_samples.Samples.test_echo\tx y \n"
        with self.assertRaises(BadList):
            parse(text, NAMES)
        found = parse(text.replace("\t", " "), NAMES)
        self.assertEqual([(one.line, one.pattern, one.reason) for one in found], [(3, "calling.*", "no statuses"), (4, NAMES[2], "x y")])

    def test_every_mistake_is_told_at_once(self):
        with self.assertRaises(BadList) as raised:
            parse("calling.*\nCalling.* renamed\nnobody.test_x why\n", NAMES)
        told = str(raised.exception).splitlines()
        self.assertEqual(len(told), 3, told)
        self.assertIn("line 1: calling.* has no reason", told[0])
        self.assertIn("line 2: no case matches Calling.*", told[1])
        self.assertIn("line 3: no case matches nobody.test_x", told[2])


class Judgement(unittest.TestCase):
    def test_only_an_unknown_failure_is_bad(self):
        known = parse("calling.* no statuses\n", NAMES)
        verdict = judge(known, {NAMES[0], NAMES[2]}, {NAMES[1]})
        self.assertEqual(verdict.unknown, [NAMES[2]])
        self.assertEqual([name for name, _ in verdict.expected], [NAMES[0]])
        self.assertEqual(verdict.passed, [], "the line expected another one rightly")
        verdict = judge(known, {NAMES[2]}, {NAMES[0], NAMES[1]})
        self.assertEqual(verdict.passed, [(known[0], NAMES[:2])])
        known = parse("calling.* sometimes: it depends\n", NAMES)
        self.assertEqual(judge(known, set(), set(NAMES)).passed, [])

    def test_without_a_list_every_failure_is_bad(self):
        verdict = judge([], {NAMES[0]}, {NAMES[1]})
        self.assertEqual((verdict.unknown, verdict.expected, verdict.passed), ([NAMES[0]], [], []))


class Runs(unittest.TestCase):
    """The runner itself, pointed at a stand-in for the original."""

    @classmethod
    def setUpClass(cls):
        cls.original = original.Running()
        cls.addClassCleanup(cls.original.stop)

    def run_suite(self, known=None):
        """Runs the picked cases with this list, a text or a file; the exit code and
        what was told."""
        arguments = [argument for name in PICKED for argument in ("-k", name)]
        if isinstance(known, Path):
            arguments += ["--known-failures", known]
        elif known is not None:
            with tempfile.NamedTemporaryFile("w", suffix=".txt", delete=False) as file:
                file.write(known)
            self.addCleanup(Path(file.name).unlink)
            arguments += ["--known-failures", file.name]
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "test/run.py"), "--server", self.original.management, "--http", self.original.http, *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
        )
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def test_without_a_list_a_failure_fails_the_run(self):
        code, told = self.run_suite()
        self.assertEqual(code, 1, told)
        self.assertEqual(told.splitlines()[-1], "2 passed, 1 failed, 2 skipped")

    def test_a_known_failure_is_told_and_does_not(self):
        code, told = self.run_suite(f"{FAILS} errors are empty there\n")
        self.assertEqual(code, 0, told)
        self.assertIn(f"known failure {FAILS}: errors are empty there", told)
        self.assertEqual(told.splitlines()[-1], "2 passed, 0 failed, 1 known failures, 2 skipped")
        self.assertIn("test_two_servers_side_by_side: needs servers of its own", told)

    def test_the_list_of_the_original_is_not_stale(self):
        code, told = self.run_suite(REPOSITORY / "test/known-failures/original.txt")
        self.assertEqual(code, 0, told)
        self.assertEqual(told.splitlines()[-1], "2 passed, 0 failed, 1 known failures, 2 skipped")

    def test_another_failure_still_fails_it(self):
        code, told = self.run_suite("samples.* not of this run\n")
        self.assertEqual(code, 1, told)
        self.assertIn(f"NOT KNOWN {FAILS}", told)
        self.assertEqual(told.splitlines()[-1], "2 passed, 1 failed, 0 known failures, 2 skipped")

    def test_a_known_failure_that_passes_is_told(self):
        code, told = self.run_suite(f"{FAILS} errors are empty there\n{PASSES} was so once\n")
        self.assertEqual(code, 0, told)
        self.assertIn(f"PASSES NOW, so take out line 2: {PASSES} was so once", told)

    def test_what_would_do_harm_is_not_run(self):
        code, told = self.run_suite(f"{FAILS} not run: it would be bad there\n")
        self.assertEqual(code, 0, told)
        self.assertIn(f"skipped {FAILS}: not run: it would be bad there", told)
        self.assertEqual(told.splitlines()[-1], "2 passed, 0 failed, 0 known failures, 3 skipped")

    def test_a_stale_list_is_refused(self):
        code, told = self.run_suite("management.test_upload.Upload.test_renamed why\n")
        self.assertEqual(code, 1, told)
        self.assertIn("line 1: no case matches management.test_upload.Upload.test_renamed", told)


if __name__ == "__main__":
    unittest.main()
