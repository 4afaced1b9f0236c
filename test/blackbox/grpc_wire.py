"""gRPC as it is on the wire: messages, their frames, and connections of HTTP/2 on
which a client may do what a well-behaved one would not.

Owns protobuf's and gRPC's bytes, written out by hand, so that they can be wrong.
HTTP/2 itself is the h2 package's, which no one here wrote. Must not know tinyFaaS.
"""

import socket
import struct
import time
import urllib.parse
from dataclasses import dataclass, field as attribute

CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE "
    "UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
WAIT_S = 20
# HTTP/2's codes for the end of a stream (RFC 9113 section 7).
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL = 0, 1, 7, 8


# Messages (https://protobuf.dev/programming-guides/encoding/)


def varint(number):
    coded = bytearray()
    while number > 0x7F:
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*coded, number])


def field(number, value):
    """A field of a message: a number as varint, all else by its length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def data(name, body=b""):
    """Version 1's request, and the first two fields of version 2's."""
    return field(1, name) + (field(2, body) if body else b"")


def fields(message):
    """A message's fields: pairs of number and value."""
    found, at = [], 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = number()
        if key & 7 == 0:
            found.append((key >> 3, number()))
        else:
            assert key & 7 == 2, f"no field of this kind is sent: {key & 7}"
            length = number()
            assert at + length <= len(message), "the message is cut off"
            found.append((key >> 3, message[at:at + length]))
            at += length
    return found


# Frames (gRPC over HTTP/2: Length-Prefixed-Message)


def framed(message, flag=0):
    return struct.pack(">BI", flag, len(message)) + message


def frames(received):
    """What came: pairs of flag and message. Nothing may be left over."""
    found = []
    while received:
        assert len(received) >= 5, f"a frame's head is cut off: {received!r}"
        flag, length = struct.unpack(">BI", received[:5])
        assert len(received) >= 5 + length, "a frame is cut off"
        found.append((flag, received[5:5 + length]))
        received = received[5 + length:]
    return found


@dataclass
class Answer:
    """What came on a stream so far."""

    headers: dict = attribute(default_factory=dict)
    body: bytes = b""
    trailers: dict = attribute(default_factory=dict)
    ended: bool = False
    # HTTP/2's code, where the stream was reset.
    reset: "int | None" = None

    @property
    def http(self):
        return int(self.headers[":status"])

    @property
    def code(self):
        """gRPC's status by its name; None where there is none."""
        # A response without a message has its trailers in its head.
        told = self.trailers.get("grpc-status", self.headers.get("grpc-status"))
        return None if told is None else CODES[int(told)]

    @property
    def message(self):
        told = self.trailers.get("grpc-message", self.headers.get("grpc-message", ""))
        return urllib.parse.unquote(told)

    @property
    def replies(self):
        """The messages."""
        return [message for _, message in frames(self.body)]


class Connection:
    """One connection of HTTP/2 in prior knowledge, for one thread."""

    def __init__(self, port, host="127.0.0.1", timeout=WAIT_S):
        import h2.config
        import h2.connection

        self._events = __import__("h2.events", fromlist=["events"])
        config = h2.config.H2Configuration(
            client_side=True, header_encoding=None, validate_outbound_headers=False,
            normalize_outbound_headers=False, validate_inbound_headers=True,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.socket = socket.create_connection((host, port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self.answers = {}
        # Whether what comes makes room for more: not while the client is slow.
        self.reads = True
        self.pongs = []
        self.goaway = None
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def flush(self):
        pending = self.h2.data_to_send()
        if pending:
            self.socket.sendall(pending)

    # Asking

    def open(self, path, headers=(), end=False, method="POST", content_type="application/grpc", te="trailers"):
        """Opens a stream with these headers; its number."""
        pairs = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        pairs += [(name, value) for name, value in (("te", te), ("content-type", content_type)) if value]
        stream = self.h2.get_next_available_stream_id()
        coded = [(_bytes(name), _bytes(value)) for name, value in [*pairs, *headers]]
        self.answers[stream] = Answer()
        self.h2.send_headers(stream, coded, end_stream=end)
        self.flush()
        return stream

    def send(self, stream, sent, end=False):
        """Sends bytes as DATA, as fast as the server makes room for them; whether all
        went: not where the stream ended before."""
        ends = time.monotonic() + self.timeout
        answer = self.answers[stream]
        while sent:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if answer.ended or answer.reset is not None or self.closed:
                return False
            if room <= 0:
                self._read(ends)
                continue
            self.h2.send_data(stream, sent[:room], end_stream=end and len(sent) <= room)
            sent = sent[room:]
            self.flush()
            if not sent:
                return True
        if end and not answer.ended:
            self.h2.end_stream(stream)
            self.flush()
        return True

    def room(self, stream):
        """How many bytes the server would take on this stream now."""
        return self.h2.local_flow_control_window(stream)

    def reset(self, stream, code=CANCEL):
        """Gives a stream up."""
        self.h2.reset_stream(stream, code)
        self.flush()

    def call(self, path, message, headers=(), **more):
        """A whole unary call of one message; its answer."""
        stream = self.open(path, headers, **more)
        self.send(stream, framed(message), end=True)
        return self.wait(stream)

    # Hearing

    def wait(self, stream, good=lambda answer: answer.ended or answer.reset is not None, timeout=None):
        """Reads until a stream has ended, or is `good`; its answer."""
        ends = time.monotonic() + (timeout or self.timeout)
        while not good(self.answers[stream]):
            if self.closed:
                raise ConnectionError(f"the connection ended ({self.goaway}) before {self.answers[stream]}")
            self._read(ends)
        return self.answers[stream]

    def wait_closed(self, timeout=None):
        """Reads until the server has closed the connection."""
        ends = time.monotonic() + (timeout or self.timeout)
        while not self.closed:
            self._read(ends)

    def pump(self, good, timeout=None):
        """Reads until something is so."""
        ends = time.monotonic() + (timeout or self.timeout)
        while not good():
            if self.closed:
                raise ConnectionError(f"the connection ended: {self.goaway}")
            self._read(ends)

    def _read(self, ends):
        left = ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing came in time; so far: {self.answers}")
        self.socket.settimeout(left)
        try:
            received = self.socket.recv(1 << 16)
        except ConnectionResetError:
            received = b""
        if not received:
            self.closed = True
            return
        for event in self.h2.receive_data(received):
            self._take(event)
        self.flush()

    def _take(self, event):
        events = self._events
        if isinstance(event, events.ResponseReceived):
            self.answers[event.stream_id].headers = _texts(event.headers)
        elif isinstance(event, events.TrailersReceived):
            self.answers[event.stream_id].trailers = _texts(event.headers)
        elif isinstance(event, events.DataReceived):
            self.answers[event.stream_id].body += event.data
            if self.reads and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, events.StreamEnded):
            self.answers[event.stream_id].ended = True
        elif isinstance(event, events.StreamReset):
            self.answers[event.stream_id].reset = event.error_code
        elif isinstance(event, events.PingAckReceived):
            self.pongs.append(event.ping_data)
        elif isinstance(event, events.ConnectionTerminated):
            self.goaway = event.error_code


def _bytes(text):
    return text.encode() if isinstance(text, str) else text


def _texts(headers):
    return {name.decode(): value.decode(errors="replace") for name, value in headers}
