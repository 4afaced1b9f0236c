"""InvokeStream: inputs and replies that come piece by piece."""

import hashlib
import json
import queue
import unittest

from blackbox.case import need_environment
from blackbox.grpc_case import V2, GrpcCase
from blackbox.grpc_clients import stubs
from blackbox.grpc_wire import CANCEL, data, field, fields, framed

V2_STREAM = f"/{V2}/InvokeStream"
# Sends a piece, then waits for a file before it goes on.
STEPS = """
import os, time
def fn(input, headers, context):
    def pieces():
        try:
            for number in range(3):
                yield 'piece %d\\n' % number
                while not os.path.exists(os.path.join(context.body.decode(), str(number))): time.sleep(0.01)
        finally:
            print('it was closed', flush=True)
    return pieces(), 203, {'X-Lab': 'edge'}
"""
# Never ends of itself, and says how far it came.
ENDLESS = """
def fn(input, headers):
    def pieces():
        sent = 0
        try:
            while True:
                yield b'x' * 65536
                sent += 65536
                if sent % (1 << 20) == 0: print('sent', sent >> 20, flush=True)
        finally:
            print('it was closed', flush=True)
    return pieces()
"""
COUNTS = """
import hashlib
def fn(input, headers, context):
    return '%d %s' % (len(context.body), hashlib.sha256(context.body).hexdigest())
"""


class Input:
    """The messages of a stream, given one at a time."""

    def __init__(self, *messages):
        self._queue = queue.Queue()
        for message in messages:
            self.give(message)

    def give(self, message):
        self._queue.put(message)

    def end(self):
        self._queue.put(None)

    def __iter__(self):
        return iter(self._queue.get, None)


class StreamCase(GrpcCase):
    def head(self, name, body=b"", **more):
        messages = stubs(self)[2]
        return messages.InvokeStreamRequest(head=self.request(name, body, **more))

    def piece(self, body):
        return stubs(self)[2].InvokeStreamRequest(body=body)

    def stream(self, messages, **more):
        """A streaming call; it goes with the case."""
        call = self.v2.InvokeStream(iter(messages), timeout=30, **more)
        self.addCleanup(call.cancel)
        return call

    def whole(self, messages, **more):
        """A streaming call to its end: the head, and the body joined."""
        first, *rest = self.stream(messages, **more)
        self.assertEqual(first.WhichOneof("part"), "head")
        self.assertEqual({one.WhichOneof("part") for one in rest} - {"body"}, set())
        return first.head, b"".join(one.body for one in rest)


class Replies(StreamCase):
    def test_they_come_as_they_are_produced(self):
        folder = self.folder({"ready": ""})
        name = self.function(STEPS)
        call = self.stream([self.head(name, str(folder).encode())])
        head = next(call).head
        self.assertEqual((head.status, head.body), (203, b""))
        self.assertIn(("x-lab", b"edge"), [(h.name, h.value) for h in head.headers])
        self.assertRegex(head.call_id, r"^[0-9a-f]{32}$")
        for number in range(3):
            # The function waits for the file, which is made once the piece is here.
            self.assertEqual(next(call).body, b"piece %d\n" % number)
            (folder / str(number)).touch()
        self.assertEqual(list(call), [])

    def test_server_sent_events_of_node(self):
        need_environment(self, "nodejs")
        name = self.node(
            "module.exports = (req, res) => { res.set('Content-Type', 'text/event-stream');\n"
            "  res.write('data: one\\n\\n'); setTimeout(() => { res.write('data: two\\n\\n'); res.end() }, 300) }"
        )
        call = self.stream([self.head(name)])
        head = next(call).head
        self.assertIn(b"text/event-stream; charset=utf-8", [h.value for h in head.headers if h.name == "content-type"])
        self.assertEqual(next(call).body, b"data: one\n\n")
        self.assertEqual(b"".join(one.body for one in call), b"data: two\n\n")

    def test_whole_and_empty_replies(self):
        name = self.function()
        head, body = self.whole([self.head(name, b"status 418 stout")])
        self.assertEqual((head.status, body), (418, b"stout"))
        head, body = self.whole([self.head(name, b"echo ")])
        self.assertEqual((head.status, body), (200, b""))

    def test_a_reply_larger_than_a_message_may_be(self):
        name = self.function("def fn(input, headers):\n    return (b'%c' % n * 100_000 for n in range(200))\n")
        head, body = self.whole([self.head(name)])
        self.assertEqual(body, b"".join(b"%c" % n * 100_000 for n in range(200)))

    def test_one_large_piece_is_cut(self):
        name = self.function()
        pieces = [one.body for one in self.stream([self.head(name, b"many 20000000")])][1:]
        self.assertEqual(sum(map(len, pieces)), 20_000_000)
        # What a client takes unless it asks for more.
        self.assertLessEqual(max(map(len, pieces)), 4 << 20)

    def test_failures(self):
        self.failing("NOT_FOUND", self.whole, [self.head("nobody")])
        self.failing("INTERNAL", self.whole, [self.head(self.function(), b"raise my hat")], words=["my hat"])
        self.failing("INVALID_ARGUMENT", self.whole, [self.head("a b")])

    def test_a_reply_that_breaks_off(self):
        name = self.function("def fn(input, headers):\n    yield 'first'\n    raise ValueError('no more')\n")
        call = self.stream([self.head(name)])
        self.assertEqual(next(call).WhichOneof("part"), "head")
        self.assertEqual(next(call).body, b"first")
        self.failing("INTERNAL", next, call)
        self.counts(name, reply_broken=1)

    def test_who_reads_nothing_holds_the_function_back(self):
        name = self.function(ENDLESS)
        connection = self.wire()
        connection.reads = False
        stream = connection.open(V2_STREAM)
        connection.send(stream, framed(field(1, data(name))), end=True)
        # Until HTTP/2's window is full.
        connection.wait(stream, lambda answer: len(answer.body) >= 60_000)
        self.wait_running(name, 1)
        sent = lambda: self.logs(name).count("sent")  # noqa: E731
        seen = sent()
        for _ in range(20):
            self.call(self.function(COUNTS), "x")
        self.assertLessEqual(sent(), max(seen, 4))
        connection.reset(stream, CANCEL)
        self.wait_for_log(name, "it was closed")
        self.wait_running(name, 0)

    def test_cancelled_midway(self):
        name = self.script("#!/bin/sh\nhead -c 2000000 /dev/zero\nexec sleep 300\n")
        call = self.stream([self.head(name)])
        self.assertEqual(next(call).head.status, 200)
        next(call)
        call.cancel()
        self.wait_running(name, 0)
        self.counts(name, cancelled=1)

    def test_a_deadline_midway(self):
        name = self.script("#!/bin/sh\nhead -c 2000000 /dev/zero\nexec sleep 300\n")
        connection = self.wire()
        stream = connection.open(V2_STREAM, [("grpc-timeout", "600m")])
        connection.send(stream, framed(field(1, data(name))), end=True)
        answer = connection.wait(stream)
        self.assertEqual(answer.code, "DEADLINE_EXCEEDED", answer.trailers)
        self.assertGreater(len(answer.replies), 1)
        self.wait_running(name, 0)


class Inputs(StreamCase):
    def test_pieces_become_one_body(self):
        name = self.function("def fn(input, headers, context):\n    return context.body\n")
        for first, pieces in ((b"", [b"a", b"", b"bc"]), (b"zero ", [b"\xff" * 70_000, b"x"]), (b"", []), (b"only", [])):
            with self.subTest(first=first, pieces=len(pieces)):
                _, body = self.whole([self.head(name, first), *map(self.piece, pieces)])
                self.assertEqual(body, first + b"".join(pieces))

    def test_head_path_and_headers(self):
        name = self.function()
        head, body = self.whole([self.head(name, b"show", method="PUT", path="/p?q", headers=[("X-Lab", "edge")])], metadata=[("x-more", "1")])
        seen = json.loads(body)
        self.assertEqual((seen["method"], seen["path"], seen["query"]), ("PUT", "/p", "q"))
        self.assertEqual((seen["headers"]["X-Lab"], seen["headers"]["X-More"]), ("edge", "1"))
        self.assertEqual(seen["call_id"], head.call_id)

    def test_an_input_larger_than_a_message_may_be(self):
        name = self.function(COUNTS)
        piece = bytes(range(256)) * 4096
        _, body = self.whole([self.head(name), *[self.piece(piece)] * 24])
        self.assertEqual(body.decode(), f"{len(piece) * 24} {hashlib.sha256(piece * 24).hexdigest()}")

    def test_one_that_comes_slowly(self):
        name = self.function("def fn(input, headers, context):\n    return context.body\n")
        given = Input(self.head(name, b"a"))
        call = self.beside(self.whole, given)
        # A call between them shows that the server has gone on.
        for piece in (b"b", b"c"):
            self.answers(name, "x", "x")
            given.give(self.piece(piece))
        given.end()
        self.assertEqual(call.result()[1], b"abc")

    def test_a_function_that_reads_nothing_holds_its_caller_back(self):
        name = self.function({"fn.sh": "#!/bin/sh\necho begun >&2\nexec sleep 300\n"}, "binary")
        connection = self.wire()
        stream = connection.open(V2_STREAM)
        connection.send(stream, framed(field(1, data(name))))
        piece = framed(field(2, b"x" * 60_000))
        sent = 0
        # Never more than the server's windows, its buffers and a pipe hold.
        while connection.room(stream) > len(piece):
            connection.send(stream, piece)
            sent += len(piece)
            self.assertLess(sent, 64 << 20, "all is taken")
        connection.reset(stream, CANCEL)
        self.wait_running(name, 0)

    def test_given_up_midway_no_function_gets_it_for_whole(self):
        name = self.function("def fn(input, headers, context):\n    print('saw', len(context.body), flush=True)\n    return 'x'\n")
        connection = self.wire()
        stream = connection.open(V2_STREAM)
        connection.send(stream, framed(field(1, data(name, b"x" * 70_000))))
        connection.send(stream, framed(field(2, b"y" * 70_000)))
        connection.reset(stream, CANCEL)
        self.answers(name, "x", "whole")
        self.assertNotIn("0000", self.wait_for_log(name, "saw 5").replace("saw 5", ""))
        self.wait_running(name, 0)

    def test_a_reply_may_begin_before_the_input_has_ended(self):
        name = self.function({"fn.sh": "#!/bin/sh\nprintf early\nhead -c 2000000 /dev/zero\ncat >/dev/null\nprintf late\n"}, "binary")
        given = Input(self.head(name))
        call = self.stream(given)
        self.assertEqual(next(call).WhichOneof("part"), "head")
        self.assertTrue(next(call).body.startswith(b"early"))
        given.give(self.piece(b"x"))
        given.end()
        self.assertTrue(b"".join(one.body for one in call).endswith(b"late"))


class Malformed(StreamCase):
    def test_nothing_at_all(self):
        self.failing("INVALID_ARGUMENT", self.whole, [], words=["head"])

    def test_a_body_before_the_head(self):
        self.failing("INVALID_ARGUMENT", self.whole, [self.piece(b"x"), self.head(self.function())], words=["head"])

    def test_a_message_that_is_neither(self):
        empty = stubs(self)[2].InvokeStreamRequest()
        self.failing("INVALID_ARGUMENT", self.whole, [empty], words=["head"])

    def test_a_second_head(self):
        name = self.function(COUNTS)
        head = self.head(name)
        self.failing("INVALID_ARGUMENT", self.whole, [head, self.piece(b"x"), head], words=["head"])
        self.wait_running(name, 0)

    def test_bytes_that_are_no_message(self):
        connection = self.wire()
        name = self.function(COUNTS)
        for wrong in (b"\xff\xff", field(1, b"\xff")):
            stream = connection.open(V2_STREAM)
            connection.send(stream, framed(field(1, data(name))))
            connection.send(stream, framed(wrong), end=True)
            self.told(connection.wait(stream), "INVALID_ARGUMENT")
        self.wait_running(name, 0)

    def test_a_stream_cut_off_within_a_message(self):
        connection = self.wire()
        name = self.function("def fn(input, headers, context):\n    print('saw', len(context.body), flush=True)\n    return 'x'\n")
        stream = connection.open(V2_STREAM)
        connection.send(stream, framed(field(1, data(name, b"y" * 70_000))))
        connection.send(stream, framed(field(2, b"x" * 100))[:-1], end=True)
        answer = connection.wait(stream)
        self.assertNotIn(answer.code, (None, "OK"), answer)
        self.wait_running(name, 0)
        self.assertNotIn("saw", self.logs(name))

    def test_the_reply_is_a_head_and_then_pieces(self):
        connection = self.wire()
        stream = connection.open(V2_STREAM)
        connection.send(stream, framed(field(1, data(self.function(), b"echo x"))), end=True)
        first, *rest = self.told(connection.wait(stream), "OK").replies
        self.assertEqual([number for number, _ in fields(first)], [1])
        self.assertNotIn(3, [number for number, _ in fields(fields(first)[0][1])])
        self.assertEqual([fields(one) for one in rest], [[(2, b"x")]])


if __name__ == "__main__":
    unittest.main()
