"""The server's end of a worker's socket, for the tests and the benchmark.

It owns frames, credit and the worker's process as seen from outside. It knows no
function and asserts nothing beyond the protocol (docs/worker-protocol.md).
"""

import collections
import fcntl
import json
import os
import select
import shutil
import socket
import struct
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
FRAME = struct.Struct("<IBBHI")

LOAD, CALL, BODY, CANCEL, CREDIT, PING = 1, 2, 3, 4, 5, 6
READY, FAILED, REPLY, ERROR, ENDED, PONG, LEAVING = 65, 66, 67, 68, 69, 70, 71
END, FAILURE = 1, 2
WINDOW_BYTES = 256 << 10
PIECE_BYTES = 64 << 10
CALLER_LEFT, DEADLINE_PASSED = b"\1", b"\2"


def command(runtime):
    if runtime == "python3":
        python = os.environ.get("PYTHON", "python3")
        return [shutil.which(python), "-I", "-S", "-u", os.path.join(HERE, "python3", "worker.py")]
    return [shutil.which(os.environ.get("NODE", "node")), os.path.join(HERE, "nodejs", "worker.js")]


def frame(kind, flags=0, number=0, payload=b""):
    return FRAME.pack(len(payload), kind, flags, 0, number) + payload


def call_head(method="POST", path="/", query="", headers=(), deadline_ms=30000):
    fields = ["0123456789abcdef" * 2, method, path, query, str(deadline_ms)]
    for name, value in headers:
        fields += (name, value)
    return "\n".join(fields).encode("latin-1")


def with_head(head, body=b""):
    return struct.pack("<I", len(head)) + head + body


class Reply:
    """What has come so far for one call."""

    def __init__(self):
        self.status = None
        # Whether the function set it.
        self.sets_status = False
        self.headers = []
        self.parts = []
        self.failure = False
        self.error = None
        self.end = None
        # Body bytes that may be sent; bytes received that are not yet granted again.
        self.credit = WINDOW_BYTES
        self.owed = 0
        self.hold = False

    @property
    def body(self):
        return b"".join(self.parts)

    def header(self, name):
        return [value for key, value in self.headers if key.lower() == name]


class Worker:
    """A real worker process, started on a folder as the server would."""

    def __init__(self, runtime, folder, dependencies=None, concurrency=64, stdout=None, env=None):
        self.log = tempfile.TemporaryFile()
        ours, theirs = socket.socketpair()
        # Out of the way of the numbers that the worker's ends get.
        end, out = (
            fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10)
            for number in (theirs.fileno(), self.log.fileno() if stdout is None else stdout)
        )
        environment = {"PATH": os.environ["PATH"], "HOME": folder, "LANG": "C.UTF-8"}
        environment.update(env or {})
        line = command(runtime)
        actions = [
            (os.POSIX_SPAWN_DUP2, end, 3),
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, out, 1),
            (os.POSIX_SPAWN_DUP2, out, 2),
        ]
        self.process = os.posix_spawn(line[0], line, environment, file_actions=actions)
        theirs.close()
        os.close(end)
        os.close(out)
        ours.setblocking(False)
        self.socket = ours
        self.data = bytearray()
        self.going = bytearray()
        self.code = None
        self.closed = False
        self.answer = None
        self.pongs = 0
        # Why the worker asks to be replaced, once it does.
        self.leaving = None
        self.replies = collections.defaultdict(Reply)
        self.numbers = 0
        load = {
            "protocol": 1,
            "function": "test",
            "handler": "test-0",
            "folder": folder,
            "dependencies": dependencies,
            "concurrency": concurrency,
        }
        self.send(LOAD, 0, 0, json.dumps(load).encode())

    # --- frames out ---

    def send(self, kind, flags=0, number=0, payload=b""):
        self.going += frame(kind, flags, number, payload)
        self.pump(0)

    def begin(self, body=b"", number=None, end=True, **head):
        """Sends a CALL; what is past the window follows by feed()."""
        if number is None:
            self.numbers += 1
            number = self.numbers
        first, rest = body[:WINDOW_BYTES], body[WINDOW_BYTES:]
        reply = self.replies[number] = Reply()
        reply.credit -= len(first)
        self.send(CALL, END if end and not rest else 0, number, with_head(call_head(**head), first))
        if rest:
            self.feed(number, rest, end)
        return number

    def feed(self, number, body, end=True):
        """Sends a part of a body as the worker grants it."""
        reply, view = self.replies[number], memoryview(body)
        while True:
            piece = bytes(view[: min(PIECE_BYTES, reply.credit)])
            view = view[len(piece) :]
            reply.credit -= len(piece)
            if piece or not view:
                self.send(BODY, END if end and not view else 0, number, piece)
            if not view:
                return
            self.until(lambda: reply.credit > 0 or reply.end, "credit for call %d" % number)

    def call(self, body=b"", timeout=10, **head):
        number = self.begin(body, **head)
        return self.wait(number, timeout)

    def cancel(self, number, reason=CALLER_LEFT):
        self.send(CANCEL, 0, number, reason)

    def ping(self, timeout=10):
        """Returns when the worker has read all that was sent before."""
        pongs = self.pongs
        self.send(PING)
        self.until(lambda: self.pongs > pongs, "PONG", timeout)

    # --- frames in ---

    def pump(self, timeout):
        """Moves bytes both ways once, waiting at most so long for either."""
        if self.closed:
            return
        wish = [self.socket] if self.going else []
        readable, writable, _ = select.select([self.socket], wish, [], timeout)
        try:
            if writable:
                del self.going[: self.socket.send(self.going)]
            if readable:
                data = self.socket.recv(1 << 20)
                self.closed = not data
                self.data += data
        except BlockingIOError:
            pass
        except ConnectionError:
            self.closed = True
        self.take_frames()

    def take_frames(self):
        at = 0
        while len(self.data) - at >= 12:
            length, kind, flags, _, number = FRAME.unpack_from(self.data, at)
            if len(self.data) - at < 12 + length:
                break
            payload = bytes(self.data[at + 12 : at + 12 + length])
            at += 12 + length
            self.take(kind, flags, number, payload)
        del self.data[:at]

    def take(self, kind, flags, number, payload):
        if kind in (READY, FAILED):
            self.answer = (kind, payload)
            return
        if kind == PONG:
            self.pongs += 1
            return
        if kind == LEAVING:
            self.leaving = payload.decode()
            return
        assert number in self.replies, "a frame of kind %d for the unknown call %d" % (kind, number)
        reply = self.replies[number]
        assert reply.end is None, "a frame of kind %d after the last of call %d" % (kind, number)
        if kind == CREDIT:
            reply.credit += struct.unpack("<I", payload)[0]
            return
        if kind == REPLY:
            assert reply.status is None, "a second REPLY"
            size = struct.unpack_from("<I", payload)[0]
            fields = payload[4 : 4 + size].decode("latin-1").split("\n")
            reply.status = int(fields[0] or 200)
            reply.sets_status = fields[0] != ""
            reply.headers = list(zip(fields[1::2], fields[2::2]))
            reply.failure = bool(flags & FAILURE)
            payload = payload[4 + size :]
        elif kind == BODY:
            assert reply.status is not None, "BODY before REPLY"
        elif kind == ERROR:
            reply.error = payload.decode()
        else:
            assert kind == ENDED, "an unknown frame of kind %d" % kind
        if kind in (ERROR, ENDED) or flags & END:
            reply.end = kind
        if kind in (REPLY, BODY):
            reply.parts.append(payload)
            reply.owed += len(payload)
            assert reply.owed <= WINDOW_BYTES, "more body than was granted"
            self.grant(number)

    def grant(self, number):
        reply = self.replies[number]
        if reply.owed >= PIECE_BYTES and not reply.hold and reply.end is None:
            self.going += frame(CREDIT, 0, number, struct.pack("<I", reply.owed))
            reply.owed = 0

    def release(self, number):
        """A slow reader reads on."""
        self.replies[number].hold = False
        self.grant(number)
        self.pump(0)

    # --- waiting ---

    def until(self, condition, what, timeout=10):
        limit = time.monotonic() + timeout
        while not condition():
            left = limit - time.monotonic()
            if left <= 0:
                raise TimeoutError("%s did not come in %g s; log: %s" % (what, timeout, self.logged()))
            if self.closed:
                raise ConnectionError("the worker is gone (%s); log: %s" % (self.exit_code(), self.logged()))
            self.pump(min(left, 0.2))

    def wait(self, number, timeout=10):
        reply = self.replies[number]
        self.until(lambda: reply.end is not None, "the end of call %d" % number, timeout)
        return reply

    def ready(self, timeout=20):
        self.until(lambda: self.answer is not None, "READY", timeout)
        kind, payload = self.answer
        assert kind == READY, payload.decode()
        return json.loads(payload)

    def failed(self, timeout=20):
        self.until(lambda: self.answer is not None, "FAILED", timeout)
        kind, payload = self.answer
        assert kind == FAILED, payload
        return payload.decode()

    def exit_code(self, timeout=10):
        """Waits for the process's end; a negative number is the signal that ended it."""
        limit = time.monotonic() + timeout
        while self.code is None:
            pid, status = os.waitpid(self.process, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > limit:
                raise TimeoutError("the worker did not exit in %g s" % timeout)
            else:
                if not self.closed:
                    self.pump(0.01)
                else:
                    time.sleep(0.01)
        return self.code

    def logged(self):
        return os.pread(self.log.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def until_logged(self, text, timeout=10):
        limit = time.monotonic() + timeout
        while text not in self.logged():
            if time.monotonic() > limit:
                raise TimeoutError("%r is not in the log: %s" % (text, self.logged()))
            if not self.closed:
                self.pump(0.02)
            else:
                time.sleep(0.02)

    def cpu_seconds(self):
        with open("/proc/%d/stat" % self.process) as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        self.socket.close()
        self.closed = True
        if self.code is None:
            try:
                self.exit_code(3)
            except TimeoutError:
                # This very process, which we started and have not yet waited for.
                os.kill(self.process, 9)
                self.exit_code(5)
        self.log.close()
