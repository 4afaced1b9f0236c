"""The commands against a server that has only the original's six calls.

The original itself needs Docker; what stands in for it here answers as it does,
byte by byte, and keeps what it was sent.
"""

import base64
import http.server
import io
import json
import threading
import unittest
import urllib.parse
import zipfile

from blackbox import folders
from blackbox.case import OwnServerCase
from blackbox.commandline import CommandLine


class Original:
    """Its management service: Go's 404 for paths that it does not know."""

    def __init__(self):
        self.functions = {}
        original = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, text="", kind="text/plain; charset=utf-8"):
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                if url.path == "/list":
                    self.answer(200, "".join(f"{name}\n" for name in original.functions))
                elif url.path == "/logs":
                    self.answer(200, f"function={query.get('name', 'all')} handler=1 text\n")
                else:
                    self.answer(404, "404 page not found\n")

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                fields = json.loads(body) if body else {}
                name = fields.get("name")
                if self.path in ("/upload", "/uploadURL"):
                    if fields.get("env") not in ("python3", "nodejs", "binary"):
                        self.answer(400)
                        return
                    original.functions[name] = fields
                    self.answer(200, f"coap://localhost:5683/{name}\nhttp://localhost:8000/{name}\n")
                elif self.path == "/delete":
                    known = original.functions.pop(name, None) is not None
                    self.answer(200 if known else 500)
                elif self.path == "/wipe":
                    original.functions.clear()
                    self.answer(200)
                else:
                    self.answer(404, "404 page not found\n")

            def do_PUT(self):
                self.answer(404, "404 page not found\n")

            do_DELETE = do_PUT

            def log_message(self, *_):
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """A client that closes its connection early is none."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.management = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class AnOriginal(CommandLine, OwnServerCase):
    def setUp(self):
        super().setUp()
        self.original = Original()
        self.addCleanup(self.original.close)

    @property
    def server(self):
        return self.original

    def test_a_folder_is_uploaded_as_it_understands_it(self):
        folder = self.folder({"fn.sh": folders.File("#!/bin/sh\ncat\n", 0o755), ".git/x": ""})
        done = self.tinyfaas("deploy", folder, "--name", "echo", "--var", "A=b", "--threads", 2)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, b"coap://localhost:5683/echo\nhttp://localhost:8000/echo\n")
        self.assertIn(b"older tinyFaaS", done.stderr)
        fields = self.original.functions["echo"]
        packed = zipfile.ZipFile(io.BytesIO(base64.b64decode(fields.pop("zip"), validate=True)))
        self.assertEqual(packed.namelist(), ["fn.sh"])
        self.assertEqual(fields, {"name": "echo", "env": "binary", "threads": 2, "envs": ["A=b"]})

    def test_what_it_must_be_told(self):
        folder = self.folder({"fn.sh": "", "tinyfaas.toml": 'environment = "binary"'})
        self.succeeds("deploy", folder, "--name", "echo")
        fields = self.original.functions["echo"]
        self.assertEqual((fields["env"], fields["threads"]), ("binary", 1))
        self.fails(2, "deploy", "--url", "http://x/y.zip", words=["--env"])
        self.succeeds("deploy", "--url", "http://x/y.zip", "--env", "binary")
        fields = self.original.functions["y"]
        self.assertEqual((fields["url"], fields["subfolder_path"]), ("http://x/y.zip", "/"))

    def test_the_other_calls(self):
        self.original.functions.update(one={}, two={}, three={})
        self.assertEqual(self.succeeds("list"), "NAME\none\ntwo\nthree\n")
        self.assertEqual(self.tells("list"), {"functions": [{"name": "one"}, {"name": "two"}, {"name": "three"}]})
        self.assertEqual(self.succeeds("logs", "one"), "function=one handler=1 text\n")
        self.assertEqual(self.succeeds("delete", "one"), "deleted one\n")
        self.fails(1, "delete", "nobody", words=["500"])
        self.assertEqual(self.tells("wipe", "--yes"), {"deleted": ["two", "three"]})
        self.assertEqual(self.original.functions, {})

    def test_what_it_does_not_offer_is_said(self):
        for arguments in (["status"], ["status", "x"], ["logs", "-f"], ["logs", "--tail", "1"], ["logs", "--json"]):
            with self.subTest(arguments=arguments):
                self.fails(1, *arguments, words=["older tinyFaaS"])


if __name__ == "__main__":
    unittest.main()
