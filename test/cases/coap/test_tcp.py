"""CoAP over TCP (RFC 8323): others' clients, signals, and what no honest client sends."""

import os
import random
import signal
import socket
import subprocess
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blackbox.coap import (
    BLOCK1, BLOCK2, ETAG, LOCATION_PATH, NO_RESPONSE, OBSERVE, PROXY_URI, SIZE2, URI_HOST, code, uint,
)
from blackbox.coap_case import CoapCase
from blackbox.coap_clients import aiocoap, libcoap, need_client, need_libcoap
from blackbox.coap_stream import (
    ABORT, BAD_CSM_OPTION, BERT, BLOCK_WISE_TRANSFER, CSM, CUSTODY, MAX_MESSAGE_SIZE, PING, PONG,
    RELEASE, Frame, Stream,
)

# Says what it was sent, and by which method.
ECHO = """
def fn(input, headers, context):
    return context.method.encode() + b" " + context.body
"""
# Replies with as many bytes as are asked for (/NAME/BYTES); /NAME/runs tells how often.
SENDS = """
runs = 0
def fn(input, headers, context):
    global runs
    if context.path == "/runs":
        return str(runs)
    runs += 1
    return bytes(n * n // 7 % 256 for n in range(int(context.path[1:])))
"""
# Waits until /go is asked; then every reply comes.
WAITS = """
let go, gone = new Promise((resolve) => { go = resolve })
module.exports = async (req, res) => {
  if (req.path === '/go') { go() } else { console.log('waiting'); await gone }
  res.end(req.path)
}
"""
PATIENT = """
import asyncio
async def fn(input, headers):
    print("waiting")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        print("cancelled")
        raise
"""
# A state that a PUT changes; without one it is gone.
STATE = """
state = "first"
def fn(input, headers, context):
    global state
    if context.method == "PUT":
        state = input
        return None, 204
    return (state, 200, {"Cache-Control": "max-age=600"}) if state else ("gone", 404)
"""
# aiocoap's library: its command line shows no more than the first state.
AIOCOAP_OBSERVES = """
import asyncio, sys, aiocoap
async def main():
    context = await aiocoap.Context.create_client_context()
    request = context.request(aiocoap.Message(code=aiocoap.GET, uri=sys.argv[1], observe=0))
    print((await request.response).payload.decode(), flush=True)
    async for told in request.observation:
        print(told.payload.decode(), flush=True)
asyncio.run(main())
"""
OBSERVABLE = "[coap]\nobservable = true\n"
CODES = {
    "GET": "2.05", "POST": "2.05", "FETCH": "2.05", "PUT": "2.04", "PATCH": "2.04",
    "iPATCH": "2.04", "DELETE": "2.02",
}
# Around the ends of blocks and of the forms of a header, and a million bytes.
SIZES = (1, 12, 13, 268, 269, 1024, 1025, 65_804, 65_805, 131_072, 131_073, 1_000_000)
# The longest message that the server takes, unless it is set.
MESSAGE_MAX = 129 << 10


def sent_by(count):
    """The reply of SENDS."""
    return bytes(n * n // 7 % 256 for n in range(count))


class TcpCase(CoapCase):
    settings = {"COAP_PORT": "-1", "COAP_TCP_PORT": "0"}

    @property
    def port(self):
        return self.server.ports["coap_tcp"]

    def url(self, path="", scheme="coap+tcp", host="127.0.0.1", port=None):
        return super().url(path, scheme, host, port)

    def stream(self, *csm, greet=True):
        """A connection that goes with the case, on which both have said what they can."""
        stream = Stream(("127.0.0.1", self.port), csm if greet else None)
        self.addCleanup(stream.close)
        told = stream.receive()
        self.assertEqual((told.code, told.uint(MAX_MESSAGE_SIZE)), (CSM, MESSAGE_MAX))
        self.assertEqual(told.first(BLOCK_WISE_TRANSFER), b"")
        return stream

    def is_aborted(self, stream, *words):
        """Checks that the server ends a connection and says why; the Abort."""
        abort = stream.receive()
        self.assertEqual(abort.code, ABORT, abort)
        for word in words:
            self.assertIn(word, abort.text)
        self.assertIsNone(stream.receive())
        return abort

    def is_alive(self):
        """Checks that others are served."""
        answer = self.stream().ask("GET", ".well-known/core")
        self.assertEqual(answer.status, "2.05")


class Libcoap(TcpCase):
    def setUp(self):
        super().setUp()
        need_libcoap(self)

    def test_every_method(self):
        name = self.python(ECHO)
        for method, expected in CODES.items():
            with self.subTest(method=method):
                answer = libcoap(self, method, self.url(name), data="some bytes")
                self.assertEqual((answer.code, answer.text), (expected, f"{method} some bytes"))

    def test_bodies_up_to_a_megabyte_both_ways(self):
        echo, sends = self.python(ECHO), self.python(SENDS)
        for size in SIZES:
            with self.subTest(size=size):
                data = os.urandom(size)
                answer = libcoap(self, "PUT", self.url(echo), data=data)
                self.assertEqual(answer.code, "2.04", answer.printed[:2000])
                self.assertTrue(answer.body == b"PUT " + data)
                answer = libcoap(self, "GET", self.url(f"{sends}/{size}"))
                self.assertEqual(answer.code, "2.05", answer.printed[:2000])
                self.assertTrue(answer.body == sent_by(size))

    def test_discovery_and_errors(self):
        name = self.python(ECHO)
        answer = libcoap(self, "GET", self.url(f".well-known/core?href=/{name}"))
        self.assertEqual((answer.code, answer.text), ("2.05", f"</{name}>"), answer.printed)
        self.assertEqual(libcoap(self, "GET", self.url("nobody")).code, "4.04")


class Aiocoap(TcpCase):
    def setUp(self):
        super().setUp()
        need_client(self, "aiocoap-client")

    def test_every_method(self):
        name = self.python(ECHO)
        for method, expected in CODES.items():
            with self.subTest(method=method):
                answer = aiocoap(self, method, self.url(name), data="some bytes")
                self.assertEqual((answer.code, answer.text), (expected, f"{method} some bytes"))

    def test_bodies_up_to_a_megabyte_both_ways(self):
        echo, sends = self.python(ECHO), self.python(SENDS)
        for size in (1, 1025, 131_073, 1_000_000):
            with self.subTest(size=size):
                data = os.urandom(size)
                answer = aiocoap(self, "PUT", self.url(echo), data=data)
                self.assertEqual(answer.code, "2.04", answer.printed[:2000])
                self.assertTrue(answer.body == b"PUT " + data)
                answer = aiocoap(self, "GET", self.url(f"{sends}/{size}"))
                self.assertTrue(answer.body == sent_by(size))


class Requests(TcpCase):
    def test_replies_come_as_functions_end(self):
        name = self.node(WAITS)
        stream = self.stream()
        first = stream.request("GET", f"{name}/first")
        second = stream.request("GET", f"{name}/go")
        stream.send(first, second)
        answers = [stream.receive(), stream.receive()]
        self.assertEqual([answer.token for answer in answers], [second.token, first.token])
        self.assertEqual([answer.text for answer in answers], ["/go", "/first"])

    def test_very_many_at_once_are_all_answered(self):
        name = self.node("module.exports = (req, res) => res.end(req.rawBody)")
        stream = self.stream()
        bodies = {uint(n): os.urandom(n % 700) for n in range(1, 3000)}
        stream.send(*(stream.request("POST", name, body, token=token) for token, body in bodies.items()))
        for _ in range(len(bodies)):
            answer = stream.receive()
            self.assertEqual((answer.status, answer.payload), ("2.05", bodies.pop(answer.token)))

    def test_a_byte_at_a_time(self):
        name = self.python(ECHO)
        stream = self.stream(greet=False)
        for byte in Frame(CSM).encode() + stream.request("POST", name, b"x" * 300).encode():
            stream.send(bytes([byte]))
        self.assertEqual(stream.receive().text, "POST " + "x" * 300)

    def test_responses_that_are_not_wanted(self):
        name = self.python(ECHO)
        stream = self.stream()
        stream.send(stream.request("POST", name, b"silent", [(NO_RESPONSE, 26)]))
        stream.send(Frame(PING, b"p", [(CUSTODY, b"")]))
        # The call is over, and was not answered.
        self.assertEqual(stream.receive().code, PONG)
        self.assertEqual(stream.ask("POST", name, b"x", [(NO_RESPONSE, 24)]).text, "POST x")

    def test_what_cannot_be_served_is_refused_in_its_code(self):
        name = self.python(ECHO)
        stream = self.stream()
        for method, option, expected in (
            ("GET", (9, b"x"), "4.02"), ("GET", (65_001, b""), "4.02"), (31, (URI_HOST, b"x"), "4.05"),
            ("GET", (PROXY_URI, b"coap://x/"), "5.05"), ("GET", (URI_HOST, b"x"), "2.05"),
        ):
            with self.subTest(method=method, option=option):
                answer = stream.ask(method, name, options=[option])
                self.assertEqual(answer.status, expected, answer)

    def test_a_connection_that_ends_takes_its_calls_with_it(self):
        for end in ("closed", "aborted"):
            with self.subTest(end=end):
                name = self.python(PATIENT)
                stream = self.stream()
                stream.send(stream.request("GET", name))
                self.wait_for_log(name, "waiting")
                if end == "aborted":
                    stream.send(Frame(ABORT))
                    self.assertIsNone(stream.receive())
                stream.close()
                self.wait_for_log(name, "cancelled")

    def test_bodies_in_blocks_of_many(self):
        name = self.python(ECHO)
        stream = self.stream((MAX_MESSAGE_SIZE, 1 << 20), (BLOCK_WISE_TRANSFER, b""))
        body = os.urandom(300_000)
        for at in range(0, len(body), 100 << 10):
            part, more = body[at : at + (100 << 10)], at + (100 << 10) < len(body)
            block = (BLOCK1, uint(at >> 10 << 4 | more << 3 | BERT))
            answer = stream.ask("PUT", name, part, [block])
            self.assertEqual(answer.status, "2.31" if more else "2.04", answer)
            self.assertEqual(answer.block(BLOCK1), (at >> 10, more, BERT))
        self.assertEqual(answer.block(BLOCK2)[1:], (True, BERT))
        self.assertEqual(self.rest(stream, "PUT", name, answer), b"PUT " + body)

    def rest(self, stream, method, path, answer, most=MESSAGE_MAX):
        """A reply's whole body, of which the first part has come."""
        body, first = answer.payload, answer
        while (block := answer.block(BLOCK2)) and block[1]:
            size = 1024 if block[2] == BERT else 16 << block[2]
            answer = stream.ask(method, path, b"", [(BLOCK2, uint(len(body) // size << 4 | block[2]))])
            self.assertEqual((answer.status, answer.first(ETAG)), (first.status, first.first(ETAG)))
            self.assertLessEqual(len(answer.encode()), most)
            body += answer.payload
        return body

    def test_replies_in_messages_that_the_client_takes(self):
        name = self.python(SENDS)
        blocks = (BLOCK_WISE_TRANSFER, b"")
        for runs, (csm, szx, most) in enumerate((
            ([], 6, 1152), ([blocks], 6, 1152), ([(MAX_MESSAGE_SIZE, 500), blocks], 4, 500),
            ([(MAX_MESSAGE_SIZE, 4000), blocks], BERT, 4000), ([(MAX_MESSAGE_SIZE, 1 << 20)], None, 1 << 20),
            ([(MAX_MESSAGE_SIZE, 1 << 20), blocks], BERT, MESSAGE_MAX),
        ), 1):
            with self.subTest(csm=csm):
                stream = self.stream(*csm)
                answer = stream.ask("GET", f"{name}/200000")
                self.assertLessEqual(len(answer.encode()), most)
                block = answer.block(BLOCK2)
                self.assertEqual(block and block[2], szx)
                self.assertEqual(answer.uint(SIZE2), 200_000 if block else None)
                body = self.rest(stream, "GET", f"{name}/200000", answer, most)
                self.assertTrue(body == sent_by(200_000))
                self.assertEqual(stream.ask("GET", f"{name}/runs").text, str(runs))


class Observing(TcpCase):
    def state(self):
        return self.deploy("python3", {"fn.py": STATE, "tinyfaas.toml": OBSERVABLE})

    def observe(self, stream, name, token=b"o"):
        """Begins to observe; the answer."""
        answer = stream.ask("GET", name, options=[(OBSERVE, 0)], token=token)
        self.assertEqual(answer.status, "2.05", answer)
        self.assertIsNotNone(answer.first(OBSERVE))
        return answer

    def change(self, name, state):
        self.assertEqual(self.stream().ask("PUT", name, state).status, "2.04")

    def test_a_change_is_told_to_all_until_they_leave(self):
        name = self.state()
        one, other = self.stream(), self.stream()
        self.assertEqual(self.observe(one, name).text, "first")
        self.observe(other, name)
        self.change(name, "second")
        for stream in (one, other):
            told = stream.receive()
            self.assertEqual((told.status, told.token, told.text), ("2.05", b"o", "second"))
            self.assertIsNotNone(told.first(OBSERVE))
        left = one.ask("GET", name, options=[(OBSERVE, 1)], token=b"o")
        self.assertEqual((left.text, left.first(OBSERVE)), ("second", None))
        self.change(name, "third")
        self.assertEqual(other.receive().text, "third")
        one.send(Frame(PING))
        self.assertEqual(one.receive().code, PONG)
        # It is gone, which is the last that is told.
        self.change(name, "")
        told = other.receive()
        self.assertEqual((told.status, told.first(OBSERVE)), ("4.04", None))
        self.change(name, "back")
        other.send(Frame(PING))
        self.assertEqual(other.receive().code, PONG)

    def test_who_is_slow_is_told_the_newest_state(self):
        name = self.state()
        stream = self.stream((MAX_MESSAGE_SIZE, 1 << 20))
        self.observe(stream, name)
        for number in range(60):
            self.change(name, f"{number} " + "x" * 100_000)
        last, count = stream.receive(), 1
        while not last.text.startswith("59 "):
            last, count = stream.receive(), count + 1
        self.assertLessEqual(count, 60)

    def test_the_result_of_an_asynchronous_call(self):
        name = self.node(WAITS)
        stream = self.stream()
        created = stream.ask("POST", f"{name}/first?tinyfaas-async")
        self.assertEqual(created.status, "2.01")
        path = "/".join(value.decode() for number, value in created.options if number == LOCATION_PATH)
        pending = stream.ask("GET", path, options=[(OBSERVE, 0)], token=b"o")
        self.assertEqual(pending.token, b"o")
        self.stream().ask("GET", f"{name}/go")
        while (told := stream.receive()).status == "5.03":
            pass
        self.assertEqual((told.status, told.token, told.text), ("2.05", b"o", "/first"))

    def test_the_servers_stop_ends_it(self):
        server = self.start(**self.settings)
        stream = self.stream()
        self.observe(stream, self.state())
        server.process.send_signal(signal.SIGTERM)
        told = [stream.receive(), stream.receive()]
        self.assertEqual([frame.status for frame in told], ["7.04", "5.03"])
        self.assertIsNone(stream.receive())
        self.assertEqual(server.exit(), 0)

    def test_libcoap(self):
        need_libcoap(self)
        name, own = self.state(), self.stream()
        self.observe(own, name)
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(libcoap, self, "GET", self.url(name), "-s", 2)
            number = 0
            while not run.done():
                number += 1
                self.change(name, f"state {number}")
                self.assertEqual(own.receive().text, f"state {number}")
        told = [options for code, options in run.result().responses if "Observe" in options]
        self.assertGreaterEqual(len(told), 2, run.result().printed[:2000])
        self.assertRegex(run.result().printed, "state [0-9]+")

    def test_aiocoap(self):
        program = need_client(self, "aiocoap-client")[0]
        name = self.state()
        python = Path(program).parent / "python"
        client = subprocess.Popen([python, "-c", AIOCOAP_OBSERVES, self.url(name)], stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(client.stdout.readline(), "first\n")
            for state in ("second", "third"):
                self.change(name, state)
                self.assertEqual(client.stdout.readline(), f"{state}\n")
        finally:
            client.kill()
            client.communicate()


class Signals(TcpCase):
    def test_what_the_client_can_comes_first(self):
        for first in (
            Frame(1, b"t"), Frame(PING), Frame(RELEASE), Frame(code("2.05")), Frame(code("0.31")),
        ):
            with self.subTest(first=first):
                stream = self.stream(greet=False)
                stream.send(first)
                self.is_aborted(stream, "before the CSM")
        # Messages that only keep a connection alive may.
        stream = self.stream(greet=False)
        stream.send(Frame(0), Frame(CSM), Frame(0))
        self.assertEqual(stream.ask("GET", "nobody").status, "4.04")

    def test_an_unknown_critical_option_of_a_signal(self):
        for number in (CSM, PING, RELEASE):
            stream = self.stream()
            stream.send(Frame(number, b"", [(3, b"x")]))
            abort = self.is_aborted(stream, "critical option 3")
            self.assertEqual(abort.uint(BAD_CSM_OPTION), 3 if number == CSM else None)
        stream = self.stream()
        stream.send(Frame(CSM, b"", [(MAX_MESSAGE_SIZE, 20)]))
        self.assertEqual(stream.receive().uint(BAD_CSM_OPTION), MAX_MESSAGE_SIZE)
        self.assertIsNone(stream.receive())

    def test_what_means_nothing_is_ignored(self):
        stream = self.stream((6, b"of another RFC"), (1000, b""))
        stream.send(
            Frame(0), Frame(code("2.05"), b"t", [], b"nobody asked"), Frame(PONG), Frame(code("7.31")),
            Frame(CSM), Frame(PING, b"p", [(4, b"elective")]),
        )
        self.assertEqual(stream.receive(), Frame(PONG, b"p", [], b""))

    def test_a_ping_with_custody_waits_for_what_was_asked_before(self):
        name = self.node(WAITS)
        stream, other = self.stream(), self.stream()
        stream.send(stream.request("GET", f"{name}/first", token=b"r"))
        stream.send(Frame(PING, b"c", [(CUSTODY, b"")]), Frame(PING, b"p"))
        self.assertEqual(stream.receive(), Frame(PONG, b"p", [], b""))
        self.assertEqual(other.ask("GET", f"{name}/go").text, "/go")
        self.assertEqual(stream.receive().text, "/first")
        self.assertEqual(stream.receive(), Frame(PONG, b"c", [(CUSTODY, b"")], b""))

    def test_a_release_lets_what_runs_end(self):
        name = self.node(WAITS)
        stream, other = self.stream(), self.stream()
        stream.send(stream.request("GET", f"{name}/first"), Frame(RELEASE))
        stream.socket.shutdown(socket.SHUT_WR)
        self.wait_for_log(name, "waiting")
        self.assertEqual(other.ask("GET", f"{name}/go").text, "/go")
        self.assertEqual(stream.receive().text, "/first")
        self.assertIsNone(stream.receive())


class Malformed(TcpCase):
    def test_what_cannot_be_read_ends_the_connection(self):
        for sent, words in (
            (b"\x09\x01" + bytes(9), "token would have 9 bytes"),
            (b"\x0f", "token would have 15 bytes"),
            (b"\x10\x01\xff", "payload marker"),
            (b"\x10\x01\xf0", "reserved 15"),
            (b"\x10\x01\x05", "ends within an option"),
            (b"\x60\x01\xe0\xff\xff\xe0\xff\xff", "above 65,535"),
            (b"\x00\x20", "1.00, of a reserved class"),
            (b"\x00\x61", "3.01, of a reserved class"),
            (b"\x00\xc0", "6.00, of a reserved class"),
        ):
            with self.subTest(sent=sent):
                stream = self.stream()
                stream.send(sent)
                self.is_aborted(stream, words)
        stream = self.stream(greet=False)
        stream.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self.is_aborted(stream)
        self.is_alive()

    def test_a_message_longer_than_the_server_takes(self):
        name = self.python(ECHO)
        stream = self.stream()
        request = stream.request("PUT", name)
        room = MESSAGE_MAX - len(Frame(3, request.token, request.options, b"x" * 70_000).encode()) + 70_000
        request.payload = b"x" * room
        self.assertEqual(len(request.encode()), MESSAGE_MAX)
        stream.send(request)
        self.assertEqual(stream.receive().status, "2.04")
        # Its header is enough.
        request.payload += b"x"
        stream.send(request.encode()[:8])
        self.is_aborted(stream, "has 132097 bytes", "taken here has 132096")
        stream = self.stream()
        stream.send(b"\xf0\xff\xff\xff\xff\x01")
        self.is_aborted(stream, "4295033106 bytes")

    def test_garbage_on_many_connections(self):
        chosen = random.Random(8323)
        for _ in range(200):
            stream = self.stream(greet=chosen.random() < 0.8)
            try:
                for _ in range(chosen.randrange(1, 5)):
                    stream.send(chosen.randbytes(chosen.randrange(1, 400)))
            except OSError:
                # It has been closed by now.
                pass
            stream.close()
        self.is_alive()


class Bounded(TcpCase):
    settings = None

    def begin(self, **settings):
        self.start(COAP_PORT="-1", COAP_TCP_PORT="0", **settings)

    def test_more_connections_than_there_may_be(self):
        self.begin(TF_COAP_TCP_CONNECTIONS="2")
        one, two = self.stream(), self.stream()
        refused = Stream(("127.0.0.1", self.port))
        self.addCleanup(refused.close)
        self.assertEqual(refused.receive().code, CSM)
        self.is_aborted(refused, "as many connections as it may have")
        one.close()

        def has_room():
            stream = Stream(("127.0.0.1", self.port))
            self.addCleanup(stream.close)
            stream.receive()
            stream.send(Frame(PING))
            return stream.receive().code == PONG

        self.eventually(has_room, what="a place for another connection")
        self.assertEqual(two.ask("GET", "nobody").status, "4.04")

    def test_silence(self):
        self.begin(TF_COAP_TCP_IDLE_TIMEOUT="1s")
        stream = self.stream()
        self.assertEqual(stream.receive().code, RELEASE)
        self.assertIsNone(stream.receive())

    def test_who_never_reads_is_cut_off(self):
        self.begin(TF_WRITE_TIMEOUT="2s")
        name = self.python(SENDS)
        stream = self.stream((MAX_MESSAGE_SIZE, 1 << 20), (BLOCK_WISE_TRANSFER, b""))
        stream.socket.settimeout(60)
        with self.assertRaises(OSError):
            # It is not read either once so much waits to be written.
            while True:
                stream.send(*(stream.request("GET", f"{name}/100000") for _ in range(100)))
        self.is_alive()

    def test_the_servers_stop_releases_and_waits_for_what_runs(self):
        self.begin(TF_DRAIN_STOP="5s")
        slow = self.python("import time\ndef fn(input, headers):\n    print('waiting')\n    time.sleep(2)\n    return 'done'")
        stuck = self.node(WAITS)
        idle, busy, other = self.stream(), self.stream(), self.stream()
        other.send(other.request("GET", f"{stuck}/first"))
        self.wait_for_log(stuck, "waiting")
        busy.send(busy.request("GET", slow))
        self.wait_for_log(slow, "waiting")
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(idle.receive().code, RELEASE)
        self.assertIsNone(idle.receive())
        self.assertEqual(busy.receive().code, RELEASE)
        # What is asked now is to be asked elsewhere, or later.
        busy.send(busy.request("GET", slow, token=b"late"), Frame(PING, b"p"))
        late = busy.receive()
        self.assertEqual((late.status, late.token), ("5.03", b"late"))
        self.assertEqual(busy.receive().code, PONG)
        self.assertEqual(busy.receive().text, "done")
        self.assertIsNone(busy.receive())
        self.assertEqual(other.receive().code, RELEASE)
        self.is_aborted(other, "the server stops")
        self.assertEqual(self.server.exit(), 0)


if __name__ == "__main__":
    unittest.main()
