"""`tinyfaas call`: what is sent, what is printed, and the exit code by outcome."""

import json
import unittest

from blackbox.case import Case, OwnServerCase
from blackbox.commandline import CommandLine

TELLS = """
import json, sys, time

def fn(input, headers, context):
    if context.path == "/fail":
        raise ValueError("as told")
    if context.path == "/status":
        return "told " + (input or ""), int(context.query or 418)
    if context.path == "/bytes":
        return bytes([0, 255, 10])
    if context.path == "/die":
        import os
        os._exit(3)
    if context.path == "/slow":
        time.sleep(1.2)
    print("called", context.path)
    return json.dumps({
        "method": context.method, "path": context.path, "query": context.query,
        "length": len(context.body), "lab": headers.get("Lab"), "input": (input or "")[:100],
    })
"""


class Calling(CommandLine, Case):
    def setUp(self):
        super().setUp()
        self.name = self.python(TELLS)

    def told(self, *arguments, **more):
        return json.loads(self.succeeds("call", self.name, *arguments, **more))

    def test_what_is_sent(self):
        for arguments, expected in (
            ([], {"method": "GET", "path": "/", "length": 0}),
            (["-d", "hello"], {"method": "POST", "input": "hello"}),
            (["-d", "-x"], {"input": "-x"}),
            (["-d", ""], {"method": "POST", "length": 0}),
            (["-X", "PUT", "-d", "x"], {"method": "PUT"}),
            (["--path", "/a/b?c=d%20e"], {"path": "/a/b", "query": "c=d%20e"}),
            (["--path", "?x"], {"path": "/", "query": "x"}),
            (["-H", "Lab: tu berlin"], {"lab": "tu berlin"}),
        ):
            with self.subTest(arguments=arguments):
                told = self.told(*arguments)
                self.assertEqual({key: told[key] for key in expected}, expected)

    def test_bodies_from_files(self):
        folder = self.folder({"body": b"x" * 3_000_000})
        self.assertEqual(self.told("--data-file", "body", cwd=folder)["length"], 3_000_000)
        self.assertEqual(self.told("--data-file", "-", stdin=b"piped")["input"], "piped")
        self.assertEqual(self.told("--data-file", "-", stdin=b"y" * 2_000_000)["length"], 2_000_000)
        self.fails(1, "call", self.name, "--data-file", "/no/such", words=["/no/such"])
        self.fails(1, "call", self.name, "--data-file", folder, words=["folder"])

    def test_a_reply_is_printed_byte_by_byte(self):
        done = self.tinyfaas("call", self.name, "--path", "/bytes")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"\x00\xff\n", b""))
        told = self.tells("call", self.name, "--path", "/bytes")
        self.assertEqual((told["status"], told["body_base64"]), (200, "AP8K"))
        self.assertNotIn("body", told)

    def test_the_exit_code_tells_the_outcome(self):
        done = self.tinyfaas("call", self.name, "--path", "/status?404", "-d", "x")
        self.assertEqual((done.returncode, done.stdout), (5, b"told x"))
        self.assertIn(b"404", done.stderr)
        self.succeeds("call", self.name, "--path", "/status?302")
        done = self.tinyfaas("call", self.name, "--path", "/fail")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"as told", done.stdout)
        self.fails(5, "call", self.name, "--path", "/die")
        self.fails(4, "call", "nobody-has-this", words=["nobody-has-this"])
        self.fails(4, "call", self.name.replace("python3", "pyth0n3"), words=[self.name])
        # The caller's own Accept does not hide whose error it is.
        self.fails(4, "call", "nobody-has-this", "-H", "Accept: text/plain")
        done = self.tinyfaas("call", self.name, "--path", "/status?500", "--json")
        self.assertEqual(done.returncode, 5)
        told = json.loads(done.stdout)
        self.assertEqual((told["status"], told["body"]), (500, "told "))
        self.assertEqual(len(told["headers"]["x-tinyfaas-call-id"]), 1)

    def test_wrong_usage(self):
        for arguments, word in (
            ([], "NAME"),
            (["no name"], "name"),
            ([".tinyfaas"], "name"),
            ([self.name, "-d", "x", "--data-file", "y"], "--data-file"),
            ([self.name, "-H", "nocolon"], "colon"),
            ([self.name, "-H", "a b: c"], "header"),
            ([self.name, "-X", "NO WAY"], "NO WAY"),
            ([self.name, "--wait"], "--async"),
            ([self.name, "--gateway", "x://y"], "--gateway"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, "call", *arguments, words=[word])

    def test_an_asynchronous_call(self):
        call = self.succeeds("call", self.name, "-d", "x", "--async")
        self.assertRegex(call, r"^[0-9a-f]{32}\n$")
        told = self.tells("call", self.name, "--async")
        self.assertEqual(told["location"], "/.tinyfaas/calls/" + told["id"])
        state = self.call(told["location"][1:] + "?wait=10s")
        self.assertEqual(json.loads(state.text)["state"], "succeeded")

    def test_waiting_for_an_asynchronous_call(self):
        self.assertEqual(self.told("--async", "--wait", "--path", "/slow", "-d", "in")["input"], "in")
        done = self.tinyfaas("call", self.name, "--async", "--wait", "--path", "/fail")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"as told", done.stdout)
        # A function's own 409 is not taken for a call that goes on.
        done = self.tinyfaas("call", self.name, "--async", "--wait", "--path", "/status?409")
        self.assertEqual((done.returncode, done.stdout), (5, b"told "))
        self.fails(4, "call", "nobody-has-this", "--async")

    def test_the_gateway_may_be_named(self):
        told = self.told("--gateway", self.server.http, environment={"TINYFAAS_SERVER": "http://127.0.0.1:1"})
        self.assertEqual(told["method"], "GET")
        self.fails(3, "call", self.name, "--gateway", "http://127.0.0.1:1", words=["127.0.0.1:1"])

    def test_a_slow_call_shows_that_it_is_waited_for(self):
        terminal = self.terminal("call", self.name, "--path", "/slow")
        self.assertEqual(terminal.exit(), 0)
        self.assertIn(f"calling {self.name}", terminal.text)
        self.assertIn('"path": "/slow"', terminal.text)
        done = self.tinyfaas("call", self.name, "--path", "/slow")
        self.assertEqual(done.stderr, b"")


class Refusals(CommandLine, OwnServerCase):
    def test_a_full_function_and_one_that_is_too_slow(self):
        self.start(TF_CALL_DEADLINE="300ms")
        name = self.script("#!/bin/sh\nsleep 5\n")
        self.fails(7, "call", name)
        self.fails(7, "call", name, "--async", "--wait")

    def test_an_endpoint_that_is_off(self):
        self.start(HTTP_PORT="-1")
        self.fails(1, "call", "x", words=["HTTP endpoint", "off"])


if __name__ == "__main__":
    unittest.main()
