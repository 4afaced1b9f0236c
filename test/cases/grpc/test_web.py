"""gRPC-Web, as a browser sends it: over HTTP/1.1, its trailers within the body."""

import base64
import http.client
import json
import re
import unittest

from blackbox import http as web
from blackbox.grpc_case import V1_REQUEST, V2, V2_INVOKE, GrpcCase
from blackbox.grpc_wire import CODES, data, field, fields, framed, frames

BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text+proto"
ORIGIN = "https://app.example"


class Reply:
    """An answer of gRPC-Web: its messages, and its trailers wherever they stand."""

    def __init__(self, answer):
        self.http = answer
        body = answer.body
        if "text" in (answer.header("Content-Type") or ""):
            # Each part may end in its own padding.
            body = b"".join(base64.b64decode(part + b"=" * (-len(part) % 4)) for part in _parts(body))
        told = frames(body)
        self.messages = [message for flag, message in told if not flag & 0x80]
        self.trailers = {name.lower(): value for name, value in answer.headers}
        for flag, block in told:
            if flag & 0x80:
                pairs = [line.split(":", 1) for line in block.decode().split("\r\n") if line]
                self.trailers.update({name.lower().strip(): value.strip() for name, value in pairs})
        # Trailers are the last frame.
        assert [flag for flag, _ in told if flag & 0x80] == [flag for flag, _ in told[-1:] if flag & 0x80]

    @property
    def code(self):
        return CODES[int(self.trailers["grpc-status"])]


def _parts(text):
    """base64 that was ended, and begun anew, any number of times."""
    return re.findall(rb"[^=]+={0,2}", text)


class WebCase(GrpcCase):
    def post(self, path, message, kind=BINARY, headers=(), connection=None):
        """A request as a browser's client makes it."""
        body = framed(message)
        if "text" in kind:
            body = base64.b64encode(body)
        more = [("Content-Type", kind), ("Accept", kind), ("X-Grpc-Web", "1"), ("X-User-Agent", "grpc-web-javascript/0.1"), *headers]
        url = f"http://{self.address}{path}"
        if connection:
            return Reply(web.exchange(connection, url, "POST", body, more))
        return Reply(web.request(url, "POST", body, more))


class Web(WebCase):
    def test_both_kinds_and_both_versions(self):
        name = self.function()
        for kind in (BINARY, TEXT, "application/grpc-web", "application/grpc-web-text"):
            with self.subTest(kind=kind):
                reply = self.post(V1_REQUEST, data(name, "echo hello ☃"), kind)
                self.assertEqual((reply.http.status, reply.code), (200, "OK"))
                self.assertTrue(reply.http.header("Content-Type").startswith(kind.split("+")[0]))
                self.assertEqual([fields(one) for one in reply.messages], [[(1, "hello ☃".encode())]])
                reply = self.post(V2_INVOKE, data(name, b"echo \xff"), kind)
                self.assertEqual((reply.code, dict(fields(reply.messages[0]))[3]), ("OK", b"\xff"))

    def test_large_messages(self):
        name = self.function()
        for kind in (BINARY, TEXT):
            reply = self.post(V1_REQUEST, data(name, "echo " + "x" * 1_000_001), kind)
            self.assertEqual((reply.code, len(fields(reply.messages[0])[0][1])), ("OK", 1_000_001))

    def test_a_connection_is_kept(self):
        name = self.function()
        connection = web.connect(f"http://{self.address}")
        self.addCleanup(connection.close)
        for number in range(5):
            reply = self.post(V1_REQUEST, data(name, f"echo {number}"), connection=connection)
            self.assertEqual(fields(reply.messages[0]), [(1, b"%d" % number)])

    def test_headers_reach_the_function_less_grpcs_own(self):
        reply = self.post(V1_REQUEST, data(self.function(), "show"), headers=[("X-Lab", "edge")])
        seen = json.loads(fields(reply.messages[0])[0][1])["headers"]
        self.assertEqual(seen["X-Lab"], "edge")
        self.assertEqual([name for name in seen if name.startswith("Grpc-") or name in ("Content-Type", "Te", "Content-Length", "Host")], [])

    def test_failures(self):
        name = self.function()
        for kind in (BINARY, TEXT):
            for message, code in ((data("nobody"), "NOT_FOUND"), (data("a b"), "INVALID_ARGUMENT"), (data(name, "raise nö"), "INTERNAL")):
                with self.subTest(kind=kind, code=code):
                    reply = self.post(V1_REQUEST, message, kind)
                    self.assertEqual((reply.http.status, reply.code, reply.messages), (200, code, []))
                    self.assertTrue(reply.trailers["grpc-message"])
        self.assertEqual(self.post("/no.Such/Method", b"").code, "UNIMPLEMENTED")

    def test_a_deadline(self):
        name = self.script("#!/bin/sh\nexec sleep 300\n")
        reply = self.post(V1_REQUEST, data(name), headers=[("grpc-timeout", "200m")])
        self.assertEqual(reply.code, "DEADLINE_EXCEEDED")
        self.wait_running(name, 0)

    def test_pieces_of_a_stream_come_as_they_are_produced(self):
        folder = self.folder({"ready": ""})
        name = self.function(
            "import os, time\ndef fn(input, headers, context):\n    def pieces():\n        yield 'first'\n"
            "        while not os.path.exists(input): time.sleep(0.01)\n        yield 'last'\n    return pieces()\n"
        )
        connection = http.client.HTTPConnection(*self.address.rsplit(":", 1), timeout=20)
        self.addCleanup(connection.close)
        connection.request("POST", f"/{V2}/InvokeStream", framed(field(1, data(name, str(folder / "go")))), {"Content-Type": BINARY, "X-Grpc-Web": "1"})
        answer = connection.getresponse()
        received = b""
        while b"first" not in received:
            part = answer.read1(1000)
            self.assertTrue(part, "it ended before its first piece")
            received += part
        (folder / "go").touch()
        received += answer.read()
        told = frames(received)
        self.assertEqual([flag for flag, _ in told], [0, 0, 0, 0x80])
        self.assertEqual(fields(told[2][1]), [(2, b"last")])
        self.assertIn(b"grpc-status:0", told[3][1].replace(b" ", b"").lower())

    def test_over_http_2_too(self):
        answer = self.wire().call(V1_REQUEST, data(self.function(), "echo x"), [("x-grpc-web", "1")], content_type=BINARY)
        self.assertEqual([flag for flag, _ in frames(answer.body)], [0, 0x80])

    def test_base64_that_is_none(self):
        url = f"http://{self.address}{V1_REQUEST}"
        for body in (b"!!!!", b"A", b"AAAA=AAA"):
            with self.subTest(body=body):
                answer = web.request(url, "POST", body, [("Content-Type", TEXT), ("X-Grpc-Web", "1")])
                if answer.status == 200:
                    self.assertNotEqual(Reply(answer).code, "OK")
                else:
                    self.assertIn(answer.status, (400, 415))
        self.assertEqual(self.post(V1_REQUEST, data(self.function(), "echo x")).code, "OK")


class Origins(WebCase):
    def cors(self, answer):
        return {name.lower(): value for name, value in answer.headers if name.lower().startswith("access-control-")}

    def preflight(self, origin):
        asked = [
            ("Origin", origin), ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "content-type,x-grpc-web,x-lab"),
        ]
        return web.request(f"http://{self.address}{V1_REQUEST}", "OPTIONS", None, asked)

    def test_no_page_of_another_origin_is_let_in_unless_it_is_configured(self):
        self.assertEqual(self.cors(self.preflight(ORIGIN)), {})
        reply = self.post(V1_REQUEST, data(self.function(), "echo x"), headers=[("Origin", ORIGIN)])
        self.assertEqual(self.cors(reply.http), {})

    def test_those_that_are_configured_are(self):
        self.start(**self.settings, TF_GRPC_WEB_ORIGINS=f"{ORIGIN}, http://localhost:3000")
        name = self.python("def fn(input, headers):\n    return input\n")
        for origin in (ORIGIN, "http://localhost:3000"):
            with self.subTest(origin=origin):
                answer = self.preflight(origin)
                cors = self.cors(answer)
                self.assertIn(answer.status, (200, 204))
                self.assertEqual(cors["access-control-allow-origin"], origin)
                self.assertIn("POST", cors["access-control-allow-methods"])
                for header in ("content-type", "x-grpc-web", "x-lab"):
                    self.assertIn(header, cors["access-control-allow-headers"].lower())
                reply = self.post(V1_REQUEST, data(name, "x"), headers=[("Origin", origin)])
                self.assertEqual((reply.code, fields(reply.messages[0])), ("OK", [(1, b"x")]))
                cors = self.cors(reply.http)
                self.assertEqual(cors["access-control-allow-origin"], origin)
                # Else its page does not see how the call ended.
                for header in ("grpc-status", "grpc-message"):
                    self.assertIn(header, cors["access-control-expose-headers"].lower())
                self.assertIn("origin", (reply.http.header("Vary") or "").lower())
        for other in ("https://evil.example", "https://app.example.evil.example", "http://app.example", "null"):
            with self.subTest(origin=other):
                self.assertNotIn("access-control-allow-origin", self.cors(self.preflight(other)))
                reply = self.post(V1_REQUEST, data(name, "x"), headers=[("Origin", other)])
                self.assertNotIn("access-control-allow-origin", self.cors(reply.http))

    def test_origins_that_are_none_are_named_at_start(self):
        for wrong in ("app.example", "https://app.example/path"):
            with self.subTest(origin=wrong):
                self.fails_to_start("TF_GRPC_WEB_ORIGINS", wrong, **self.settings, TF_GRPC_WEB_ORIGINS=wrong)


if __name__ == "__main__":
    unittest.main()
