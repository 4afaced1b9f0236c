"""binary: fn.sh for every call."""

import os
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.case import Case, OwnServerCase
from blackbox.folders import File


class Binary(Case):
    def test_the_shebang_decides(self):
        self.answers(self.script("#!/bin/sh\nprintf sh\n"), "sh")
        self.answers(self.script("#!/bin/bash\necho -n \"${BASH_VERSION:+bash}\"\n"), "bash")
        self.answers(self.script("#!/usr/bin/env python3\nprint('python', end='')\n"), "python")
        self.answers(self.script("printf none\n"), "none")

    def test_it_runs_in_the_functions_folder(self):
        name = self.deploy("binary", {"fn.sh": "#!/bin/sh\ncat data; ./bin/tool\n", "data": "data ", "bin/tool": File("#!/bin/sh\necho tool\n", 0o755)})
        self.answers(name, "data tool\n")

    def test_the_request_in_variables(self):
        name = self.script(
            "#!/bin/sh\nprintf '%s|' \"$REQUEST_METHOD\" \"$QUERY_STRING\" \"$PATH_INFO\" \"$CONTENT_TYPE\" \"$HTTP_LAB\" \"$HTTP_X_TWO_WORDS\" \"$HTTP_PROXY\"\n"
        )
        headers = {"Content-Type": "text/x-lab", "Lab": "edge", "X-Two-Words": "a b", "Proxy": "http://evil.example"}
        self.answers(f"{name}/sub/path?a=1&b=%20", "PUT|a=1&b=%20|/sub/path|text/x-lab|edge|a b||", "x", method="PUT", headers=headers)

    def test_a_failure_carries_the_output(self):
        name = self.script("#!/bin/sh\necho what went out\necho what went wrong >&2\nexit 3\n")
        answer = self.call(name)
        self.assertEqual(answer.status, 500)
        self.assertIn("what went out", answer.text)
        self.assertNotIn("what went wrong", answer.text)
        self.wait_for_log(name, "what went wrong")

    def test_a_script_killed_by_a_signal_is_a_failure(self):
        name = self.script("#!/bin/sh\necho out\nkill -9 $$\n")
        self.assertEqual(self.call(name).status, 500)

    def test_a_script_that_does_not_read_its_input(self):
        name = self.script("#!/bin/sh\nprintf ignored\n")
        self.answers(name, "ignored", os.urandom(2_000_000))

    def test_large_bodies_both_ways(self):
        name = self.script("#!/bin/sh\ncat\n")
        body = os.urandom(5_000_000)
        answer = self.call(name, body)
        self.assertEqual((answer.status, len(answer.body)), (200, len(body)))
        self.assertEqual(answer.body, body)

    def test_past_a_mebibyte_a_failure_breaks_the_reply_off(self):
        name = self.script("#!/bin/sh\nhead -c 3000000 /dev/zero\nexit 1\n")
        done = self.curl("--output", "/dev/null", f"{self.server.http}/{name}")
        self.assertNotEqual(done.returncode, 0)

    def test_scripts_run_at_the_same_time(self):
        name = self.script("#!/bin/sh\nsleep 1\nprintf slept\n", threads=1)
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            self.assertEqual(list(pool.map(lambda _: self.call(name).text, range(8))), ["slept"] * 8)
        self.assertLess(time.monotonic() - began, 5)

    def test_the_environment_is_clean(self):
        name = self.script("#!/bin/sh\nenv\n", envs=["LAB=edge", "HTTP_FAKE=x"])
        shown = dict(line.split("=", 1) for line in self.call(name).text.splitlines() if "=" in line)
        self.assertEqual(shown["LAB"], "edge")
        self.assertIn("PATH", shown)
        self.assertEqual([key for key in shown if key.startswith("TF_") or key in ("CI", "LOGNAME", "HTTP_PORT")], [])

    def test_a_missing_interpreter_is_said(self):
        from blackbox.case import new_name

        name = new_name("shebang")
        self.addCleanup(self.remove, name)
        answer = self.upload(name, "binary", {"fn.sh": File("#!/no/such/interpreter\n", 0o755)})
        if answer.status == 200:
            answer = self.call(name)
            self.assertEqual(answer.status, 500)
            self.wait_for_log(name, "/no/such/interpreter")
        else:
            self.refused(answer, 422, "/no/such/interpreter")

    def test_windows_line_ends_are_said(self):
        answer = self.upload("windows", "binary", {"fn.sh": "#!/bin/sh\r\nprintf hi\r\n"})
        self.refused(answer, 422, "line break")


class Background(OwnServerCase):
    settings = {}

    def test_what_a_script_leaves_in_the_background_does_not_hold_its_reply(self):
        name = self.script("#!/bin/sh\n(sleep 300 >/dev/null 2>&1 &)\nprintf done\n")
        began = time.monotonic()
        self.answers(name, "done")
        self.assertLess(time.monotonic() - began, 5)


if __name__ == "__main__":
    unittest.main()
