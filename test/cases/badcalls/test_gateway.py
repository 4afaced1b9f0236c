"""Callers that misbehave: what they are told, and that nobody else is the worse for it."""

import http.client
import struct
import time
import unittest

from blackbox.case import need_tool
from blackbox.http import connect, exchange, open_socket, read_all
from blackbox.misbehaving import OK, SLOW_BEGAN, SLOW_DONE, Misbehaving, running, told

FN = """\
import time
def fn(input, headers):
    if input == 'ok':
        return 'ok'
    if input == 'slow':
        print('slow began')
        time.sleep(0.4)
        return 'slow done'
    if input == 'much':
        return (b'x' * 100_000 for _ in range(500))
    return '%d bytes, %s' % (len(input), headers.get('X-Length', ''))
"""
BODY_MAX = 1 << 20


class Callers(Misbehaving):
    settings = {
        "TF_CALL_DEADLINE": "30s", "TF_HTTP_BODY_MAX": "1MiB", "TF_BODY_TIMEOUT": "1s",
        "TF_WRITE_TIMEOUT": "1s", "TF_HEADER_TIMEOUT": "1s",
    }

    def url(self, name):
        return f"{self.server.http}/{name}"


class Names(Callers):
    def test_unknown(self):
        name = self.python(FN)
        long = "n" * 64
        with self.beside(name):
            connection = connect(self.server.http)
            for path, words in (
                ("nobody", 'there is no function "nobody"; list shows those that there are\n'),
                ("nobody/below?x=1", 'there is no function "nobody"; list'),
                (name.upper(), f'there is no function "{name.upper()}"; list'),
                ("", "the path names no function; call one at /NAME\n"),
                ("/" + name, "the path names no function; call one at /NAME\n"),
                ("a%20b", "no function can have that name: "),
                ("-x", "no function can have that name: "),
                (long, "no function can have that name: "),
                ("..", "no function can have that name: "),
            ):
                for more in ({}, {"X-tinyFaaS-Async": "1"}):
                    with self.subTest(path=path, **more):
                        # The connection is kept, whatever came with the call.
                        told(self, exchange(connection, self.url(path), "POST", b"x" * 5000, more), 404, words)
            self.assertEqual(exchange(connection, self.url(name), "POST", OK).text, OK)
            connection.close()


class Bodies(Callers):
    def test_just_under_and_over_the_limit(self):
        name = self.python(FN)
        over = f"the body is larger than the {BODY_MAX} bytes that are allowed"
        with self.beside(name):
            connection = connect(self.server.http)
            for size in (BODY_MAX - 1, BODY_MAX):
                # Still usable.
                self.assertEqual(exchange(connection, self.url(name), "POST", b"x" * size).text, f"{size} bytes, ")
            answer = exchange(connection, self.url(name), "POST", b"x" * (BODY_MAX + 1))
            told(self, answer, 413, over)
            # Cleanly closed, and said so.
            self.assertEqual(answer.header("Connection"), "close")
            self.assertIsNone(connection.sock)

    def test_just_under_and_over_the_limit_in_chunks(self):
        name = self.python(FN)
        part = b"%x\r\n%s\r\n" % (BODY_MAX // 16, b"x" * (BODY_MAX // 16))
        head = f"POST /{name} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        with self.beside(name), open_socket(self.server.http) as connection:
            for end, status in ((b"0\r\n\r\n", 200), (b"1\r\nx\r\n0\r\n\r\n", 413)):
                connection.sendall(head + part * 16 + end)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                self.assertEqual(answer.status, status)
                words = answer.read().decode()
                self.assertIn(str(BODY_MAX), words)
            self.assertEqual(answer.getheader("Connection"), "close")
            self.assertEqual(read_all(connection), b"")

    def test_just_under_and_over_the_limit_over_http_2(self):
        need_tool(self, "curl")
        name = self.python(FN)
        folder = self.folder({"fits": b"x" * BODY_MAX})
        with self.beside(name):
            done = self.curl("--http2-prior-knowledge", "--data-binary", f"@{folder}/fits", self.url(name))
            self.assertEqual(done.stdout, b"%d bytes, " % BODY_MAX)
            with H2(self.server.http) as client:
                # Told at once; the connection goes on.
                client.request(1, name, [("content-length", str(BODY_MAX + 1))], b"x" * 10_000, whole=False)
                self.assertEqual(client.outcome(1), ("answer", f"the body is larger than the {BODY_MAX} bytes that are allowed\n".encode()))
                client.request(3, name, [], OK.encode())
                self.assertEqual(client.outcome(3), ("answer", OK.encode()))

    def test_cut_off(self):
        name = self.python(FN)
        with self.beside(name):
            for head in ("Content-Length: 1000\r\n\r\nonly this", "Transfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"):
                with open_socket(self.server.http) as connection:
                    connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\n{head}".encode())
        self.counted(name, "succeeded", 3)


class Headers(Callers):
    def test_ten_thousand(self):
        name = self.python(FN)
        lines = "".join(f"X-{n}: 1\r\n" for n in range(10_000))
        with self.beside(name), open_socket(self.server.http) as connection:
            try:
                connection.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            except OSError:
                pass
            answer = read_all(connection)
            self.assertTrue(answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n"), answer)
            self.assertIn(b"x-tinyfaas-call-id: ", answer)
            words = b"the request's headers are more than the 100 lines or the 65536 bytes that are allowed; send fewer"
            self.assertIn(words, answer)

    def test_ten_thousand_over_http_2(self):
        name = self.python(FN)
        with self.beside(name):
            with H2(self.server.http) as client:
                client.request(1, name, [(f"x-{n}", "1") for n in range(10_000)])
                # Told so, or the connection is ended for it: never called.
                self.assertIn(client.outcome(1)[0], ("reset", "goaway", "closed", "answer"))
        self.counted(name, "succeeded", 3)

    def test_more_lines_than_allowed_over_http_2(self):
        name = self.python(FN)
        with self.beside(name):
            more = [argument for n in range(150) for argument in ("--header", f"x-{n}: 1")]
            done = self.curl("--http2-prior-knowledge", *more, "--write-out", "%{http_code}", self.url(name))
            self.assertRegex(done.stdout, rb"^the request has \d+ header lines; at most 100 are allowed\n431$")


class Slow(Callers):
    def test_sender(self):
        name = self.python(FN)
        words = b"the body's sender sent nothing for too long\n"
        with self.beside(name):
            for head in ("Content-Length: 100\r\n\r\nslow", "Transfer-Encoding: chunked\r\n\r\n9\r\nslow"):
                with self.subTest(head=head), open_socket(self.server.http) as connection:
                    connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\n{head}".encode())
                    answer = read_all(connection)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n"), answer)
                    self.assertIn(b"x-tinyfaas-call-id: ", answer)
                    self.assertIn(words, answer)
        self.counted(name, "request_broken", 2)

    def test_sender_of_a_head(self):
        name = self.python(FN)
        with self.beside(name), open_socket(self.server.http) as connection:
            began = time.monotonic()
            connection.sendall(f"POST /{name} HTTP/1.1\r\nHo".encode())
            self.assertEqual(read_all(connection), b"")
            self.assertLess(time.monotonic() - began, 5)

    def test_reader(self):
        name = self.python(FN)
        with self.beside(name):
            with open_socket(self.server.http) as connection:
                connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nmuch".encode())
                self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n"))
                # It is cut off, and its function gets to know.
                self.counted(name, "cancelled", 1)
                self.assertLess(len(read_all(connection)), 50_000_000)


class Lengths(Callers):
    def test_that_conflict(self):
        name = self.python(FN)
        smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        both = b"the request has both Transfer-Encoding and Content-Length; send one of them (RFC 9112, section 6.1)\n"
        broken = b"the request is not valid HTTP/1.1, its first line, a header or its length (RFC 9112)"
        with self.beside(name):
            for headers, body, words in (
                ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", broken),
                ("Content-Length: 5, 6\r\n", "hello!", broken),
                ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", smuggled, both),
                ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", smuggled, both),
                ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello", broken),
            ):
                with self.subTest(headers=headers), open_socket(self.server.http, 5) as connection:
                    connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}".encode())
                    answer = read_all(connection)
                    self.assertTrue(answer.startswith(b"HTTP/1.1 400 Bad Request\r\n"), answer)
                    self.assertIn(words, answer)
                    self.assertIn(b"x-tinyfaas-call-id: ", answer)
                    self.assertEqual(answer.count(b"HTTP/1.1 "), 1, answer)
        self.counted(name, "succeeded", 3)

    def test_that_conflict_over_http_2(self):
        name = self.python(FN)
        with self.beside(name):
            for headers, body in (
                ([("content-length", "5")], b"hello!"),
                ([("content-length", "6")], b"hello"),
                ([("content-length", "x")], b"hello"),
                ([("content-length", "5"), ("transfer-encoding", "chunked")], b"hello"),
            ):
                with self.subTest(headers=headers, body=body), H2(self.server.http) as client:
                    client.request(1, name, headers, body)
                    # Its stream alone: PROTOCOL_ERROR (RFC 9113, section 8.1.1).
                    self.assertEqual(client.outcome(1), ("reset", 1))
                    client.request(3, name, [], OK.encode())
                    self.assertEqual(client.outcome(3), ("answer", OK.encode()))


class Leaving(Callers):
    def test_a_script_is_ended(self):
        mark = f"sleep 9{time.monotonic_ns()}"
        name = self.script(
            "#!/bin/sh\ncase $(cat) in ok) printf ok ;; slow) echo slow began >&2; sleep 0.4; printf 'slow done' ;;"
            f" *) echo began >&2; {mark} ;; esac\n"
        )
        with self.beside(name):
            with open_socket(self.server.http) as connection:
                connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx".encode())
                self.eventually(lambda: running(mark), bool, "running")
            self.eventually(lambda: running(mark), lambda seen: not seen, "ended")
        self.counted(name, "cancelled", 1)

    def test_it_is_told_to_a_coroutine(self):
        name = self.python(
            "import asyncio\n"
            "async def fn(input, headers):\n"
            "    if input == 'ok': return 'ok'\n"
            "    if input == 'slow':\n"
            "        print('slow began')\n"
            "        await asyncio.sleep(0.4)\n"
            "        return 'slow done'\n"
            "    print('began')\n"
            "    try:\n"
            "        await asyncio.sleep(600)\n"
            "    except asyncio.CancelledError:\n"
            "        print('told to stop')\n"
            "        raise\n"
        )
        with self.beside(name), open_socket(self.server.http) as connection:
            connection.sendall(f"GET /{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.wait_for_log(name, " began")
            connection.close()
            self.wait_for_log(name, "told to stop")
        self.counted(name, "cancelled", 1)

    def test_it_is_told_to_a_generator(self):
        name = self.python(
            "import time\n"
            "def much():\n"
            "    try:\n"
            "        while True: yield b'x' * 100_000\n"
            "    finally:\n"
            "        print('told to stop')\n" + FN.replace("(b'x' * 100_000 for _ in range(500))", "much()")
        )
        with self.beside(name), open_socket(self.server.http) as connection:
            connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nmuch".encode())
            connection.recv(100_000)
            connection.close()
            self.wait_for_log(name, "told to stop")
        self.counted(name, "cancelled", 1)

    def test_a_stream_of_http_2_that_is_reset(self):
        name = self.python(FN)
        with self.beside(name), H2(self.server.http) as client:
            began = self.logs(name).count(SLOW_BEGAN)
            client.request(1, name, [], b"slow")
            self.eventually(lambda: self.logs(name).count(SLOW_BEGAN), lambda n: n > began, "begun")
            client.send(3, 0, 1, struct.pack(">I", 8))
            # Others on the connection go on.
            client.request(3, name, [], b"slow")
            self.assertEqual(client.outcome(3), ("answer", SLOW_DONE.encode()))
        self.counted(name, "cancelled", 1)


class H2:
    """A connection of HTTP/2 by hand: no client sends what this one does."""

    def __init__(self, url):
        self.socket = open_socket(url, 10)
        self.data = b""
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(4, 0, 0, b"")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, kind, flags, stream, payload):
        self.socket.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def request(self, stream, name, headers, body=None, whole=True):
        method = "GET" if body is None else "POST"
        fields = [(":method", method), (":scheme", "http"), (":authority", "x"), (":path", f"/{name}"), *headers]
        # Literals, none of them indexed (RFC 7541, section 6.2.2).
        block = b"".join(b"\0" + string(one) + string(other) for one, other in fields)
        parts = [block[at:at + 16_000] for at in range(0, len(block), 16_000)]
        try:
            for number, part in enumerate(parts):
                kind = 9 if number else 1
                ends = (4 if part is parts[-1] else 0) | (1 if body is None and not number else 0)
                self.send(kind, ends, stream, part)
            if body is not None:
                self.send(0, int(whole), stream, body)
        except OSError:
            # It has ended the connection before it had all.
            pass

    def outcome(self, stream):
        """How a stream ended: ("answer", body), ("reset", code), ("goaway", code), ("closed", None)."""
        body = b""
        while True:
            try:
                kind, flags, number, payload = self.frame()
            except OSError:
                return "closed", None
            if kind == 0 and number == stream:
                body += payload
            if kind in (0, 1) and number == stream and flags & 1:
                return "answer", body
            if kind == 3 and number == stream:
                return "reset", struct.unpack(">I", payload)[0]
            if kind == 7:
                return "goaway", struct.unpack(">II", payload[:8])[1]

    def frame(self):
        head = self.take(9)
        length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        return kind, flags, stream, self.take(length)

    def take(self, count):
        while len(self.data) < count:
            part = self.socket.recv(65536)
            if not part:
                raise ConnectionResetError
            self.data += part
        taken, self.data = self.data[:count], self.data[count:]
        return taken


def string(text):
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


if __name__ == "__main__":
    unittest.main()
