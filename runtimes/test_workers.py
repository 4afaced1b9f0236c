"""What every worker must do, whatever its language: one contract, run for each."""

import json
import os
import time
import unittest

import driver
from driver import BODY, CALL, CREDIT, END, ENDED, ERROR, REPLY
from worker_case import WorkerCase

# The same function in each language, by what it does.
FUNCTIONS = {
    "python3": {
        "echo": "def fn(input, headers): return input",
        "echo_bytes": "def fn(input, headers): return (input or '').encode('utf-8', 'surrogateescape')",
        "inspect": """
import json, os
def fn(input, headers):
    return json.dumps({"headers": headers, "folder": os.getcwd(), "files": os.listdir(".")})
""",
        "big": "def fn(input, headers): return 'y' * int(input)",
        "rich": "def fn(input, headers): return 'made', 201, {'X-One': 'a', 'X-Two': ['b', 'c']}",
        "raises": "def fn(input, headers): raise ValueError('no ' + input)",
        "sleep": """
import time
def fn(input, headers):
    print('began ' + input)
    time.sleep(float(input))
    return 'slept'
""",
        "wait_then_break": """
import os, time
def fn(input, headers):
    print('began')
    while not os.path.exists('go'): time.sleep(0.005)
    raise ValueError('late')
""",
        "endless": """
def fn(input, headers):
    def forever():
        print('began')
        try:
            while True: yield 'z' * 50000
        finally:
            print('closed')
    return forever()
""",
        "stream_on_files": """
import os, time
def fn(input, headers):
    for n in range(3):
        while not os.path.exists('go%d' % n): time.sleep(0.005)
        yield 'part%d ' % n
""",
        "stream_breaks": """
def fn(input, headers):
    yield 'begun'
    raise ValueError('in the middle')
""",
        "header_split": "def fn(input, headers): return 'x', 200, {'X-A': 'a' + chr(13) + chr(10) + 'X-B: b'}",
        "header_name": "def fn(input, headers): return 'x', 200, {'X A': 'a'}",
        "status": "def fn(input, headers): return 'x', 1000",
        "log": "import sys\ndef fn(input, headers):\n    print('to out'); print('to err', file=sys.stderr)\n    return 'ok'",
        "dies": "import os\ndef fn(input, headers): os._exit(3)",
        "child": """
import subprocess
def fn(input, headers):
    return subprocess.run(['ls', '-l', '/proc/self/fd'], capture_output=True, text=True).stdout
""",
        "broken": "def fn(input, headers:\n    return 1\n",
        "empty": "x = 1\n",
        "missing": "import nowhere_to_be_found\n",
        "raises_at_load": "def inner(): raise RuntimeError('bad start')\ninner()\n",
    },
    "nodejs": {
        "echo": "module.exports = (req, res) => { res.send(req.body) }",
        "echo_bytes": "module.exports = (req, res) => { res.send(req.rawBody) }",
        "inspect": """
module.exports = (req, res) => {
  res.json({ headers: req.headers, folder: process.cwd(), files: require('fs').readdirSync('.') })
}""",
        "big": "module.exports = (req, res) => { res.send('y'.repeat(Number(req.body))) }",
        "rich": "module.exports = (req, res) => { res.status(201).set('X-One', 'a').set('X-Two', ['b', 'c']).send('made') }",
        "raises": "module.exports = (req, res) => { throw new RangeError('no ' + req.body) }",
        "sleep": """
module.exports = (req, res) => {
  console.log('began ' + req.body)
  setTimeout(() => res.send('slept'), Number(req.body) * 1000)
}""",
        "wait_then_break": """
const fs = require('fs')
module.exports = async (req, res) => {
  console.log('began')
  while (!fs.existsSync('go')) await new Promise((resolve) => setTimeout(resolve, 5))
  throw new Error('late')
}""",
        "endless": """
const { Readable } = require('stream')
module.exports = (req, res) => {
  console.log('began')
  const source = new Readable({ read () { this.push('z'.repeat(50000)) } })
  res.on('close', () => { source.destroy(); console.log('closed') })
  source.pipe(res)
}""",
        "stream_on_files": """
const fs = require('fs')
module.exports = async (req, res) => {
  for (let n = 0; n < 3; n++) {
    while (!fs.existsSync('go' + n)) await new Promise((resolve) => setTimeout(resolve, 5))
    res.write('part' + n + ' ')
  }
  res.end()
}""",
        "stream_breaks": """
module.exports = async (req, res) => {
  res.write('begun')
  throw new Error('in the middle')
}""",
        "header_split": "module.exports = (req, res) => { res.set('X-A', 'a\\r\\nX-B: b').send('x') }",
        "header_name": "module.exports = (req, res) => { res.set('X A', 'a').send('x') }",
        "status": "module.exports = (req, res) => { res.statusCode = 1000; res.send('x') }",
        "log": "module.exports = (req, res) => { console.log('to out'); console.error('to err'); res.send('ok') }",
        "dies": "module.exports = () => process.exit(3)",
        "child": """
module.exports = (req, res) => {
  res.send(require('child_process').execFileSync('ls', ['-l', '/proc/self/fd']).toString())
}""",
        "broken": "module.exports = (req, res => {\n",
        "empty": "const x = 1\n",
        "missing": "require('nowhere-to-be-found')\n",
        "raises_at_load": "function inner () { throw new Error('bad start') }\ninner()\n",
    },
}


class Contract:
    def fn(self, name, **options):
        return self.ready(FUNCTIONS[self.runtime][name], **options)

    def path(self, worker_folder, name):
        return os.path.join(worker_folder, name)

    def folder_of(self, worker):
        return os.readlink("/proc/%d/cwd" % worker.process)

    def touch(self, worker, name):
        with open(os.path.join(self.folder_of(worker), name), "w"):
            pass

    # --- calls ---

    def test_ready_says_what_runs(self):
        worker = self.start(FUNCTIONS[self.runtime]["echo"])
        answer = worker.ready()
        self.assertEqual(answer["protocol"], 1)
        self.assertRegex(answer["runtime"], r"^(Python 3\.\d+\.\d+|Node v\d+\.\d+\.\d+)$")

    def test_echo(self):
        worker = self.fn("echo")
        for body in (b"hello", b"", "grüße ✓ 🦀".encode(), b"nul \0 and\nlines\r\n", b"\xef\xbb\xbfbom"[3:]):
            reply = worker.call(body)
            self.assertEqual((reply.status, reply.body, reply.failure, reply.headers), (200, body, False, []))

    def test_any_bytes(self):
        body = bytes(range(256)) * 10
        self.assertEqual(self.fn("echo_bytes").call(body).body, body)

    def test_headers_and_folder(self):
        worker = self.fn("inspect")
        sent = [("host", "h:1"), ("x-lab", "1"), ("x-lab", "2"), ("cookie", "a=1"), ("cookie", "b=2"), ("x-latin", "caf\xe9")]
        got = json.loads(worker.call(b"", headers=sent).body)
        headers = {name.lower(): value for name, value in got["headers"].items()}
        self.assertEqual(headers, {"host": "h:1", "x-lab": "1, 2", "cookie": "a=1; b=2", "x-latin": "caf\xe9"})
        self.assertEqual(os.path.realpath(got["folder"]), self.folder_of(worker))

    def test_no_headers(self):
        self.assertEqual(json.loads(self.fn("inspect").call(b"").body)["headers"], {})

    def test_status_and_headers(self):
        reply = self.fn("rich").call(b"")
        self.assertEqual((reply.status, reply.body), (201, b"made"))
        self.assertEqual(reply.header("x-one"), ["a"])
        self.assertEqual(reply.header("x-two"), ["b", "c"])

    def test_many_in_flight(self):
        worker = self.fn("echo")
        numbers = [worker.begin(b"%d" % n) for n in range(500)]
        for n, number in enumerate(numbers):
            self.answers(worker, number, 200, b"%d" % n)

    def test_numbers_are_used_again(self):
        worker = self.fn("echo")
        for n in range(50):
            worker.begin(b"%d" % n, number=7)
            self.answers(worker, 7, 200, b"%d" % n)

    def test_frames_cut_anywhere(self):
        worker = self.fn("echo")
        payload = driver.with_head(driver.call_head(), b"in pieces")
        stream = b"".join(driver.frame(CALL, END, n, payload) for n in (1, 2, 3))
        for n in (1, 2, 3):
            worker.replies[n] = driver.Reply()
        for at in range(0, len(stream), 7):
            worker.going += stream[at : at + 7]
            worker.pump(0)
        for n in (1, 2, 3):
            self.answers(worker, n, 200, b"in pieces")

    def test_ping(self):
        self.fn("echo").ping()

    def test_ping_during_a_long_call(self):
        worker = self.fn("sleep")
        number = worker.begin(b"30")
        worker.until_logged("began")
        worker.ping()
        self.assertIsNone(worker.replies[number].end)

    # --- bodies ---

    def test_big_body_both_ways(self):
        worker = self.fn("echo")
        body = b"0123456789abcdef" * (5 << 16)
        self.assertEqual(len(body), 5 << 20)
        self.assertTrue(worker.call(body, timeout=30).body == body)

    def test_body_in_small_parts(self):
        worker = self.fn("echo")
        number = worker.begin(b"a", end=False)
        for _ in range(300):
            worker.feed(number, b"bc", end=False)
        worker.feed(number, b"", end=True)
        self.answers(worker, number, 200, b"a" + b"bc" * 300)

    def test_a_slow_reader_stops_nobody(self):
        worker = self.fn("big")
        slow = worker.begin(b"3000000")
        worker.replies[slow].hold = True
        worker.until(lambda: len(worker.replies[slow].body) == driver.WINDOW_BYTES, "a full window")
        for _ in range(20):
            self.assertEqual(worker.call(b"10").body, b"y" * 10)
        self.assertEqual(len(worker.replies[slow].body), driver.WINDOW_BYTES)
        worker.release(slow)
        self.assertEqual(len(worker.wait(slow).body), 3000000)

    def test_slow_readers_on_every_place(self):
        worker = self.fn("big", concurrency=4)
        numbers = [worker.begin(b"600000") for _ in range(4)]
        for number in numbers:
            worker.replies[number].hold = True
        for number in numbers:
            worker.until(lambda: len(worker.replies[number].body) == driver.WINDOW_BYTES, "a full window")
        for number in reversed(numbers):
            worker.release(number)
            self.assertEqual(len(worker.wait(number).body), 600000)

    def test_stream_goes_out_as_it_comes(self):
        worker = self.fn("stream_on_files")
        number = worker.begin(b"")
        expected = b""
        for n in range(3):
            self.assertIsNone(worker.replies[number].end)
            self.touch(worker, "go%d" % n)
            expected += b"part%d " % n
            worker.until(lambda: worker.replies[number].body == expected, "part %d" % n)
        self.answers(worker, number, 200, expected)

    def test_stream_that_breaks_is_broken_off(self):
        reply = self.fn("stream_breaks").call(b"")
        self.assertEqual((reply.status, reply.body, reply.end), (200, b"begun", ERROR))
        self.assertIn("in the middle", reply.error)

    # --- cancelling ---

    def test_cancel_of_a_waiting_call(self):
        worker = self.fn("sleep")
        number = worker.begin(b"0.4")
        worker.until_logged("began")
        worker.cancel(number)
        # Others go on meanwhile; the place is held until the function has ended.
        self.assertEqual(worker.call(b"0").body, b"slept")
        self.assertEqual(worker.wait(number).end, ENDED)

    def test_cancel_of_a_call_that_breaks_later(self):
        worker = self.fn("wait_then_break")
        number = worker.begin(b"")
        worker.until_logged("began")
        worker.cancel(number, driver.DEADLINE_PASSED)
        worker.ping()
        self.touch(worker, "go")
        self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("late")

    def test_cancel_before_the_body_has_ended(self):
        worker = self.fn("echo")
        number = worker.begin(b"half", end=False)
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        # What was under way is ignored, and the number may be used again.
        worker.send(BODY, END, number, b"rest")
        worker.send(CREDIT, 0, number, b"\0\0\1\0")
        worker.cancel(number)
        worker.begin(b"again", number=number)
        self.answers(worker, number, 200, b"again")

    def test_cancel_of_a_stream(self):
        worker = self.fn("endless")
        number = worker.begin(b"")
        worker.until(lambda: len(worker.replies[number].body) > 1000000, "a part of the stream")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("closed")

    def test_cancel_of_a_stream_without_credit(self):
        worker = self.fn("endless")
        number = worker.begin(b"")
        worker.replies[number].hold = True
        worker.until(lambda: len(worker.replies[number].body) == driver.WINDOW_BYTES, "a full window")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("closed")

    # --- what goes wrong ---

    def test_an_exception_is_a_failure_and_logged(self):
        worker = self.fn("raises")
        reply = worker.call(b"way")
        self.assertTrue(reply.failure)
        self.assertEqual(reply.status, 500)
        self.assertRegex(reply.body.decode(), r"^(ValueError|RangeError): no way$")
        worker.until_logged("no way")
        self.assertRegex(worker.logged(), r"(fn\.py|index\.js)")
        self.assertNotRegex(worker.logged(), r"worker\.(py|js)")
        self.assertTrue(worker.call(b"again").failure)

    def test_header_injection_is_refused(self):
        worker = self.fn("header_split")
        reply = worker.call(b"")
        self.assertEqual((reply.status, reply.failure, reply.headers), (500, True, []))
        self.assertIn(b"line break", reply.body)

    def test_bad_header_name_is_refused(self):
        reply = self.fn("header_name").call(b"")
        self.assertEqual((reply.status, reply.failure), (500, True))
        self.assertIn(b"X A", reply.body)

    def test_bad_status_is_refused(self):
        reply = self.fn("status").call(b"")
        self.assertEqual((reply.status, reply.failure), (500, True))
        self.assertIn(b"1000", reply.body)

    def test_output_is_the_log(self):
        worker = self.fn("log")
        self.assertEqual(worker.call(b"").body, b"ok")
        worker.until_logged("to out")
        worker.until_logged("to err")

    def test_children_do_not_inherit_the_socket(self):
        listing = self.fn("child").call(b"").body.decode()
        self.assertIn("/proc/", listing)
        # Node gives its children sockets as 0, 1 and 2.
        self.assertNotRegex(listing, r" ([3-9]|\d\d+) -> socket:")

    def test_the_function_may_end_the_process(self):
        worker = self.fn("dies")
        worker.begin(b"")
        self.assertEqual(worker.exit_code(), 3)

    # --- the worker's life ---

    def test_end_of_the_socket_ends_the_worker(self):
        worker = self.fn("sleep")
        worker.begin(b"30")
        worker.until_logged("began")
        worker.socket.close()
        worker.closed = True
        self.assertEqual(worker.exit_code(5), 0)

    def test_end_before_load(self):
        ours = self.start(FUNCTIONS[self.runtime]["echo"])
        ours.socket.close()
        ours.closed = True
        self.assertEqual(ours.exit_code(5), 0)

    def test_rubbish_ends_the_worker(self):
        rubbish = {
            "unknown kind": driver.frame(99, 0, 1, b""),
            "a frame that workers send": driver.frame(REPLY, END, 1, driver.with_head(b"")),
            "too long": b"\xff\xff\xff\xff" + b"\0" * 8,
            "head past the payload": driver.frame(CALL, END, 1, b"\xff\0\0\0abc"),
            "head of too few fields": driver.frame(CALL, END, 1, driver.with_head(b"a\nb")),
            "a name without its value": driver.frame(CALL, END, 1, driver.with_head(driver.call_head() + b"\nname")),
            "no head": driver.frame(CALL, END, 1, b""),
            "short credit": driver.frame(CREDIT, 0, 1, b"\1"),
        }
        for what, frames in rubbish.items():
            with self.subTest(what):
                worker = self.fn("echo")
                worker.going += frames
                worker.pump(0)
                self.assertEqual(worker.exit_code(5), 70)

    def test_idle_uses_no_processor(self):
        worker = self.fn("echo")
        for _ in range(20):
            worker.call(b"x")
        spent = worker.cpu_seconds()
        wakes = self.wakes(worker)
        # What this measures is time passing without traffic.
        time.sleep(1.5)
        self.assertLess(worker.cpu_seconds() - spent, 0.05)
        self.assertLess(self.wakes(worker) - wakes, 60)

    def wakes(self, worker):
        """Voluntary context switches of all threads: how often something woke up."""
        total = 0
        for thread in os.listdir("/proc/%d/task" % worker.process):
            with open("/proc/%d/task/%s/status" % (worker.process, thread)) as status:
                for line in status:
                    if line.startswith("voluntary_ctxt_switches"):
                        total += int(line.split()[1])
        return total

    # --- loading ---

    def test_load_errors_say_what_to_do(self):
        functions = FUNCTIONS[self.runtime]
        self.assertIn("SyntaxError", self.refused(functions["broken"]))
        self.assertRegex(self.refused(functions["broken"]), r"(fn\.py|index\.js)")
        self.assertRegex(self.refused(functions["empty"]), r"(define fn\(input, headers\)|module\.exports = )")
        self.assertRegex(self.refused(functions["missing"]), r"nowhere.to.be.found")
        self.assertRegex(self.refused(functions["raises_at_load"]), r"bad start")
        self.assertNotRegex(self.refused(functions["raises_at_load"]), r"worker\.(py|js)")
        self.assertRegex(self.refused({"other.txt": ""}), r"has (no fn\.py|neither)")


class Python(Contract, WorkerCase):
    runtime = "python3"


class Node(Contract, WorkerCase):
    runtime = "nodejs"


if __name__ == "__main__":
    unittest.main()
