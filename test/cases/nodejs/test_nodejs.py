"""nodejs: what a function gets, what it may answer, how it fails."""

import json
import os
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox import folders
from blackbox.case import Case, need_environment, new_name


class Node(Case):
    def setUp(self):
        super().setUp()
        need_environment(self, "nodejs")

    def test_the_request(self):
        name = self.node(
            "module.exports = (req, res) => res.json({body: req.body, raw: req.rawBody.length,"
            " buffer: Buffer.isBuffer(req.rawBody), method: req.method, path: req.path, query: req.query, lab: req.headers.lab})"
        )
        answer = self.call(f"{name}/sub/path?a=1&b=x%20y&b=z", "hé", "PUT", {"Lab": "edge"})
        self.assertEqual(json.loads(answer.text), {
            "body": "hé", "raw": 3, "buffer": True, "method": "PUT", "path": "/sub/path",
            "query": {"a": "1", "b": ["x y", "z"]}, "lab": "edge",
        })
        shown = json.loads(self.call(name).text)
        self.assertEqual((shown["body"], shown["raw"], shown["path"], shown["query"]), ("", 0, "/", {}))

    def test_send(self):
        name = self.node(
            "module.exports = (req, res) => {"
            " if (req.body === 'object') return res.send({a: [1, null]});"
            " if (req.body === 'buffer') return res.send(Buffer.from([0, 255, 128]));"
            " if (req.body === 'nothing') return res.send();"
            " res.send('text') }"
        )
        answer = self.call(name, "object")
        self.assertEqual(json.loads(answer.text), {"a": [1, None]})
        self.assertTrue(answer.header("Content-Type").startswith("application/json"))
        answer = self.call(name, "buffer")
        self.assertEqual(answer.body, bytes([0, 255, 128]))
        self.assertEqual(answer.header("Content-Type"), "application/octet-stream")
        self.answers(name, "", "nothing")
        answer = self.answers(name, "text", "x")
        self.assertRegex(answer.header("Content-Type").lower(), r"^text/(html|plain); charset=utf-8$")

    def test_the_answers_of_express(self):
        name = self.node(
            "module.exports = (req, res) => {"
            " switch (req.path) {"
            "  case '/status': return res.status(418).send('teapot');"
            "  case '/set': res.set('X-One', 'a'); res.set({'X-Two': 'b', 'X-Many': ['c', 'd']}); return res.end('set');"
            "  case '/json': return res.status(201).json([1, 'é']);"
            "  case '/end': return res.end();"
            "  case '/type': return res.type('json').send('{}');"
            "  case '/write': res.write('a'); res.write(Buffer.from('b')); return res.end('c');"
            "  case '/sendstatus': return res.sendStatus ? res.sendStatus(404) : res.status(404).send('Not Found');"
            " } }"
        )
        self.assertEqual((self.call(f"{name}/status").status, self.call(f"{name}/status").text), (418, "teapot"))
        answer = self.answers(f"{name}/set", "set")
        self.assertEqual((answer.header("X-One"), answer.header("X-Two"), answer.all("X-Many")), ("a", "b", ["c", "d"]))
        answer = self.call(f"{name}/json")
        self.assertEqual((answer.status, json.loads(answer.text)), (201, [1, "é"]))
        self.assertTrue(answer.header("Content-Type").startswith("application/json"))
        self.answers(f"{name}/end", "")
        self.assertTrue(self.call(f"{name}/type").header("Content-Type").startswith("application/json"))
        self.answers(f"{name}/write", "abc")
        self.assertEqual(self.call(f"{name}/sendstatus").status, 404)

    def test_write_streams(self):
        import http.client
        from blackbox.http import host_and_port

        name = self.node("module.exports = (req, res) => { res.write('first\\n'); setTimeout(() => res.end('second\\n'), 1000) }")
        connection = http.client.HTTPConnection(*host_and_port(self.server.http), timeout=30)
        self.addCleanup(connection.close)
        began = time.monotonic()
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        self.assertEqual(answer.readline(), b"first\n")
        self.assertLess(time.monotonic() - began, 0.9)
        self.assertEqual(answer.read(), b"second\n")

    def test_asynchronous_functions(self):
        name = self.node(
            "module.exports = async (req, res) => { await new Promise(r => setTimeout(r, 20));"
            " if (req.body === 'throw') throw new Error('after a while'); res.send('done') }"
        )
        self.answers(name, "done", "x")
        answer = self.call(name, "throw")
        self.assertEqual(answer.status, 500)
        self.assertIn("after a while", answer.text)

    def test_a_throw_is_told_and_logged(self):
        name = self.node("module.exports = (req, res) => { throw new Error('no ' + req.body) }")
        answer = self.call(name, "luck")
        self.assertEqual(answer.status, 500)
        self.assertIn("no luck", answer.text)
        self.assertIn("index.js", self.wait_for_log(name, "no luck"))

    def test_late_errors_cost_a_call_or_a_handler_but_not_the_function(self):
        name = self.node(
            "module.exports = (req, res) => {"
            " if (req.body === 'late') return void setTimeout(() => { throw new Error('late throw') }, 10);"
            " if (req.body === 'reject') return void Promise.reject(new Error('nobody caught me'));"
            " if (req.body === 'after') { res.send('sent'); setTimeout(() => { throw new Error('after the reply') }, 10); return }"
            " res.send('fine') }"
        )
        for body, words in (("late", "late throw"), ("reject", "nobody caught me")):
            with self.subTest(body=body):
                self.assertGreaterEqual(self.call(name, body).status, 500)
                self.wait_for_log(name, words)
                self.eventually(lambda: self.call(name, "x").text, lambda text: text == "fine", "answering again")
        self.answers(name, "sent", "after")
        self.wait_for_log(name, "after the reply")
        self.eventually(lambda: self.call(name, "x").text, lambda text: text == "fine", "answering again")

    def test_bodies_beyond_100_kb(self):
        name = self.node("module.exports = (req, res) => res.send(req.rawBody)")
        body = os.urandom(2_000_000)
        self.assertEqual(self.call(name, body).body, body)

    def test_concurrent_calls_in_one_handler(self):
        name = self.node("module.exports = (req, res) => setTimeout(() => res.send(req.body), 500)", threads=1)
        began = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            self.assertEqual(list(pool.map(lambda n: self.call(name, str(n)).text, range(10))), [str(n) for n in range(10)])
        self.assertLess(time.monotonic() - began, 3)

    def test_the_working_directory_and_other_files(self):
        entries = {
            **folders.node_module("const fs = require('fs'); const x = require('./lib/x'); module.exports = (q, r) => r.send(fs.readFileSync('data', 'utf8') + x + (process.cwd() === __dirname))"),
            "lib/x.js": "module.exports = 'required '", "data": "read ",
        }
        self.answers(self.deploy("nodejs", entries), "read required true")

    def test_console_log_goes_to_the_log(self):
        name = self.node("module.exports = (q, r) => { console.log('to the', 'log'); console.error('and this'); r.send('') }")
        self.answers(name, "")
        self.wait_for_log(name, "to the log")
        self.wait_for_log(name, "and this")

    def test_a_main_of_another_name(self):
        name = self.deploy("nodejs", {"package.json": '{"name": "fn", "main": "src/app.js"}', "src/app.js": "module.exports = (q, r) => r.send('app')"})
        self.answers(name, "app")

    def test_es_modules(self):
        package = '{"name": "fn", "type": "module", "exports": "./app.js"}'
        code = "import { word } from './word.js'\nexport default async (req, res) => res.send(word + req.body)\n"
        name = self.deploy("nodejs", {"package.json": package, "app.js": code, "word.js": "export const word = 'module '"})
        self.answers(name, "module x", "x")
        name = self.deploy("nodejs", {"index.mjs": "export function fn (req, res) { res.status(201).send('mjs') }"})
        self.assertEqual((self.call(name).status, self.call(name).text), (201, "mjs"))

    def test_es_modules_that_do_not_load_are_told(self):
        for code, words in (
            ("import 'no-such-module-anywhere'", ["no-such-module-anywhere", "dependencies"]),
            ("const a = 1\nconst a = 2", ["index.js:2", "const a = 2"]),
            ("export default 5", ["exports no function"]),
            ("throw new Error('my words')", ["my words"]),
        ):
            with self.subTest(code=code):
                name = new_name("broken")
                self.refused(self.upload(name, "nodejs", folders.node_module(code, type="module")), 422, *words)
                self.assertNotIn(name, self.names())

    def test_what_does_not_load_is_told(self):
        for entries, words in (
            (folders.node_module("module.exports = ((("), ["index.js"]),
            (folders.node_module("require('no-such-module-anywhere')"), ["no-such-module-anywhere"]),
            (folders.node_module("throw new Error('my words')"), ["my words"]),
            (folders.node_module("module.exports = 5"), ["function"]),
            (folders.node_module("process.exit(3)"), []),
            ({"package.json": "{", "index.js": ""}, ["package.json"]),
        ):
            with self.subTest(entries=entries):
                name = new_name("broken")
                self.refused(self.upload(name, "nodejs", entries), 422, *words)
                self.assertNotIn(name, self.names())


if __name__ == "__main__":
    unittest.main()
