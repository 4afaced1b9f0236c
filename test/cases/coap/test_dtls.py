"""CoAP over DTLS with pre-shared keys, by libcoap's clients on GnuTLS and OpenSSL.

What ETSI asks of it stands in test_etsi_secured.py."""

import hashlib
import os
import signal
import socket
import subprocess
import time
import unittest

from blackbox.coap_case import CoapCase
from blackbox.coap_clients import libcoap, need_libcoap

VARIANTS = ("gnutls", "openssl")
# Coap-client takes keys as text only: the second is given to the server in hex.
KEY, OTHER_KEY = "anna's own secret key", "bob has another one"
KEYS = f"anna:{KEY},bob:hex:{OTHER_KEY.encode().hex()}"
ANNA = ("-u", "anna", "-k", KEY)
ECHO = "def fn(input, headers, context):\n    return context.body\n"
SENDS = """
def fn(input, headers, context):
    return bytes(range(256)) * (int(context.path[1:]) // 256)
"""
# A call that goes on until its client has gone or the server stops.
WAITS = "import time\ndef fn(input):\n    print('begun', flush=True)\n    time.sleep(60)\n"


def free_port():
    """A port for a client that is to have the same one twice."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def hello(number):
    """A ClientHello without a cookie, as anybody can send it."""
    body = b"\xfe\xfd" + hashlib.sha256(b"%d" % number).digest() + b"\0\0" + b"\0\2\xc0\xa8" + b"\1\0"
    length = len(body).to_bytes(3, "big")
    message = b"\1" + length + b"\0\0" + b"\0\0\0" + length + body
    return b"\x16\xfe\xfd" + bytes(8) + len(message).to_bytes(2, "big") + message


class DtlsCase(CoapCase):
    def setUp(self):
        super().setUp()
        for variant in VARIANTS:
            need_libcoap(self, variant)

    def coaps(self, path="", host="127.0.0.1"):
        return self.url(path, "coaps", host, port=self.server.ports["coaps"])

    def ask(self, path, *more, method="GET", variant="gnutls", who=ANNA, **options):
        return libcoap(self, method, self.coaps(path), *who, *more, variant=variant, **options)

    def is_in(self, answer, body=None):
        self.assertEqual(answer.code, "2.05", answer.printed[-2000:])
        if body is not None:
            self.assertEqual(answer.body, body)

    def hold(self, name, *more, variant="gnutls"):
        """A client whose call is under way, and goes on."""
        before = self.logs(name).count("begun")
        client = subprocess.Popen(
            [need_libcoap(self, variant), "-v", "6", "-B", "60", *ANNA, *map(str, more), self.coaps(name)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        self.addCleanup(self.end, client)
        self.eventually(lambda: self.logs(name).count("begun"), lambda count: count > before, "begun")
        return client

    @staticmethod
    def end(client):
        client.kill()
        client.wait()
        client.stdout.close()


class Served(DtlsCase):
    settings = {"COAPS_PORT": "0", "TF_COAP_KEYS": KEYS}

    def test_requests_and_replies_of_any_size(self):
        echo, sends = self.python(ECHO), self.python(SENDS)
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                self.is_in(self.ask(".well-known/core", variant=variant))
                self.is_in(self.ask(echo, method="POST", data="hi", variant=variant), b"hi")
                self.is_in(self.ask(f"{sends}/102400", variant=variant), bytes(range(256)) * 400)
                data = os.urandom(50_000)
                for size in (64, 1024):
                    answer = self.ask(echo, "-b", size, method="POST", data=data, variant=variant)
                    self.is_in(answer, data)
                self.is_in(self.ask(echo, "-N", method="POST", data="non", variant=variant), b"non")
                self.assertEqual(self.ask("nobody", variant=variant).code, "4.04")

    def test_an_observer_is_told_of_changes(self):
        self.interop("obs")
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                heard = self.folder() / "heard"
                with open(heard, "wb") as output:
                    observer = subprocess.Popen(
                        [need_libcoap(self, variant), "-v", "6", "-s", "60", "-B", "60", *ANNA, self.coaps("obs")],
                        stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    )
                self.addCleanup(observer.wait)
                self.addCleanup(observer.kill)
                self.eventually(heard.read_bytes, lambda text: b"Observe:" in text.partition(b"c:2.05")[2], "observing")
                news = f"news for {variant}"
                answer = self.ask("obs", "-t", "0", method="PUT", data=news, variant=variant)
                self.assertEqual(answer.code, "2.04", answer.printed)
                self.eventually(heard.read_bytes, lambda text: news.encode() in text, "told")

    def test_over_ipv6(self):
        for variant in VARIANTS:
            url = self.coaps(".well-known/core", "[::1]")
            self.is_in(libcoap(self, "GET", url, *ANNA, variant=variant))

    def test_each_identity_has_a_key_of_its_own(self):
        bob = ("-u", "bob", "-k", OTHER_KEY)
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                self.is_in(self.ask(".well-known/core", who=bob, variant=variant))
                self.is_in(self.ask(".well-known/core", variant=variant))
                crossed = ("-u", "bob", "-k", KEY)
                self.assertEqual(self.ask(".well-known/core", who=crossed, variant=variant, timeout=5).code, "")

    def test_a_client_that_crashed_gets_in_again_on_its_port(self):
        waits, echo = self.python(WAITS), self.python(ECHO)
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                port = free_port()
                client = self.hold(waits, "-p", port, variant=variant)
                # No goodbye: the server has its session still.
                client.send_signal(signal.SIGKILL)
                client.wait()
                answer = self.ask(echo, "-p", port, method="POST", data="again", variant=variant)
                self.is_in(answer, b"again")
                self.assertLess(answer.seconds, 5)

    def test_what_is_in_the_clear_is_not_answered(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as clear:
            clear.connect(("127.0.0.1", self.server.ports["coaps"]))
            clear.settimeout(0.5)
            # A GET, a ping, and a record of a session that there is not.
            record = b"\x17\xfe\xfd\0\1" + bytes(6) + b"\0\x20" + bytes(32)
            for datagram in (b"\x40\x01\x00\x01", b"\x40\x00\x00\x01", record):
                clear.send(datagram)
            with self.assertRaises(TimeoutError):
                clear.recv(2048)

    def test_a_flood_of_hellos_costs_no_memory_and_no_one_his_place(self):
        echo = self.python(ECHO)
        self.is_in(self.ask(echo, method="POST", data="before"), b"before")
        before = self.server.memory()
        flood = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(50)]
        for one in flood:
            one.connect(("127.0.0.1", self.server.ports["coaps"]))
        for number in range(50_000):
            flood[number % len(flood)].send(hello(number))
        answered = flood[0].recv(2048)
        for one in flood:
            one.close()
        self.assertLess(len(answered), len(hello(0)), "an answer is no longer than what it answers")
        for variant in VARIANTS:
            self.is_in(self.ask(echo, method="POST", data="after", variant=variant), b"after")
        self.assertLess(self.server.memory() - before, 4 << 20)


class Refused(DtlsCase):
    settings = {"COAPS_PORT": "0", "TF_COAP_KEYS": KEYS}

    def test_who_is_not_known_is_told_the_same_as_who_has_the_wrong_key(self):
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                told = []
                for identity, key in (("anna", "not her key"), ("na\x1bbody", KEY)):
                    who = ("-u", identity, "-k", key)
                    answer = self.ask(".well-known/core", who=who, variant=variant)
                    self.assertEqual((answer.code, answer.body), ("", b""), answer.printed)
                    self.assertLess(answer.seconds, 5, "it is told at once")
                    alerts = [line for line in answer.printed.lower().splitlines() if "alert" in line]
                    told.append([line.partition("dtls:")[2] for line in alerts])
                self.assertIn("decrypt error", told[0][0])
                self.assertEqual(told[0], told[1])
        output = self.server.output()
        lines = [line for line in output.splitlines() if "refused over DTLS" in line]
        # Now and then a line, whoever knocks: these came within seconds.
        self.assertEqual(len(lines), 1, output)
        self.assertIn('"anna"', lines[0])
        self.assertNotIn("\x1b", output)
        for secret in (KEY, OTHER_KEY, OTHER_KEY.encode().hex(), "not her key"):
            self.assertNotIn(secret, output)


class Bounded(DtlsCase):
    settings = {"COAPS_PORT": "0", "TF_COAP_KEYS": KEYS, "TF_COAP_SESSIONS": "2"}

    def test_so_many_sessions_and_no_more(self):
        waits, echo = self.python(WAITS), self.python(ECHO)
        held = [self.hold(waits) for _ in range(2)]
        self.assertEqual(self.ask(echo, timeout=2).code, "", "all places are in use")
        held[0].send_signal(signal.SIGINT)
        held[0].wait()
        self.is_in(self.ask(echo, method="POST", data="now"), b"now")
        self.assertIsNone(held[1].poll())
        self.assertIn("as many sessions as may be", self.server.output())


class Stopping(DtlsCase):
    def start_server(self, data=None, port="0"):
        return self.start(data, COAPS_PORT=port, TF_COAP_KEYS=KEYS, TF_DRAIN_STOP="200ms")

    def test_a_server_that_stops_says_goodbye(self):
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                server = self.start_server()
                client = self.hold(self.python(WAITS), variant=variant)
                self.assertEqual(server.stop(), 0, server.output())
                # Without a word it would wait for its reply for a minute.
                began = time.monotonic()
                printed = client.communicate(timeout=30)[0].decode(errors="replace")
                self.assertLess(time.monotonic() - began, 10)
                if variant == "openssl":
                    self.assertIn("read:warning:close notify", printed)

    def test_clients_come_in_again_when_a_server_has_crashed(self):
        server = self.start_server()
        ports = {variant: free_port() for variant in VARIANTS}
        waits = self.python(WAITS)
        held = [self.hold(waits, "-p", port, variant=variant) for variant, port in ports.items()]
        coaps = server.ports["coaps"]
        server.process.kill()
        server.exit()
        for client in held:
            self.end(client)
        self.start_server(server.data, str(coaps))
        for variant, port in ports.items():
            # What they had is gone with it; who begins anew gets in at once.
            answer = self.ask(".well-known/core", "-p", port, variant=variant)
            self.is_in(answer)
            self.assertLess(answer.seconds, 5)


if __name__ == "__main__":
    unittest.main()
