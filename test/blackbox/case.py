"""What a case is: a server, functions on it, calls of them.

Owns the two kinds of case (on the server that all share, on one of its own) and
that everything a case has made goes with it.
"""

import base64
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from . import folders, http
from .server import NOBODY, REPOSITORY, Remote, Server, clean_environment, scratch

WAIT_S = 20
_numbers = itertools.count(1)


class Run:
    """What all cases share: the server, started when the first one needs it."""

    remote = None
    _shared = None

    @classmethod
    def server(cls):
        if cls.remote:
            return cls.remote
        if cls._shared is None:
            cls._shared = Server().start()
        return cls._shared

    @classmethod
    def own(cls):
        """The shared server if it is the suite's own and has been needed."""
        return cls._shared


class Case(unittest.TestCase):
    """A case on the shared server, or on a running one given by its addresses."""

    maxDiff = 4000

    @property
    def server(self):
        return Run.server()

    # Managing

    def manage(self, path, body=None, method=None, headers=(), timeout=120):
        """One request to the management service; a dict goes as JSON."""
        method = method or ("GET" if body is None else "POST")
        if isinstance(body, dict):
            body = json.dumps(body)
        return http.request(self.server.management + path, method, body, headers, timeout)

    def upload(self, name, environment, code, threads=1, **more):
        """Uploads entries, a zip or a sample's name; the answer."""
        if isinstance(code, str):
            code = folders.sample(code)
        elif not isinstance(code, bytes):
            code = folders.zip_of(code)
        body = {"name": name, "env": environment, "threads": threads}
        body["zip"] = base64.b64encode(code).decode()
        body.update(more)
        return self.manage("/upload", {k: v for k, v in body.items() if v is not None})

    def deploy(self, environment, code, threads=1, name=None, **more):
        """Deploys a function that goes with the case; its name."""
        need_environment(self, environment)
        name = name or new_name(environment)
        self.addCleanup(self.remove, name)
        answer = self.upload(name, environment, code, threads, **more)
        self.assertEqual(answer.status, 200, answer.text)
        return name

    def python(self, code, **more):
        """Deploys a Python function with this code."""
        return self.deploy("python3", {"fn.py": code}, **more)

    def node(self, code, **more):
        """Deploys a Node function with this code."""
        return self.deploy("nodejs", folders.node_module(code), **more)

    def script(self, code, **more):
        """Deploys a shell function with this code."""
        return self.deploy("binary", {"fn.sh": folders.File(code, 0o755)}, **more)

    def remove(self, name):
        """Removes a function whether or not it is still there."""
        if isinstance(self.server, Server) and self.server.process.poll() is not None:
            return
        self.manage("/delete", {"name": name})

    def names(self):
        """The names of all functions."""
        answer = self.manage("/list")
        self.assertEqual(answer.status, 200, answer.text)
        return answer.text.split()

    def logs(self, name=None):
        """The log of a function, or all."""
        answer = self.manage("/logs" + (f"?name={name}" if name else ""))
        self.assertEqual(answer.status, 200, answer.text)
        return answer.text

    def wait_for_log(self, name, text):
        """Waits until a function's log holds a text; the log."""
        return self.eventually(
            lambda: self.logs(name), lambda log: text in log, f"{text!r} in the log of {name}"
        )

    # Calling

    def call(self, path, body=None, method=None, headers=(), timeout=60):
        """One call: NAME, or NAME/sub/path?query."""
        method = method or ("GET" if body is None else "POST")
        return http.request(f"{self.server.http}/{path}", method, body, headers, timeout)

    def answers(self, path, expected, body=None, **more):
        """Calls, and checks that the answer is this one; the answer."""
        answer = self.call(path, body, **more)
        self.assertEqual((answer.status, answer.text), (200, expected))
        return answer

    # Waiting and judging

    def eventually(self, look, good=bool, what="it", timeout=WAIT_S):
        """Looks until what is seen is good; what was seen."""
        ends = time.monotonic() + timeout
        while True:
            seen = look()
            if good(seen):
                return seen
            if time.monotonic() > ends:
                self.fail(f"after {timeout} s still not {what}; last seen: {seen!r}")
            time.sleep(0.02)

    def refused(self, answer, status, *words):
        """Checks that an answer is a refusal that says what is wrong."""
        statuses = status if isinstance(status, tuple) else (status,)
        self.assertIn(answer.status, statuses, answer.text)
        self.assertTrue(answer.body.strip(), "the refusal says nothing")
        for word in words:
            self.assertRegex(answer.text.lower(), re.escape(word.lower()))

    def run_script(self, name, *arguments, cwd="/", environment=None, timeout=120):
        """Runs one of the scripts against the server; how it ended."""
        variables = clean_environment()
        variables["TINYFAAS_SERVER"] = self.server.management
        variables.update(environment or {})
        return subprocess.run(
            [str(REPOSITORY / "scripts" / name), *map(str, arguments)],
            cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=timeout, check=False,
        )

    def curl(self, *arguments, timeout=60):
        """Runs curl; how it ended."""
        return subprocess.run(
            ["curl", "--silent", "--show-error", "--noproxy", "*", *map(str, arguments)],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False,
        )

    def folder(self, entries=None):
        """A folder on disk that goes with the case."""
        path = Path(tempfile.mkdtemp(dir=scratch()))
        self.addCleanup(shutil.rmtree, path.parent, ignore_errors=True)
        return folders.write(path, entries or {})


def give_away(path):
    """Makes a file or folder that of a user without rights, where root runs the suite."""
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path


class OwnServerCase(Case):
    """Cases that need servers of their own: to start and stop them, or with other
    settings. `settings` is one server's for all cases of the class; without it
    each case starts what it needs."""

    settings = None
    _of_class = None

    def setUp(self):
        if Run.remote:
            self.skipTest("needs servers of its own; this run is pointed at a running one")
        if self.settings is not None and type(self)._of_class is None:
            type(self)._of_class = self.class_server().start()

    def class_server(self):
        """The server of all cases of the class, not started yet."""
        return Server(**self.settings)

    @classmethod
    def tearDownClass(cls):
        server, cls._of_class = cls._of_class, None
        if server:
            code = server.stop(signal.SIGINT)
            left = server.left_over()
            shutil.rmtree(server.folder, ignore_errors=True)
            assert code == 0, f"the server ended with {code}"
            assert not left, f"the server left {left}"

    @property
    def server(self):
        return self._current if self._current else type(self)._of_class

    _current = None

    def start(self, data=None, arguments=(), **environment):
        """Starts a server that goes with the case, and makes it this case's."""
        server = self.prepare(data, arguments, **environment).start()
        self._current = server
        return server

    def open_folder(self):
        """A folder that a user without rights reaches and may write to."""
        path = Path(tempfile.mkdtemp(prefix="tinyfaas-test-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, path, ignore_errors=True)
        return give_away(path)

    def prepare(self, data=None, arguments=(), **environment):
        """A server that goes with the case, not started yet."""
        server = Server(data, arguments, **environment)
        self.addCleanup(self._forget, server)
        return server

    def fails_to_start(self, *words, data=None, arguments=(), **environment):
        """Checks that a server ends at once with a message that holds these."""
        server = self.prepare(data, arguments, **environment).launch()
        code = server.exit()
        self.assertGreater(code, 0, server.output())
        for word in words:
            self.assertIn(word.lower(), server.output().lower())
        self.assertEqual(server.processes(), [])
        return server.output()

    def ends_clean(self, server, number=signal.SIGTERM, timeout=15):
        """Stops a server and checks that it leaves nothing."""
        self.assertEqual(server.stop(number, timeout), 0, server.output())
        self.assertEqual(server.left_over(), [])

    def _forget(self, server):
        if server.process and server.process.poll() is None:
            server.process.kill()
            server.exit()
        for pid in server.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shutil.rmtree(server.folder, ignore_errors=True)


class SharedServerStops(unittest.TestCase):
    """The last case: the server that all others used stops as it should."""

    def test_shared_server_stops_cleanly(self):
        server = Run.own()
        if server is None:
            self.skipTest("no case has needed the shared server")
        self.assertEqual(server.process.poll(), None, "the shared server died: " + server.output()[-4000:])
        self.assertEqual(server.stop(signal.SIGINT), 0, server.output()[-4000:])
        self.assertEqual(server.left_over(), [])
        shutil.rmtree(server.folder, ignore_errors=True)


def new_name(prefix):
    """A name that no other case uses, on a server that is used again, too. Letters
    and digits only: the original knows no others."""
    prefix = "".join(character for character in prefix if character.isalnum())
    return f"{prefix}x{os.getpid()}x{next(_numbers)}"


def need_environment(case, environment):
    """Skips a case whose environment this machine cannot run."""
    if environment == "nodejs":
        need_tool(case, "node")


def need_pip(case):
    """Skips a case that installs packages where Python neither has pip nor can make one."""
    for arguments in (["-m", "pip", "--version"], ["-c", "import venv, ensurepip"]):
        done = subprocess.run(["python3", *arguments], capture_output=True, timeout=60, check=False)
        if done.returncode == 0:
            return
    case.skipTest("python3 has no pip and cannot make one (python3-venv)")


def need_tool(case, name):
    if shutil.which(name) is None:
        case.skipTest(f"{name} is not installed")
