"""Limits of calls: bodies, headers, waiting, deadlines, slow clients."""

import re
import threading
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.case import OwnServerCase
from blackbox.http import connect, exchange, open_socket, raw, read_all

SLEEP = "import time\ndef fn(input, headers):\n    time.sleep(float(input))\n    return 'slept'\n"


class Bodies(OwnServerCase):
    settings = {"TF_HTTP_BODY_MAX": "1MiB"}

    def test_a_body_too_large_is_413(self):
        name = self.python("def fn(input, headers):\n    return str(len(input or ''))\n")
        self.answers(name, str(1 << 20), b"x" * (1 << 20))
        answer = self.call(name, b"x" * ((1 << 20) + 1))
        self.refused(answer, 413)

    def test_a_body_announced_too_large_is_refused_before_it_comes(self):
        name = self.deploy("binary", "echo-binary")
        with open_socket(self.server.http) as connection:
            connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n".encode())
            self.assertIn(b" 413 ", connection.recv(200))

    def test_a_chunked_body_too_large_is_413_or_cut(self):
        name = self.deploy("binary", {"fn.sh": "#!/bin/sh\nwc -c\n"})
        with open_socket(self.server.http) as connection:
            chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
            try:
                connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunk * 32 + b"0\r\n\r\n")
            except OSError:
                pass
            self.assertIn(b" 413 ", read_all_or_timeout(connection))

    def test_curl_sees_the_413(self):
        name = self.deploy("binary", "echo-binary")
        folder = self.folder({"large": b"x" * (5 << 20)})
        done = self.curl("--data-binary", f"@{folder}/large", "--write-out", "%{http_code}", "--output", "/dev/null", f"{self.server.http}/{name}")
        self.assertEqual(done.stdout, b"413")


def read_all_or_timeout(connection):
    received = b""
    connection.settimeout(5)
    try:
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                break
            received += part
    except OSError:
        pass
    return received


class Headers(OwnServerCase):
    settings = {"TF_HEADER_TIMEOUT": "1s", "TF_BODY_TIMEOUT": "1s", "TF_IDLE_TIMEOUT": "2s"}

    def get(self, headers):
        return raw(self.server.http, f"GET /nobody HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n".encode())

    def test_too_many_header_lines_are_431(self):
        self.assertIn(b" 404 ", self.get("".join(f"X-{n}: 1\r\n" for n in range(90))))
        self.assertIn(b" 431 ", self.get("".join(f"X-{n}: 1\r\n" for n in range(120))))

    def test_headers_too_large_are_431(self):
        self.assertIn(b" 404 ", self.get("X: " + "x" * 50_000 + "\r\n"))
        self.assertIn(b" 431 ", self.get("X: " + "x" * 90_000 + "\r\n"))
        self.assertIn(b" 431 ", self.get("".join(f"X-{n}: {'x' * 9_000}\r\n" for n in range(10))))

    def test_headers_too_large_over_http_2(self):
        done = self.curl("--http2-prior-knowledge", "--header", "X: " + "x" * 90_000, "--write-out", "%{http_code}", "--output", "/dev/null", f"{self.server.http}/nobody")
        self.assertTrue(done.stdout == b"431" or done.returncode != 0, done)

    def test_slow_headers_are_closed(self):
        with open_socket(self.server.http) as connection:
            connection.sendall(b"GET /nobody HTTP/1.1\r\nHo")
            began = time.monotonic()
            read_all(connection)
            self.assertLess(time.monotonic() - began, 8)

    def test_a_connection_that_says_nothing_is_closed(self):
        with open_socket(self.server.http) as connection:
            began = time.monotonic()
            read_all(connection)
            self.assertLess(time.monotonic() - began, 8)

    def test_half_a_preface_of_http_2_is_closed(self):
        with open_socket(self.server.http) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n")
            began = time.monotonic()
            read_all(connection)
            self.assertLess(time.monotonic() - began, 8)

    def test_a_slow_body_is_408(self):
        name = self.python("def fn(input, headers):\n    return input\n")
        with open_socket(self.server.http) as connection:
            connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow".encode())
            self.assertIn(b" 408 ", read_all_or_timeout(connection))


class Smuggling(OwnServerCase):
    settings = {}

    def test_conflicting_lengths_are_refused(self):
        name = self.deploy("binary", "echo-binary")
        start = f"POST /{name} HTTP/1.1\r\nHost: x\r\n"
        for headers, body in (
            ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("Content-Length: +5\r\n", "hello"),
            ("Content-Length: -1\r\n", ""),
            ("Content-Length: 5x\r\n", "hello"),
            ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
            ("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
            ("Content-Length : 5\r\n", "hello"),
        ):
            with self.subTest(headers=headers):
                with open_socket(self.server.http, 5) as connection:
                    connection.sendall((start + headers + "\r\n" + body).encode())
                    received = read_all_or_timeout(connection)
                self.assertRegex(received, rb"^HTTP/1.[01] 400 |^$", received)
                self.assertNotIn(b"smuggled", received)

    def test_what_is_no_http_is_refused(self):
        for sent in (b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", b"GET\r\n\r\n", b"GET /a b HTTP/1.1\r\n\r\n", b"\x00" * 100):
            with self.subTest(sent=sent):
                with open_socket(self.server.http, 5) as connection:
                    connection.sendall(sent)
                    received = read_all_or_timeout(connection)
                self.assertRegex(received, rb"^HTTP/1.[01] 400 |^$", received)


class Deadline(OwnServerCase):
    settings = {"TF_CALL_DEADLINE": "1s"}

    def check(self, name, body="30"):
        began = time.monotonic()
        answer = self.call(name, body)
        took = time.monotonic() - began
        self.refused(answer, 504)
        self.assertGreater(took, 0.8)
        self.assertLess(took, 3)

    def test_python(self):
        name = self.python(SLEEP)
        self.check(name)
        # Its worker, which cannot be stopped, is given up for a fresh one.
        self.eventually(lambda: self.call(name, "0").text, lambda text: text == "slept", "answering again")

    def test_a_script_is_ended(self):
        name = self.script("#!/bin/sh\nread seconds\nsleep \"$seconds\"\nprintf slept\n")
        self.check(name, "299\n")
        self.answers(name, "slept", "0\n")
        self.eventually(
            lambda: [p for p in self.server.processes() if b"sleep\x00299" in cmdline(p)], lambda seen: not seen, "its sleep gone",
        )

    def test_node(self):
        from blackbox.case import need_environment

        need_environment(self, "nodejs")
        name = self.node("module.exports = (q, r) => setTimeout(() => r.send('slept'), Number(q.body) * 1000)")
        self.check(name)
        self.answers(name, "slept", "0")

    def test_node_that_never_lets_go(self):
        from blackbox.case import need_environment

        need_environment(self, "nodejs")
        name = self.node("module.exports = (q, r) => { if (q.body === 'spin') for (;;); r.send('fine') }")
        self.check(name, "spin")
        self.eventually(lambda: self.call(name, "x").text, lambda text: text == "fine", "answering again")

    def test_a_streamed_reply_is_broken_off(self):
        name = self.python("import time\ndef fn(input, headers):\n    yield 'begun'\n    time.sleep(30)\n    yield 'never'\n")
        done = self.curl("--max-time", "10", f"{self.server.http}/{name}")
        self.assertEqual(done.stdout, b"begun")
        self.assertNotIn(done.returncode, (0, 28))


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


class Busy(OwnServerCase):
    settings = {
        "TF_CALLS_PER_HANDLER": "1",
        "TF_WAITING_PER_FUNCTION": "2",
        "TF_ASYNC_WAITING": "3",
    }

    def test_a_full_function_is_429_or_503_and_says_when(self):
        name = self.python(SLEEP)
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: self.call(name, "1"), range(8)))
        good = [answer for answer in answers if answer.status == 200]
        refused = [answer for answer in answers if answer.status != 200]
        self.assertEqual(len(good), 3)
        for answer in refused:
            self.refused(answer, (429, 503))
            self.assertRegex(answer.header("Retry-After") or "", r"^\d+$")
        self.answers(name, "slept", "0")

    def test_another_function_is_not_held_up(self):
        name, other = self.python(SLEEP), self.deploy("binary", "echo-binary")
        with ThreadPoolExecutor(3) as pool:
            waiting = [pool.submit(self.call, name, "1") for _ in range(3)]
            began = time.monotonic()
            self.answers(other, "x", "x")
            self.assertLess(time.monotonic() - began, 0.8)
            self.assertEqual([one.result().status for one in waiting], [200] * 3)

    def test_asynchronous_calls_are_bounded(self):
        name = self.python(SLEEP)
        statuses = [self.call(name, "0.5", headers={"X-tinyFaaS-Async": "1"}) for _ in range(6)]
        self.assertEqual([answer.status for answer in statuses[:3]], [202] * 3)
        for answer in statuses[3:]:
            self.refused(answer, (429, 503))
            self.assertTrue(answer.header("Retry-After"))


class BusyInAll(OwnServerCase):
    settings = {"TF_CALLS_PER_HANDLER": "1", "TF_WAITING_TOTAL": "1"}

    def test_a_full_server_is_503_and_says_when(self):
        names = [self.python(SLEEP) for _ in range(2)]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda n: self.call(names[n % 2], "1"), range(8)))
        self.assertEqual(sum(answer.status == 200 for answer in answers), 3)
        for answer in answers:
            if answer.status != 200:
                self.refused(answer, (429, 503))
                self.assertTrue(answer.header("Retry-After"))


class Connections(OwnServerCase):
    settings = {"TF_CONNECTIONS_MAX": "4"}

    def test_connections_beyond_the_limit_wait_or_are_refused(self):
        name = self.deploy("binary", "echo-binary")
        held = [connect(self.server.http, 10) for _ in range(4)]
        for connection in held:
            self.assertEqual(exchange(connection, f"{self.server.http}/{name}", "POST", "x").text, "x")
        seen = []

        def fifth():
            connection = connect(self.server.http, 10)
            try:
                seen.append(exchange(connection, f"{self.server.http}/{name}", "POST", "y").status)
            except OSError as error:
                seen.append(type(error).__name__)
            finally:
                connection.close()

        waiting = threading.Thread(target=fifth)
        waiting.start()
        waiting.join(0.5)
        if seen:
            self.assertNotEqual(seen[0], 200)
        for connection in held:
            connection.close()
        waiting.join(10)
        self.assertEqual(len(seen), 1)
        self.eventually(lambda: self.call(name, "z").text, lambda text: text == "z", "answering again")


class Logs(OwnServerCase):
    settings = {"TF_LOG_BYTES_MAX": "64KiB"}

    def test_the_oldest_lines_go_and_a_line_says_so(self):
        name = self.python("def fn(input, headers):\n    for n in range(3000):\n        print('number', n, 'x' * 50)\n")
        self.answers(name, "", "x")
        log = self.wait_for_log(name, "number 2999")
        self.assertLess(len(log), 400_000)
        self.assertNotRegex(log, r"number 0 x")
        self.assertRegex(log.split("\n")[0], r"(?i)dropped|removed|gone|older|lost")

    def test_one_endless_line_is_bounded(self):
        name = self.script("#!/bin/sh\nhead -c 3000000 /dev/zero | tr '\\0' x >&2\necho >&2\necho the end >&2\n")
        self.answers(name, "")
        # What comes faster than the disk takes it is dropped, the last line too.
        log = self.eventually(
            lambda: self.logs(name),
            lambda log: "the end" in log or "they came faster than the disk" in log,
            "the last line, or that lines were dropped",
        )
        self.assertLess(len(log), 400_000)
        self.assertTrue(all(re.match(rf"function={name} handler=", line) for line in log.splitlines()), log[:300])


if __name__ == "__main__":
    unittest.main()
