"""HTTP/1.1 for hundreds of requests at a time, on asyncio.

Owns what goes over one connection, and how a caller leaves. Must not know what
is asked.
"""

import asyncio
from dataclasses import dataclass, field


class NoAnswer(Exception):
    """There is no whole answer; says what came instead."""


@dataclass
class Answer:
    """An answer that came whole."""

    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self):
        return self.body.decode(errors="replace")


class Connection:
    """One connection, used for one request after the other."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self.used = False

    @classmethod
    async def open(cls, port):
        try:
            return cls(*await asyncio.open_connection("127.0.0.1", port))
        except OSError as error:
            raise NoAnswer(f"no connection: {error}") from error

    def usable(self):
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def exchange(self, method, path, body=b"", headers=(), pause=0):
        """One request and its answer. The body goes out beside: an answer may come
        before all of it is taken. After `pause` seconds the rest of it is read."""
        self.used = True
        sending = asyncio.ensure_future(self.send(method, path, body, headers))
        try:
            answer = await self._answer(pause)
            if not sending.done():
                # Nobody wants the rest; this connection cannot be used again.
                self.abort()
            return answer
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise NoAnswer(f"{type(error).__name__} {error}") from error
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def send(self, method, path, body, headers, cut=None):
        """Sends a request, or only the first `cut` bytes of its body."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        lines += [f"{name}: {value}" for name, value in headers]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        try:
            self._writer.write(head.encode() + body[:cut])
            await self._writer.drain()
        except OSError:
            # What the other side made of it stands in its answer, if there is one.
            pass

    async def _answer(self, pause):
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        await asyncio.sleep(pause)
        status = int(head[0].split(" ")[1])
        headers = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), value.strip())
        if status == 204:
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunks()
        elif "content-length" in headers:
            body = await self._reader.readexactly(int(headers["content-length"]))
        else:
            body = await self._reader.read()
            self.abort()
        if headers.get("connection", "").lower() == "close":
            self.abort()
        return Answer(status, headers, body)

    async def _chunks(self):
        parts = []
        while True:
            size = int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16)
            part = await self._reader.readexactly(size + 2)
            if size == 0:
                return b"".join(parts)
            parts.append(part[:-2])

    def abort(self):
        """Leaves at once, with a reset where something is unread."""
        self._writer.close()
