"""What of TLS is spoken, what is refused: versions, suites, extensions."""

import os
import socket
import ssl
import subprocess
import unittest

from blackbox import http, tls
from blackbox.server import scratch
from blackbox.tls import Alert, ServerHello, agreed, offer, s_client
from blackbox.tls_case import ENDPOINTS, STREAM, TlsCase

# What a client of openssl's must be told, lest it refuses weak things by itself.
_WHATEVER = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
PLAIN = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Versions(TlsCase):
    def test_tls_1_2_and_1_3_are_spoken(self):
        for port in self.ports():
            self.assertEqual(agreed(s_client(port, "-tls1_2"))[0], "TLSv1.2")
            self.assertEqual(agreed(s_client(port, "-tls1_3"))[0], "TLSv1.3")

    def test_older_versions_are_refused(self):
        for port in self.ports():
            for version in (tls.SSL_3, tls.TLS_1_0, tls.TLS_1_1):
                with self.subTest(version=hex(version)):
                    every = [*tls.GOOD, *(suite for kind in tls.WEAK.values() for suite in kind)]
                    answer = offer(port, tls.hello(version, every))
                    self.assertIn(answer, (Alert(2, tls.PROTOCOL_VERSION), Alert(2, tls.HANDSHAKE_FAILURE)))

    def test_openssl_agrees_on_no_older_version(self):
        for port in self.ports():
            for flag in ("-tls1", "-tls1_1"):
                printed = s_client(port, flag, "-cipher", _WHATEVER)
                self.assertIsNone(agreed(printed), printed)
                self.assertRegex(printed, "alert (protocol version|handshake failure)")

    def test_the_hello_of_ssl_2_is_refused(self):
        suites = b"\x07\x00\xc0\x06\x00\x40\x01\x00\x80"
        body = b"\x01\x00\x02" + bytes([0, len(suites), 0, 0, 0, 16]) + suites + bytes(16)
        for port in self.ports():
            answer = offer(port, bytes([0x80, len(body)]) + body)
            self.assertTrue(answer == b"" or isinstance(answer, Alert), answer)


class Suites(TlsCase):
    def test_good_suites_are_taken(self):
        for port in self.ports():
            answer = offer(port, tls.hello())
            self.assertIsInstance(answer, ServerHello)
            self.assertEqual((answer.version, answer.compression), (tls.TLS_1_2, 0))
            self.assertIn(answer.suite, tls.GOOD)

    def test_weak_suites_are_refused(self):
        for port in self.ports():
            for kind, suites in tls.WEAK.items():
                with self.subTest(kind=kind):
                    answer = offer(port, tls.hello(suites=suites))
                    self.assertEqual(answer, Alert(2, tls.HANDSHAKE_FAILURE))

    def test_a_weak_suite_is_never_preferred(self):
        weak = [suite for kind in tls.WEAK.values() for suite in kind]
        for port in self.ports():
            answer = offer(port, tls.hello(suites=[*weak, tls.GOOD[1], tls.GOOD[0]]))
            self.assertIn(answer.suite, tls.GOOD)

    def test_openssl_agrees_on_no_weak_suite(self):
        weak = "ALL:COMPLEMENTOFALL:!AESGCM:!CHACHA20:@SECLEVEL=0"
        kinds = [weak, "aNULL:eNULL:@SECLEVEL=0", "kRSA:@SECLEVEL=0", "SHA1:@SECLEVEL=0", "PSK:@SECLEVEL=0"]
        for port in self.ports():
            refused = 0
            for suites in kinds:
                printed = s_client(port, "-tls1_2", "-cipher", suites)
                self.assertIsNone(agreed(printed), printed)
                refused += "alert handshake failure" in printed
            # Not every openssl has all of them.
            self.assertGreater(refused, 2)

    def test_every_suite_taken_has_forward_secrecy_and_authentication(self):
        for port in self.ports():
            taken, left = [], _WHATEVER
            while chosen := agreed(s_client(port, "-tls1_2", "-cipher", left)):
                taken.append(chosen[1])
                left = f"{left.replace(':@', f':!{chosen[1]}:@')}"
            self.assertTrue(taken)
            for suite in taken:
                self.assertRegex(suite, r"^ECDHE-(ECDSA|RSA)-(AES(128|256)-GCM-SHA\d+|CHACHA20-POLY1305)$")


class SuitesWithRsa(Suites):
    """Some of what is weak needs a key of RSA at the server."""

    rsa = True


class Extensions(TlsCase):
    def test_nothing_is_compressed(self):
        for port in self.ports():
            self.assertEqual(offer(port, tls.hello(compressions=(1, 0))).compression, 0)
            self.assertIsInstance(offer(port, tls.hello(compressions=(1,))), Alert)
            self.assertIn("Compression: NONE", s_client(port, "-tls1_2", "-comp"))

    def test_nothing_is_negotiated_anew(self):
        name, flag = self.python(STREAM), scratch() / "go on"
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{self.server.ports['https']}", "-tls1_2"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.addCleanup(client.stdout.close)
        self.addCleanup(client.kill)
        body = str(flag)
        client.stdin.write(f"POST /{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        client.stdin.flush()
        printed = b""
        while b"data: one" not in printed:
            printed += os.read(client.stdout.fileno(), 65536)
        self.assertIn(b"Secure Renegotiation IS supported", printed)
        # What openssl's client takes for the wish to negotiate anew.
        client.stdin.write(b"R\n")
        client.stdin.flush()
        while b"RENEGOTIATING" not in printed:
            printed += os.read(client.stdout.fileno(), 65536)
        flag.touch()
        rest, _ = client.communicate(timeout=20)
        self.assertIn(b"no renegotiation", rest)
        self.still_answers()

    def test_protocols_are_chosen(self):
        best = dict(zip(ENDPOINTS, ("h2", "h2", "http/1.1"), strict=True))
        for port in self.ports():
            endpoint = next(name for name in ENDPOINTS if self.server.ports[name] == port)
            self.assertIn(f"ALPN protocol: {best[endpoint]}\n", s_client(port, "-alpn", "foo,http/1.1,h2"))
            self.assertIn("No ALPN negotiated", s_client(port))
        for endpoint in ("https", "management_tls"):
            printed = s_client(self.server.ports[endpoint], "-alpn", "http/1.1")
            self.assertIn("ALPN protocol: http/1.1\n", printed)

    def test_strange_protocols_are_refused(self):
        for port in self.ports():
            printed = s_client(port, "-alpn", "spdy/3,foo,acme-tls/1")
            self.assertIsNone(agreed(printed), printed)
            self.assertIn("no application protocol", printed)

    def test_a_session_is_resumed(self):
        for port in self.ports():
            for version in ("-tls1_2", "-tls1_3"):
                kept = scratch() / "session"
                ask = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                printed = s_client(port, version, "-sess_out", kept, "-ign_eof", given=ask)
                self.assertIn("\nNew, ", printed)
                printed = s_client(port, version, "-sess_in", kept, "-ign_eof", given=ask)
                self.assertIn("\nReused, ", printed)

    def test_nothing_is_taken_early(self):
        early = scratch() / "early"
        early.write_bytes(PLAIN)
        for port in self.ports():
            kept = scratch() / "session"
            ask = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            s_client(port, "-tls1_3", "-sess_out", kept, "-ign_eof", given=ask)
            printed = s_client(port, "-tls1_3", "-sess_in", kept, "-early_data", early)
            self.assertRegex(printed, "Early data was (rejected|not sent)")

    def test_whatever_name_is_asked_for_is_answered(self):
        for port in self.ports():
            for name in ("localhost", "other.example", ".".join(["x" * 60] * 4)):
                self.assertIsInstance(offer(port, tls.hello(name=name)), ServerHello)
            for name in ("", "a\0b", "ü", "x" * 5000):
                self.assertIsInstance(offer(port, tls.hello(name=name)), (ServerHello, Alert))
        self.still_answers()


class PlainText(TlsCase):
    """Who speaks no TLS to a port of TLS."""

    def test_http_is_told_so(self):
        for port in self.ports():
            url = f"http://127.0.0.1:{port}/echo"
            for sent in (
                PLAIN,
                b"\r\n" + PLAIN,
                b"PUT /v1/functions/x HTTP/1.0\r\n\r\n",
                b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0",
                b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n\r\n",
            ):
                answer = http.raw(url, sent)
                self.assertTrue(answer.startswith(b"HTTP/1.1 400 "), (sent[:40], answer))
                self.assertIn(b"https://", answer)
            answer = http.raw(url, b"HEAD / HTTP/1.1\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 400 ") and answer.endswith(b"\r\n\r\n"), answer)

    def test_http_that_comes_slowly_is_told_so(self):
        for port in self.ports():
            with http.open_socket(f"http://127.0.0.1:{port}") as connection:
                for byte in PLAIN:
                    connection.sendall(bytes([byte]))
                    if byte == ord("\n"):
                        # Each in a segment of its own; the answer may come at any time.
                        break
                self.assertIn(b"https://", http.read_all(connection))

    def test_curl_shows_the_words_even_while_it_uploads(self):
        large = scratch() / "large"
        large.write_bytes(bytes(3 << 20))
        for port in self.ports():
            done = self.curl("--write-out", "%{http_code}", "--data-binary", f"@{large}", f"http://127.0.0.1:{port}/x")
            self.assertIn(b"https://", done.stdout, done.stderr)
            self.assertTrue(done.stdout.endswith(b"400"), done.stdout)

    def test_what_is_neither_ends(self):
        for port in self.ports():
            for sent in (b"EHLO example.org\r\n", bytes(64), b"\xff" * 64, b"\x16\x03\x01\xff\xff" + bytes(100), b"SSH-2.0-x\r\n"):
                answer = http.raw(f"http://127.0.0.1:{port}", sent)
                self.assertNotIn(b"HTTP/1.1 200", answer)
        self.still_answers()

    def test_another_protocol_than_agreed_on_harms_nobody(self):
        for endpoint in ENDPOINTS:
            for alpn, sent in (("h2", PLAIN), ("http/1.1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))):
                context = tls.anyone()
                context.set_alpn_protocols([alpn])
                try:
                    connection = tls.connect(self.server.ports[endpoint], context)
                except ssl.SSLError:
                    # Management has no HTTP/2 to agree on.
                    self.assertEqual((endpoint, alpn), ("management_tls", "h2"))
                    continue
                with connection:
                    connection.sendall(sent)
                    self.assertNotIn(b" 200 ", connection.recv(4096))
        self.still_answers()

    def test_garbage_within_tls_is_bad_http(self):
        for endpoint in ("https", "management_tls"):
            with tls.connect(self.server.ports[endpoint], tls.anyone()) as connection:
                connection.sendall(b"\0\1\2\3 garbage\r\n\r\n")
                self.assertTrue(http.read_all(connection).startswith(b"HTTP/1.1 400 "))

    def test_garbage_behind_the_handshake_ends_that_connection(self):
        for port in self.ports():
            connection = tls.connect(port, tls.anyone())
            plain = connection.detach()
            with socket.socket(fileno=plain) as plain:
                plain.settimeout(20)
                plain.sendall(b"no record of TLS at all, and long enough to be sure")
                # An alert at most, and the end.
                self.assertLess(len(http.read_all(plain)), 2000)
        self.still_answers()


if __name__ == "__main__":
    unittest.main()
