"""CoAP by a codec of the suite's own (RFC 7252 section 3), on sockets of its own.

Owns messages as bytes, and a client that can say what no honest client would.
Others' clients stand in `coap_clients`. Must not know tinyFaaS.
"""

import itertools
import os
import random
import socket
import time
from dataclasses import dataclass
from urllib.parse import unquote

CON, NON, ACK, RST = range(4)
EMPTY, GET, POST, PUT, DELETE, FETCH, PATCH, IPATCH = range(8)
METHODS = {"GET": GET, "POST": POST, "PUT": PUT, "DELETE": DELETE, "FETCH": FETCH, "PATCH": PATCH, "iPATCH": IPATCH}

IF_MATCH, URI_HOST, ETAG, IF_NONE_MATCH, OBSERVE, URI_PORT = 1, 3, 4, 5, 6, 7
LOCATION_PATH, OSCORE, URI_PATH, CONTENT_FORMAT, MAX_AGE = 8, 9, 11, 12, 14
URI_QUERY, HOP_LIMIT, ACCEPT, LOCATION_QUERY, BLOCK2, BLOCK1 = 15, 16, 17, 20, 23, 27
SIZE2, PROXY_URI, PROXY_SCHEME, SIZE1 = 28, 35, 39, 60
ECHO, NO_RESPONSE, REQUEST_TAG = 252, 258, 292

TEXT, LINK_FORMAT, XML, OCTETS, JSON, CBOR = 0, 40, 41, 42, 50, 60

WAIT_S = 20
# A client's first retransmission (RFC 7252 section 4.8).
ACK_TIMEOUT_S = 2.5


def code(name):
    """The byte of a code: "4.04" is 0x84."""
    kind, detail = name.split(".")
    return int(kind) << 5 | int(detail)


def code_name(number):
    """How a code is written: 0x84 is "4.04"."""
    return f"{number >> 5}.{number & 31:02}"


def uint(number):
    """A number as an option's value: without leading zeros."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def block(number, more=False, size=1024):
    """A Block1's or Block2's value (RFC 7959 section 2.2)."""
    return uint(number << 4 | bool(more) << 3 | size.bit_length() - 5)


def read_block(value):
    """Number, whether more follow, and size of a Block1 or Block2."""
    value = int.from_bytes(value, "big")
    return value >> 4, bool(value & 8), 16 << (value & 7)


def path_options(path):
    """Uri-Path and Uri-Query of `name/sub?first=1&second=2`."""
    path, _, query = path.partition("?")
    options = [(URI_PATH, unquote(part).encode()) for part in path.split("/")] if path else []
    return options + [(URI_QUERY, unquote(part).encode()) for part in query.split("&") if query]


def encode_options(options):
    """Options in order of their numbers, as they travel."""
    encoded, last = bytearray(), 0
    for number, value in sorted(options, key=lambda option: option[0]):
        value = uint(value) if isinstance(value, int) else value
        head, tail = 0, b""
        for shift, amount in ((4, number - last), (0, len(value))):
            if amount < 13:
                head |= amount << shift
            elif amount < 269:
                head |= 13 << shift
                tail += bytes([amount - 13])
            else:
                head |= 14 << shift
                tail += (amount - 269).to_bytes(2, "big")
        encoded += bytes([head]) + tail + value
        last = number
    return bytes(encoded)


def decode_options(data):
    """The options, and what follows the payload marker."""
    options, at, number = [], 0, 0
    while at < len(data):
        if data[at] == 0xFF:
            assert at + 1 < len(data), "a payload marker without payload"
            return options, data[at + 1 :]
        amounts = [data[at] >> 4, data[at] & 15]
        at += 1
        for index, amount in enumerate(amounts):
            assert amount != 15, "a reserved delta or length"
            if amount == 13:
                amounts[index], at = data[at] + 13, at + 1
            elif amount == 14:
                amounts[index], at = int.from_bytes(data[at : at + 2], "big") + 269, at + 2
        number += amounts[0]
        assert at + amounts[1] <= len(data), "it ends within an option"
        options.append((number, data[at : at + amounts[1]]))
        at += amounts[1]
    return options, b""


@dataclass
class Message:
    """One message. `options` are pairs of a number and bytes, or an int."""

    kind: int
    code: int
    id: int
    token: bytes = b""
    options: list = ()
    payload: bytes = b""

    def encode(self):
        head = bytes([1 << 6 | self.kind << 4 | len(self.token), self.code]) + self.id.to_bytes(2, "big")
        body = b"\xff" + self.payload if self.payload else b""
        return head + self.token + encode_options(self.options) + body

    @classmethod
    def decode(cls, data):
        assert len(data) >= 4 and data[0] >> 6 == 1, f"no CoAP message: {data!r}"
        tokens = data[0] & 15
        assert tokens <= 8 and len(data) >= 4 + tokens, f"a bad token length: {data!r}"
        options, payload = decode_options(data[4 + tokens :])
        return cls(
            data[0] >> 4 & 3, data[1], int.from_bytes(data[2:4], "big"),
            data[4 : 4 + tokens], options, payload,
        )

    @property
    def status(self):
        """Its code as people write it."""
        return code_name(self.code)

    @property
    def text(self):
        return self.payload.decode(errors="replace")

    def all(self, number):
        """The values of an option, in order."""
        return [value for option, value in self.options if option == number]

    def first(self, number):
        """The first value of an option, or None."""
        return next(iter(self.all(number)), None)

    def uint(self, number):
        """The first value of an option as a number, or None."""
        value = self.first(number)
        return None if value is None else int.from_bytes(value, "big")

    def block(self, number):
        """Number, whether more follow, and size; None without the option."""
        value = self.first(number)
        return None if value is None else read_block(value)


class Client:
    """A client on one socket. Every wait ends after `WAIT_S` with a TimeoutError."""

    def __init__(self, address, source=None):
        """`address` is a pair of host and port; `source` the same, to bind to."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if source:
            self.socket.bind(source)
        self.socket.connect(address)
        self._ids = itertools.count(random.randrange(1 << 16))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def new_id(self):
        """The next message ID."""
        return next(self._ids) & 0xFFFF

    def request(self, method, path="", payload=b"", options=(), kind=CON, id=None, token=None):
        """A request with a message ID and a token of its own unless given."""
        return Message(
            kind, METHODS.get(method, method),
            self.new_id() if id is None else id,
            os.urandom(4) if token is None else token,
            [*path_options(path), *options],
            payload.encode() if isinstance(payload, str) else payload,
        )

    def send(self, message):
        """Sends a message, or any bytes."""
        self.socket.send(message.encode() if isinstance(message, Message) else message)

    def receive_bytes(self, timeout=WAIT_S):
        """The next datagram."""
        self.socket.settimeout(timeout)
        return self.socket.recv(1 << 16)

    def receive(self, timeout=WAIT_S):
        """The next message."""
        return Message.decode(self.receive_bytes(timeout))

    def acknowledge(self, message):
        """Acknowledges a confirmable message."""
        if message.kind == CON:
            self.send(Message(ACK, EMPTY, message.id))

    def reset(self, message):
        """Rejects a message."""
        self.send(Message(RST, EMPTY, message.id))

    def drain(self):
        """Passes over what has come so far."""
        self.socket.setblocking(False)
        try:
            while True:
                self.socket.recv(1 << 16)
        except (BlockingIOError, ConnectionRefusedError):
            pass

    def exchange(self, message, timeout=WAIT_S):
        """Sends a request, again where nothing comes, and returns its response,
        acknowledged. Other messages are passed over."""
        ends, acknowledged = time.monotonic() + timeout, False
        self.send(message)
        while True:
            left = ends - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no response to {message} after {timeout} s")
            try:
                answer = self.receive(left if acknowledged else min(left, ACK_TIMEOUT_S))
            except TimeoutError:
                if message.kind == CON and not acknowledged:
                    self.send(message)
                continue
            if answer.kind in (ACK, RST) and answer.id == message.id and answer.code == EMPTY:
                if answer.kind == RST:
                    return answer
                acknowledged = True
            elif answer.code >= 64 and answer.token == message.token:
                self.acknowledge(answer)
                return answer

    def ask(self, method, path="", payload=b"", options=(), timeout=WAIT_S, **more):
        """One request and its response, a message each."""
        return self.exchange(self.request(method, path, payload, options, **more), timeout)

    def fetch(self, method, path="", payload=b"", options=(), size=1024):
        """A request and its response, block-wise where they are long; the last
        response, with the whole body as payload."""
        payload = payload.encode() if isinstance(payload, str) else payload
        options = list(options)
        answer = self._upload(method, path, payload, options, size)
        body = answer.payload
        while (found := answer.block(BLOCK2)) and found[1]:
            later = [*options, (BLOCK2, block(len(body) // found[2], size=found[2]))]
            answer = self.ask(method, path, b"", later)
            if answer.code >> 5 != 2:
                return answer
            body += answer.payload
        answer.payload = body
        return answer

    def _upload(self, method, path, payload, options, size):
        wanted = [(BLOCK2, block(0, size=size))] if size != 1024 else []
        if len(payload) <= size:
            return self.ask(method, path, payload, [*options, *wanted])
        for at in range(0, len(payload), size):
            more = at + size < len(payload)
            block1 = [(BLOCK1, block(at // size, more, size))]
            first = [(SIZE1, len(payload))] if at == 0 else []
            last = [] if more else wanted
            answer = self.ask(method, path, payload[at : at + size], [*options, *block1, *first, *last])
            if more and answer.status != "2.31":
                return answer
        return answer

    def hears_nothing(self, timeout=WAIT_S):
        """Whether nothing has been sent here, judged without a wait: the answer to
        a ping (RFC 7252 section 4.3) is the next thing that comes."""
        ping = Message(CON, EMPTY, self.new_id())
        self.send(ping)
        answer = self.receive(timeout)
        assert answer == Message(RST, EMPTY, ping.id, b"", [], b""), f"something came: {answer}"
        return True
