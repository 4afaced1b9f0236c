"""python3: what a function gets, what it may answer, how it fails."""

import json
import os
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.case import Case

ECHO = "def fn(input, headers):\n    return input\n"


class Python(Case):
    def test_input_is_text_or_none(self):
        name = self.python("def fn(input, headers):\n    return repr(input)\n")
        self.answers(name, "None")
        self.answers(name, "None", "")
        self.answers(name, "'x'", "x")

    def test_older_functions_take_the_input_alone(self):
        self.answers(self.python("def fn(input):\n    return input\n"), "x", "x")
        self.answers(self.python("def fn(input, headers=None):\n    return headers['Lab']\n"), "edge", "", headers={"lab": "edge"})
        self.answers(self.python("def fn(*args):\n    return str(len(args))\n"), "2", "")
        self.answers(self.python("class Fn:\n    def __call__(self, input, headers):\n        return 'object'\nfn = Fn()\n"), "object")

    def test_none_is_an_empty_reply(self):
        self.answers(self.python("def fn(input, headers):\n    return None\n"), "")

    def test_bytes_that_are_no_text_come_back_unchanged(self):
        name = self.python(ECHO)
        body = bytes(range(256)) * 3
        answer = self.call(name, body)
        self.assertEqual((answer.status, answer.body), (200, body))

    def test_a_reply_of_bytes(self):
        answer = self.call(self.python("def fn(input, headers):\n    return bytes(range(256))\n"))
        self.assertEqual((answer.status, answer.body), (200, bytes(range(256))))
        self.assertEqual(answer.header("Content-Type"), "application/octet-stream")

    def test_a_reply_with_status_and_headers(self):
        name = self.python(
            "def fn(input, headers):\n"
            "    if input == 'two': return 'made', 201\n"
            "    return b'{}', 202, {'Content-Type': 'application/json', 'X-Many': ['a', 'b']}\n"
        )
        answer = self.call(name, "two")
        self.assertEqual((answer.status, answer.text), (201, "made"))
        answer = self.call(name, "three")
        self.assertEqual((answer.status, answer.text), (202, "{}"))
        self.assertEqual(answer.header("Content-Type"), "application/json")
        self.assertEqual(answer.all("X-Many"), ["a", "b"])

    def test_an_iterator_is_streamed(self):
        import http.client
        from blackbox.http import host_and_port

        name = self.python(
            "import time\ndef fn(input, headers):\n    yield 'first\\n'\n    time.sleep(1)\n    yield b'second\\n'\n"
        )
        began = time.monotonic()
        connection = http.client.HTTPConnection(*host_and_port(self.server.http), timeout=30)
        self.addCleanup(connection.close)
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        self.assertEqual(answer.readline(), b"first\n")
        self.assertLess(time.monotonic() - began, 0.9)
        self.assertEqual(answer.read(), b"second\n")
        self.assertGreater(time.monotonic() - began, 0.9)

    def test_a_stream_to_its_end(self):
        name = self.python("def fn(input, headers):\n    for n in range(1000):\n        yield str(n) + '\\n'\n")
        self.answers(name, "".join(f"{n}\n" for n in range(1000)))

    def test_headers_reach_it_in_title_case(self):
        name = self.python("import json\ndef fn(input, headers):\n    return json.dumps(headers)\n")
        shown = json.loads(self.call(name, "x", headers=[("lab", "edge"), ("USER-AGENT", "s"), ("x-two", "1"), ("x-two", "2")]).text)
        self.assertEqual((shown["Lab"], shown["User-Agent"], shown["X-Two"]), ("edge", "s", "1, 2"))

    def test_files_beside_it_are_in_the_working_directory(self):
        name = self.deploy("python3", {
            "fn.py": "import helper, os\ndef fn(input, headers):\n    return open('data.txt').read() + helper.name + str(os.path.samefile('.', os.path.dirname(__file__)))\n",
            "helper.py": "name = 'imported '\n",
            "data.txt": "read ",
        })
        self.answers(name, "read imported True")

    def test_modules_of_the_function_may_be_called_anything(self):
        """The worker's own modules must not be in the way of the function's."""
        name = self.deploy("python3", {
            "fn.py": "import worker, wire, frames\ndef fn(input, headers):\n    return worker.x + wire.x + frames.x\n",
            "worker.py": "x = 'a'\n", "wire.py": "x = 'b'\n", "frames.py": "x = 'c'\n",
        })
        self.answers(name, "abc")

    def test_each_handler_has_a_folder_of_its_own(self):
        name = self.python("import os, time\ndef fn(input, headers):\n    time.sleep(0.2)\n    return os.getcwd()\n", threads=3)
        with ThreadPoolExecutor(12) as pool:
            folders = set(pool.map(lambda _: self.call(name).text, range(12)))
        self.assertGreater(len(folders), 1)
        for folder in folders:
            self.assertTrue(os.path.isdir(folder))
        self.manage("/delete", {"name": name})
        for folder in folders:
            self.assertFalse(os.path.exists(folder))

    def test_the_environment_is_clean(self):
        name = self.python("import json, os\ndef fn(input, headers):\n    return json.dumps(dict(os.environ))\n", envs=["LAB=edge"])
        shown = json.loads(self.call(name).text)
        self.assertEqual(shown["LAB"], "edge")
        self.assertLessEqual({"PATH", "HOME"}, set(shown))
        foreign = {key for key in shown if key.startswith("TF_") or key.endswith("_PORT") or key in ("USER", "LOGNAME", "CI")}
        self.assertEqual(foreign, set())

    def test_print_goes_to_the_log_at_once(self):
        name = self.python(
            "import sys, time\nprint('loaded')\n"
            "def fn(input, headers):\n    print('out', end='')\n    print('put')\n    print('err', file=sys.stderr)\n"
            "    if input: time.sleep(600)\n"
        )
        self.answers(name, "")
        log = self.wait_for_log(name, "err")
        self.assertRegex(log, r"(?m) loaded$")
        self.assertRegex(log, r"(?m) output$")
        self.assertRegex(log, r"(?m) err$")

    def test_an_exception_is_told_and_logged(self):
        name = self.python("def fn(input, headers):\n    raise ValueError('no ' + input)\n")
        answer = self.call(name, "luck")
        self.assertEqual(answer.status, 500)
        self.assertIn("no luck", answer.text)
        log = self.wait_for_log(name, "ValueError: no luck")
        self.assertIn("Traceback", log)
        self.assertIn("fn.py", log)
        self.assertEqual(self.call(name, "end").status, 500)

    def test_exits_and_wrong_types_are_clear_failures(self):
        name = self.python(
            "import os, sys\n"
            "class Odd(BaseException): pass\n"
            "def fn(input, headers):\n"
            "    if input == 'ok': return 'ok'\n"
            "    if input == 'exit': sys.exit(3)\n"
            "    if input == 'base': raise Odd('odd one')\n"
            "    if input == 'interrupt': raise KeyboardInterrupt\n"
            "    return {'number': 5, 'dict': {}, 'status': ('x', 'y'), 'low': ('x', 99), 'tuple': (), 'header': ('x', 200, {'a\\n': 'b'}), 'split': ('x', 200, {'a': 'b\\r\\nc: d'})}[input]\n"
        )
        for body in ("exit", "base", "interrupt", "number", "dict", "status", "low", "tuple", "header", "split"):
            with self.subTest(body=body):
                answer = self.call(name, body)
                self.assertEqual(answer.status, 500, answer.text)
                self.assertTrue(answer.text.strip())
                self.assertIsNone(answer.header("c"))
        self.answers(name, "ok", "ok")

    def test_what_does_not_load_is_told(self):
        from blackbox.case import new_name

        for code, words in (
            ("def fn(:\n", ["SyntaxError", "fn.py"]),
            ("import no_such_module_anywhere\n", ["no_such_module_anywhere"]),
            ("raise RuntimeError('my words')\n", ["my words"]),
            ("x = 1\n", ["fn"]),
            ("fn = 5\n", ["fn"]),
            ("import os; print('before the end', flush=True); os._exit(9)\n", ["before the end"]),
            ("import sys; sys.exit('leaving')\n", ["leaving"]),
        ):
            with self.subTest(code=code):
                name = new_name("broken")
                self.refused(self.upload(name, "python3", {"fn.py": code}), 422, *words)
                self.assertNotIn(name, self.names())

    def test_ten_callers_of_a_sleeper_wait_about_a_second(self):
        name = self.python("import time\ndef fn(input, headers):\n    time.sleep(1)\n    return 'slept'\n", threads=1)
        began = time.monotonic()
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: self.call(name, "x").text, range(10)))
        self.assertEqual(answers, ["slept"] * 10)
        self.assertLess(time.monotonic() - began, 3)

    def test_concurrent_answers_find_their_callers(self):
        name = self.python("import time, random\ndef fn(input, headers):\n    time.sleep(random.random() / 50)\n    return input\n", threads=2)
        with ThreadPoolExecutor(16) as pool:
            bodies = [f"body {n} " * (n % 50 + 1) for n in range(400)]
            self.assertEqual(list(pool.map(lambda body: self.call(name, body).text, bodies)), bodies)

    def test_the_context(self):
        name = self.python(
            "def fn(input, headers, context):\n"
            "    assert 0 < context.remaining() <= 300\n"
            "    return repr((context.method, context.path, context.query, context.body, len(context.call_id)))\n"
        )
        answer = self.call(name + "/a/b?c=d", b"\xff", method="PUT")
        self.assertEqual(answer.text, repr(("PUT", "/a/b", "c=d", b"\xff", 32)))

    def test_coroutines_run_side_by_side(self):
        name = self.python("import asyncio\nasync def fn(input, headers):\n    await asyncio.sleep(1)\n    return input\n")
        began = time.monotonic()
        with ThreadPoolExecutor(30) as pool:
            self.assertEqual(list(pool.map(lambda n: self.call(name, str(n)).text, range(30))), [str(n) for n in range(30)])
        self.assertLess(time.monotonic() - began, 8)

    def test_an_async_generator_is_streamed_and_a_caller_who_leaves_cancels_it(self):
        import http.client
        from blackbox.http import host_and_port

        name = self.python(
            "import asyncio\n"
            "async def fn(input, headers):\n"
            "    try:\n"
            "        yield 'first\\n'\n"
            "        await asyncio.sleep(60)\n"
            "    except asyncio.CancelledError:\n"
            "        print('told to stop')\n"
            "        raise\n"
        )
        host, port = host_and_port(self.server.http)
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("GET", "/" + name)
        response = connection.getresponse()
        self.assertEqual(response.readline(), b"first\n")
        response.close()
        connection.close()
        self.wait_for_log(name, "told to stop")

    def test_large_bodies_both_ways(self):
        name = self.python(ECHO)
        body = os.urandom(3_000_000)
        answer = self.call(name, body)
        self.assertEqual((answer.status, len(answer.body)), (200, len(body)))
        self.assertEqual(answer.body, body)


if __name__ == "__main__":
    unittest.main()
