"""Version 2: bytes, headers and status both ways, and calls that are asked for later."""

import json
import time
import unittest

from blackbox.grpc_case import GrpcCase
from blackbox.grpc_clients import generate, need_grpcio, python, stubs

PROGRAM = """
import sys, grpc, tinyfaas_v2_pb2 as messages, tinyfaas_v2_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = tinyfaas_v2_pb2_grpc.TinyFaaSStub(channel)
    reply = stub.Invoke(messages.InvokeRequest(function=sys.argv[2], body=bytes.fromhex("ff00")), timeout=20)
    print(reply.status, reply.body.hex())
"""
SEES = """
import json
def fn(input, headers, context):
    return json.dumps({'headers': headers, 'method': context.method, 'path': context.path, 'query': context.query, 'bytes': context.body.hex()})
"""


class Invoke(GrpcCase):
    def sees(self, *arguments, **more):
        """What the function of SEES was given."""
        return json.loads(self.invoke(self.function(SEES), *arguments, **more).body)

    def test_bytes_both_ways(self):
        every = bytes(range(256))
        for body in (b"", every, every * 5000, "☃".encode()):
            with self.subTest(length=len(body)):
                reply = self.invoke(self.function(), b"echo " + body)
                self.assertEqual((reply.status, reply.body), (200, body))

    def test_with_stubs_freshly_generated(self):
        need_grpcio(self)
        folder = self.folder()
        made = generate(self, folder, "tinyfaas_v2.proto")
        self.assertEqual(made.returncode, 0, made.stderr)
        done = python(folder, PROGRAM, self.address, self.function("def fn(input, headers, context):\n    return context.body\n"))
        self.assertEqual((done.returncode, done.stdout), (0, "200 ff00\n"), done.stderr)

    def test_the_request_is_a_post_to_the_functions_root(self):
        seen = self.sees(b"x")
        self.assertEqual((seen["method"], seen["path"], seen["query"], seen["bytes"]), ("POST", "/", "", "78"))

    def test_method_path_and_query(self):
        for method, path, below, query in (
            ("GET", "/a/b?q=1&r", "/a/b", "q=1&r"), ("PUT", "/", "/", ""), ("patch", "?x", "/", "x"),
            ("REPORT", "/%C3%BC/a%2Fb", "/%C3%BC/a%2Fb", ""), ("DELETE", "", "/", ""),
        ):
            with self.subTest(method=method, path=path):
                seen = self.sees(b"", method=method, path=path)
                self.assertEqual((seen["method"], seen["path"], seen["query"]), (method, below, query))

    def test_headers(self):
        headers = [("X-Lab", "edge"), ("x-two", "1"), ("X-TWO", "2"), ("content-type", "text/x-lab"), ("x-raw", b"caf\xe9")]
        seen = self.sees(headers=headers)["headers"]
        self.assertEqual((seen["X-Lab"], seen["X-Two"], seen["Content-Type"]), ("edge", "1, 2", "text/x-lab"))
        self.assertEqual(seen["X-Raw"].encode("latin-1"), b"caf\xe9")

    def test_metadata_are_headers_too_and_the_messages_count_more(self):
        metadata = [("x-lab", "metadata"), ("x-only", "metadata"), ("x-only", "twice")]
        seen = self.sees(headers=[("X-Lab", "message")], metadata=metadata)["headers"]
        self.assertEqual((seen["X-Lab"], seen["X-Only"]), ("message", "metadata, twice"))

    def test_headers_of_a_connection_or_that_would_forge_something_are_dropped(self):
        dropped = [
            ("Connection", "close, x-named"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"), ("Transfer-Encoding", "chunked"),
            ("Upgrade", "x"), ("X-tinyFaaS-Call-Id", "0" * 32), ("X-tinyFaaS-Client-Subject", "CN=root"),
            ("X-tinyFaaS-Client-Fingerprint", "00"), ("Content-Length", "999"),
        ]
        seen = self.sees(b"four", headers=[*dropped, ("X-Kept", "1")])
        self.assertEqual((seen["headers"]["X-Kept"], seen["bytes"]), ("1", b"four".hex()))
        forged = {value for _, value in dropped}
        self.assertEqual({value for value in seen["headers"].values() if value in forged}, set())

    def test_status_and_headers_come_back(self):
        reply = self.invoke(self.function(), b"status 418 short and stout")
        self.assertEqual((reply.status, reply.body), (418, b"short and stout"))
        headers = [(header.name, header.value) for header in reply.headers]
        self.assertEqual([value for name, value in headers if name == "x-lab"], [b"one", b"two"])
        self.assertIn(("content-type", b"text/x-lab"), headers)

    def test_a_status_of_an_error_is_a_reply(self):
        for status in (404, 500, 503, 204):
            with self.subTest(status=status):
                reply = self.invoke(self.function(), f"status {status} said" if status != 204 else "status 204 ")
                self.assertEqual((reply.status, reply.body), (status, b"said" if status != 204 else b""))

    def test_the_calls_id(self):
        reply = self.invoke(self.function(), "show")
        self.assertRegex(reply.call_id, r"^[0-9a-f]{32}$")
        self.assertEqual(json.loads(reply.body)["call_id"], reply.call_id)

    def test_failures(self):
        name = self.function()
        self.failing("NOT_FOUND", self.invoke, "nobody", words=["nobody"])
        self.failing("INTERNAL", self.invoke, name, "raise my hat", words=["my hat"])
        self.failing("INTERNAL", self.invoke, name, "die", words=["ended"])
        self.failing("INTERNAL", self.invoke, name, "exit")
        self.assertEqual(self.invoke(name, "echo on").body, b"on")

    def test_other_environments(self):
        script = self.function({"fn.sh": "#!/bin/sh\nprintf '%s %s ' \"$REQUEST_METHOD\" \"$PATH_INFO\"; cat\n"}, "binary")
        self.assertEqual(self.invoke(script, b"\xff", method="PUT", path="/p").body, b"PUT /p \xff")


class Later(GrpcCase):
    """Asynchronous calls. The states are the message's enumeration."""

    def later(self, name, body=b"", **more):
        return self.v2.InvokeAsync(self.request(name, body, **more), timeout=20).call_id

    def result(self, call_id, wait=None, timeout=20):
        messages = stubs(self)[2]
        request = messages.GetResultRequest(call_id=call_id)
        if wait is not None:
            request.wait.FromNanoseconds(int(wait * 1e9))
        result = self.v2.GetResult(request, timeout=timeout)
        return messages.GetResultResponse.State.Name(result.state).removeprefix("STATE_"), result

    def test_accepted_at_once_and_run(self):
        name = self.function()
        began = time.monotonic()
        call_id = self.later(name, b"sleep 0.5")
        self.assertLess(time.monotonic() - began, 0.45)
        self.assertRegex(call_id, r"^[0-9a-f]{32}$")
        state, result = self.result(call_id)
        self.assertIn(state, ("WAITING", "RUNNING"))
        self.assertFalse(result.HasField("response") or result.HasField("error"))

    def test_the_whole_reply_is_there_when_it_is_done(self):
        for body, status, expected in ((b"status 418 stout", 418, b"stout"), (b"bytes ff00", 200, b"\xff\x00"), (b"sleep 0.3", 200, b"slept")):
            with self.subTest(body=body):
                call_id = self.later(self.function(), body)
                state, result = self.result(call_id, wait=15)
                self.assertEqual((state, result.response.status, result.response.body), ("SUCCEEDED", status, expected))
                self.assertEqual(result.response.call_id, call_id)
        # It may be asked for again.
        self.assertEqual(self.result(call_id)[1].response.body, b"slept")

    def test_headers_come_and_go(self):
        call_id = self.later(self.function(), b"status 201 made")
        result = self.result(call_id, wait=15)[1]
        self.assertEqual([h.value for h in result.response.headers if h.name == "x-lab"], [b"one", b"two"])
        call_id = self.later(self.function(SEES), b"x", method="PUT", path="/p?q", headers=[("X-Lab", "edge")])
        seen = json.loads(self.result(call_id, wait=15)[1].response.body)
        self.assertEqual((seen["method"], seen["path"], seen["query"], seen["headers"]["X-Lab"]), ("PUT", "/p", "q", "edge"))

    def test_waiting_ends_with_the_call_or_in_time(self):
        call_id = self.later(self.script("#!/bin/sh\nexec sleep 300\n"))
        self.addCleanup(self.call, f".tinyfaas/calls/{call_id}", method="DELETE")
        began = time.monotonic()
        self.assertEqual(self.result(call_id, wait=0.3)[0], "RUNNING")
        took = time.monotonic() - began
        self.assertTrue(0.25 < took < 5, took)
        # The caller's own deadline ends the wait, not the call.
        self.failing("DEADLINE_EXCEEDED", self.result, call_id, wait=30, timeout=0.2)
        self.assertEqual(self.result(call_id)[0], "RUNNING")

    def test_failures_are_told_with_invokes_code(self):
        limits = {"fn.sh": "#!/bin/sh\nexec sleep 300\n", "tinyfaas.toml": "call_deadline = '200ms'\n"}
        for name, body, code, word in (
            (self.function(), "raise my hat", "INTERNAL", "my hat"), (self.function(), "die", "INTERNAL", "ended"),
            (self.function(limits, "binary"), "", "DEADLINE_EXCEEDED", "longer than"),
        ):
            with self.subTest(body=body):
                state, result = self.result(self.later(name, body), wait=15)
                self.assertEqual(state, "FAILED")
                grpc = need_grpcio(self)
                codes = {code.value[0]: code.name for code in grpc.StatusCode}
                self.assertEqual(codes[result.error.code], code)
                self.assertIn(word, result.error.message)
                self.assertFalse(result.HasField("response"))

    def test_one_that_is_cancelled(self):
        call_id = self.later(self.script("#!/bin/sh\nexec sleep 300\n"))
        waiting = self.beside(self.result, call_id, wait=20)
        self.assertEqual(self.call(f".tinyfaas/calls/{call_id}", method="DELETE").status, 200)
        state, result = waiting.result()
        self.assertEqual(state, "CANCELLED")
        self.assertFalse(result.HasField("response"))

    def test_who_leaves_does_not_cancel_it(self):
        name = self.script("#!/bin/sh\nsleep 0.5\nprintf whole\n")
        channel = self.channel()
        stub = stubs(self)[3].TinyFaaSStub(channel)
        call_id = stub.InvokeAsync(self.request(name), timeout=20).call_id
        channel.close()
        self.assertEqual(self.result(call_id, wait=15)[1].response.body, b"whole")

    def test_a_deadline_bounds_the_accepting_and_not_the_call(self):
        name = self.script("#!/bin/sh\nsleep 1\nprintf whole\n")
        call_id = self.v2.InvokeAsync(self.request(name), timeout=0.9).call_id
        self.assertEqual(self.result(call_id, wait=15)[1].response.body, b"whole")

    def test_it_is_the_same_call_over_http(self):
        call_id = self.later(self.function(), b"echo over")
        self.assertEqual(self.call(f".tinyfaas/calls/{call_id}/result?wait=15s").text, "over")
        answer = self.call(self.function(), "echo back", headers={"X-tinyFaaS-Async": "1"})
        self.assertEqual(self.result(answer.header("X-tinyFaaS-Call-Id"), wait=15)[1].response.body, b"back")

    def test_ids_that_nobody_has(self):
        for call_id in ("0" * 32, "", "g" * 32, "0" * 31, "../x", "x" * 100_000):
            with self.subTest(id=call_id[:40]):
                self.failing("NOT_FOUND", self.result, call_id)

    def test_a_function_that_nobody_has(self):
        self.failing("NOT_FOUND", self.later, "nobody")

    def test_a_wait_that_makes_no_sense(self):
        messages = stubs(self)[2]
        call_id = self.later(self.function(), b"echo x")
        request = messages.GetResultRequest(call_id=call_id)
        request.wait.seconds = -1
        self.failing("INVALID_ARGUMENT", self.v2.GetResult, request, timeout=20)
        # More than the server's own limit is not refused: it waits so long.
        request.wait.seconds = 10**9
        self.assertEqual(self.v2.GetResult(request, timeout=20).response.body, b"x")


if __name__ == "__main__":
    unittest.main()
