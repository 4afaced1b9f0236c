"""What is particular to the Python worker: what fn may take and return, threads."""

import array
import fcntl
import json
import os
import select
import termios
import time
import unittest

import driver
from driver import ENDED, ERROR
from worker_case import WorkerCase


class Values(WorkerCase):
    runtime = "python3"

    def one(self, text, body=b"", **head):
        return self.ready(text).call(body, **head)

    def failure(self, text, body=b""):
        reply = self.one(text, body)
        self.assertEqual((reply.status, reply.failure), (500, True), reply.body)
        return reply.body.decode()

    def test_input(self):
        worker = self.ready("def fn(input, headers): return repr(input)")
        self.assertEqual(worker.call(b"").body, b"None")
        self.assertEqual(worker.call(b" ").body, b"' '")
        self.assertEqual(worker.call("é".encode()).body, "'é'".encode())
        self.assertEqual(worker.call(b"\xff\xfe").body, b"'\\udcff\\udcfe'")

    def test_bytes_that_are_not_utf8_come_back_unchanged(self):
        body = bytes(range(256)) + "✓".encode()
        self.assertEqual(self.one("def fn(input, headers): return input", body).body, body)

    def test_signatures(self):
        for text in (
            "def fn(input): return input",
            "def fn(input, headers): return input",
            "def fn(*args): return args[0]",
            "def fn(input, headers, more=1): return input",
            "def fn(input, headers=None, *, key=1): return input",
            "fn = lambda i: i",
            "class F:\n    def __call__(self, input, headers): return input\nfn = F()",
            "class F:\n    def run(self, input): return input\nfn = F().run",
            "import functools\ndef f(a, input, headers): return input\nfn = functools.partial(f, 1)",
            "import functools\ndef wrap(f):\n    @functools.wraps(f)\n    def inner(*a, **k): return f(*a, **k)\n"
            "    return inner\n@wrap\ndef fn(input): return input",
        ):
            with self.subTest(text):
                self.assertEqual(self.one(text, b"x").body, b"x")

    def test_signatures_that_do_not_fit(self):
        for text in (
            "def fn(): pass",
            "def fn(a, b, c, d): pass",
            "def fn(a, *, b): pass",
            "async def fn(): pass",
            "class F:\n    def __call__(self): pass\nfn = F()",
        ):
            with self.subTest(text):
                self.assertIn("fn(input, headers) or fn(input, headers, context)", self.refused(text))
        self.assertIn("fn in fn.py is int", self.refused("fn = 1"))

    def test_signatures_that_take_the_context(self):
        for text in (
            "def fn(input, headers, context): return context.method",
            "def fn(a, b, c): return c.method",
            "def fn(input, headers, context=None): return context.method",
            "def fn(input=None, headers=None, context=None, *rest, more=1): return context.method",
            "class F:\n    def __call__(self, i, h, c): return c.method\nfn = F()",
            "class F:\n    def run(self, i, h, context=None): return context.method\nfn = F().run",
            "import functools\ndef f(a, i, h, c): return c.method\nfn = functools.partial(f, 1)",
        ):
            with self.subTest(text):
                self.assertEqual(self.one(text, b"x", method="PUT").body, b"PUT")
        old = self.one("def fn(input, headers, more=1, context=2): return '%s %s' % (more, context)")
        self.assertEqual(old.body, b"1 2")

    def test_the_context(self):
        worker = self.ready("""
import time
def fn(input, headers, context):
    left = context.remaining()
    assert abs(context.deadline - time.monotonic() - left) < 1
    return repr((context.method, context.path, context.query, len(context.body), context.call_id, round(left)))
""")
        reply = worker.call(b"\xff" * 5, method="PATCH", path="/a%20b", query="x=1&y", deadline_ms=50_400)
        call_id = "0123456789abcdef" * 2
        self.assertEqual(reply.body.decode(), repr(("PATCH", "/a%20b", "x=1&y", 5, call_id, 50)))
        reply = worker.call(b"x" * 1_000_000, deadline_ms=20_400)
        self.assertEqual(reply.body.decode(), repr(("POST", "/", "", 1_000_000, call_id, 20)))
        reply = worker.call(deadline_ms=0)
        self.assertEqual(reply.body.decode(), repr(("POST", "/", "", 0, call_id, 0)))

    def test_a_deadline_runs_while_the_body_comes(self):
        worker = self.ready("def fn(input, headers, context): return repr(context.remaining())")
        number = worker.begin(b"x", end=False, deadline_ms=10_000)
        time.sleep(0.3)
        worker.feed(number, b"y")
        self.assertLess(float(worker.wait(number).body), 9.75)

    def test_headers(self):
        text = "import json\ndef fn(input, headers): return json.dumps(headers)"
        sent = [("user-agent", "x"), ("lab", "1"), ("x-tinyfaas-async", "y"), ("lab", "2"), ("cookie", "a"), ("cookie", "b")]
        got = json.loads(self.one(text, b"", headers=sent).body)
        self.assertEqual(got, {"User-Agent": "x", "Lab": "1, 2", "X-Tinyfaas-Async": "y", "Cookie": "a; b"})

    def test_a_function_may_change_its_headers(self):
        worker = self.ready("def fn(i, headers):\n    headers['New'] = headers.pop('Old')\n    return repr(headers)")
        for _ in range(3):
            self.assertEqual(worker.call(b"", headers=[("old", "1")]).body, b"{'New': '1'}")

    def test_many_header_names(self):
        worker = self.ready("def fn(input, headers): return str(len(headers))")
        for n in range(0, 4000, 80):
            sent = [("x-%d" % (n + i), "v") for i in range(80)]
            self.assertEqual(worker.call(b"", headers=sent).body, b"80")

    def test_replies(self):
        for text, status, body in (
            ("return None", 200, b""),
            ("return ''", 200, b""),
            ("return b'\\xff\\0'", 200, b"\xff\0"),
            ("return bytearray(b'ab')", 200, b"ab"),
            ("return memoryview(b'ab')", 200, b"ab"),
            ("return 'x', 404", 404, b"x"),
            ("return None, 204", 204, b""),
            ("return 'x', 200, None", 200, b"x"),
            ("return b'x', 599, {}", 599, b"x"),
            ("import http; return 'x', http.HTTPStatus.CREATED", 201, b"x"),
            ("return iter(['a', b'b', '', bytearray(b'c')])", 200, b"abc"),
            ("return iter([])", 200, b""),
            ("return (c for c in 'gen'), 203", 203, b"gen"),
            ("return open('fn.py', 'rb'), 206", 206, None),
            ("class S(str): pass\n    return S('sub')", 200, b"sub"),
        ):
            with self.subTest(text):
                reply = self.one("def fn(input, headers):\n    " + text)
                self.assertEqual((reply.status, reply.failure), (status, False), reply.body)
                self.assertEqual(reply.body, body if body is not None else reply.body)

    def test_reply_headers(self):
        reply = self.one("def fn(i): return 'x', 200, {'Content-Type': 'a/b', 'Set-Cookie': ['a=1', 'b=2'], 'X-L': 'caf\\xe9'}")
        self.assertEqual(reply.header("content-type"), ["a/b"])
        self.assertEqual(reply.header("set-cookie"), ["a=1", "b=2"])
        self.assertEqual(reply.header("x-l"), ["caf\xe9"])

    def test_a_status_is_told_where_the_function_sets_one(self):
        for text, sets in (("'x'", False), ("('x', None)", False), ("('x', None, {'A': 'b'})", False), ("('x', 200)", True)):
            with self.subTest(text):
                reply = self.one("def fn(i): return " + text)
                self.assertEqual((reply.status, reply.sets_status, reply.failure), (200, sets, False))
        self.assertEqual(self.one("def fn(i): return 'x', None, {'A': 'b'}").header("a"), ["b"])

    def test_replies_that_do_not_fit(self):
        for text, word in (
            ("1", "fn returned int; return a str, bytes, None"),
            ("{'a': 1}", "json.dumps"),
            ("['a']", "fn returned list"),
            ("object", "fn returned type"),
            ("('a',)", "tuple of 1"),
            ("('a', 'b')", "status 'b'"),
            ("('a', True)", "status True"),
            ("('a', 99)", "status 99"),
            ("('a', 101)", "from 200 to 599"),
            ("('a', 200, 'b')", "headers as str"),
            ("('a', 200, {'': 'x'})", "header named ''"),
            ("('a', 200, {'a:': 'x'})", "header named 'a:'"),
            ("('a', 200, {1: 'x'})", "header named 1"),
            ("('a', 200, {'A': 1})", "int as the header A"),
            ("('a', 200, {'A': 'x\\ny'})", "line break"),
            ("('a', 200, {'A': 'x\\0y'})", "control character"),
            ("('a', 200, {'A': ['ok', 'x\\ry']})", "line break"),
            ("('a', 200, {'A': '\\u2713'})", "Latin-1"),
            ("('a', 200, {'A': 'x' * 600000})", "bytes of headers"),
            ("iter([1])", "yields int"),
            ("'\\ud800'", "surrogates not allowed"),
            ("(1, 200)", "fn returned int"),
        ):
            with self.subTest(text):
                self.assertIn(word, self.failure("def fn(input, headers): return " + text))

    def test_exceptions(self):
        for text, words in (
            ("raise ValueError('x')", "ValueError: x"),
            ("raise KeyError", "KeyError"),
            ("exit()", "fn called exit(); it must return its reply"),
            ("import sys; sys.exit(3)", "fn called exit(3); it must return its reply"),
            ("quit('bye')", "fn called exit(bye); it must return its reply"),
            ("raise KeyboardInterrupt", "KeyboardInterrupt"),
            ("raise GeneratorExit('g')", "GeneratorExit: g"),
            ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ):
            with self.subTest(text):
                worker = self.ready("def fn(input, headers):\n    " + text)
                for _ in range(2):
                    self.assertEqual(worker.call(b"").body.decode(), words)
                worker.until_logged('fn.py", line 2, in fn')

    def test_an_exception_without_words(self):
        text = "class E(Exception):\n    def __str__(self): raise OSError\ndef fn(i): raise E"
        self.assertIn("E: ", self.failure(text))

    def test_a_huge_message_is_cut(self):
        reply = self.one("def fn(i): raise ValueError('x' * 1000000)")
        self.assertEqual(len(reply.body), 32 << 10)

    def test_exception_before_the_first_item_is_a_failure(self):
        self.assertEqual(self.failure("def fn(i):\n    raise ValueError('early')\n    yield 1"), "ValueError: early")

    def test_wrong_item_later_breaks_the_reply_off(self):
        reply = self.one("def fn(i):\n    yield 'a'\n    yield 1")
        self.assertEqual((reply.end, reply.body), (ERROR, b"a"))
        self.assertIn("yields int", reply.error)

    def test_big_items(self):
        reply = self.one("def fn(i):\n    yield 'a' * 700000\n    yield b'b' * 700000\n")
        self.assertTrue(reply.body == b"a" * 700000 + b"b" * 700000)

    def test_a_finished_iterator_is_closed(self):
        worker = self.ready("""
class Items:
    def __init__(self): self.left = 3
    def __iter__(self): return self
    def __next__(self):
        self.left -= 1
        if self.left < 0: raise StopIteration
        return 'i'
    def close(self): print('shut')
def fn(input): return Items()
""")
        self.assertEqual(worker.call(b"").body, b"iii")
        worker.until_logged("shut")


class Coroutines(WorkerCase):
    runtime = "python3"

    SLEEP = """
import asyncio, threading
running = most = 0
async def fn(input, headers, context):
    global running, most
    if input == 'most': return '%d in %s' % (most, threading.current_thread() is threading.main_thread())
    running += 1
    most = max(most, running)
    try:
        print('began', input)
        await asyncio.sleep(float(input))
        return 'slept'
    finally:
        running -= 1
        print('left', input)
"""

    def test_signatures(self):
        for text in (
            "async def fn(input): return input",
            "async def fn(input, headers): return input",
            "async def fn(input, headers, context): return context.body",
            "class F:\n    async def __call__(self, input, headers): return input\nfn = F()",
            "import functools\nasync def f(a, input): return input\nfn = functools.partial(f, 1)",
        ):
            with self.subTest(text):
                worker = self.ready(text)
                for body in (b"x", b"y" * 600_000):
                    self.answers(worker, worker.begin(body), 200, body)

    def test_many_calls_at_a_time_in_one_thread(self):
        worker = self.ready(self.SLEEP)
        began = time.monotonic()
        for number in [worker.begin(b"1") for _ in range(64)]:
            self.answers(worker, number, 200, b"slept")
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual(worker.call(b"most").body, b"64 in True")

    def test_replies_are_those_of_plain_functions(self):
        worker = self.ready("""
async def fn(input):
    if input == 'three': return b'made', 201, {'X-A': ['1', '2']}
    if input == 'none': return None
    if input == 'plain': return iter(['a', 'b'])
    if input == 'coroutine': return fn('none')
    if input == 'list': return []
    if input == 'exit': raise SystemExit(3)
    raise KeyError(input)
""")
        reply = self.answers(worker, worker.begin(b"three"), 201, b"made")
        self.assertEqual(reply.header("x-a"), ["1", "2"])
        self.answers(worker, worker.begin(b"none"), 200, b"")
        self.answers(worker, worker.begin(b"plain"), 200, b"ab")
        for body, words in ((b"coroutine", b"await it"), (b"list", b"json.dumps"), (b"exit", b"exit(3)"), (b"x", b"KeyError: 'x'")):
            reply = worker.call(body)
            self.assertEqual((reply.status, reply.failure), (500, True))
            self.assertIn(words, reply.body)
        self.assertIn('in fn\n    raise KeyError(input)', worker.logged())

    def test_a_coroutine_of_a_plain_function_is_refused(self):
        reply = self.ready("async def go(): pass\ndef fn(input): return go()").call()
        self.assertIn(b"make fn itself an async def", reply.body)

    def test_async_generators_stream(self):
        worker = self.ready("""
import asyncio, os
async def fn(input):
    for n in range(3):
        while not os.path.exists('go%d' % n): await asyncio.sleep(0.005)
        yield 'part%d ' % n
""", )
        folder = os.readlink("/proc/%d/cwd" % worker.process)
        number = worker.begin()
        for n in range(3):
            open(os.path.join(folder, "go%d" % n), "w").close()
            worker.until(lambda: b"part%d" % n in worker.replies[number].body, "part %d" % n)
        self.answers(worker, number, 200, b"part0 part1 part2 ")

    def test_async_generators_with_status_and_headers(self):
        worker = self.ready("""
async def items():
    yield 'a'
    yield b'b' * 1000000
async def fn(input): return items(), 202, {'X-A': '1'}
""")
        reply = self.answers(worker, worker.begin(), 202, b"a" + b"b" * 1000000)
        self.assertEqual(reply.header("x-a"), ["1"])

    def test_generators_that_break(self):
        worker = self.ready("""
async def fn(input):
    if input == 'later': yield 'begun'
    if input == 'wrong': yield 1
    raise ValueError('no more')
""")
        reply = worker.call(b"at once")
        self.assertEqual((reply.status, reply.failure, reply.body), (500, True, b"ValueError: no more"))
        self.assertEqual(worker.call(b"later").error, "ValueError: no more")
        self.assertIn(b"yields int", worker.call(b"wrong").body)

    def test_a_slow_reader_holds_up_nobody(self):
        worker = self.ready("""
async def fn(input):
    if input == 'big': return 'x' * 3000000
    if input == 'items': return (b'y' * 100000 for _ in range(30))
    return 'small'
""")
        held = [worker.begin(b"big"), worker.begin(b"items")]
        for number in held:
            worker.replies[number].hold = True
        self.assertEqual(worker.call(b"s").body, b"small")
        for number, byte in zip(held, (b"x", b"y")):
            self.assertIsNone(worker.replies[number].end)
            worker.release(number)
            self.answers(worker, number, 200, byte * 3000000)

    def test_a_cancelled_coroutine_ends(self):
        worker = self.ready(self.SLEEP)
        numbers = [worker.begin(b"60") for _ in range(5)]
        worker.until_logged("began 60\n" * 5)
        for number in numbers:
            worker.cancel(number)
            self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("left 60\n" * 5)
        self.assertNotIn("CancelledError", worker.logged())
        self.assertEqual(worker.call(b"0").body, b"slept")

    def test_cancelled_before_it_began(self):
        worker = self.ready("import time\nasync def fn(input):\n    time.sleep(0.3)\n    return 'x'\n")
        first = worker.begin()
        second, third = worker.begin(), worker.begin(b"x", end=False)
        worker.cancel(second)
        worker.cancel(third)
        self.assertEqual([worker.wait(number).end for number in (second, third)], [ENDED, ENDED])
        self.answers(worker, first, 200, b"x")

    def test_cancelled_streams_are_closed(self):
        worker = self.ready("""
import asyncio
async def fn(input):
    try:
        while True:
            yield 'tick' * 20000
            if input == 'sleeps': await asyncio.sleep(0.01)
    finally:
        print('closed')
""")
        for count, body in enumerate((b"sleeps", b"waits for credit"), 1):
            number = worker.begin(body)
            worker.replies[number].hold = True
            worker.until(lambda: worker.replies[number].body, "a tick")
            worker.cancel(number)
            self.assertEqual(worker.wait(number).end, ENDED)
            worker.until_logged("closed\n" * count)

    def test_a_coroutine_that_will_not_be_cancelled_ends_as_it_likes(self):
        worker = self.ready("""
import asyncio
async def fn(input):
    try:
        print('began'); await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(0.2)
        print('done')
    return 'late'
""")
        number = worker.begin()
        worker.until_logged("began")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        self.assertIn("done", worker.logged())

    def test_tasks_and_subprocesses_of_the_function(self):
        worker = self.ready("""
import asyncio, sys
async def bad(): sys.exit(4)
async def fn(input):
    if input == 'task':
        asyncio.get_running_loop().create_task(bad())
        await asyncio.sleep(0.05)
        return 'went on'
    run = await asyncio.create_subprocess_exec('echo', 'hi', stdout=asyncio.subprocess.PIPE)
    return (await run.communicate())[0]
""")
        self.assertEqual(worker.call(b"").body, b"hi\n")
        number = worker.begin(b"task")
        self.answers(worker, number, 200, b"went on")
        self.assertIn("SystemExit", worker.logged())

    def test_frames_are_read_while_a_coroutine_computes(self):
        worker = self.ready("import time\nasync def fn(input):\n    time.sleep(1)\n    return 'x'\n")
        number = worker.begin()
        worker.ping()
        self.assertIsNone(worker.replies[number].end)
        self.answers(worker, number, 200, b"x")


class Threads(WorkerCase):
    runtime = "python3"

    SLEEP = """
import threading, time
def fn(input, headers):
    if input == 'quick': return 'quick'
    time.sleep(float(input))
    return threading.current_thread().name
"""

    def test_ten_sleepers_take_about_one_sleep(self):
        worker = self.ready(self.SLEEP)
        began = time.monotonic()
        numbers = [worker.begin(b"1") for _ in range(10)]
        names = {worker.wait(number).body for number in numbers}
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual(len(names), 10)

    def test_every_place_sleeps_and_frames_are_read(self):
        worker = self.ready(self.SLEEP, concurrency=3)
        numbers = [worker.begin(b"1.5") for _ in range(3)]
        worker.ping()
        self.assertEqual([worker.replies[number].end for number in numbers], [None] * 3)
        for number in numbers:
            self.assertEqual(worker.wait(number).status, 200)

    def test_quick_calls_do_not_wait_for_a_slow_one(self):
        worker = self.ready(self.SLEEP)
        # All in one write: finished replies must not stay behind the sleeper, nor calls.
        payloads = [b"quick"] * 5 + [b"5"] + [b"quick"] * 5
        for number, body in enumerate(payloads):
            worker.replies[number] = driver.Reply()
            worker.going += driver.frame(driver.CALL, driver.END, number, driver.with_head(driver.call_head(), body))
        for number, body in enumerate(payloads):
            if body == b"quick":
                self.assertEqual(worker.wait(number, 2).body, b"quick")
        self.assertIsNone(worker.replies[5].end)

    def test_changing_between_quick_and_slow(self):
        worker = self.ready(self.SLEEP)
        for n in range(60):
            numbers = [worker.begin(b"quick" if (n + i) % 7 else b"0.003") for i in range(8)]
            for number in numbers:
                self.assertEqual(worker.wait(number).status, 200)

    def test_processor_bound_calls_end_and_frames_are_read(self):
        worker = self.ready("""
import time
def fn(input, headers):
    until = time.monotonic() + 1.5
    while time.monotonic() < until: pass
    return 'done'
""")
        numbers = [worker.begin(b"") for _ in range(4)]
        worker.ping()
        self.assertEqual([worker.replies[number].end for number in numbers], [None] * 4)
        for number in numbers:
            self.assertEqual(worker.wait(number).body, b"done")

    def test_streams_side_by_side(self):
        worker = self.ready("def fn(i):\n    for n in range(200): yield '%d,' % n\n")
        expected = "".join("%d," % n for n in range(200)).encode()
        numbers = [worker.begin(b"") for _ in range(40)]
        for number in numbers:
            self.answers(worker, number, 200, expected)

    def test_cancelled_iterator_is_closed(self):
        worker = self.ready("""
import time
def fn(input):
    try:
        while True:
            yield 'tick'
            time.sleep(0.01)
    finally:
        print('closed')
""")
        number = worker.begin(b"")
        worker.until(lambda: worker.replies[number].body, "a tick")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("closed")

    def test_end_of_the_socket_during_load(self):
        worker = self.start("print('loading')\nimport time\ntime.sleep(60)\n")
        worker.until_logged("loading")
        worker.socket.close()
        worker.closed = True
        self.assertEqual(worker.exit_code(5), 0)

    def test_a_closed_socket_ends_the_worker(self):
        worker = self.ready("import os\ndef fn(input): os.close(3)\n")
        worker.begin(b"")
        self.assertEqual(worker.exit_code(5), 70)

    def test_a_forked_child_has_no_say(self):
        worker = self.ready("""
import os
def fn(input):
    pid = os.fork()
    if pid == 0: return 'the child speaks'
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""")
        for _ in range(3):
            self.assertEqual(worker.call(b"").body, b"70")

    def test_multiprocessing(self):
        worker = self.ready("""
import multiprocessing
def double(x): return 2 * x
def fn(input):
    with multiprocessing.get_context('fork').Pool(2) as pool: return str(pool.map(double, [1, 2, 3]))
""")
        self.assertEqual(worker.call(b"").body, b"[2, 4, 6]")


class Log(WorkerCase):
    runtime = "python3"

    def test_lines_of_threads_stay_whole(self):
        worker = self.ready("def fn(input):\n    for _ in range(50): print('line', input, 'end')\n")
        for number in [worker.begin(b"%d" % n) for n in range(20)]:
            worker.wait(number)
        lines = worker.logged().splitlines()
        self.assertEqual(len(lines), 1000)
        self.assertEqual(set(lines), {"line %d end" % n for n in range(20)})

    def test_any_text_can_be_printed(self):
        worker = self.ready("def fn(input):\n    print(input)\n    return 'ok'", env={"LANG": "C", "LC_ALL": "C"})
        self.assertEqual(worker.call("✓ ".encode() + b"\xff").body, b"ok")
        worker.until_logged("✓ \\udcff")

    def test_a_full_log_holds_the_function_and_loses_nothing(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        worker = self.ready("""
def fn(input):
    if input == 'quick': return 'quick'
    for n in range(20000): print('line %06d' % n)
    return 'printed'
""", stdout=writer)
        os.close(writer)
        number = worker.begin(b"")
        # The pipe holds 64 KiB of 240 kB; other calls go on meanwhile.
        worker.until(lambda: self.unread(reader) >= 60000, "a full pipe")
        self.assertEqual(worker.call(b"quick").body, b"quick")
        self.assertIsNone(worker.replies[number].end)
        data = b""
        while len(data) < 240000:
            self.assertTrue(select.select([reader], [], [], 10)[0], "the log stopped at %d" % len(data))
            data += os.read(reader, 65536)
        self.assertEqual(worker.wait(number).body, b"printed")
        self.assertEqual(data.splitlines(), [b"line %06d" % n for n in range(20000)])

    def unread(self, reader):
        count = array.array("i", [0])
        fcntl.ioctl(reader, termios.FIONREAD, count)
        return count[0]

    def test_a_function_that_closes_its_log(self):
        worker = self.ready("import sys\nsys.stderr = None\nsys.stdout.close()\ndef fn(i): raise ValueError('x')\n")
        self.assertEqual(worker.call(b"").body, b"ValueError: x")


class Loading(WorkerCase):
    runtime = "python3"

    def test_other_files_and_working_directory(self):
        worker = self.ready({
            "fn.py": "import helper\ndef fn(input): return helper.read()",
            "helper.py": "def read(): return open('data.txt').read()",
            "data.txt": "data",
        })
        self.assertEqual(worker.call(b"").body, b"data")

    def test_dependencies(self):
        packages = self.folder({
            "apackage/__init__.py": "name = 'found'",
            "more.pth": "nested\n",
            "nested/inner.py": "name = 'inner'",
        })
        worker = self.ready("import apackage, inner\ndef fn(i): return apackage.name + inner.name", dependencies=packages)
        self.assertEqual(worker.call(b"").body, b"foundinner")

    def test_the_folder_comes_before_dependencies(self):
        packages = self.folder({"thing.py": "name = 'theirs'"})
        files = {"fn.py": "import thing\ndef fn(i): return thing.name", "thing.py": "name = 'ours'"}
        self.assertEqual(self.ready(files, dependencies=packages).call(b"").body, b"ours")

    def test_system_packages_are_not_seen(self):
        text = "import sys\ndef fn(i): return '\\n'.join(sys.path)"
        self.assertNotRegex(self.ready(text).call(b"").body.decode(), r"(site|dist)-packages")

    def test_a_helper_named_as_a_module_of_python(self):
        files = {"fn.py": "def fn(i): raise ValueError('x')", "traceback.py": "raise RuntimeError('not this one')"}
        self.assertEqual(self.ready(files).call(b"").body, b"ValueError: x")

    def test_refusals(self):
        self.assertIn("there is one in inner/", self.refused({"inner/fn.py": ""}))
        self.assertIn("requirements.txt", self.refused("import nowhere_to_be_found"))
        self.assertIn("SystemExit", self.refused("import sys\nsys.exit(1)"))
        self.assertIn("line 2", self.refused("x = 1\nboom()\n"))

    def test_what_a_failed_load_printed_is_logged(self):
        worker = self.start("print('before')\nraise ValueError\n")
        worker.failed()
        worker.exit_code()
        self.assertIn("before", worker.logged())

    def test_threads_that_fail_do_not_end_the_worker(self):
        worker = self.ready("import threading\ndef fn(i):\n    t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()\n    return 'on'")
        self.assertEqual(worker.call(b"").body, b"on")
        worker.until_logged("ZeroDivisionError")


if __name__ == "__main__":
    unittest.main()
