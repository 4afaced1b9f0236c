"""Version 1, as tinyFaaS's users know it: text in, text out, metadata as headers."""

import json
import time
import unittest

from blackbox.case import need_environment
from blackbox.grpc_case import BEHAVES, V1_REQUEST, SharedGrpcCase
from blackbox.grpc_clients import STUBS, generate, need_grpcio, python, stubs
from blackbox.grpc_wire import data, field, fields

# What a user's program looks like; the original's documentation has one like it.
PROGRAM = """
import sys, grpc, tinyfaas_pb2, tinyfaas_pb2_grpc
with grpc.insecure_channel(sys.argv[1]) as channel:
    stub = tinyfaas_pb2_grpc.TinyFaaSStub(channel)
    response = stub.Request(tinyfaas_pb2.Data(functionIdentifier=sys.argv[2], data=sys.argv[3]), timeout=20)
    print(response.response)
"""
SHOW_NODE = "module.exports = (req, res) => res.send(JSON.stringify(req.headers))"


class Samples(SharedGrpcCase):
    def test_echo(self):
        for environment, sample in (("python3", "echo"), ("nodejs", "echo-js"), ("binary", "echo-binary")):
            with self.subTest(sample=sample):
                name = self.deploy(environment, sample)
                for text in ("Hello, edge ☃!\n", "", "x" * 300_000):
                    self.assertEqual(self.ask(name, text), text)

    def test_sieve(self):
        name = self.deploy("nodejs", "sieve-of-eratosthenes")
        self.assertEqual(self.ask(name), "Found 1229 primes under 10000\n")

    def test_show_headers(self):
        name = self.deploy("python3", "show-headers")
        shown = json.loads(self.ask(name, metadata=[("lab", "edge")]))
        self.assertEqual(shown["Lab"], "edge")
        self.assertTrue(shown["User-Agent"].startswith("grpc-python/"), shown)

    def test_show_headers_js(self):
        name = self.deploy("nodejs", "show-headers-js")
        shown = json.loads(self.ask(name, metadata=[("lab", "edge")]))
        self.assertEqual(shown["lab"], "edge")
        self.assertTrue(shown["user-agent"].startswith("grpc-python/"), shown)


class Programs(SharedGrpcCase):
    def runs_with(self, folder):
        name = self.deploy("binary", "echo-binary")
        done = python(folder, PROGRAM, self.address, name, "from outside ☃")
        self.assertEqual((done.returncode, done.stdout), (0, "from outside ☃\n"), done.stderr)

    def test_with_the_committed_stubs(self):
        need_grpcio(self)
        self.runs_with(STUBS)

    def test_with_stubs_freshly_generated(self):
        need_grpcio(self)
        folder = self.folder()
        made = generate(self, folder, "tinyfaas.proto")
        self.assertEqual(made.returncode, 0, made.stderr)
        self.runs_with(folder)


class Metadata(SharedGrpcCase):
    def seen(self, metadata):
        """The headers that a Python function sees."""
        name = self.python("import json\ndef fn(input, headers):\n    return json.dumps(headers)\n")
        return json.loads(self.ask(name, metadata=metadata))

    def test_names_are_in_title_case_in_python(self):
        seen = self.seen([("lab", "edge"), ("x-two-words", "2"), ("under_score", "3"), ("a.dot", "4")])
        wanted = {"Lab": "edge", "X-Two-Words": "2", "Under_score": "3", "A.dot": "4"}
        found = {name: value for name, value in seen.items() if name.lower() in ("lab", "x-two-words", "under_score", "a.dot")}
        self.assertEqual({name.lower(): value for name, value in found.items()}, {name.lower(): value for name, value in wanted.items()})
        self.assertIn("Lab", found)
        self.assertIn("X-Two-Words", found)

    def test_names_are_in_lower_case_in_node(self):
        need_environment(self, "nodejs")
        name = self.node(SHOW_NODE)
        seen = json.loads(self.ask(name, metadata=[("lab", "edge"), ("x-two-words", "2")]))
        self.assertEqual((seen["lab"], seen["x-two-words"]), ("edge", "2"))

    def test_a_script_has_them_in_variables(self):
        name = self.script("#!/bin/sh\nprintf '%s %s' \"$HTTP_LAB\" \"$REQUEST_METHOD\"\n")
        self.assertEqual(self.ask(name, "x", metadata=[("lab", "edge")]), "edge POST")

    def test_several_values_are_joined(self):
        metadata = [("x-two", "1"), ("x-other", "o"), ("x-two", "2"), ("x-two", "2")]
        self.assertEqual(self.seen(metadata)["X-Two"], "1, 2, 2")
        need_environment(self, "nodejs")
        self.assertEqual(json.loads(self.ask(self.node(SHOW_NODE), metadata=metadata))["x-two"], "1, 2, 2")

    def test_binary_values_stay_base64(self):
        seen = self.seen([("lab-bin", bytes([0, 1, 2, 255])), ("empty-bin", b""), ("x-two-bin", b"\xff"), ("x-two-bin", b"ab")])
        # Written with or without its padding: who reads it takes both.
        self.assertEqual(seen["Lab-Bin"].rstrip("="), "AAEC/w")
        self.assertEqual([one.rstrip("=") for one in seen["X-Two-Bin"].split(", ")], ["/w", "YWI"])
        self.assertEqual(seen.get("Empty-Bin", ""), "")

    def test_what_is_grpcs_own_does_not_reach_the_function(self):
        seen = self.seen([("lab", "edge")])
        own = [name for name in seen if name.lower().startswith(("grpc-", ":")) or name.lower() in ("te", "content-type", "content-length", "host", "transfer-encoding")]
        self.assertEqual(own, [])

    def test_no_caller_can_forge_what_the_server_tells(self):
        name = self.python(BEHAVES)
        forged = [
            ("x-tinyfaas-call-id", "0" * 32), ("x-tinyfaas-client-subject", "CN=root"),
            ("x-tinyfaas-client-fingerprint", "00"), ("lab", "edge"),
        ]
        shown = json.loads(self.ask(name, "show", metadata=forged))
        self.assertEqual(shown["headers"]["Lab"], "edge")
        self.assertNotEqual(shown["call_id"], "0" * 32)
        self.assertEqual([v for v in shown["headers"].values() if v in ("0" * 32, "CN=root", "00")], [])

    def test_the_reply_tells_the_calls_id(self):
        name = self.python(BEHAVES)
        message = stubs(self)[0].Data(functionIdentifier=name, data="show")
        response, call = self.v1.Request.with_call(message, timeout=20)
        told = dict(call.initial_metadata()) | dict(call.trailing_metadata())
        self.assertEqual(told["x-tinyfaas-call-id"], json.loads(response.response)["call_id"])


class Failures(SharedGrpcCase):
    def test_a_name_that_no_function_has(self):
        self.failing("NOT_FOUND", self.ask, "nobody", words=["nobody"])

    def test_names_that_no_function_can_have(self):
        for name in ("", "../echo", "a b", "echo/x", "a" * 64, "-x", "grüße", "a\0b", "a\nb", "x" * 50_000):
            with self.subTest(name=name[:70]):
                error = self.failing("INVALID_ARGUMENT", self.ask, name)
                self.assertLess(len(error.details()), 1000)

    def test_an_exception_is_told_and_logged(self):
        name = self.python(BEHAVES)
        self.failing("INTERNAL", self.ask, name, "raise nö ☃ way", words=["nö ☃ way"])
        self.wait_for_log(name, "Traceback")
        self.assertEqual(self.ask(name, "echo on"), "on")

    def test_a_worker_that_ends(self):
        name = self.python(BEHAVES)
        self.failing("INTERNAL", self.ask, name, "die", words=["ended"])
        self.assertEqual(self.ask(name, "echo on"), "on")
        self.failing("INTERNAL", self.ask, name, "exit 3")
        self.assertEqual(self.ask(name, "echo on"), "on")

    def test_a_script_that_fails_tells_its_output(self):
        name = self.script("#!/bin/sh\necho so far so good\nexit 3\n")
        self.failing("INTERNAL", self.ask, name, words=["so far so good"])

    def test_a_reply_of_the_wrong_type(self):
        name = self.python("def fn(input, headers):\n    return 17\n")
        self.failing("INTERNAL", self.ask, name, words=["int"])

    def test_node(self):
        need_environment(self, "nodejs")
        name = self.node("module.exports = (req, res) => { if (req.body == 'throw') throw new Error('no such luck'); res.send('on') }")
        self.failing("INTERNAL", self.ask, name, "throw", words=["no such luck"])
        self.assertEqual(self.ask(name), "on")

    def test_a_function_that_does_not_start_any_more(self):
        there = self.folder({"there": ""}) / "there"
        name = self.python(
            "import os\nif not os.path.exists(os.environ['THERE']): os._exit(9)\n"
            "def fn(input, headers):\n    if input == 'die': os._exit(8)\n    return 'alive'\n",
            envs=[f"THERE={there}"],
        )
        self.assertEqual(self.ask(name), "alive")
        there.unlink()
        self.failing("INTERNAL", self.ask, name, "die")
        grpc = need_grpcio(self)

        def code():
            try:
                self.ask(name)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        self.eventually(code, lambda seen: seen == "UNAVAILABLE", "unavailable")
        there.touch()
        self.eventually(code, lambda seen: seen == "OK", "alive again")

    def test_a_full_function(self):
        limits = "calls_per_handler = 1\nwaiting = 1\n"
        name = self.deploy("python3", {"fn.py": BEHAVES, "tinyfaas.toml": limits})
        there = [self.beside(self.ask, name, "sleep 2")]
        self.wait_running(name, 1)
        there.append(self.beside(self.ask, name, "echo later"))
        self.eventually(lambda: self.page().value("tinyfaas_calls_waiting", function=name), lambda n: n == 1)
        self.failing("RESOURCE_EXHAUSTED", self.ask, name, "echo no", words=["busy", "try again"])
        self.assertEqual([one.result() for one in there], ["slept", "later"])


class Statuses(SharedGrpcCase):
    """A status that the function sets, which version 1 has no field for."""

    def test_a_status_of_an_error_is_a_code_of_its_own(self):
        name = self.python(BEHAVES)
        for status, code in (
            (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"), (409, "ABORTED"),
            (418, "FAILED_PRECONDITION"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (501, "UNIMPLEMENTED"), (503, "INTERNAL"), (504, "DEADLINE_EXCEEDED"),
        ):
            with self.subTest(status=status):
                self.failing(code, self.ask, name, f"status {status} said so ☃", words=["said so ☃"])
        self.failing("NOT_FOUND", self.ask, name, "status 404 ", words=["404"])

    def test_any_other_is_a_reply(self):
        name = self.python(BEHAVES)
        for status in (201, 203, 301, 304):
            with self.subTest(status=status):
                text = "" if status == 304 else "made"
                self.assertEqual(self.ask(name, f"status {status} {text}"), text)


class Later(SharedGrpcCase):
    """Asynchronous calls, as over HTTP: by a header, here in the metadata."""

    def test_accepted_at_once_and_run(self):
        name = self.python("import time\ndef fn(input, headers):\n    time.sleep(0.5)\n    print('ran with', input, sorted(headers))\n    return 'unseen'\n")
        for value in ("true", ""):
            with self.subTest(value=value):
                message = stubs(self)[0].Data(functionIdentifier=name, data=f"value {value!r}")
                began = time.monotonic()
                response, call = self.v1.Request.with_call(message, timeout=20, metadata=[("x-tinyfaas-async", value)])
                self.assertLess(time.monotonic() - began, 0.45)
                self.assertEqual(response.response, "")
                self.wait_for_log(name, f"ran with value {value!r}")
                call_id = dict(call.initial_metadata())["x-tinyfaas-call-id"]
                self.assertEqual(self.call(f".tinyfaas/calls/{call_id}/result?wait=10s").text, "unseen")

    def test_a_name_that_no_function_has(self):
        self.failing("NOT_FOUND", self.ask, "nobody", metadata=[("x-tinyfaas-async", "true")])


class Text(SharedGrpcCase):
    def test_bytes_in_the_requests_field_reach_the_function_unharmed(self):
        name = self.python("def fn(input, headers, context):\n    return context.body.hex()\n")
        answer = self.told(self.wire().call(V1_REQUEST, data(name, b"\xff\x00\xfe x")), "OK")
        self.assertEqual(fields(answer.replies[0]), [(1, b"ff00fe2078")])

    def test_a_reply_that_is_no_text_is_refused_with_a_hint(self):
        name = self.python(BEHAVES)
        self.failing("INTERNAL", self.ask, name, "bytes ff00", words=["utf-8", "tinyfaas.v2"])
        self.assertEqual(self.ask(name, "bytes c3bc"), "ü")

    def test_an_empty_reply_is_an_empty_message(self):
        name = self.python("def fn(input, headers):\n    print(repr(input))\n")
        answer = self.told(self.wire().call(V1_REQUEST, data(name)), "OK")
        self.assertEqual(answer.replies, [b""])
        # As where a body is empty over HTTP.
        self.wait_for_log(name, "None")

    def test_unknown_fields_are_passed_over(self):
        name = self.deploy("binary", "echo-binary")
        answer = self.told(self.wire().call(V1_REQUEST, data(name, b"x") + field(17, b"later") + field(18, 300)), "OK")
        self.assertEqual(fields(answer.replies[0]), [(1, b"x")])


if __name__ == "__main__":
    unittest.main()
