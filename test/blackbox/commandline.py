"""The program's commands, as a user or a script runs them.

Owns how one is run: with pipes, or on a terminal of its own. Must not know what a
command is for.
"""

import errno
import json
import os
import pty
import select
import signal
import subprocess
import time

from .case import Run
from .server import binary, clean_environment

RUN_S = 120


class CommandLine:
    """For a case: runs commands against the case's server."""

    def setUp(self):
        if Run.remote:
            self.skipTest("tries this program's commands; this run is pointed at a running server")
        super().setUp()

    def tinyfaas(self, *arguments, stdin=b"", cwd="/", environment=None, timeout=RUN_S):
        """Runs a command without a terminal; how it ended."""
        return subprocess.run(
            [str(binary()), *map(str, arguments)],
            cwd=cwd, env=self.variables(environment), input=stdin,
            capture_output=True, timeout=timeout, check=False,
        )

    def variables(self, environment=None):
        """The environment of a command; None takes a variable away."""
        variables = clean_environment()
        if "TINYFAAS_SERVER" not in (environment or {}):
            variables["TINYFAAS_SERVER"] = self.server.management
        for key, value in (environment or {}).items():
            variables.pop(key, None)
            if value is not None:
                variables[key] = str(value)
        return variables

    def succeeds(self, *arguments, **more):
        """Runs a command that must do its work; its standard output."""
        done = self.tinyfaas(*arguments, **more)
        self.assertEqual(done.returncode, 0, (arguments, done.stdout, done.stderr))
        return done.stdout.decode()

    def tells(self, *arguments, **more):
        """The same with --json; what it printed."""
        return json.loads(self.succeeds(*arguments, "--json", **more))

    def fails(self, code, *arguments, words=(), **more):
        """Runs a command that must end with this exit code; its standard error."""
        done = self.tinyfaas(*arguments, **more)
        said = done.stderr.decode()
        self.assertEqual(done.returncode, code, (arguments, done.stdout, said))
        self.assertTrue(said.strip(), "it says nothing")
        for word in words:
            self.assertIn(word.lower(), said.lower())
        self.assertNotIn("panicked", said)
        return said

    def terminal(self, *arguments, cwd="/", environment=None):
        """Runs a command on a terminal of its own; the terminal."""
        terminal = Terminal(arguments, cwd, self.variables({"TERM": "xterm", **(environment or {})}))
        self.addCleanup(terminal.end)
        return terminal


class Terminal:
    """A command on a terminal."""

    def __init__(self, arguments, cwd, variables):
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                # Ignored in what a shell runs in the background, and so in here.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                os.execve(str(binary()), [str(binary()), *map(str, arguments)], variables)
            finally:
                os._exit(127)
        self.code = None

    def type(self, text):
        os.write(self.fd, text.encode())

    def shows(self, *texts, timeout=60):
        """Waits until all of these have been shown; all that was."""
        ends = time.monotonic() + timeout
        while not all(text in self.text for text in texts):
            if time.monotonic() > ends or not self._read(0.1):
                missing = [text for text in texts if text not in self.text]
                raise AssertionError(f"{missing} was not shown: {self.text!r}")
        return self.text

    def exit(self, timeout=60):
        """Waits for its end; the exit code, negative for a signal."""
        ends = time.monotonic() + timeout
        while self._read(0.1):
            if time.monotonic() > ends:
                raise AssertionError(f"it goes on: {self.text!r}")
        if self.code is None:
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def end(self):
        """Ends it, however it is."""
        if self.code is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            _, status = os.waitpid(self.pid, 0)
            self.code = os.waitstatus_to_exitcode(status)
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None

    def _read(self, patience):
        """Whether more may come."""
        ready, _, _ = select.select([self.fd], [], [], patience)
        if not ready:
            return True
        try:
            part = os.read(self.fd, 65536)
        except OSError as error:
            if error.errno == errno.EIO:
                return False
            raise
        self.text += part.decode(errors="replace")
        return bool(part)
