"""Calling over HTTP: what passes through, both ways."""

import http.client
import json
import re
import time
import unittest

from blackbox.case import Case, need_environment, need_tool
from blackbox.http import connect, exchange, host_and_port, open_socket, raw, read_all

SHOW = (
    "import json\n"
    "def fn(input, headers):\n"
    "    return json.dumps({'input': input, 'headers': headers})\n"
)


class Http(Case):
    def test_any_method(self):
        name = self.script("#!/bin/sh\nprintf '%s ' \"$REQUEST_METHOD\"; cat\n")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT"):
            with self.subTest(method=method):
                body = None if method == "GET" else "body"
                self.answers(name, f"{method} {body or ''}", body, method=method)

    def test_head_is_answered_without_a_body(self):
        name = self.script("#!/bin/sh\nprintf 'not seen'\n")
        answer = self.call(name, method="HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))
        # The connection stays in step after it.
        connection = connect(self.server.http)
        self.addCleanup(connection.close)
        url = f"{self.server.http}/{name}"
        self.assertEqual(exchange(connection, url, "HEAD").body, b"")
        self.assertEqual(exchange(connection, url).text, "not seen")

    def test_unknown_names(self):
        for path in ("nobody", "nobody/below", "", "nobody?x=1", "%65cho", "..", "."):
            with self.subTest(path=path):
                answer = self.call(path)
                self.assertEqual(answer.status, 404)
                self.assertTrue(answer.body.strip())

    def test_sub_path_and_query(self):
        name = self.script("#!/bin/sh\nprintf '%s %s' \"$PATH_INFO\" \"$QUERY_STRING\"\n")
        for path, expected in (("", "/ "), ("/", "/ "), ("/a/b", "/a/b "), ("?q=1", "/ q=1"), ("/a%20b//c/?q=%26&q", "/a%20b//c/ q=%26&q")):
            with self.subTest(path=path):
                answer = self.call(name + path)
                self.assertEqual(answer.status, 200)
                shown = answer.text.replace("/a b//c/", "/a%20b//c/")
                self.assertEqual(shown, expected)

    def test_status_and_headers_come_back(self):
        name = self.python(
            "def fn(input, headers):\n"
            "    return 'gone', 410, {'X-Lab': 'edge', 'Set-Cookie': ['a=1', 'b=2'], 'Content-Type': 'text/csv', 'Cache-Control': 'no-store'}\n"
        )
        answer = self.call(name)
        self.assertEqual((answer.status, answer.text), (410, "gone"))
        self.assertEqual(answer.all("Set-Cookie"), ["a=1", "b=2"])
        self.assertEqual((answer.header("X-Lab"), answer.header("Content-Type"), answer.header("Cache-Control")), ("edge", "text/csv", "no-store"))

    def test_statuses_without_a_body(self):
        name = self.python("def fn(input, headers):\n    return '', int(input)\n")
        connection = connect(self.server.http)
        self.addCleanup(connection.close)
        for status in ("204", "304", "200", "299", "599"):
            with self.subTest(status=status):
                answer = exchange(connection, f"{self.server.http}/{name}", "POST", status)
                self.assertEqual((answer.status, answer.body), (int(status), b""))

    def test_repeated_request_headers_survive(self):
        need_environment(self, "nodejs")
        name = self.deploy("nodejs", "show-headers-js")
        shown = json.loads(self.call(name, "x", headers=[("X-Two", "1"), ("X-Two", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")]).text)
        self.assertEqual((shown["x-two"], shown["cookie"]), ("1, 2", "a=1; b=2"))

    def test_headers_of_the_connection_stay_with_it(self):
        name = self.python(SHOW)
        shown = json.loads(self.call(name, "x", headers=[
            ("Connection", "close, X-Private"), ("X-Private", "1"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"), ("Upgrade", "x"), ("X-Public", "2"),
        ]).text)["headers"]
        self.assertEqual(shown["X-Public"], "2")
        for gone in ("Connection", "X-Private", "Keep-Alive", "Te", "Upgrade", "Transfer-Encoding"):
            self.assertNotIn(gone, shown)
        name = self.python("def fn(input, headers):\n    return 'x', 200, {'Connection': 'close', 'Transfer-Encoding': 'chunked', 'Content-Length': '999', 'Keep-Alive': '1', 'X-Kept': 'y'}\n")
        answer = self.call(name)
        self.assertEqual((answer.text, answer.header("X-Kept")), ("x", "y"))
        self.assertIsNone(answer.header("Keep-Alive"))

    def test_content_types(self):
        name = self.python("def fn(input, headers):\n    return {'t': 'grüße', 'b': b'\\xff\\x00', 'e': '', 'own': ('x', 200, {'content-type': 'application/x-lab'})}[input]\n")
        for body, expected in (("t", "text/plain; charset=utf-8"), ("b", "application/octet-stream"), ("own", "application/x-lab")):
            with self.subTest(body=body):
                self.assertEqual(self.call(name, body).header("Content-Type"), expected)

    def test_each_reply_has_its_id(self):
        name = self.script("#!/bin/sh\ncat\n")
        seen = {self.call(name, "x").header("X-tinyFaaS-Call-Id") for _ in range(5)}
        self.assertEqual(len(seen), 5)
        for one in seen:
            self.assertRegex(one, r"^[0-9a-f]{32}$")
        self.assertRegex(self.call("nobody").header("X-tinyFaaS-Call-Id") or "0" * 32, r"^[0-9a-f]{32}$")
        failing = self.script("#!/bin/sh\nexit 1\n")
        self.assertTrue(self.call(failing).header("X-tinyFaaS-Call-Id"))

    def test_a_connection_is_kept(self):
        name = self.script("#!/bin/sh\ncat\n")
        connection = connect(self.server.http)
        self.addCleanup(connection.close)
        connection.connect()
        local = connection.sock.getsockname()
        for number in range(20):
            self.assertEqual(exchange(connection, f"{self.server.http}/{name}", "POST", str(number)).text, str(number))
            self.assertEqual(connection.sock.getsockname(), local)

    def test_requests_in_a_row_without_waiting(self):
        name = self.script("#!/bin/sh\ncat\n")
        one = f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n%d"
        sent = "".join(one % n for n in range(5)) + f"GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        received = raw(self.server.http, sent.encode())
        self.assertEqual(received.count(b"HTTP/1.1 200"), 6)
        self.assertEqual(re.findall(rb"\r\n\r\n(\d)", received), [b"0", b"1", b"2", b"3", b"4"])

    def test_a_chunked_body(self):
        name = self.python("def fn(input, headers):\n    return input\n")
        received = raw(self.server.http, (
            f"POST /{name} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\nConnection: close\r\n\r\n"
            "5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nX-T: dropped\r\n\r\n"
        ).encode())
        self.assertIn(b"hello world", received)

    def test_expect_100_continue(self):
        name = self.script("#!/bin/sh\ncat\n")
        with open_socket(self.server.http) as connection:
            connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n".encode())
            self.assertTrue(connection.recv(100).startswith(b"HTTP/1.1 100"))
            connection.sendall(b"hi")
            self.assertTrue(read_all(connection).endswith(b"hi"))

    def test_http_1_0(self):
        name = self.script("#!/bin/sh\ncat\n")
        received = raw(self.server.http, f"POST /{name} HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi".encode())
        self.assertTrue(received.split(b"\r\n")[0].endswith(b"200 OK"), received)
        self.assertTrue(received.endswith(b"hi"))

    def test_http_2_by_prior_knowledge(self):
        need_tool(self, "curl")
        if b"HTTP2" not in self.curl("--version").stdout:
            self.skipTest("this curl has no HTTP/2")
        name = self.python("def fn(input, headers):\n    return input, 201, {'X-Lab': headers['Lab']}\n")
        done = self.curl("--http2-prior-knowledge", "--include", "--data", "over two", "--header", "lab: edge", f"{self.server.http}/{name}/p?q=1")
        self.assertEqual(done.returncode, 0, done.stderr)
        head, body = done.stdout.split(b"\r\n\r\n", 1)
        self.assertTrue(head.startswith(b"HTTP/2 201"), head)
        self.assertIn(b"x-lab: edge", head)
        self.assertEqual(body, b"over two")
        done = self.curl("--http2-prior-knowledge", "--output", "/dev/null", "--write-out", "%{http_code} %{http_version}", f"{self.server.http}/nobody")
        self.assertEqual(done.stdout, b"404 2")

    def test_curl_as_documented(self):
        name = self.script("#!/bin/sh\ncat\n")
        done = self.curl("--data", "hello", f"{self.server.http}/{name}")
        self.assertEqual((done.returncode, done.stdout), (0, b"hello"))
        done = self.curl("--header", "X-tinyFaaS-Async: true", "--write-out", "%{http_code}", f"{self.server.http}/{name}")
        self.assertEqual(done.stdout, b"202")

    def test_bodies_of_many_sizes(self):
        name = self.python("def fn(input, headers):\n    return input\n")
        connection = connect(self.server.http)
        self.addCleanup(connection.close)
        for size in (0, 1, 65535, 65536, 65537, 262143, 262144, 262145, 2097152, 9_000_000):
            with self.subTest(size=size):
                body = b"0123456789abcdef" * (size // 16 + 1)
                answer = exchange(connection, f"{self.server.http}/{name}", "POST", body[:size])
                self.assertEqual((answer.status, len(answer.body)), (200, size))
                self.assertEqual(answer.body, body[:size])


class Asynchronous(Case):
    def test_accepted_at_once_and_run(self):
        name = self.python("import time\ndef fn(input, headers):\n    time.sleep(0.5)\n    print('ran with ' + input)\n    return 'unseen'\n")
        for value in ("true", "", "0"):
            with self.subTest(value=value):
                began = time.monotonic()
                answer = self.call(name, f"value {value!r}", headers={"X-tinyFaaS-Async": value})
                self.assertEqual((answer.status, answer.body), (202, b""))
                self.assertLess(time.monotonic() - began, 0.4)
                self.assertRegex(answer.header("X-tinyFaaS-Call-Id"), r"^[0-9a-f]{32}$")
                self.wait_for_log(name, f"ran with value {value!r}")

    def test_unknown_is_404_for_an_asynchronous_call_too(self):
        answer = self.call("nobody", "x", headers={"X-tinyFaaS-Async": "true"})
        self.assertEqual(answer.status, 404)

    def test_its_failure_is_in_the_log(self):
        name = self.python("def fn(input, headers):\n    raise ValueError('unheard')\n")
        self.assertEqual(self.call(name, "x", headers={"X-tinyFaaS-Async": "true"}).status, 202)
        self.wait_for_log(name, "unheard")


class Cancelling(Case):
    def test_a_caller_that_goes_away_ends_its_script(self):
        name = self.script("#!/bin/sh\necho began >&2\ntrap 'echo told to stop >&2; exit 0' TERM\nsleep 300 & wait\n")
        with open_socket(self.server.http) as connection:
            connection.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.wait_for_log(name, "began")
        began = time.monotonic()
        answer = self.manage("/delete", {"name": name})
        self.assertEqual(answer.status, 200)
        # Else delete would wait for the call's whole drain.
        self.assertLess(time.monotonic() - began, 5)

    def test_a_caller_that_goes_away_is_told_to_node(self):
        need_environment(self, "nodejs")
        name = self.node("module.exports = (req, res) => { console.log('began'); (req.on ? req : res).on('close', () => console.log('it closed')) }")
        with open_socket(self.server.http) as connection:
            connection.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.wait_for_log(name, "began")
        self.wait_for_log(name, "it closed")

    def test_a_body_cut_off_runs_no_function_to_a_reply(self):
        name = self.python("def fn(input, headers):\n    print('saw', len(input or ''))\n    return 'x'\n")
        with open_socket(self.server.http) as connection:
            connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this".encode())
        self.answers(name, "x", "whole")
        log = self.wait_for_log(name, "saw 5")
        self.assertNotIn("saw 9", log)


if __name__ == "__main__":
    unittest.main()
