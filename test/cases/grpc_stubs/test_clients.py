"""Programs as users write them, with the committed stubs: examples/grpc-go and
examples/grpc-python, the latter by the oldest libraries that the stubs promise and
by the newest."""

import json
import subprocess
import sys
import unittest

from blackbox.case import OwnServerCase, need_tool
from blackbox.certificates import Authority
from blackbox.go_tools import lacking
from blackbox.server import REPOSITORY, clean_environment
from blackbox.stubs import OLDEST, need_libraries, need_oldest

GO = REPOSITORY / "scripts" / "make" / "go.sh"
GO_CLIENT = REPOSITORY / "examples" / "grpc-go"
PYTHON_CLIENT = REPOSITORY / "examples" / "grpc-python" / "call.py"
BUILT = REPOSITORY / ".tools" / "go" / "client"
BUILD_MAX_S = 300
CALL_MAX_S = 60

ALL_BYTES = bytes(range(256))
# Replies with its input, with a status and a header of its own.
TELLS = """
def fn(input, headers, context):
    return context.body, 201, {"Seen": headers.get("Lab", "nothing")}
"""


def go(*arguments):
    return subprocess.run(
        ["sh", str(GO), *arguments], cwd=GO_CLIENT, stdin=subprocess.DEVNULL,
        capture_output=True, timeout=BUILD_MAX_S, check=False,
    )


class Calls:
    """What each client is tried with."""

    program = ()
    settings = {"GRPC_PORT": "0"}

    def setUp(self):
        self.ready()
        super().setUp()

    def run_client(self, how, function, data=b"", *more, fails=False):
        ports = self.server.ports
        address = f"127.0.0.1:{ports.get('grpc') or ports['grpc_tls']}"
        command = [*self.program, f"--address={address}", f"--how={how}", *more, function]
        done = subprocess.run(
            command, input=data, capture_output=True, env=clean_environment(),
            timeout=CALL_MAX_S, check=False,
        )
        told = done.stderr.decode(errors="replace")
        self.assertEqual(done.returncode, 1 if fails else 0, told)
        return done.stdout, told

    def test_text(self):
        name = self.deploy("python3", "echo")
        self.assertEqual(self.run_client("text", name, "grüß\n".encode())[0], "grüß\n".encode())
        self.assertEqual(self.run_client("text", name)[0], b"")

    def test_metadata_are_headers(self):
        python = self.deploy("python3", "show-headers")
        node = self.deploy("nodejs", "show-headers-js")
        seen = self.run_client("text", python, b"", "--header=Lab: 42")[0]
        self.assertEqual(json.loads(seen).get("Lab"), "42")
        seen = self.run_client("text", node, b"", "--header=Lab: 42")[0]
        self.assertEqual(json.loads(seen).get("lab"), "42")

    def test_bytes_status_and_headers(self):
        name = self.python(TELLS)
        body, told = self.run_client("bytes", name, ALL_BYTES, "--header=Lab: 42")
        self.assertEqual(body, ALL_BYTES)
        self.assertIn("status: 201\n", told)
        self.assertIn("header: seen: 42\n", told)

    def test_a_stream(self):
        name = self.python(TELLS)
        body, told = self.run_client("stream", name, ALL_BYTES * 1000)
        self.assertEqual(body, ALL_BYTES * 1000)
        self.assertEqual(told.count("status: 201\n"), 1, told)
        self.assertIn("header: seen: nothing\n", told)

    def test_an_asynchronous_call(self):
        name = self.python("import time\n" + TELLS.replace("return", "time.sleep(0.5); return"))
        body, told = self.run_client("async", name, ALL_BYTES)
        self.assertEqual(body, ALL_BYTES)
        self.assertRegex(told, r"accepted: [0-9a-f]{32}\n")
        self.assertIn("status: 201\n", told)

    def test_a_function_that_does_not_exist(self):
        for how in ("text", "bytes", "stream", "async"):
            with self.subTest(how):
                told = self.run_client(how, "no-such-function", b"x", fails=True)[1]
                self.assertRegex(told.replace("_", "").lower(), "^notfound: .*no-such-function")

    def test_over_tls(self):
        need_tool(self, "openssl")
        authority, another = Authority(self.folder()), Authority(self.folder())
        self.start(GRPC_PORT="-1", GRPC_TLS_PORT="0", **authority.issue().environment())
        name = self.deploy("python3", "echo")
        for how in ("text", "stream"):
            with self.subTest(how):
                reply = self.run_client(how, name, b"safe", f"--ca-file={authority.root}")[0]
                self.assertEqual(reply, b"safe")
        told = self.run_client("text", name, b"x", f"--ca-file={another.root}", fails=True)[1]
        self.assertIn("unavailable", told.lower())


class Go(Calls, OwnServerCase):
    program = (str(BUILT),)

    def ready(self):
        """Built once a run. What it is built of is fetched first, as a machine
        without Go or a network has to do without."""
        if getattr(Go, "built", False):
            return
        fetched = go("mod", "download")
        if fetched.returncode != 0:
            lacking(self, f"no Go, or no modules: {fetched.stderr.decode(errors='replace').strip()}")
        built = go("build", "-o", str(BUILT), ".")
        self.assertEqual(built.returncode, 0, built.stderr.decode(errors="replace"))
        vetted = go("vet", ".", "github.com/OpenFogStack/tinyFaaS/pkg/grpc/tinyfaas/...")
        self.assertEqual(vetted.returncode, 0, vetted.stderr.decode(errors="replace"))
        Go.built = True


class NewestPython(Calls, OwnServerCase):
    program = (sys.executable, str(PYTHON_CLIENT))

    def ready(self):
        need_libraries(self, sys.executable)


class OldestPython(Calls, OwnServerCase):
    program = (str(OLDEST), str(PYTHON_CLIENT))

    def ready(self):
        self.assertEqual(need_libraries(self, need_oldest(self)), ["1.64.0", "5.27.0"])


if __name__ == "__main__":
    unittest.main()
