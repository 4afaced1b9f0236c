"""The message layer over raw sockets: what is answered, exactly how, and what is not."""

import os
import random
import signal
import socket
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox import coap
from blackbox.coap import ACK, CON, EMPTY, GET, NON, RST, Message
from blackbox.coap_case import CoapCase

# Numbers its runs; ?sleep=S takes so long, ?runs only tells.
COUNTS = """
import threading, time
lock = threading.Lock()
runs = 0
def fn(input, headers, context):
    global runs
    if context.query == "runs":
        return str(runs)
    with lock:
        runs += 1
        mine = runs
    if context.query.startswith("sleep="):
        time.sleep(float(context.query[6:]))
    return f"{mine} {input}"
"""
# Headers with message ID 0x1234 and a token of one byte, by type.
HEADS = {CON: b"\x41%c\x12\x34T", NON: b"\x51%c\x12\x34T", ACK: b"\x61%c\x12\x34T", RST: b"\x71%c\x12\x34T"}
THE_RESET = Message(RST, EMPTY, 0x1234, b"", [], b"")
# What no message may be: what follows the token, and a code.
MALFORMED = {
    "a payload marker without payload": (GET, b"\xff"),
    "an option delta of 15": (GET, b"\xf1x"),
    "an option length of 15": (GET, b"\x1fx"),
    "an option that is cut off": (GET, b"\xb5test"[:4]),
    "an option's extended delta that is cut off": (GET, b"\xd0"),
    "an option's extended length that is cut off": (GET, b"\xbe\x00"),
    "an option number above 65,535": (GET, b"\xe0\xff\xff\xe0\xff\xff"),
    "code 1.00": (coap.code("1.00"), b""),
    "code 1.31": (coap.code("1.31"), b""),
    "code 3.01": (coap.code("3.01"), b""),
    "code 6.00": (coap.code("6.00"), b""),
    "code 7.01, a signal": (coap.code("7.01"), b""),
    "an empty message with a token": (EMPTY, b""),
    "an empty message with bytes behind it": (EMPTY, b"\xffmore"),
}


class Malformed(CoapCase):
    """What is no message or no request: reset, refused, or met with silence."""

    def resets(self, client, datagram):
        client.send(datagram)
        self.assertEqual(client.receive(), THE_RESET)

    def test_malformed_messages_are_reset(self):
        client = self.client()
        for what, (code, rest) in MALFORMED.items():
            for kind in (CON, NON):
                with self.subTest(what=what, kind=kind):
                    self.resets(client, HEADS[kind] % code + rest)

    def test_a_token_longer_than_eight_is_reset(self):
        client = self.client()
        for length in range(9, 16):
            for head in (0x40, 0x50):
                with self.subTest(length=length, head=head):
                    self.resets(client, bytes([head | length, GET]) + b"\x12\x34" + b"t" * length)

    def test_a_token_that_is_cut_off_is_reset(self):
        self.resets(self.client(), b"\x48\x01\x12\x34token")

    def test_malformed_acknowledgements_and_resets_get_silence(self):
        client = self.client()
        for what, (code, rest) in MALFORMED.items():
            for kind in (ACK, RST):
                with self.subTest(what=what, kind=kind):
                    client.send(HEADS[kind] % code + rest)
                    self.assertTrue(client.hears_nothing())

    def test_acknowledgements_resets_and_responses_get_silence(self):
        client = self.client()
        for kind, code in (
            (ACK, "0.00"), (RST, "0.00"), (ACK, "2.05"), (RST, "2.05"), (ACK, "0.01"), (RST, "0.01"),
            (ACK, "4.04"), (NON, "2.05"), (NON, "4.04"), (NON, "5.00"), (NON, "2.31"),
        ):
            with self.subTest(kind=kind, code=code):
                token = b"" if code == "0.00" else b"T"
                client.send(Message(kind, coap.code(code), 0x1234, token))
                self.assertTrue(client.hears_nothing())

    def test_a_confirmable_response_to_nothing_is_reset(self):
        client = self.client()
        for code in ("2.05", "2.31", "4.04", "5.03"):
            with self.subTest(code=code):
                self.resets(client, Message(CON, coap.code(code), 0x1234, b"T", [], b"not asked for").encode())

    def test_what_is_no_coap_gets_silence(self):
        client = self.client()
        for datagram in (b"", b"\x40", b"\x40\x01\x12", b"\x01\x01\x12\x34", b"\x81\x01\x12\x34", b"\xc1\x01\x12\x34", b"\x16\x03\x01\x00\x05hello"):
            with self.subTest(datagram=datagram):
                client.send(datagram)
                self.assertTrue(client.hears_nothing())

    def test_a_ping_is_reset(self):
        client = self.client()
        for kind in (CON, NON):
            client.send(Message(kind, EMPTY, 0x1234))
            self.assertEqual(client.receive(), THE_RESET)

    def test_an_unknown_method_is_refused(self):
        client = self.client()
        for code in ("0.08", "0.31"):
            answer = client.ask(coap.code(code), "nobody")
            self.assertEqual((answer.kind, answer.status), (ACK, "4.05"))
            answer = client.ask(coap.code(code), "nobody", kind=NON)
            self.assertEqual((answer.kind, answer.status), (NON, "4.05"))

    def test_unknown_critical_options(self):
        """And those known ones that are not as they must be (RFC 7252 section 5.4)."""
        name = self.python(COUNTS)
        client = self.client()
        for what, options in {
            "unknown": [(9999, b"x")],
            "unknown, empty": [(2049, b"")],
            "OSCORE, which is not spoken": [(coap.OSCORE, b"")],
            "a Uri-Path that is too long": [(coap.URI_PATH, b"p" * 256)],
            "a Uri-Query that is too long": [(coap.URI_QUERY, b"q" * 256)],
            "two Uri-Hosts": [(coap.URI_HOST, b"a"), (coap.URI_HOST, b"b")],
            "an empty Uri-Host": [(coap.URI_HOST, b"")],
            "two Accepts": [(coap.ACCEPT, 0), (coap.ACCEPT, 50)],
            "an Accept of three bytes": [(coap.ACCEPT, b"\1\0\0")],
            "a Uri-Port of three bytes": [(coap.URI_PORT, b"\1\0\0")],
            "an If-Match of nine bytes": [(coap.IF_MATCH, b"t" * 9)],
            "an If-None-Match with a value": [(coap.IF_NONE_MATCH, b"x")],
            "a Block1 of four bytes": [(coap.BLOCK1, b"\0\0\0\1")],
            "two Block2s": [(coap.BLOCK2, b""), (coap.BLOCK2, b"")],
        }.items():
            with self.subTest(what=what):
                answer = client.ask("GET", name, options=options)
                self.assertEqual((answer.kind, answer.status), (ACK, "4.02"), answer)
                answer = client.ask("GET", name, options=options, kind=NON)
                self.assertEqual((answer.kind, answer.code), (RST, EMPTY), answer)
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "0")

    def test_unknown_elective_options_are_passed_over(self):
        name = self.python(COUNTS)
        client = self.client()
        for options in ([(9998, b"x" * 300)], [(2048, b"")], [(coap.HOP_LIMIT, b"\x10")], [(65_000, b"y"), (65_534, b"")]):
            with self.subTest(options=options):
                self.is_code(client.ask("GET", name, options=options), "2.05")
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "4")

    def test_proxying_is_refused(self):
        client = self.client()
        for options in ([(coap.PROXY_URI, b"coap://example.org/")], [(coap.PROXY_SCHEME, b"http")]):
            self.is_code(client.ask("GET", "nobody", options=options), "5.05")

    def test_a_block_size_that_is_reserved(self):
        client = self.client()
        for option in (coap.BLOCK1, coap.BLOCK2):
            self.is_code(client.ask("PUT", "nobody", b"x", [(option, b"\x07")]), "4.00")

    def test_a_spoofed_ping_pong_dies(self):
        """What one server answers another with is answered by neither."""
        other = self.prepare(COAP_PORT="0").start()
        addresses = [("127.0.0.1", self.port), ("127.0.0.1", other.ports["coap"])]
        ping, pong = b"\x40\x00\xbe\xef", b"\x70\x00\xbe\xef"
        heard = []
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as between:
            between.bind(("127.0.0.1", 0))
            between.settimeout(coap.WAIT_S)
            for datagram in (
                Message(CON, GET, 1, b"T", [(coap.URI_PATH, b"nobody")]).encode(), b"\x40\x00\x00\x01", b"\x49\x01\x12\x34" + b"t" * 9,
                Message(NON, GET, 2, b"T", [(coap.URI_PATH, b"nobody")]).encode(),
            ):
                # Whatever comes is handed to the other server, as if it came from
                # there, until a ping is answered first.
                hops = 0
                while datagram != pong:
                    self.assertLess(hops, 4, "they go on")
                    between.sendto(datagram, addresses[hops % 2])
                    between.sendto(ping, addresses[hops % 2])
                    datagram, _ = between.recvfrom(2048)
                    hops += 1
                    if datagram != pong:
                        self.assertEqual(between.recvfrom(2048)[0], pong)
                heard.append(hops)
        self.assertEqual(heard, [2, 2, 2, 2])


class Exchanges(CoapCase):
    """Copies, message IDs, tokens and addresses."""

    def test_a_copy_is_answered_by_the_same_bytes_and_runs_nothing(self):
        name = self.python(COUNTS)
        client = self.client()
        request = client.request("POST", name, "once")
        client.send(request)
        first = client.receive_bytes()
        self.assertEqual(Message.decode(first).text, "1 once")
        for _ in range(5):
            client.send(request)
            self.assertEqual(client.receive_bytes(), first)
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "1")

    def test_copies_at_once_run_once(self):
        name = self.python(COUNTS)
        client = self.client()
        request = client.request("POST", f"{name}?sleep=0.3", "once")
        for _ in range(20):
            client.send(request)
        self.assertEqual(client.exchange(request).text, "1 once")
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "1")

    def test_a_copy_of_a_non_confirmable_request_runs_nothing(self):
        name = self.python(COUNTS)
        client = self.client()
        request = client.request("POST", name, "once", kind=NON)
        for _ in range(3):
            client.send(request)
        self.assertEqual(client.receive().text, "1 once")
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "1")

    def test_a_message_id_with_another_request_is_another_request(self):
        """A client that starts again may use its IDs again."""
        name = self.python(COUNTS)
        client = self.client()
        self.assertEqual(client.ask("POST", name, "first", id=7).text, "1 first")
        self.assertEqual(client.ask("POST", name, "other", id=7).text, "2 other")

    def test_two_clients_with_the_same_ids_and_tokens(self):
        name = self.python("def fn(input, headers):\n    return input")
        clients = [self.client() for _ in range(2)]
        for number in range(200):
            for which, client in enumerate(clients):
                client.send(client.request("POST", name, f"{which} {number}", id=number, token=b"same"))
            for which, client in enumerate(clients):
                answer = client.receive()
                self.assertEqual((answer.id, answer.token, answer.text), (number, b"same", f"{which} {number}"))

    def test_tokens_of_all_lengths(self):
        name = self.python("def fn(input, headers):\n    return input")
        client = self.client()
        for length in range(9):
            token = os.urandom(length)
            answer = client.ask("POST", name, "x", token=token)
            self.assertEqual((answer.kind, answer.token), (ACK, token))

    def test_a_slow_reply_comes_apart_and_is_sent_until_it_is_acknowledged(self):
        name = self.python(COUNTS)
        client = self.client()
        request = client.request("GET", f"{name}?sleep=1.3")
        client.send(request)
        self.assertEqual(client.receive(), Message(ACK, EMPTY, request.id, b"", [], b""))
        first = client.receive()
        self.assertEqual((first.kind, first.status, first.token, first.text), (CON, "2.05", request.token, "1 None"))
        # It is not acknowledged, so it comes again, after two to three seconds.
        self.assertEqual(client.receive(), first)
        client.acknowledge(first)
        self.assertTrue(client.hears_nothing())
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "1")

    def test_a_slow_reply_to_a_non_confirmable_request_is_one(self):
        name = self.python(COUNTS)
        client = self.client()
        request = client.request("GET", f"{name}?sleep=1.2", kind=NON)
        client.send(request)
        answer = client.receive()
        self.assertEqual((answer.kind, answer.status, answer.token), (NON, "2.05", request.token))

    def test_replies_leave_from_the_address_that_was_asked(self):
        name = self.python("def fn(input, headers):\n    return input")
        hosts = ["127.0.0.1", "127.0.0.2", "127.1.2.3"]
        if self.has_ipv6():
            hosts.append("::1")
        for host in hosts:
            with self.subTest(host=host):
                # A socket that is connected takes nothing from anywhere else.
                client = self.client(host)
                self.assertEqual(client.ask("POST", name, host).text, host)
                self.assertTrue(client.hears_nothing())

    def test_a_port_without_a_server_of_one_family(self):
        server = self.start(COAP_PORT="0", COAP_ADDRESS="127.0.0.1")
        self.is_code(self.client(port=server.ports["coap"]).ask("GET", "nobody"), "4.04")

    def has_ipv6(self):
        try:
            with socket.socket(socket.AF_INET6) as one:
                one.bind(("::1", 0))
            return True
        except OSError:
            self.skipTest("this machine has no IPv6")


class Stopping(CoapCase):
    def test_calls_that_run_end_and_no_more_begin(self):
        server = self.start(COAP_PORT="0")
        name = self.python(COUNTS)
        client = self.client()
        request = client.request("GET", f"{name}?sleep=1.5")
        client.send(request)
        self.assertEqual(client.receive().code, EMPTY)
        server.send(signal.SIGTERM)
        refused = self.eventually(lambda: client.ask("GET", f"{name}?runs"), lambda answer: answer.status != "2.05", "stopping")
        self.is_code(refused, "5.03")
        answer = client.receive()
        self.assertEqual((answer.status, answer.text, answer.token), ("2.05", "1 None", request.token))
        client.acknowledge(answer)
        self.assertEqual(server.exit(), 0)
        self.assertEqual(server.left_over(), [])


class Floods(CoapCase):
    """Garbage and strangers cost bounded memory, and nobody else their service."""

    DATAGRAMS = 100_000
    GROWTH_BYTES_MAX = 64 << 20

    def garbage(self, seed, address):
        """Sends what no client would, from many ports."""
        chance = random.Random(seed)
        senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(16)]
        for number, sender in enumerate(senders):
            sender.bind((f"127.0.{seed}.{number + 1}", 0))
        made = []
        for number in range(500):
            options = [(chance.choice((6, 11, 12, 15, 17, 23, 27, 60, 258, 292, 2049)), chance.randbytes(chance.randrange(20))) for _ in range(chance.randrange(5))]
            message = Message(chance.randrange(4), chance.randrange(256), number, chance.randbytes(chance.randrange(9)), options, chance.randbytes(chance.randrange(900)))
            made.append(bytearray(chance.randbytes(chance.randrange(1, 1000)) if number % 4 == 0 else message.encode()))
        # First blocks of bodies that never go on, each for a place of its own.
        block = [(coap.URI_PATH, b"nobody"), (coap.URI_PATH, b"12345678"), (coap.BLOCK1, coap.block(0, True))]
        made += [bytearray(Message(CON, coap.PUT, 0, b"T", block, bytes(1024)).encode())] * 50
        for number in range(self.DATAGRAMS // 4):
            datagram = made[chance.randrange(len(made))]
            datagram[2:4] = number.to_bytes(4, "big")[2:]
            if datagram[-1024:] == bytes(1024):
                datagram[13:21] = b"%08d" % number
            senders[number % len(senders)].sendto(datagram, address)
        for sender in senders:
            sender.close()

    def test_a_flood_of_garbage(self):
        name = self.python("def fn(input, headers):\n    return input")
        client = self.client()
        self.assertEqual(client.ask("POST", name, "before").text, "before")
        before = self.server.memory()
        with ThreadPoolExecutor(4) as pool:
            floods = [pool.submit(self.garbage, seed, ("127.0.0.1", self.port)) for seed in range(1, 5)]
            served = 0
            while not all(flood.done() for flood in floods):
                text = f"during {served}"
                self.assertEqual(client.ask("POST", name, text).text, text)
                served += 1
        for flood in floods:
            flood.result()
        # More datagrams come than the kernel keeps, so that some of the client's are
        # lost too; it sends them again, and is answered.
        self.assertGreater(served, 0)
        self.assertEqual(client.ask("POST", name, "after").text, "after")
        self.assertLess(self.server.memory_peak() - before, self.GROWTH_BYTES_MAX)


if __name__ == "__main__":
    unittest.main()
