"""`tinyfaas call --coap`: against this server, and against one that libcoap's
authors wrote."""

import json
import os
import re
import subprocess
import unittest

from blackbox.case import Case, OwnServerCase, need_tool
from blackbox.commandline import CommandLine
from blackbox.server import scratch

TELLS = """
import json, os, sys, time

def fn(input, headers, context):
    if context.path == "/fail":
        raise ValueError("as told")
    if context.path == "/status":
        return "told " + (input or ""), int(context.query or 418)
    if context.path == "/bytes":
        return bytes([0, 255, 10])
    if context.path == "/echo":
        return context.body
    if context.path == "/die":
        os._exit(3)
    if context.path == "/slow":
        time.sleep(1.2)
    print("called", context.path)
    return json.dumps({
        "method": context.method, "path": context.path, "query": context.query,
        "length": len(context.body), "input": (input or "")[:100],
        "type": headers.get("Content-Type"), "accept": headers.get("Accept"),
        "if_match": headers.get("If-Match"), "if_none_match": headers.get("If-None-Match"),
    })
"""


class Calling(CommandLine, Case):
    def setUp(self):
        super().setUp()
        self.name = self.python(TELLS)

    def told(self, *arguments, **more):
        return json.loads(self.succeeds("call", self.name, "--coap", *arguments, **more))

    def test_what_is_sent(self):
        for arguments, expected in (
            ([], {"method": "GET", "path": "/", "length": 0}),
            (["-d", "hello"], {"method": "POST", "input": "hello"}),
            (["-d", ""], {"method": "POST", "length": 0}),
            (["-X", "PUT", "-d", "x"], {"method": "PUT"}),
            (["-X", "delete"], {"method": "DELETE"}),
            (["-X", "FETCH", "-d", "x"], {"method": "FETCH", "input": "x"}),
            (["-X", "PATCH", "-d", "x"], {"method": "PATCH"}),
            (["-X", "iPATCH", "-d", "x"], {"method": "iPATCH"}),
            (["--path", "/a/b?c=d%20e&f"], {"path": "/a/b", "query": "c=d%20e&f"}),
            (["--path", "?x"], {"path": "/", "query": "x"}),
            (["-H", "Content-Type: application/json", "-d", "1"], {"type": "application/json"}),
            (["-H", "Accept: application/json"], {"accept": "application/json"}),
            (["-H", 'If-Match: "v1"'], {"if_match": '"v1"'}),
            (["-H", "If-None-Match: *"], {"if_none_match": "*"}),
            (["--non"], {"method": "GET"}),
        ):
            with self.subTest(arguments=arguments):
                told = self.told(*arguments)
                self.assertEqual({key: told[key] for key in expected}, expected)

    def test_bodies_of_all_sizes_both_ways(self):
        for size in (1, 1023, 1024, 1025, 20_000, 1_000_000):
            body = os.urandom(size)
            folder = self.folder({"body": body})
            call = ["call", self.name, "--coap", "--path", "/echo"]
            for arguments, more in ((["--data-file", "body"], {"cwd": folder}), (["--data-file", "-"], {"stdin": body})):
                done = self.tinyfaas(*call, *arguments, **more)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertTrue(done.stdout == body, f"{len(done.stdout)} other bytes of {size}")
        many = self.folder({"body": bytes((4 << 20) + 1)})
        self.fails(1, *call, "--data-file", "body", cwd=many, words=["4.2 MB", "leave --coap out"])
        self.fails(1, *call, "--data-file", "-", stdin=bytes((4 << 20) + 1), words=["4.2 MB"])
        self.fails(1, *call, "--data-file", "/no/such", words=["/no/such"])

    def test_a_reply_as_json(self):
        told = self.tells("call", self.name, "--coap", "--path", "/bytes", "-X", "GET")
        self.assertEqual((told["code"], told["body_base64"]), ("2.05", "AP8K"))
        self.assertEqual((told["options"]["Content-Format"], told["content_type"]), ([42], "application/octet-stream"))
        self.assertNotIn("body", told)

    def test_the_exit_code_tells_the_outcome(self):
        call = ["call", self.name, "--coap"]
        for status in (400, 404, 500):
            done = self.tinyfaas(*call, "--path", f"/status?{status}", "-d", "x")
            self.assertEqual((done.returncode, done.stdout), (5, b"told x"))
            self.assertIn(f"{status // 100}.{status % 100:02}".encode(), done.stderr)
        done = self.tinyfaas(*call, "--path", "/fail")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"as told", done.stdout)
        self.fails(5, *call, "--path", "/die")
        self.fails(6, *call, "--path", "/status?503", words=["told"])
        self.fails(7, *call, "--path", "/status?504", words=["told"])
        self.fails(4, "call", "nobody-has-this", "--coap", words=["nobody-has-this"])
        self.fails(4, "call", self.name.replace("python3", "pyth0n3"), "--coap", words=[self.name])
        self.fails(4, "call", "nobody-has-this", "--gateway", self.server.coap, words=["nobody-has-this"])
        done = self.tinyfaas(*call, "--path", "/status?500", "--json")
        told = json.loads(done.stdout)
        self.assertEqual((done.returncode, told["code"], told["body"]), (5, "5.00", "told "))

    def test_wrong_usage(self):
        for arguments, word in (
            (["-X", "TRACE"], "iPATCH"),
            (["-H", "Lab: tu berlin"], "Content-Type"),
            (["-H", "Content-Type: image/webp"], "Content-Format"),
            (["--path", "/" + "x" * 256], "255"),
            (["--gateway", "http://localhost:1"], "coap://localhost:5683"),
            (["--gateway", "coaps://localhost"], "coap-client"),
            (["--gateway", "coaps+tcp://localhost"], "coap-client"),
            (["--gateway", "coap://localhost/x"], "--gateway"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, "call", self.name, "--coap", *arguments, words=[word])
        self.fails(2, "call", self.name, "--non", words=["--coap"])

    def test_an_asynchronous_call(self):
        call = self.succeeds("call", self.name, "--coap", "-d", "x", "--async")
        self.assertRegex(call, r"^[0-9a-f]{32}\n$")
        told = self.tells("call", self.name, "--coap", "--async")
        self.assertEqual(told["location"], "/.tinyfaas/calls/" + told["id"])
        state = self.call(told["location"][1:] + "?wait=10s")
        self.assertEqual(json.loads(state.text)["state"], "succeeded")

    def test_waiting_for_an_asynchronous_call(self):
        self.assertEqual(self.told("--async", "--wait", "--path", "/slow", "-d", "in")["input"], "in")
        done = self.tinyfaas("call", self.name, "--coap", "--async", "--wait", "--path", "/fail")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"as told", done.stdout)
        # A function's own 5.03 is not taken for a call that goes on.
        self.fails(6, "call", self.name, "--coap", "--async", "--wait", "--path", "/status?503", words=["told"])
        self.fails(4, "call", "nobody-has-this", "--coap", "--async")

    def test_fire_and_forget(self):
        done = self.tinyfaas("call", self.name, "--coap", "--async", "--non", "--path", "/forgotten", "-d", "x")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
        self.wait_for_log(self.name, "called /forgotten")

    def test_the_gateway_may_be_named(self):
        nowhere = {"TINYFAAS_SERVER": "http://127.0.0.1:1"}
        call = ["call", self.name, "--gateway", self.server.coap]
        told = json.loads(self.succeeds(*call, environment=nowhere))
        self.assertEqual(told["method"], "GET")
        for place in (self.server.coap.replace("127.0.0.1", "localhost"), self.server.coap[len("coap://"):]):
            self.succeeds("call", self.name, "--coap", "--gateway", place, environment=nowhere)

    def test_a_slow_call_shows_that_it_is_waited_for(self):
        terminal = self.terminal("call", self.name, "--coap", "--path", "/slow")
        self.assertEqual(terminal.exit(), 0)
        self.assertIn(f"calling {self.name} over CoAP", terminal.text)
        done = self.tinyfaas("call", self.name, "--coap", "--path", "/slow")
        self.assertEqual(done.stderr, b"")


class Refusals(CommandLine, OwnServerCase):
    def test_a_call_that_takes_too_long(self):
        self.start(TF_CALL_DEADLINE="300ms")
        name = self.script("#!/bin/sh\nsleep 5\n")
        self.fails(7, "call", name, "--coap")
        self.fails(7, "call", name, "--coap", "--async", "--wait")

    def test_a_result_that_is_long_in_coming(self):
        self.start(TF_ASYNC_WAIT_MAX="100ms")
        name = self.script("#!/bin/sh\nsleep 1.5\ncat\n")
        self.assertEqual(self.succeeds("call", name, "--coap", "--async", "--wait", "-d", "in"), "in")

    def test_an_endpoint_that_is_off(self):
        self.start(COAP_PORT="-1")
        self.fails(1, "call", "x", "--coap", words=["CoAP endpoint", "off"])


class OverTcp(CommandLine, OwnServerCase):
    def test_bodies_of_all_sizes_both_ways(self):
        self.start(COAP_TCP_PORT="0")
        name = self.python(TELLS)
        call = ["call", name, "--gateway", self.server.coap_tcp, "--path"]
        for size in (1, 1024, 20_000, 131_072, 1_000_000):
            body = os.urandom(size)
            done = self.tinyfaas(*call, "/echo", "--data-file", "-", stdin=body)
            self.assertEqual((done.returncode, done.stderr), (0, b""))
            self.assertTrue(done.stdout == body, f"{len(done.stdout)} other bytes of {size}")
        told = json.loads(self.succeeds(*call, "/slow", "--async", "--wait", "-d", "in"))
        self.assertEqual(told["input"], "in")
        done = self.tinyfaas(*call, "/status?404")
        self.assertEqual(done.returncode, 4)
        self.fails(4, "call", "nobody-has-this", "--gateway", self.server.coap_tcp)


class OthersServer(CommandLine, Case):
    """libcoap's example server, which knows nothing of functions."""

    def serve(self, *arguments):
        """Starts one that goes with the case."""
        need_tool(self, "coap-server-notls")
        output = scratch() / "output"
        with output.open("wb") as file:
            server = subprocess.Popen(
                ["coap-server-notls", "-A", "127.0.0.1", "-p", "0", "-v", "7", "-d", "5", *arguments],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT,
            )
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        port = self.eventually(
            lambda: re.search(r"created UDP +endpoint 127\.0\.0\.1:(\d+)\n(?s:.*)TCP.*\n", output.read_text()),
            what="its ports",
        )
        self.place = f"coap://127.0.0.1:{port[1]}"
        port = re.search(r"created TCP +endpoint 127\.0\.0\.1:(\d+)", output.read_text())
        self.over_tcp = port and f"coap+tcp://127.0.0.1:{port[1]}"

    def ask(self, *arguments, **more):
        # Nobody else need be there.
        nowhere = {"TINYFAAS_SERVER": "http://127.0.0.1:1"}
        return self.tinyfaas("call", *arguments, "--gateway", self.place, environment=nowhere, **more)

    def asked(self, *arguments, **more):
        done = self.ask(*arguments, **more)
        self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
        return done.stdout

    def test_short_replies(self):
        self.serve()
        for way in ([], ["--non"]):
            self.assertRegex(self.asked("time", *way), rb"^\w{3} \d\d \d\d:\d\d:\d\d$")
        told = json.loads(self.asked("time", "--path", "?ticks", "--json"))
        self.assertEqual((told["code"], told["options"]["Max-Age"]), ("2.05", [1]))
        self.assertRegex(told["body"], r"^\d+$")
        done = self.ask("nothing")
        self.assertEqual((done.returncode, done.stdout), (4, b""))
        self.assertIn(b"Not Found", done.stderr)
        done = self.ask("async", "-X", "PUT", "-d", "x")
        self.assertEqual(done.returncode, 5)
        self.assertIn(b"4.05 Method Not Allowed", done.stderr)

    def test_bodies_of_all_sizes_both_ways(self):
        self.serve()
        for size in (1, 16, 1023, 1024, 1025, 2048, 10_000, 100_000):
            for way in ([], ["--non"]):
                body = os.urandom(size)
                self.assertEqual(self.asked("example_data", "-X", "PUT", "--data-file", "-", *way, stdin=body), b"")
                got = self.asked("example_data", *way)
                self.assertTrue(got == body, f"{len(got)} other bytes of {size}")
        kind = json.loads(self.asked("example_data", "-X", "PUT", "-d", "{}", "-H", "Content-Type: application/json", "--json"))
        self.assertEqual(kind["code"], "2.04")
        told = json.loads(self.asked("example_data", "--json"))
        self.assertEqual((told["body"], told["options"]["Content-Format"]), ("{}", [50]))

    def test_over_tcp(self):
        self.serve()
        self.place = self.over_tcp
        self.assertRegex(self.asked("time"), rb"^\w{3} \d\d \d\d:\d\d:\d\d$")
        self.assertEqual(self.asked("async", "--path", "?2"), b"done")
        for size in (1, 1024, 1025, 10_000, 1_000_000):
            body = os.urandom(size)
            self.asked("example_data", "-X", "PUT", "--data-file", "-", stdin=body)
            got = self.asked("example_data")
            self.assertTrue(got == body, f"{len(got)} other bytes of {size}")
        self.assertEqual(self.ask("nothing").returncode, 4)

    def test_a_reply_that_comes_later(self):
        self.serve()
        self.assertEqual(self.asked("async", "--path", "?2"), b"done")

    def test_what_is_lost_is_sent_again(self):
        # Of what it sends, these do not leave: an acknowledgement, a reply that
        # comes later, a block of a reply.
        self.serve("-l", "1,3,6")
        body = os.urandom(3000)
        self.assertEqual(self.asked("example_data", "-X", "PUT", "--data-file", "-", stdin=body), b"")
        self.assertTrue(self.asked("example_data") == body)

    def test_nobody_is_there(self):
        self.serve()
        self.asked("time")
        self.place = "coap://127.0.0.1:1"
        for place in (self.place, "coap://localhost:1", "coap+tcp://localhost:1"):
            self.place = place
            done = self.ask("time")
            self.assertEqual(done.returncode, 3)
            self.assertIn(place.encode(), done.stderr)
        self.place = "coap://nobody.invalid"
        done = self.ask("time")
        self.assertEqual(done.returncode, 3)
        self.assertIn(b"nobody.invalid cannot be found", done.stderr)


if __name__ == "__main__":
    unittest.main()
