"""Asynchronous calls: asking for their state and their result, cancelling them."""

import json
import time

from blackbox.case import Case, OwnServerCase

ASYNC = {"X-tinyFaaS-Async": "true"}


class Asking(Case):
    def accepted(self, name, body="x"):
        """Makes an asynchronous call; where to ask for it, without its slash."""
        answer = self.call(name, body, headers=ASYNC)
        self.assertEqual((answer.status, answer.body), (202, b""))
        location = answer.header("Location")
        self.assertEqual(location, "/.tinyfaas/calls/" + answer.header("X-tinyFaaS-Call-Id"))
        return location[1:]

    def ended(self, location):
        """The call's state once it has ended."""
        answer = self.call(f"{location}?wait=30s")
        self.assertEqual(answer.status, 200, answer.text)
        return json.loads(answer.text)


class Results(Asking):
    def test_state_and_result(self):
        name = self.python(
            "import time\n"
            "def fn(input, headers):\n"
            "    time.sleep(0.3)\n"
            "    return input[::-1], 201, {'X-Lab': 'edge', 'Content-Type': 'text/csv'}\n"
        )
        location = self.accepted(name, "abc")
        early = self.call(location)
        self.assertEqual(early.status, 202)
        self.assertTrue(early.header("Retry-After"))
        self.assertIn(json.loads(early.text)["state"], ("waiting", "running"))
        self.refused(self.call(f"{location}/result"), 409, "wait=")
        state = self.ended(location)
        self.assertEqual((state["state"], state["function"], state["problem"]), ("succeeded", name, None))
        self.assertEqual(state["id"], location.rpartition("/")[2])
        self.assertEqual((state["result"]["status"], state["result"]["bytes"]), (201, 3))
        self.assertGreaterEqual(state["ran_ms"], 300)
        self.assertLessEqual(state["accepted_at"], state["started_at"])
        self.assertLess(state["started_at"], state["ended_at"])
        for _ in range(2):
            result = self.call(state["result"]["location"][1:])
            self.assertEqual((result.status, result.text), (201, "cba"))
            self.assertEqual((result.header("X-Lab"), result.header("Content-Type")), ("edge", "text/csv"))

    def test_waiting_for_the_result_itself(self):
        name = self.script("#!/bin/sh\nsleep 0.3\ncat\n")
        location = self.accepted(name, "later")
        result = self.call(f"{location}/result?wait=30s")
        self.assertEqual((result.status, result.text), (200, "later"))

    def test_a_function_that_fails(self):
        name = self.python("def fn(input, headers):\n    raise ValueError('unheard')\n")
        location = self.accepted(name)
        state = self.ended(location)
        self.assertEqual((state["state"], state["result"]["status"]), ("failed", 500))
        result = self.call(f"{location}/result")
        self.assertEqual(result.status, 500)
        self.assertIn("unheard", result.text)

    def test_a_handler_that_dies(self):
        name = self.python("import os\ndef fn(input, headers):\n    os._exit(3)\n")
        location = self.accepted(name)
        state = self.ended(location)
        self.assertEqual((state["state"], state["result"]), ("failed", None))
        self.assertIn("ended", state["problem"])
        self.refused(self.call(f"{location}/result"), 500, "ended")

    def test_a_function_that_is_deleted(self):
        name = self.script("#!/bin/sh\necho began >&2\nsleep 300\n", threads=1)
        calls = [self.accepted(name) for _ in range(17)]
        self.wait_for_log(name, "began")
        self.assertEqual(json.loads(self.call(calls[-1]).text)["state"], "waiting")
        # While delete lets the running ones end, those that wait are told.
        for location in calls[:-1]:
            self.assertEqual(self.call(location, method="DELETE").status, 200)
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        state = self.ended(calls[-1])
        self.assertEqual(state["state"], "failed")

    def test_cancelling(self):
        name = self.script("#!/bin/sh\necho began >&2\nsleep 300\n")
        location = self.accepted(name)
        self.wait_for_log(name, "began")
        answer = self.call(location, method="DELETE")
        self.assertEqual((answer.status, json.loads(answer.text)["state"]), (200, "cancelled"))
        self.refused(self.call(f"{location}/result"), 410, "cancelled")
        began = time.monotonic()
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        # Its script has been told to end: else delete would wait for it.
        self.assertLess(time.monotonic() - began, 5)
        name = self.script("#!/bin/sh\ncat\n")
        location = self.accepted(name)
        self.ended(location)
        self.refused(self.call(location, method="DELETE"), 409, "succeeded")

    def test_what_is_not_there(self):
        for path in (".tinyfaas/calls/" + "0" * 32, ".tinyfaas/calls/" + "0" * 32 + "/result", ".tinyfaas/calls/x", ".tinyfaas/calls", ".tinyfaas"):
            with self.subTest(path=path):
                self.refused(self.call(path), 404, "asynchronous call")
        known = self.accepted(self.script("#!/bin/sh\ncat\n"))
        self.refused(self.call(known, "x", method="POST"), 405, "GET")
        self.refused(self.call(f"{known}?wait=soon"), 400, "30s")
        problem = self.call(".tinyfaas/calls/x", headers={"Accept": "application/json"})
        self.assertEqual(json.loads(problem.text)["status"], 404)

    def test_many_at_a_time(self):
        name = self.python("def fn(input, headers):\n    return 'echo ' + input\n")
        calls = {str(n): self.accepted(name, str(n)) for n in range(100)}
        for body, location in calls.items():
            self.assertEqual(self.call(f"{location}/result?wait=30s").text, f"echo {body}")


class Bounds(Asking, OwnServerCase):
    settings = {"TF_ASYNC_RESULT_MAX": "1KiB", "TF_ASYNC_ENDED": "3", "TF_ASYNC_KEEP": "2s"}

    def test_large_old_and_many(self):
        name = self.script("#!/bin/sh\ncat\n")
        large = self.accepted(name, "x" * 2000)
        state = self.ended(large)
        self.assertEqual((state["state"], state["result"]["kept"]), ("succeeded", False))
        self.refused(self.call(f"{large}/result"), 410, "too large")
        calls = []
        for _ in range(3):
            calls.append(self.accepted(name))
            self.ended(calls[-1])
        self.assertEqual(self.call(large).status, 404)
        self.assertEqual(self.call(f"{calls[-1]}/result").text, "x")
        self.eventually(lambda: self.call(calls[-1]).status, lambda status: status == 404, "forgotten")


class Watching(Case):
    def test_server_timing(self):
        name = self.script("#!/bin/sh\nsleep 0.2\n")
        began = time.monotonic()
        timing = self.call(name).header("Server-Timing")
        whole = (time.monotonic() - began) * 1000
        self.assertRegex(timing, r"^queue;dur=\d+\.\d{3}, function;dur=\d+\.\d{3}$")
        queue, function = (float(part.partition("=")[2]) for part in timing.split(", "))
        self.assertGreaterEqual(function, 200)
        self.assertLessEqual(queue + function, whole)
        self.assertIsNone(self.call("nobody").header("Server-Timing"))

    def test_traceparent(self):
        name = self.python("def fn(input, headers):\n    return headers.get('Traceparent', '') + '|' + headers.get('Tracestate', '')\n")
        valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        self.answers(name, f"{valid}|a=1", headers={"traceparent": valid, "tracestate": "a=1"})
        made = {self.call(name, headers={"tracestate": "a=1", **more}).text for more in ({}, {}, {"traceparent": "00-0-0-00"})}
        self.assertEqual(len(made), 3)
        for one in made:
            self.assertRegex(one, r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\|$")
