"""CoAP over TCP by a codec of the suite's own (RFC 8323 sections 3.2 and 5).

Owns messages as a stream's bytes, and a client that can say what no honest client
would. Must not know tinyFaaS.
"""

import os
import socket
from dataclasses import dataclass

from .coap import METHODS, WAIT_S, code, code_name, decode_options, encode_options, path_options, read_block

CSM, PING, PONG, RELEASE, ABORT = map(code, ("7.01", "7.02", "7.03", "7.04", "7.05"))
MAX_MESSAGE_SIZE, BLOCK_WISE_TRANSFER, CUSTODY, BAD_CSM_OPTION = 2, 4, 2, 2
# The SZX of many blocks in one message (section 6).
BERT = 7

_EXTENDED = ((15, 4, 65_805), (14, 2, 269), (13, 1, 13))


@dataclass
class Frame:
    """One message. `options` are pairs of a number and bytes, or an int."""

    code: int
    token: bytes = b""
    options: list = ()
    payload: bytes = b""

    def encode(self):
        body = encode_options(self.options) + (b"\xff" + self.payload if self.payload else b"")
        length, extension = len(body), b""
        for short, size, least in _EXTENDED:
            if len(body) >= least:
                length, extension = short, (len(body) - least).to_bytes(size, "big")
                break
        head = bytes([length << 4 | len(self.token)]) + extension + bytes([self.code])
        return head + self.token + body

    @property
    def status(self):
        """Its code as people write it."""
        return code_name(self.code)

    @property
    def text(self):
        return self.payload.decode(errors="replace")

    def first(self, number):
        """The first value of an option, or None."""
        return next((value for option, value in self.options if option == number), None)

    def uint(self, number):
        """The first value of an option as a number, or None."""
        value = self.first(number)
        return None if value is None else int.from_bytes(value, "big")

    def block(self, number):
        """Number, whether more follow, and SZX of a Block1 or Block2; or None."""
        value = self.first(number)
        return None if value is None else (*read_block(value)[:2], value[-1] & 7 if value else 0)


class Stream:
    """A client on one connection, which has said what it can unless `csm` is None.
    Every wait ends after `WAIT_S` with a TimeoutError."""

    def __init__(self, address, csm=(), context=None):
        self.socket = socket.create_connection(address, WAIT_S)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname=address[0])
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._input = b""
        if csm is not None:
            self.send(Frame(CSM, b"", list(csm)))

    def close(self):
        self.socket.close()

    def send(self, *messages):
        """Sends messages, or any bytes, at once."""
        encoded = (m.encode() if isinstance(m, Frame) else m for m in messages)
        self.socket.sendall(b"".join(encoded))

    def request(self, method, path="", payload=b"", options=(), token=None):
        """A request with a token of its own unless given."""
        token = os.urandom(4) if token is None else token
        payload = payload.encode() if isinstance(payload, str) else payload
        return Frame(METHODS.get(method, method), token, [*path_options(path), *options], payload)

    def receive(self):
        """The next message; None where the server has closed the connection."""
        head = self._read(1)
        if head is None:
            return None
        length, tokens = head[0] >> 4, head[0] & 15
        for short, size, least in _EXTENDED:
            if length == short:
                length = int.from_bytes(self._read(size), "big") + least
                break
        number, token = self._read(1)[0], self._read(tokens)
        options, payload = decode_options(self._read(length))
        return Frame(number, token, options, payload)

    def ask(self, method, path="", payload=b"", options=(), **more):
        """One request and what comes next."""
        self.send(self.request(method, path, payload, options, **more))
        return self.receive()

    def _read(self, count):
        while len(self._input) < count:
            read = self.socket.recv(1 << 16)
            if not read:
                assert not self._input, f"it ends within a message: {self._input!r}"
                return None
            self._input += read
        read, self._input = self._input[:count], self._input[count:]
        return read
