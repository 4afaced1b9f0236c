"""Once and each its own: slow calls, long replies, very many requests."""

import hashlib
import select
import time
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from blackbox import coap
from blackbox.coap import ACK, CON, EMPTY, Message
from blackbox.coap_case import CoapCase, Gateway
from blackbox.coap_clients import aiocoap, coap_cli, libcoap, need_client, need_libcoap

# Counts its runs for each text that it is sent; ?runs tells how many there were.
SLOW = """
import collections, threading, time
lock = threading.Lock()
runs = collections.Counter()
def fn(input, headers, context):
    if context.query == "runs":
        return str(runs[input])
    with lock:
        runs[input] += 1
    time.sleep(10)
    return f"{input} at last"
"""
MEGABYTE = """
import hashlib
runs = 0
def fn(input, headers, context):
    global runs
    if context.query == "runs":
        return str(runs)
    runs += 1
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(31_250))
"""
ECHO_JS = "module.exports = (req, res) => res.end(req.rawBody);"
REQUESTS = 100_000
WINDOW = 64


class Once(CoapCase):
    def runs(self, name, text):
        return self.client().ask("POST", f"{name}?runs", text).text

    def stubborn(self, name, text):
        """A client that takes no notice of acknowledgements: it sends its request
        again and again until the reply is there."""
        client = self.client()
        request = client.request("POST", name, text)
        waits = iter((2, 4, 5))
        client.send(request)
        due = time.monotonic() + next(waits)
        while True:
            try:
                answer = client.receive(max(0.001, due - time.monotonic()))
            except TimeoutError:
                client.send(request)
                due += next(waits)
                continue
            if answer.code == EMPTY:
                self.assertEqual((answer.kind, answer.id), (ACK, request.id))
                continue
            self.assertEqual((answer.kind, answer.token), (CON, request.token))
            client.acknowledge(answer)
            return answer.text

    def test_ten_seconds_and_clients_that_send_again(self):
        """Clients of all kinds at once, some behind a gateway that loses the first
        copy of everything."""
        need_libcoap(self)
        need_client(self, "aiocoap-client", "coap")
        name = self.python(SLOW)
        seen = set()

        def first(direction, data):
            new = (direction, data) not in seen
            seen.add((direction, data))
            return new

        gateway = Gateway(("127.0.0.1", self.port), first)
        self.addCleanup(gateway.close)
        lossy = self.url(name, port=gateway.port)
        with ThreadPoolExecutor(8) as pool:
            replies = {
                "stubborn": pool.submit(self.stubborn, name, "stubborn"),
                "libcoap": pool.submit(lambda: libcoap(self, "POST", self.url(name), data="libcoap").text),
                "libcoap, twice": pool.submit(lambda: libcoap(self, "POST", lossy, data="libcoap, twice", timeout=60).text),
                "aiocoap": pool.submit(lambda: aiocoap(self, "POST", self.url(name), data="aiocoap").text),
                "aiocoap, twice": pool.submit(lambda: aiocoap(self, "POST", lossy, data="aiocoap, twice", timeout=60).text),
                "coap-cli": pool.submit(lambda: coap_cli(self, "POST", self.url(name), data="coap-cli").text),
            }
            self.assertEqual({text: reply.result() for text, reply in replies.items()}, {text: f"{text} at last" for text in replies})
        self.assertEqual({text: self.runs(name, text) for text in replies}, dict.fromkeys(replies, "1"))
        # So something was lost, in both directions.
        self.assertEqual({direction for _, direction, _ in gateway.lost}, {"request", "response"})

    def test_a_megabyte_is_fetched_with_one_run(self):
        name = self.python(MEGABYTE)
        reply = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(31_250))
        client = self.client()
        answer = client.fetch("GET", name)
        self.assertEqual((answer.status, len(answer.payload)), ("2.05", 1_000_000))
        self.assertEqual(answer.payload, reply)
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "1")
        # Smaller blocks in the middle of it, and one that was had before.
        for number, size in ((7, 1024), (20_000, 16), (62_499, 16)):
            answer = client.ask("GET", name, options=[(coap.BLOCK2, coap.block(number, size=size))])
            self.assertEqual(answer.payload, reply[number * size :][:size])
        self.assertEqual(client.ask("GET", f"{name}?runs").text, "1")

    def test_libcoap_fetches_a_megabyte_with_one_run(self):
        need_libcoap(self)
        name = self.python(MEGABYTE)
        answer = libcoap(self, "GET", self.url(name))
        self.assertEqual((answer.code, len(answer.body)), ("2.05", 1_000_000))
        self.assertEqual(self.client().ask("GET", f"{name}?runs").text, "1")


class Many(CoapCase):
    def test_a_hundred_thousand_requests_of_one_client(self):
        """As fast as it can, so many at a time, its message IDs going round: each
        reply is its own. A client with so few under way is never refused."""
        name = self.node(ECHO_JS)
        client = self.client()
        client.socket.setblocking(False)
        path = coap.encode_options(coap.path_options(name))
        waiting, sent, done, codes = {}, 0, 0, Counter()
        ends = time.monotonic() + 240
        while done < REQUESTS:
            while sent < REQUESTS and len(waiting) < WINDOW:
                token = sent.to_bytes(4, "big")
                waiting[token] = time.monotonic(), b"\x44\x02" + (sent & 0xFFFF).to_bytes(2, "big") + token + path + b"\xff%d" % sent
                client.socket.send(waiting[token][1])
                sent += 1
            if not select.select([client.socket], [], [], 1)[0]:
                self.assertLess(time.monotonic(), ends, f"{done} done, {sent} sent, {codes}")
                # As a client does that has waited long enough.
                for token, (since, datagram) in waiting.items():
                    if time.monotonic() - since > coap.ACK_TIMEOUT_S:
                        codes["sent again"] += 1
                        waiting[token] = time.monotonic(), datagram
                        client.socket.send(datagram)
                continue
            for _ in range(WINDOW):
                try:
                    data = client.socket.recv(2048)
                except BlockingIOError:
                    break
                answer = Message.decode(data)
                if answer.code == EMPTY:
                    codes["acknowledged apart"] += 1
                    continue
                client.acknowledge(answer)
                if answer.token not in waiting:
                    codes["copies"] += 1
                    continue
                number = int.from_bytes(answer.token, "big")
                if answer.kind == ACK:
                    self.assertEqual(answer.id, number & 0xFFFF)
                codes[answer.status] += 1
                self.assertEqual((answer.status, answer.payload), ("2.05", b"%d" % number))
                del waiting[answer.token]
                done += 1
        self.assertEqual(codes["2.05"], REQUESTS, codes)


if __name__ == "__main__":
    unittest.main()
