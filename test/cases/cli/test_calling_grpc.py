"""`tinyfaas call --grpc`: against this server, and against one made of others' parts
that has the original's interface alone."""

import concurrent.futures
import json
import os
import socket
import sys
import unittest

from blackbox.case import Case, OwnServerCase
from blackbox.commandline import CommandLine
from blackbox.go_tools import lacking
from blackbox.server import REPOSITORY

TELLS = """
import json, os, sys, time

def fn(input, headers, context):
    if context.path == "/fail":
        raise ValueError("as told")
    if context.path == "/status":
        return "told " + (input or ""), int(context.query or 418)
    if context.path == "/bytes":
        return bytes([0, 255, 10]), 200, {"Content-Type": "a/b", "X-Two": "1"}
    if context.path == "/echo":
        return context.body
    if context.path == "/die":
        os._exit(3)
    if context.path == "/slow":
        time.sleep(1.2)
    return json.dumps({
        "method": context.method, "path": context.path, "query": context.query,
        "length": len(context.body), "input": (input or "")[:100], "lab": headers.get("Lab"),
        "type": headers.get("Content-Type"), "bin": headers.get("Trace-Bin"),
    })
"""


class Calling(CommandLine, Case):
    def setUp(self):
        super().setUp()
        self.name = self.python(TELLS)
        self.place = f"grpc://{self.server.grpc}"

    def told(self, *arguments, **more):
        return json.loads(self.succeeds("call", self.name, "--grpc", *arguments, **more))

    def test_what_is_sent(self):
        for arguments, expected in (
            ([], {"method": "GET", "path": "/", "length": 0}),
            (["-d", "hello"], {"method": "POST", "input": "hello"}),
            (["-d", ""], {"method": "POST", "length": 0}),
            (["-X", "PURGE", "-d", "x"], {"method": "PURGE"}),
            (["--path", "/a b/c?d=e f&g"], {"path": "/a%20b/c", "query": "d=e%20f&g"}),
            (["--path", "?x"], {"path": "/", "query": "x"}),
            (["-H", "Lab: tu berlin"], {"lab": "tu berlin"}),
            (["-H", "Content-Type: image/webp", "-d", "1"], {"type": "image/webp"}),
            (["-H", "trace-bin: AAE="], {"bin": "AAE="}),
        ):
            with self.subTest(arguments=arguments):
                told = self.told(*arguments)
                self.assertEqual({key: told[key] for key in expected}, expected)

    def test_bodies_of_all_sizes_both_ways(self):
        call = ["call", self.name, "--grpc", "--path", "/echo"]
        for size in (1, 16_384, 100_000, 5_000_000, 16_000_000):
            body = os.urandom(size)
            folder = self.folder({"body": body})
            for arguments, more in ((["--data-file", "body"], {"cwd": folder}), (["--data-file", "-"], {"stdin": body})):
                done = self.tinyfaas(*call, *arguments, **more)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertTrue(done.stdout == body, f"{len(done.stdout)} other bytes of {size}")
        # More than the server takes, and more than this command sends.
        self.fails(1, *call, "--data-file", "-", stdin=bytes(17 << 20), words=["16777216"])
        self.fails(1, *call, "--data-file", "-", stdin=bytes((64 << 20) + 1), words=["67 MB", "leave --grpc out"])

    def test_a_reply_as_json(self):
        told = self.tells("call", self.name, "--grpc", "--path", "/bytes")
        self.assertEqual((told["status"], told["body_base64"]), (200, "AP8K"))
        self.assertEqual((told["headers"]["content-type"], told["headers"]["x-two"]), (["a/b"], ["1"]))
        self.assertRegex(told["call_id"], r"^[0-9a-f]{32}$")
        self.assertNotIn("body", told)

    def test_the_exit_code_tells_the_outcome(self):
        call = ["call", self.name, "--grpc"]
        for status, name in ((400, "Bad Request"), (404, "Not Found"), (503, "Service Unavailable")):
            done = self.tinyfaas(*call, "--path", f"/status?{status}", "-d", "x")
            self.assertEqual((done.returncode, done.stdout), (5, b"told x"))
            self.assertIn(f"{status} {name}".encode(), done.stderr)
        self.fails(5, *call, "--path", "/fail", words=["as told"])
        self.fails(5, *call, "--path", "/die")
        self.fails(4, "call", "nobody-has-this", "--grpc", words=["nobody-has-this"])
        self.fails(4, "call", self.name.replace("python3", "pyth0n3"), "--grpc", words=[self.name])
        self.fails(4, "call", "nobody-has-this", "--gateway", self.place, words=["nobody-has-this"])
        done = self.tinyfaas(*call, "--path", "/status?500", "--json")
        told = json.loads(done.stdout)
        self.assertEqual((done.returncode, told["status"], told["body"]), (5, 500, "told "))
        done = self.tinyfaas("call", "nobody-has-this", "--grpc", "--json")
        self.assertEqual((done.returncode, json.loads(done.stdout)["code"]), (4, "NOT_FOUND"))

    def test_wrong_usage(self):
        for arguments, word in (
            (["-H", "X-tinyFaaS-Async: true"], "--async"),
            (["-X", "a b"], "method"),
            (["--path", "/../other"], "leads out"),
            (["--non"], "--coap"),
            (["--coap"], "--coap"),
            (["--gateway", "http://localhost:1"], "grpc://localhost:9000"),
            (["--gateway", "coap://localhost:1"], "grpc://localhost:9000"),
            (["--gateway", "grpc://localhost/x"], "--gateway"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, "call", self.name, "--grpc", *arguments, words=[word])
        self.fails(2, "call", self.name, "--coap", "--gateway", "grpc://localhost", words=["grpc is not CoAP"])

    def test_an_asynchronous_call(self):
        call = self.succeeds("call", self.name, "--grpc", "-d", "x", "--async")
        self.assertRegex(call, r"^[0-9a-f]{32}\n$")
        told = self.tells("call", self.name, "--grpc", "--async")
        self.assertEqual(told["location"], "/.tinyfaas/calls/" + told["id"])
        state = self.call(told["location"][1:] + "?wait=10s")
        self.assertEqual(json.loads(state.text)["state"], "succeeded")

    def test_waiting_for_an_asynchronous_call(self):
        self.assertEqual(self.told("--async", "--wait", "--path", "/slow", "-d", "in")["input"], "in")
        call = ["call", self.name, "--grpc", "--async"]
        done = self.tinyfaas(*call, "--wait", "--path", "/status?503", "-d", "x")
        self.assertEqual((done.returncode, done.stdout), (5, b"told x"))
        self.fails(5, *call, "--wait", "--path", "/fail", words=["as told"])
        self.fails(4, "call", "nobody-has-this", "--grpc", "--async", words=["nobody-has-this"])

    def test_the_gateway_may_be_named(self):
        nowhere = {"TINYFAAS_SERVER": "http://127.0.0.1:1"}
        for place in (self.place, self.place.replace("127.0.0.1", "localhost")):
            told = json.loads(self.succeeds("call", self.name, "--gateway", place, environment=nowhere))
            self.assertEqual(told["method"], "GET")
        self.succeeds("call", self.name, "--grpc", "--gateway", self.server.grpc, environment=nowhere)

    def test_nobody_is_there_or_somebody_else(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            place = f"grpc://127.0.0.1:{free.getsockname()[1]}"
        self.fails(3, "call", self.name, "--gateway", place, words=["refused", "GRPC_PORT"])
        http = self.server.management.replace("http://", "grpc://")
        said = self.fails(3, "call", self.name, "--gateway", http, words=["broke off"])
        self.assertNotIn("transport error", said)

    def test_a_slow_call_shows_that_it_is_waited_for(self):
        terminal = self.terminal("call", self.name, "--grpc", "--path", "/slow")
        self.assertEqual(terminal.exit(), 0)
        self.assertIn(f"calling {self.name} over gRPC", terminal.text)


class Refusals(CommandLine, OwnServerCase):
    def test_a_call_that_takes_too_long(self):
        self.start(GRPC_PORT="0", TF_CALL_DEADLINE="300ms")
        name = self.script("#!/bin/sh\nsleep 5\n")
        self.fails(7, "call", name, "--grpc")
        self.fails(7, "call", name, "--grpc", "--async", "--wait")

    def test_a_result_that_is_long_in_coming(self):
        self.start(GRPC_PORT="0", TF_ASYNC_WAIT_MAX="100ms")
        name = self.script("#!/bin/sh\nsleep 1.5\ncat\n")
        self.assertEqual(self.succeeds("call", name, "--grpc", "--async", "--wait", "-d", "in"), "in")

    def test_an_endpoint_that_is_off(self):
        self.start(GRPC_PORT="-1")
        self.fails(1, "call", "x", "--grpc", words=["gRPC endpoint", "off", "GRPC_PORT"])


class AnOriginal(CommandLine, Case):
    """Its interface, served by grpcio from the published stubs."""

    def setUp(self):
        super().setUp()
        # It tells at length that commands are started beside its threads.
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
        try:
            import grpc
        except ImportError:
            lacking(self, "grpcio is not installed (pip install -r test/requirements.txt)")
        stubs = str(REPOSITORY / "pkg/grpc/tinyfaas")
        sys.path.append(stubs)
        self.addCleanup(sys.path.remove, stubs)
        import tinyfaas_pb2
        import tinyfaas_pb2_grpc

        class Servicer(tinyfaas_pb2_grpc.TinyFaaSServicer):
            def Request(self, request, context):
                if request.functionIdentifier != "echo":
                    context.abort(grpc.StatusCode.UNKNOWN, "function not found")
                lab = dict(context.invocation_metadata()).get("lab", "none")
                return tinyfaas_pb2.Response(response=f"{request.data} in {lab}")

        pool = concurrent.futures.ThreadPoolExecutor(2)
        self.addCleanup(pool.shutdown)
        original = grpc.server(pool)
        tinyfaas_pb2_grpc.add_TinyFaaSServicer_to_server(Servicer(), original)
        self.place = f"grpc://127.0.0.1:{original.add_insecure_port('127.0.0.1:0')}"
        original.start()
        self.addCleanup(lambda: original.stop(None).wait())

    def test_it_gets_a_name_a_text_and_metadata(self):
        call = ["call", "echo", "--gateway", self.place]
        self.assertEqual(self.succeeds(*call, "-d", "grüße", "-H", "Lab: Berlin"), "grüße in Berlin")
        self.assertEqual(self.succeeds(*call), " in none")
        self.assertEqual(self.tells(*call)["body"], " in none")
        self.fails(5, "call", "other", "--gateway", self.place, words=["function not found"])

    def test_what_it_does_not_know_is_told(self):
        call = ["call", "echo", "--gateway", self.place]
        for arguments, word in (
            (["-X", "PUT"], "methods"),
            (["--path", "/a"], "paths"),
            (["-H", "Content-Type: a/b"], "content-type"),
            (["--async"], "asynchronous"),
        ):
            self.fails(1, *call, *arguments, words=["older tinyFaaS", word])
        self.fails(1, *call, "--data-file", "-", stdin=b"\xff", words=["UTF-8"])


if __name__ == "__main__":
    unittest.main()
