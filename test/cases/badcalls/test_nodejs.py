"""nodejs: functions that misbehave when they are called."""

import os
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.case import need_environment
from blackbox.misbehaving import DEADLINE_S, LONG_S, OK, PRINTED_LINES, PRINTING, SLOW_S, Misbehaving, running, told

AROUND = """\
'use strict'
const fs = require('fs'), cp = require('child_process'), path = require('path')
const { Readable, pipeline } = require('stream')
const bad = [%s]
module.exports = (req, res) => {
  if (req.body === 'ok') return res.send('ok')
  if (req.body === 'slow' || req.body === 'long') {
    console.log('slow began')
    return setTimeout(() => res.send('slow done'), req.body === 'slow' ? %d : %d)
  }
  return bad[Number(req.body)](req, res)
}
"""
LATE = f"the call took longer than the {DEADLINE_S}s it may take"


class Bad(Misbehaving):
    def setUp(self):
        need_environment(self, "nodejs")
        super().setUp()

    def bad(self, *codes):
        """Deploys a function that does one of these, by its number."""
        return self.node(AROUND % (",\n".join(f"(req, res) => {{ {code} }}" for code in codes), SLOW_S * 1000, LONG_S * 1000))


class Replies(Bad):
    def test_nothing(self):
        name = self.bad("")
        _, took = self.misbehaves(name, "0", 504, LATE)
        self.assertLess(took, DEADLINE_S + 1)
        self.wait_for_log(name, "a call did not end within 500ms after its deadline; replacing this handler")

    def test_an_empty_reply(self):
        name = self.bad("res.send()", "res.end()", "res.json(undefined)", "res.send(null)")
        with self.beside(name):
            for number in range(4):
                answer = self.call(name, str(number))
                self.assertEqual((answer.status, answer.body), (200, b""))

    def test_an_int(self):
        name = self.bad("res.send(5)", "res.end(5)", "res.write(5)", "return 5")
        with self.beside(name):
            told(self, self.call(name, "0"), 200, "5")
            for number in ("1", "2"):
                told(self, self.call(name, number), 500, "res.write and res.end take a string, Buffer or Uint8Array, not number")

    def test_what_is_no_reply(self):
        cases = (
            ("res.send(() => 1)", "res.send and res.json cannot send a function, for which JSON has no text"),
            ("res.json(Symbol('x'))", "res.send and res.json cannot send a symbol, for which JSON has no text"),
            ("res.json(5n)", "TypeError: Do not know how to serialize a BigInt"),
            ("const a = {}; a.a = a; res.send(a)", "TypeError: Converting circular structure to JSON"),
            ("res.destroy()", "the function destroyed its response"),
            ("throw null", "the function threw null"),
            ("throw { toString () { throw 1 }, get name () { throw 2 } }", "the function threw {"),
            ("return Promise.reject()", "the function threw undefined"),
        )
        name = self.bad(*(code for code, _ in cases))
        with self.beside(name):
            for number, (_, words) in enumerate(cases):
                told(self, self.call(name, str(number)), 500, words)

    def test_a_stream_that_breaks_at_once(self):
        name = self.bad("pipeline(Readable.from((function * () { throw new Error('broke at once') })()), res, () => {})")
        self.misbehaves(name, "0", 500, "Error: broke at once")

    def test_a_stream_that_breaks_later(self):
        breaks = "Readable.from((function * () { yield 'first '; throw new Error('broke later') })())"
        name = self.bad(f"pipeline({breaks}, res, (error) => console.log('told:', error.message))")
        with self.beside(name):
            began = time.monotonic()
            self.broken_off(name, "0", b"first ")
            self.assertLess(time.monotonic() - began, 1)
            self.wait_for_log(name, "told: broke later")

    def test_a_stream_that_breaks_unheard(self):
        # Node's pipe hands no error on: it is thrown outside of every handler.
        breaks = "Readable.from((function * () { yield 'first '; throw new Error('broke later') })())"
        name = self.bad(f"{breaks}.pipe(res)")
        self.broken_off(name, "0", b"first ")
        self.answers(name, OK, OK)
        self.wait_for_log(name, "tinyfaas: ended by an error that nothing caught: Error: broke later; starting another handler")


class Large(Bad):
    settings = {"TF_CALL_DEADLINE": "60s"}

    def test_50_mb(self):
        name = self.bad(
            "res.send('x'.repeat(50e6))", "res.end(Buffer.alloc(50e6, 'x'))",
            "const one = Buffer.alloc(1e6, 'x'); let n = 0;"
            " const go = () => { while (n < 50) { n++; if (!res.write(one)) return res.once('drain', go) } res.end() }; go()",
        )
        with self.beside(name):
            for number in range(3):
                answer = self.call(name, str(number))
                self.assertEqual((answer.status, len(answer.body)), (200, 50_000_000))
                self.assertEqual(answer.body.count(b"x"), 50_000_000)


class Ends(Bad):
    def test_exits(self):
        for code in (0, 3):
            with self.subTest(code=code):
                words = f"the function's handler ended while it ran the call: exited with code {code}\n"
                name = self.bad(f"process.exit({code})")
                self.misbehaves(name, "0", 500, words, beside=(500, words))
                self.wait_for_log(name, f"tinyfaas: exited with code {code}; starting another handler")

    def test_killed_by_a_signal(self):
        for code, words in (
            ("process.kill(process.pid, 'SIGKILL')", "killed by signal 9 (SIGKILL)\n"),
            ("process.kill(process.pid, 'SIGTERM')", "killed by signal 15 (SIGTERM)\n"),
            ("process.abort()", "killed by signal 6 (SIGABRT)\n"),
        ):
            with self.subTest(code=code):
                self.misbehaves(self.bad(code), "0", 500, "ended while it ran the call: " + words, beside=(500, words))

    def test_recursion_without_end(self):
        self.misbehaves(self.bad("const f = () => f() + 1; f()"), "0", 500, "RangeError: Maximum call stack size exceeded")

    def test_loops_for_ever(self):
        for code in ("for (;;);", "const f = () => process.nextTick(f); f()"):
            with self.subTest(code=code):
                name = self.bad(code)
                # One thread runs all calls: the one beside it cannot go on either.
                _, took = self.misbehaves(name, "0", 504, LATE, beside=(504, LATE))
                self.assertLess(took, DEADLINE_S + 1)
                self.wait_for_log(name, "a call did not end within 500ms after its deadline; replacing this handler")

    def test_loops_for_ever_beside_other_handlers_and_functions(self):
        name, other = self.bad("for (;;);"), self.bad("")
        with ThreadPoolExecutor(1) as pool:
            spinning = pool.submit(self.call, name, "0")
            while not spinning.done():
                began = time.monotonic()
                self.answers(other, OK, OK)
                self.assertLess(time.monotonic() - began, 1)
            told(self, spinning.result(), 504, LATE)
        # Calls that come now are not lost on the handler that does nothing any more.
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda _: self.call(name, OK), range(8)):
                told(self, answer, 200, OK)

    def test_lets_go_of_its_loop(self):
        # The event loop turns: others are answered while this one never ends.
        name = self.bad("const f = () => setImmediate(f); f()")
        self.misbehaves(name, "0", 504, LATE)


class Prints(Bad):
    settings = PRINTING

    def test_without_end(self):
        name = self.bad(f"const line = ' ' + 'x'.repeat(990); for (let n = 0; n < {PRINTED_LINES}; n++) console.log(n + line); res.send('printed')")
        self.prints(name, "0")


class Processes(Bad):
    def test_a_child_that_stays_ends_with_its_function(self):
        mark = f"sleep 8{os.getpid()}4"
        name = self.bad(f"cp.spawn('sleep', ['{mark.split()[1]}'], {{ stdio: 'inherit' }}); res.send('forked')")
        told(self, self.call(name, "0"), 200, "forked")
        self.gone_with_it(name, mark)

    def test_a_daemon_ends_with_its_function(self):
        mark = f"sleep 8{os.getpid()}5"
        name = self.bad(
            f"cp.spawn('sh', ['-c', 'cd /; setsid {mark} >/dev/null 2>&1 &'], {{ detached: true, stdio: 'ignore', env: {{}} }}).unref();"
            " res.send('a daemon')"
        )
        told(self, self.call(name, "0"), 200, "a daemon")
        self.gone_with_it(name, mark)

    def test_a_daemon_ends_with_its_handler(self):
        mark = f"sleep 8{os.getpid()}6"
        name = self.bad(
            f"cp.spawn('sleep', ['{mark.split()[1]}'], {{ detached: true, stdio: 'ignore', env: {{}} }}).unref();"
            " setTimeout(() => process.exit(4), 50)"
        )
        self.misbehaves(name, "0", 500, "exited with code 4", beside=(500, "exited with code 4"))
        self.assertEqual(running(mark), [])


class Socket(Bad):
    def test_closes_its_socket(self):
        words = "file descriptor 3"
        name = self.bad("fs.closeSync(3); setTimeout(() => res.send('closed'), 100)")
        self.misbehaves(name, "0", 500, words, beside=(500, words))

    def test_writes_rubbish_into_it(self):
        words = "file descriptor 3"
        for code in ("fs.writeSync(3, 'rubbish'.repeat(5))", "fs.writeSync(3, Buffer.from([0, 0, 0, 0, 69, 0, 0, 0, 9, 9, 9, 9]))"):
            with self.subTest(code=code):
                self.misbehaves(self.bad(code), "0", 500, words, beside=(500, words))

    def test_closes_its_log(self):
        name = self.bad("fs.closeSync(1); fs.closeSync(2); console.log('unheard'); res.send('closed')")
        told(self, self.call(name, "0"), 200, "closed")
        self.answers_again(name)


class Directory(Bad):
    def test_changes_its_directory(self):
        name = self.bad("process.chdir('/'); res.send(process.cwd())")
        self.assertEqual(self.misbehaves(name, "0", 200)[0].text, "/")


class Folder(Bad):
    """On a server apart: nothing else on it may have changed its directory."""

    def test_deletes_its_folder(self):
        # By its own absolute path, and only if that lies where this server's handlers do.
        data = str(self.server.data.resolve())
        name = self.bad(
            f"const folder = fs.realpathSync(__dirname), data = {data!r} + '/';"
            " if (!path.isAbsolute(folder) || !folder.startsWith(data) || !folder.includes('/handler-')) return res.send('refused: ' + folder);"
            " fs.rmSync(folder, { recursive: true }); res.send('deleted')"
        )
        told(self, self.call(name, "0"), 200, "deleted")
        self.answers_again(name)


if __name__ == "__main__":
    unittest.main()
