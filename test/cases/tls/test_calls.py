"""Calls over TLS are calls: bodies, streams, HTTP/2, gRPC."""

import hashlib
import os
import threading
import unittest

from blackbox import tls
from blackbox.certificates import trusting
from blackbox.server import scratch
from blackbox.tls_case import ECHO, STREAM, Certificates, TlsCase, grpc, request

DIGEST = "import hashlib\ndef fn(input, headers, context): return hashlib.sha256(context.body).hexdigest()\n"
MANY = "def fn(input, headers):\n    for _ in range(int(input)):\n        yield b'0123456789abcdef' * 4096\n"
ENDLESS = "import asyncio\nasync def fn(input, headers, context):\n    await asyncio.sleep(300)\n"


class Calls(TlsCase):
    def url(self, name):
        return f"https://localhost:{self.server.ports['https']}/{name}"

    def trusting_curl(self, *arguments, **more):
        return self.curl("--cacert", Certificates.authority().root, *arguments, **more)

    def test_http_2_is_agreed_on(self):
        name = self.python(ECHO)
        for flag, version in (("--http2", "2"), ("--http1.1", "1.1")):
            done = self.trusting_curl(flag, "--data", "hi", "--write-out", " %{http_version}", self.url(name))
            self.assertEqual(done.stdout.decode(), f"hi {version}", done.stderr)

    def test_every_address_is_served(self):
        name = self.python(ECHO)
        for host in ("localhost", "127.0.0.1", "[::1]"):
            done = self.trusting_curl("--data", "hi", f"https://{host}:{self.server.ports['https']}/{name}")
            self.assertEqual(done.stdout, b"hi", done.stderr)

    def test_large_bodies_go_both_ways(self):
        name, many = self.python(DIGEST), self.python(MANY)
        large = scratch() / "large"
        large.write_bytes(os.urandom(20 << 20))
        for flag in ("--http2", "--http1.1"):
            done = self.trusting_curl(flag, "--data-binary", f"@{large}", self.url(name))
            self.assertEqual(done.stdout.decode(), hashlib.sha256(large.read_bytes()).hexdigest(), done.stderr)
            done = self.trusting_curl(flag, "--data", "320", self.url(many))
            self.assertEqual((done.returncode, len(done.stdout)), (0, 20 << 20), done.stderr)

    def test_what_is_streamed_comes_as_it_is_produced(self):
        name = self.python(STREAM)
        flag = scratch() / "go on"
        connection = self.https()
        connection.request("POST", f"/{name}", str(flag))
        answer = connection.getresponse()
        self.assertEqual(answer.readline(), b"data: one\n")
        flag.touch()
        self.assertEqual(answer.read(), b"\ndata: two\n\n")
        connection.close()

    def test_a_connection_carries_many_calls(self):
        name = self.python(ECHO)
        connection = self.https()
        for number in range(5):
            connection.request("POST", f"/{name}", str(number))
            self.assertEqual(connection.getresponse().read(), str(number).encode())
            if number == 0:
                first = connection.sock
        self.assertIs(connection.sock, first)
        connection.close()

    def test_an_unknown_name_is_a_404(self):
        self.refused(self.secure("nobody"), 404, "nobody")

    def test_who_leaves_cancels_the_call(self):
        name = self.python(ENDLESS)
        running = lambda: self.manage(f"/v1/functions/{name}").text.replace(" ", "")  # noqa: E731
        connection = tls.connect(self.server.ports["https"], trusting(Certificates.authority().root))
        connection.sendall(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        self.eventually(running, lambda text: '"running":1' in text, "running")
        connection.close()
        self.eventually(running, lambda text: '"running":0' in text, "cancelled")

    def test_many_at_a_time(self):
        name = self.python(ECHO)
        replies = []
        threads = [threading.Thread(target=lambda n=n: replies.append(self.secure(name, str(n)).text)) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(sorted(replies, key=int), [str(n) for n in range(40)])

    def test_grpc_by_a_secure_channel(self):
        self.need_grpc()
        name = self.python(ECHO)
        credentials = grpc.ssl_channel_credentials(Certificates.authority().root.read_bytes())
        with grpc.secure_channel(f"localhost:{self.server.ports['grpc_tls']}", credentials) as channel:
            for _ in range(3):
                self.assertEqual(request(channel, name, data="hi"), "hi")
            with self.assertRaises(grpc.RpcError) as raised:
                request(channel, "nobody")
            self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def test_grpc_without_tls_is_told_so(self):
        self.need_grpc()
        with grpc.insecure_channel(f"localhost:{self.server.ports['grpc_tls']}") as channel:
            with self.assertRaises(grpc.RpcError) as raised:
                request(channel, "nobody")
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)


if __name__ == "__main__":
    unittest.main()
