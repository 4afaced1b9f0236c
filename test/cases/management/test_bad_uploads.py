"""Uploads that make no sense: each with its exact outcome."""

import base64
import json
import socket
import struct
import unittest

from blackbox import folders
from blackbox.bad_input import BadInput
from blackbox.case import OwnServerCase, need_environment
from blackbox.http import host_and_port, open_socket, read_all

ECHO = {"fn.sh": "#!/bin/sh\ncat\n"}
KNOWN = "; there are python3, nodejs, binary"
NO_OBJECT = 'the body is no JSON object; send something like {"name": "echo"}'
CUT_OFF = "the body is not JSON: it ends too early; is it cut off?"
TOO_DEEP = "the body's JSON is nested too deeply; lists and objects are not needed here"


class BadUploads(BadInput, OwnServerCase):
    settings = {"TF_START_TIMEOUT": "700ms", "TF_UPLOADS_MAX": "2"}

    def body(self, **fields):
        packed = base64.b64encode(folders.zip_of(ECHO)).decode()
        return json.dumps({"name": "bad", "env": "binary", "threads": 1, "zip": packed, **fields})

    def send(self, body, path="/upload"):
        return self.manage(path, body, "POST")

    def test_an_unknown_environment(self):
        for environment, shown in (
            ("cobol", '"cobol"'), ("", '""'), ("PYTHON3", '"PYTHON3"'), ("go", '"go"'), ("a\x1b[2J", '"a\\u{1b}[2J"'),
            ("x" * 100_000, f'"{"x" * 100}"…'),
        ):
            with self.subTest(environment=environment[:20]):
                answer = self.send(self.body(env=environment))
                self.refused_with(answer, 422, f"there is no environment {shown}{KNOWN}")
        self.refused_with(self.send(self.body(env=3)), 422, '"env" is a number; it must be a string')
        self.refused_with(self.send(self.body(env=None)), 422, "the function's environment is not given: send \"env\"")

    def test_names(self):
        holds = "the function's name holds {}; use only ASCII letters, digits, '-' and '_'"
        starts = "the function's name starts with {}; start it with a letter or a digit"
        long = "the function's name has {} characters; at most 63 are allowed"
        for name, sentence in (
            ("", "the function's name is empty; give it one of letters, digits, '-' and '_'"),
            ("-a", starts.format("'-'")), ("_a", starts.format("'_'")), ("a b", holds.format("' '")),
            ("a/b", holds.format("'/'")), ("../x", holds.format("'.'")), ("..", holds.format("'.'")),
            (".x", holds.format("'.'")), ("é", holds.format("'é'")), ("a\n", holds.format("'\\n'")),
            ("a\x00b", holds.format("'\\0'")), ("%41", holds.format("'%'")), ("😀", holds.format("'😀'")),
            ("a" * 64, long.format(64)), ("a" * 100_000, long.format(100_000)),
            (None, 'the body lacks "name": the function\'s name'), (3, '"name" is a number; it must be a string'),
            ([], '"name" is a list; it must be a string'), ({}, '"name" is an object; it must be a string'),
        ):
            with self.subTest(name=str(name)[:20]):
                self.refused_with(self.send(self.body(name=name)), 422, sentence)
                if name is not None:
                    self.refused_with(self.send(json.dumps({"name": name}), "/delete"), 422, sentence)

    def test_threads(self):
        for threads, found in (
            (0, "0"), (-1, "-1"), (10**9, "1000000000"), ("2", "a string"), (1.5, "1.5"), (257, "257"),
            (10**40, "1e+40"), (True, "a truth value"), ([], "a list"),
        ):
            with self.subTest(threads=threads):
                sentence = f'"threads" is {found}; it must be a whole number from 1 to 256'
                self.refused_with(self.send(self.body(threads=threads)), 422, sentence)

    def test_a_missing_function(self):
        for environment, needed in (
            ("python3", "fn.py"), ("binary", "fn.sh"), ("nodejs", "package.json or index.js or index.mjs"),
        ):
            with self.subTest(environment=environment):
                need_environment(self, environment)
                needs = f"a {environment} function needs {needed} at the top of its folder, but it holds "
                self.refused_upload(422, needs + "readme.txt", environment, {"readme.txt": "nothing here"})
        wrapped = "but it holds echo/; the function lies in echo/: upload what is in that folder"
        self.refused_upload(422, wrapped, "python3", {"echo/fn.py": "def fn(input, headers): return input\n"})

    def test_a_missing_node_module(self):
        need_environment(self, "nodejs")
        self.refused_upload(
            422, 'package.json names as "main" a file that is not there, and there is no index.js beside it',
            "nodejs", {"package.json": '{"name": "fn", "main": "nope.js"}'},
        )
        self.refused_upload(
            422, 'the package nope is missing (required by index.js); name it in "dependencies" of package.json',
            "nodejs", folders.node_module("require('nope')\nmodule.exports = (q, r) => r.send('x')\n"),
        )
        self.refused_upload(
            422, "package.json is not JSON, or it is cut off: ", "nodejs", {"package.json": '{"name": "fn"', "index.js": ""},
        )
        self.refused_upload(
            422, "the function's module exports object and no function; write module.exports =",
            "nodejs", folders.node_module("1\n"),
        )

    def test_a_missing_python_module(self):
        answer = self.refused_upload(
            422, "ModuleNotFoundError: No module named 'nope'", "python3",
            {"fn.py": "import nope\ndef fn(input, headers): return input\n"},
        )
        self.assertIn("If nope is a package, name it in requirements.txt.", answer.text)
        self.refused_upload(422, "fn.py defines no fn; define fn(input, headers) in it", "python3", {"fn.py": "x = 1\n"})

    def test_a_syntax_error_in_python(self):
        answer = self.refused_upload(422, "SyntaxError: ", "python3", {"fn.py": "x = 1\ndef fn(:\n"})
        self.assertRegex(answer.text, r'fn\.py", line 2')

    def test_a_syntax_error_in_node(self):
        need_environment(self, "nodejs")
        answer = self.refused_upload(
            422, "SyntaxError: ", "nodejs", folders.node_module("let x = 1\nmodule.exports = (q, r) => {;\nlet x = ]\n"),
        )
        self.assertIn("index.js:3", answer.text)

    def test_a_syntax_error_in_a_script(self):
        """A shell reads a script as it runs it, so the call tells, and the log where."""
        name = self.script("#!/bin/sh\nif then\n")
        answer = self.call(name, "x")
        self.refused_with(answer, 500, "fn.sh exited with code 2", "is in the function's log")
        self.wait_for_log(name, "yntax error")
        self.assertRegex(self.logs(name), r"fn\.sh: (line )?2: ")

    def test_an_interpreter_that_is_not_there(self):
        sentence = "the first line of fn.sh asks for /no/such/interpreter, which this machine cannot execute"
        self.refused_upload(422, sentence, "binary", {"fn.sh": "#!/no/such/interpreter\n"})

    def test_an_import_that_sleeps_for_ever(self):
        sentence = "the function was not ready after 700ms; where it needs longer, set start_timeout in its tinyfaas.toml\n"
        slow = "import time\nprint('reading the model')\ntime.sleep(1e6)\n"
        code = {"slow.py": slow, "fn.py": "import slow\ndef fn(input, headers): return input\n"}
        self.refused_upload(422, sentence + "reading the model\n", "python3", code)

    def test_a_module_that_never_ends_loading(self):
        need_environment(self, "nodejs")
        sentence = "the function was not ready after 700ms; where it needs longer, set start_timeout in its tinyfaas.toml\n"
        self.refused_upload(422, sentence + "reading\n", "nodejs", folders.node_module("console.log('reading')\nfor (;;);\n"))

    def test_json_that_is_broken(self):
        for body, sentence in (
            ("", "the body is empty; send a JSON object"), ("  \n", "the body is empty"),
            ("{", CUT_OFF), ('{"name":"x"', CUT_OFF), ('{"name":"x', CUT_OFF), ('{"name":', CUT_OFF),
            ("[]", NO_OBJECT), ("null", NO_OBJECT), ('"x"', NO_OBJECT), ("3", NO_OBJECT), ("name=x&env=binary", NO_OBJECT),
            (b"\xff\xfe", NO_OBJECT), ("<upload/>", NO_OBJECT),
            ('{"name":"x",}', "the body is not JSON: trailing comma"),
            ("{'name':'x'}", "the body is not JSON: key must be a string"),
            ('{"name":"x"}}', "the body is not JSON: trailing characters"),
            (b'{"name":"\xff"}', "the body is not JSON: invalid unicode code point"),
        ):
            for path in ("/upload", "/uploadURL", "/delete"):
                with self.subTest(body=body, path=path):
                    self.refused_with(self.send(body, path), 400, sentence)
        self.refused_with(
            self.send('{"name":"x","zip":"UEsDBA'), 400, 'the body is not JSON: it ends within the value of "zip"'
        )
        self.refused_with(self.send('{"zip":"","ZIP":""}'), 400, 'the body holds the key "zip" twice; send one')

    def test_json_that_is_huge(self):
        sentence = "larger than the 1048576 bytes that are allowed"
        before = self.server.memory_peak()
        for body in (
            '{"name":"' + "x" * 20_000_000 + '"}', '{"other":[' + "1," * 10_000_000 + "1]}",
            "{" + '"k":1,' * 4_000_000 + '"k":1}', " " * 20_000_000,
        ):
            for path in ("/upload", "/uploadURL", "/delete"):
                with self.subTest(body=body[:20], path=path):
                    self.refused_with(self.send(body, path), 413, sentence)
        self.assertLess(self.server.memory_peak() - before, 24 << 20)

    def test_json_that_is_deep(self):
        for body, status, sentence in (
            ("[" * 500_000, 400, NO_OBJECT), ('{"a":' * 200_000, 400, CUT_OFF),
            ('{"name":' + "[" * 400_000 + "]" * 400_000 + "}", 400, TOO_DEEP),
            ('{"name":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}", 400, TOO_DEEP),
            # What is not known is passed over, however deep.
            ('{"other":' + "[" * 400_000 + "]" * 400_000 + "}", 422, 'the body lacks "name"'),
        ):
            for path in ("/uploadURL", "/delete", "/upload"):
                with self.subTest(body=body[:20], path=path):
                    self.refused_with(self.send(body, path), status, sentence if status == 400 else "the body lacks")

    def test_what_is_no_base64(self):
        for text, why in (
            ("####", "it holds the character '#'"), ("A", "it is cut off: its length is not a multiple of four"),
            ("QUJD=QUJD", "it goes on behind its padding"), ("ÄÖÜ=", "it holds a character that is not ASCII"),
            ("UEsD-_==", "it is the variant for URLs"),
        ):
            with self.subTest(text=text):
                sentence = f'the value of "zip" is not base64: {why}; send standard base64 of a zip archive' \
                    if not why.endswith("URLs") else f'the value of "zip" is not base64: {why}'
                self.refused_with(self.send(self.body(zip=text)), 400, sentence)
        self.refused_with(self.send(self.body(zip=3)), 422, '"zip" is a number; it must be a string')
        self.refused_with(self.send(self.body(zip=None)), 422, 'the body lacks "zip": standard base64 of a zip archive')

    def test_envs(self):
        wanted = 'it must be a list of strings "KEY=VALUE"'
        for envs, sentence in (
            ("A=B", '"envs" is a string; ' + wanted), ([1], '"envs" is a list of other things; ' + wanted),
            ({"A": "B"}, '"envs" is an object; ' + wanted),
            (["A=\x00"], 'the environment variable "A" holds a zero byte, which no program can be given'),
            (["A=" + "x" * 131_070], 'the environment variable "A" is longer than the 131071 bytes'),
        ):
            with self.subTest(envs=str(envs)[:20]):
                self.refused_with(self.send(self.body(envs=envs)), 422, sentence)

    def cut(self, path):
        """A request whose client sends a third of what it has announced."""
        host, port = host_and_port(self.server.management)
        connection = open_socket(self.server.management)
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 900000\r\n\r\n".encode()
            + b'{"name":"cut","env":"binary","threads":1,"zip":"' + b"A" * 300_000
        )
        return connection

    def test_a_body_cut_off(self):
        # Three times as often as there are places for uploads: each is given back.
        for path in ("/upload", "/uploadURL", "/delete") * 2:
            with self.subTest(path=path):
                with self.cut(path) as connection:
                    connection.shutdown(socket.SHUT_WR)
                    said = read_all(connection)
                self.assertRegex(said, rb"^HTTP/1.1 400 ")
                self.assertIn(b"the body broke off: fewer bytes came than were announced; send it again", said)

    def test_a_client_that_goes_away(self):
        for path in ("/upload", "/uploadURL", "/delete") * 2:
            with self.cut(path):
                pass
            with self.cut(path) as connection:
                # Not closed but reset.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answer = self.eventually(lambda: self.send("{}"), lambda answer: answer.status != 503, "a place for an upload")
        self.refused_with(answer, 422, 'the body lacks "name"')


if __name__ == "__main__":
    unittest.main()
