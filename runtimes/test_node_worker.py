"""What is particular to the Node worker: req and res as Express users know them, late
errors, how a module is found."""

import gzip
import json
import os
import select
import unittest

import driver
from driver import ENDED, ERROR
from worker_case import WorkerCase


def handler(text):
    return "module.exports = (req, res) => {\n%s\n}\n" % text


class Request(WorkerCase):
    runtime = "nodejs"

    def show(self, expression, body=b"", **head):
        reply = self.ready(handler("res.json([%s])" % expression)).call(body, **head)
        self.assertEqual(reply.status, 200, reply.body)
        return json.loads(reply.body)

    def test_body(self):
        self.assertEqual(self.show("req.body, req.rawBody.length"), ["", 0])
        self.assertEqual(self.show("req.body, req.rawBody.length", "é".encode()), ["é", 2])
        self.assertEqual(self.show("req.body, [...req.rawBody]", b"\xff"), ["\ufffd", [255]])
        self.assertEqual(self.show("(req.body = JSON.parse(req.body)).a", b'{"a": 1}'), [1])

    def test_where(self):
        got = self.show("req.method, req.path, req.url, req.originalUrl, req.params", method="PUT", path="/a%20b/c", query="x=1&y")
        self.assertEqual(got, ["PUT", "/a%20b/c", "/a%20b/c?x=1&y", "/a%20b/c?x=1&y", {}])
        self.assertEqual(self.show("req.url"), ["/"])

    def test_query(self):
        got = self.show("req.query", query="a=1&b=x%20y+z&a=2&c&%E2%9C%93=%E2%9C%93")
        self.assertEqual(got, [{"a": ["1", "2"], "b": "x y z", "c": "", "✓": "✓"}])
        self.assertEqual(self.show("req.query"), [{}])

    def test_headers(self):
        sent = [("host", "a"), ("host", "b"), ("x", "1"), ("x", "2"), ("set-cookie", "a"), ("set-cookie", "b"), ("cookie", "c"), ("cookie", "d")]
        got = self.show("req.headers, req.get('X'), req.header('HOST'), req.get('none') === undefined", headers=sent)
        self.assertEqual(got, [{"host": "a", "x": "1, 2", "set-cookie": ["a", "b"], "cookie": "c; d"}, "1, 2", "a", True])
        got = self.show("req.get('Referrer')", headers=[("referer", "r")])
        self.assertEqual(got, ["r"])
        got = self.show("Object.keys(req.headers), req.headers.toString === Object.prototype.toString", headers=[("__proto__", "x")])
        self.assertEqual(got, [["__proto__"], True])


class Response(WorkerCase):
    runtime = "nodejs"

    def one(self, text, body=b""):
        return self.ready(handler(text)).call(body)

    def test_send(self):
        for text, status, kind, body in (
            ("res.send('x')", 200, [], b"x"),
            ("res.send()", 200, [], b""),
            ("res.send(null)", 200, [], b""),
            ("res.send(undefined)", 200, [], b""),
            ("res.send(Buffer.from([0, 255]))", 200, [], b"\0\xff"),
            ("res.send(new Uint8Array([1, 2]))", 200, [], b"\1\2"),
            ("res.send({ a: 1 })", 200, ["application/json; charset=utf-8"], b'{"a":1}'),
            ("res.send([1])", 200, ["application/json; charset=utf-8"], b"[1]"),
            ("res.send(5)", 200, ["application/json; charset=utf-8"], b"5"),
            ("res.send(false)", 200, ["application/json; charset=utf-8"], b"false"),
            ("res.json('s')", 200, ["application/json; charset=utf-8"], b'"s"'),
            ("res.json(null)", 200, ["application/json; charset=utf-8"], b"null"),
            ("res.type('html').send('x')", 200, ["text/html; charset=utf-8"], b"x"),
            ("res.type('.png').send(Buffer.from('x'))", 200, ["image/png"], b"x"),
            ("res.type('a/b').send('x')", 200, ["a/b"], b"x"),
            ("res.type('unheard').end('x')", 200, ["application/octet-stream"], b"x"),
            ("res.setHeader('content-type', 'text/plain'); res.end('x')", 200, ["text/plain"], b"x"),
            ("res.setHeader('content-type', 'text/plain'); res.send('x')", 200, ["text/plain; charset=utf-8"], b"x"),
            ("res.set('Content-Type', 'application/problem+json').json({})", 200, ["application/problem+json"], b"{}"),
            ("res.status(418).end()", 418, [], b""),
            ("res.statusCode = 404; res.end('no')", 404, [], b"no"),
            ("res.sendStatus(404)", 404, ["text/plain; charset=utf-8"], b"Not Found"),
            ("res.status(204).send('nobody')", 204, [], b""),
            ("res.writeHead(202, { 'Content-Type': 'x/y' }); res.end('x')", 202, ["x/y"], b"x"),
            ("res.writeHead(202, 'Fine', { 'Content-Type': 'x/y' }).end('x')", 202, ["x/y"], b"x"),
            ("res.end('ff', 'hex')", 200, [], b"\xff"),
            ("res.write('a'); res.write(Buffer.from('b')); res.end('c')", 200, [], b"abc"),
            ("res.status(201).write('a'); res.end()", 201, [], b"a"),
            ("res.flushHeaders(); res.end('x')", 200, [], b"x"),
            ("res.send('é✓')", 200, [], "é✓".encode()),
        ):
            with self.subTest(text):
                reply = self.one(text)
                self.assertEqual((reply.failure, reply.status, reply.body), (False, status, body))
                self.assertEqual(reply.header("content-type"), kind)

    def test_a_status_is_told_where_the_function_sets_one(self):
        for text, sets in (
            ("res.end('x')", False), ("res.json({})", False), ("res.set('A', 'b').send('x')", False),
            ("res.status(200).end('x')", True), ("res.statusCode = 201; res.end('x')", True), ("res.writeHead(200).end('x')", True),
        ):
            with self.subTest(text):
                self.assertEqual(self.one(text).sets_status, sets)

    def test_headers(self):
        reply = self.one("""
          res.set({ 'X-A': '1', 'X-N': 5 }).header('X-B', 'b').append('X-C', '1').append('X-C', '2').setHeader('X-D', ['x', 'y'])
          res.set('X-Gone', 'x'); res.removeHeader('x-gone')
          res.cookie('k', 'v w', { httpOnly: true }).cookie('l', '2')
          res.send([res.get('x-a'), res.getHeader('X-C'), res.hasHeader('x-gone'), res.headersSent].join())""")
        self.assertEqual(reply.body, b"1,1,2,false,false")
        self.assertEqual(reply.header("x-n"), ["5"])
        self.assertEqual(reply.header("x-c"), ["1", "2"])
        self.assertEqual(reply.header("x-d"), ["x", "y"])
        self.assertEqual(reply.header("set-cookie"), ["k=v%20w; Path=/; HttpOnly", "l=2; Path=/"])
        self.assertEqual(reply.header("x-gone"), [])

    def test_redirect(self):
        reply = self.one("res.redirect('/a b')")
        self.assertEqual((reply.status, reply.header("location"), reply.body), (302, ["/a%20b"], b"Found. Redirecting to /a%20b"))
        reply = self.one("res.redirect(301, 'http://x/%41')")
        self.assertEqual((reply.status, reply.header("location")), (301, ["http://x/%41"]))

    def test_what_does_not_fit(self):
        for text, word in (
            ("res.status(99)", "99"),
            ("res.status('200')", "status 200"),
            ("res.set('A', 'x\\0')", "line break"),
            ("res.set('A', '✓')", "Latin-1"),
            ("res.set('A:', 'x')", "A:"),
            ("res.setHeader('A')", "no value"),
            ("res.writeHead(200, { 'A': 'x\\ny' })", "line break"),
            ("res.set('A', ['x', 'y\\r']).send()", "line break"),
            ("res.set('A', 'x'.repeat(600000)).send()", "bytes of headers"),
            ("res.write({})", "res.json"),
            ("res.cookie('a', 'b', { path: '/\\n' })", "line break"),
            ("const o = {}; o.o = o; res.json(o)", "circular"),
            ("throw 'a string'", "the function threw a string"),
            ("throw null", "the function threw null"),
            ("res.nothing()", "not a function"),
        ):
            with self.subTest(text):
                reply = self.one(text)
                self.assertEqual((reply.status, reply.failure), (500, True), reply.body)
                self.assertIn(word, reply.body.decode())

    def test_pipe(self):
        text = "require('stream').Readable.from(Array.from({ length: 100 }, (_, n) => 'n'.repeat(20000))).pipe(res)"
        self.assertTrue(self.one(text).body == b"n" * 2000000)

    def test_pipeline(self):
        text = """
          const { pipeline, Readable } = require('stream')
          pipeline(Readable.from(['a', 'b']), require('zlib').createGzip(), res, (error) => console.log('piped', error))"""
        worker = self.ready(handler(text))
        self.assertEqual(gzip.decompress(worker.call(b"").body), b"ab")
        worker.until_logged("piped undefined")

    def test_pipe_of_a_file(self):
        worker = self.ready({"index.js": handler("require('fs').createReadStream('big').pipe(res)"), "big": "0123456789" * 100000})
        numbers = [worker.begin(b"") for _ in range(3)]
        for number in numbers:
            self.assertTrue(worker.wait(number).body == b"0123456789" * 100000)

    def test_write_says_when_to_wait(self):
        worker = self.ready("""
          module.exports = async (req, res) => {
            let waits = 0
            for (let n = 0; n < 30; n++) {
              if (!res.write('w'.repeat(30000))) { waits++; await new Promise((resolve) => res.once('drain', resolve)) }
            }
            res.end('waits ' + waits)
          }""")
        number = worker.begin(b"")
        worker.replies[number].hold = True
        worker.until(lambda: len(worker.replies[number].body) == driver.WINDOW_BYTES, "a full window")
        worker.release(number)
        body = worker.wait(number).body
        self.assertEqual(body[:900000], b"w" * 900000)
        self.assertGreaterEqual(int(body[900006:]), 1)

    def test_events(self):
        worker = self.ready(handler("""
          for (const event of ['finish', 'close']) res.on(event, () => console.log(event, res.writableEnded, res.writableFinished))
          res.end('x', () => console.log('callback'))
          console.log('after', res.headersSent, res.writableEnded)"""))
        self.assertEqual(worker.call(b"").body, b"x")
        worker.until_logged("close true true")
        self.assertEqual(worker.logged().splitlines(), ["after true true", "callback", "finish true true", "close true true"])

    def test_reply_before_the_function_is_done(self):
        worker = self.ready("""
          module.exports = async (req, res) => {
            res.send('early')
            await new Promise((resolve) => setTimeout(resolve, 30))
            console.log('done later')
          }""")
        self.assertEqual(worker.call(b"").body, b"early")
        worker.until_logged("done later")

    def test_answer_long_after_an_async_function_is_done(self):
        worker = self.ready("module.exports = async (req, res) => { setTimeout(() => res.send('later'), 50) }")
        self.assertEqual(worker.call(b"").body, b"later")


class Errors(WorkerCase):
    runtime = "nodejs"

    # Each of several calls does what its body says.
    MIXED = """
module.exports = (req, res) => {
  const [what, time] = req.body.split(' ')
  const later = (f) => setTimeout(f, Number(time || 0))
  switch (what) {
    case 'ok': return later(() => res.send('ok'))
    case 'throw': return later(() => { throw new Error('late throw') })
    case 'reject': return later(() => { Promise.reject(new Error('nobody looks')) })
    case 'float': (async () => { await null; throw new Error('floating') })(); return
    case 'twice': res.send('first'); return res.send('second')
    case 'twice-later': return later(() => { res.send('first'); res.send('second') })
    case 'twice-async': return (async () => { await null; res.send('first'); res.send('second') })()
    case 'never': return
    case 'write-late': res.end('ended'); return res.write('more')
    case 'emit': return later(() => new (require('events'))().emit('error', new Error('no listener')))
  }
}"""

    def test_unhandled_rejection_costs_its_call_alone(self):
        worker = self.ready(self.MIXED)
        others = [worker.begin(b"ok 500") for _ in range(3)]
        for what, words in ((b"reject 20", "Error: nobody looks"), (b"float", "Error: floating")):
            reply = worker.call(what)
            self.assertEqual((reply.status, reply.failure, reply.body.decode()), (500, True, words))
        for number in others:
            self.answers(worker, number, 200, b"ok")
        self.assertIn("nobody looks", worker.logged())

    def test_late_throw_costs_its_call_and_the_process(self):
        for what, words in ((b"throw 20", "Error: late throw"), (b"emit 20", "Error: no listener")):
            worker = self.ready(self.MIXED)
            other = worker.begin(b"never")
            reply = worker.call(what)
            self.assertEqual((reply.status, reply.failure, reply.body.decode()), (500, True, words))
            # Said before the caller was told, who may call again at once.
            self.assertEqual(worker.leaving, f"ended by an error that nothing caught: {words}")
            self.assertEqual(worker.exit_code(), 1)
            self.assertIsNone(worker.replies[other].end)
            self.assertIn("index.js", worker.logged())

    def test_throw_that_belongs_to_no_call_fails_all(self):
        worker = self.ready("""
const timer = setInterval(() => { if (require('fs').existsSync('go')) throw new Error('of nobody') }, 5)
module.exports = () => {}
""")
        numbers = [worker.begin(b"") for _ in range(3)]
        worker.ping()
        with open("/proc/%d/cwd/go" % worker.process, "w"):
            pass
        for number in numbers:
            reply = worker.wait(number)
            self.assertTrue(reply.failure)
            self.assertIn("outside of any call", reply.body.decode())
            self.assertIn("of nobody", reply.body.decode())
        self.assertEqual(worker.exit_code(), 1)

    def test_sending_twice(self):
        worker = self.ready(self.MIXED)
        for what in (b"twice", b"twice-later", b"twice-async"):
            other = worker.begin(b"ok 60")
            self.assertEqual(worker.call(what).body, b"first")
            self.answers(worker, other, 200, b"ok")
        worker.until_logged("Cannot set headers after they are sent to the client")
        self.assertEqual(worker.call(b"ok").body, b"ok")

    def test_writing_after_the_end(self):
        worker = self.ready(self.MIXED)
        self.assertEqual(worker.call(b"write-late").body, b"ended")
        worker.until_logged("write after end")
        self.assertEqual(worker.call(b"ok").body, b"ok")

    def test_late_throw_after_the_reply_began_breaks_it_off(self):
        worker = self.ready(handler("res.write('begun'); setTimeout(() => { throw new Error('middle') }, 20)"))
        reply = worker.call(b"")
        self.assertEqual((reply.end, reply.body, reply.error), (ERROR, b"begun", "Error: middle"))
        self.assertEqual(worker.exit_code(), 1)

    def test_what_an_error_carries_is_logged(self):
        worker = self.ready(handler("throw Object.assign(new Error('x'), { code: 'ECODE' })"))
        self.assertEqual(worker.call(b"").body, b"Error: x")
        worker.until_logged("ECODE")

    def test_cancel_is_seen_by_the_request(self):
        worker = self.ready(handler("""
          for (const event of ['aborted', 'close']) req.on(event, () => console.log('req ' + event))
          res.on('close', () => console.log('res close', res.destroyed))
          console.log('began')"""))
        number = worker.begin(b"")
        worker.until_logged("began")
        worker.cancel(number)
        # It looks at its caller and has promised nothing: it is taken to have stopped.
        self.assertEqual(worker.wait(number).end, ENDED)
        self.assertEqual(worker.logged().splitlines(), ["began", "req aborted", "req close", "res close true"])

    def test_cancel_waits_for_an_answer_of_a_function_that_does_not_look(self):
        worker = self.ready(self.MIXED)
        number = worker.begin(b"ok 700")
        worker.cancel(number)
        self.assertEqual(worker.call(b"ok").body, b"ok")
        self.assertIsNone(worker.replies[number].end)
        self.assertEqual(worker.wait(number).end, ENDED)

    def test_cancel_waits_for_the_promise(self):
        worker = self.ready("""
          module.exports = async (req, res) => {
            req.on('close', () => console.log('seen'))
            await new Promise((resolve) => setTimeout(resolve, 150))
            console.log('settled')
          }""")
        number = worker.begin(b"")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        self.assertIn("settled", worker.logged())

    def test_cancel_reaches_a_function_that_waits_for_drain(self):
        worker = self.ready("""
          const { once } = require('events')
          module.exports = async (req, res) => {
            for (let n = 0; n < 100; n++) if (!res.write('w'.repeat(50000))) await once(res, 'drain')
            res.end()
            console.log('through')
          }""")
        number = worker.begin(b"")
        worker.replies[number].hold = True
        worker.until(lambda: len(worker.replies[number].body) == driver.WINDOW_BYTES, "a full window")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("through")

    def test_cancel_of_a_pipeline_destroys_its_source(self):
        worker = self.ready(handler("""
          const { pipeline, Readable } = require('stream')
          const source = new Readable({ read () { this.push('z'.repeat(50000)) } })
          pipeline(source, res, (error) => console.log(error.code, source.destroyed))"""))
        number = worker.begin(b"")
        worker.until(lambda: len(worker.replies[number].body) > 500000, "a part of the stream")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)
        worker.until_logged("ERR_STREAM_PREMATURE_CLOSE true")

    def test_a_listener_that_throws_costs_the_process_but_no_frame(self):
        worker = self.ready("""
          module.exports = (req, res) => {
            if (req.body === 'ok') return res.send('ok')
            console.log('began')
            req.on('close', () => { throw new Error('listener') })
          }""")
        worker.begin(b"")
        worker.until_logged("began")
        payload = driver.with_head(driver.call_head(), b"ok")
        worker.replies[2] = driver.Reply()
        worker.going += driver.frame(driver.CANCEL, 0, 1, b"\1") + driver.frame(driver.CALL, driver.END, 2, payload)
        self.answers(worker, 2, 200, b"ok")
        self.assertEqual(worker.wait(1).end, ENDED)
        self.assertEqual(worker.exit_code(), 1)

    def test_ending_the_process_takes_no_finished_reply_along(self):
        worker = self.ready(handler("req.body === 'exit' ? process.exit(3) : res.send('kept')"))
        for number, body in ((1, b"x"), (2, b"exit")):
            worker.replies[number] = driver.Reply()
            payload = driver.with_head(driver.call_head(), body)
            worker.going += driver.frame(driver.CALL, driver.END, number, payload)
        self.answers(worker, 1, 200, b"kept")
        self.assertEqual(worker.exit_code(), 3)

    def test_errors_that_cannot_be_shown(self):
        worker = self.ready(handler("""
          console.error = () => { throw new Error('no console') }
          throw Object.defineProperty(new Error('x'), 'message', { get () { throw new Error('no message') } })"""))
        for _ in range(2):
            self.assertIn("cannot be shown", worker.call(b"").body.decode())

    def test_a_closed_socket_ends_the_worker(self):
        worker = self.ready(handler("require('fs').closeSync(3); res.send('x')"))
        worker.begin(b"")
        self.assertEqual(worker.exit_code(5), 70)

    def test_a_full_log_loses_nothing(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        text = "for (let n = 0; n < 20000; n++) console.log('line ' + String(n).padStart(6, '0'))\nprocess.exit(4)"
        worker = self.ready(handler(text), stdout=writer)
        os.close(writer)
        worker.begin(b"")
        data = b""
        while len(data) < 240000:
            self.assertTrue(select.select([reader], [], [], 10)[0], "the log stopped at %d" % len(data))
            data += os.read(reader, 65536)
        self.assertEqual(data.splitlines(), [b"line %06d" % n for n in range(20000)])
        self.assertEqual(worker.exit_code(5), 4)

    def test_a_cancelled_call_that_throws_late_ends(self):
        worker = self.ready(self.MIXED)
        number = worker.begin(b"reject 100")
        worker.cancel(number)
        self.assertEqual(worker.wait(number).end, ENDED)


class Loading(WorkerCase):
    runtime = "nodejs"

    PACKAGE = '{"name": "fn", "version": "1.0.0", "main": "%s"}'

    def test_ways_to_export(self):
        for text in (
            "module.exports = (q, s) => s.send('x')",
            "exports.default = (q, s) => s.send('x')",
            "exports.fn = function (q, s) { s.send('x') }",
            "module.exports = class { static default (q, s) { s.send('x') } }.default",
        ):
            with self.subTest(text):
                self.assertEqual(self.ready(text).call(b"").body, b"x")

    def test_main_and_modules(self):
        worker = self.ready({
            "package.json": self.PACKAGE % "lib/main.js",
            "lib/main.js": "const m = require('m'); const h = require('./helper'); module.exports = (q, s) => s.send(m + h)",
            "lib/helper.js": "module.exports = 'helper'",
            "node_modules/m/index.js": "module.exports = 'm '",
        })
        self.assertEqual(worker.call(b"").body, b"m helper")

    def test_refusals(self):
        self.assertIn('package.json names as "main"', self.refused({"package.json": self.PACKAGE % "gone.js"}))
        self.assertIn("no index.js", self.refused({"package.json": "{}"}))
        self.assertIn('"dependencies"', self.refused("require('leftpad')"))
        self.assertIn("./gone is missing (required by index.js)", self.refused("require('./gone')"))
        self.assertIn("exports object and no function", self.refused("exports.other = () => {}"))
        broken = self.refused("const a = 1\nconst a = 2\n")
        self.assertIn("index.js:2", broken)
        self.assertIn("const a = 2", broken)
        self.assertIn("package.json", self.refused({"package.json": "{", "index.js": ""}))

    MODULE = "export default (req, res) => { res.send('x') }"

    def package(self, **fields):
        return json.dumps({"name": "fn", **fields})

    def test_es_modules(self):
        files = {"m.js": self.MODULE}
        for more in (
            {"package.json": self.package(type="module", main="m.js")},
            {"package.json": self.package(type="module", main="./m")},
            {"package.json": self.package(type="module"), "index.js": self.MODULE},
            {"package.json": self.package(type="module"), "index.js": "export const fn = async (q, s) => s.send('x')"},
            {"package.json": self.package(type="module"), "index.js": "export function fn (q, s) { s.send('x') }"},
            {"package.json": self.package(type="module", exports="./m.js")},
            {"package.json": self.package(type="module", exports={".": {"require": "./no.cjs", "import": "./m.js"}}, main="no.js")},
            {"package.json": self.package(type="module", exports={"node": {"default": "./m.js"}})},
            {"package.json": self.package(type="module", main="lib"), "lib/index.js": self.MODULE},
            {"package.json": self.package(type="module", main="c.cjs"), "c.cjs": "module.exports = (q, s) => s.send('x')"},
            {"package.json": self.package(exports={"import": "./e.mjs"}), "e.mjs": self.MODULE},
            {"package.json": self.package(exports="./c.js"), "c.js": "exports.fn = (q, s) => s.send('x')"},
            {"package.json": self.package(main="e.mjs"), "e.mjs": self.MODULE},
            {"package.json": self.package(), "index.mjs": self.MODULE},
            {"index.mjs": self.MODULE},
            {"package.json": self.package(main="dist/i.js"), "dist/i.js": self.MODULE, "dist/package.json": '{"type": "module"}'},
        ):
            with self.subTest(str(more)):
                worker = self.ready({**files, **more})
                self.answers(worker, worker.begin(), 200, b"x")

    def test_commonjs_comes_first_where_it_did(self):
        for package in ({"exports": {"import": "./e.mjs"}}, {"main": "index.js", "exports": "./e.mjs"}, {}):
            with self.subTest(str(package)):
                files = {"package.json": self.package(**package), "e.mjs": "throw 1", "index.js": "module.exports = (q, s) => s.send('c')"}
                self.assertEqual(self.ready(files).call().body, b"c")

    def test_es_modules_import_and_wait(self):
        worker = self.ready({
            "package.json": self.package(type="module", main="index.js"),
            "index.js": "import { readFileSync } from 'node:fs'\nimport m, { n } from 'm'\nimport helper from './helper.js'\n"
                        "await new Promise((resolve) => setTimeout(resolve, 50))\n"
                        "const data = readFileSync('data', 'utf8')\n"
                        "export default (q, s) => s.send(m + n + helper + data + process.cwd().length)\n",
            "helper.js": "export default 'helper '",
            "data": "data ",
            "node_modules/m/package.json": self.package(type="module", exports="./m.js"),
            "node_modules/m/m.js": "export default 'm '; export const n = 'n '",
        })
        self.assertTrue(worker.call().body.startswith(b"m n helper data "))

    def test_errors_of_es_modules_are_told(self):
        worker = self.ready({
            "package.json": self.package(type="module"),
            "index.js": "export default (q, s) => {\n  throw new RangeError('no ' + q.body)\n}\n",
        })
        reply = worker.call(b"luck")
        self.assertEqual((reply.status, reply.failure, reply.body), (500, True, b"RangeError: no luck"))
        self.assertIn("index.js:2", worker.logged())

    def test_es_modules_that_do_not_load(self):
        def refused(code, **files):
            return self.refused({"package.json": self.package(type="module", main="index.js"), "index.js": code, **files})

        self.assertIn("exports no function, neither as its default nor as fn", refused("export default 1"))
        self.assertIn("exports no function", refused("export const other = () => {}"))
        self.assertIn('the package leftpad is missing (imported by index.js); name it in "dependencies"', refused("import 'leftpad'"))
        self.assertIn("the file gone.js is missing (imported by index.js)", refused("import './gone.js'"))
        hint = refused("import './lib'", **{"lib.js": ""})
        self.assertIn("the file lib is missing (imported by index.js); import takes whole names: lib.js", hint)
        broken = refused("const a = 1\nconst a = 2\n")
        self.assertIn("index.js:2", broken)
        self.assertIn("const a = 2", broken)
        self.assertIn("not defined in ES module scope", refused("module.exports = () => {}"))
        self.assertIn("not defined in ES module scope", refused("const fs = require('fs')"))
        self.assertIn("bad start", refused("await null; throw new Error('bad start')"))
        for package, words in (
            ({"type": "module", "main": "gone.js"}, 'names as "main" a file that is not there: gone.js'),
            ({"main": "gone.mjs"}, 'names as "main" a file that is not there: gone.mjs'),
            ({"exports": "./gone.js"}, 'names as "exports" a file that is not there: ./gone.js'),
            ({"type": "module", "exports": {"./sub": "./sub.js"}}, '"exports" of package.json names no file'),
            ({"type": "module", "main": 1}, '"main" of package.json names no file'),
            ({"type": "module"}, "no index.js"),
        ):
            with self.subTest(str(package)):
                self.assertIn(words, self.refused({"package.json": self.package(**package)}))

    def test_a_module_that_is_not_marked_as_one(self):
        for code in ("import 'fs'", self.MODULE):
            worker = self.start({"package.json": self.package(main="index.js"), "index.js": code})
            worker.until(lambda: worker.answer is not None, "an answer")
            kind, words = worker.answer
            # From Node 22.7 on it is found out.
            if kind == driver.FAILED and b"exports no function" not in words:
                self.assertIn(b'"type": "module"', words)

    def test_a_module_that_waits_for_ever_still_hears_the_server(self):
        worker = self.start({
            "package.json": self.package(type="module"),
            "index.js": "console.log('waits'); await new Promise(() => {})",
        })
        worker.until_logged("waits")
        worker.ping()
        worker.socket.close()
        worker.closed = True
        self.assertEqual(worker.exit_code(), 0)

    def test_a_throw_between_calls_ends_the_worker(self):
        worker = self.ready("setTimeout(() => { throw new Error('idle') }, 30); module.exports = () => {}")
        self.assertEqual(worker.exit_code(), 1)
        self.assertIn("idle", worker.logged())


if __name__ == "__main__":
    unittest.main()
