"""`tinyfaas new` and `dev`: what a user meets first."""

import json
import os
import re
import signal
import socket
import unittest
from pathlib import Path

from blackbox import folders, http
from blackbox.case import Case, OwnServerCase, need_environment, new_name
from blackbox.commandline import CommandLine
from blackbox.server import alive

ENVIRONMENTS = ("python3", "nodejs", "binary")


class New(CommandLine, Case):
    def test_every_template_works(self):
        for environment in ENVIRONMENTS:
            with self.subTest(environment=environment):
                need_environment(self, environment)
                base, name = self.folder(), new_name("new")
                self.addCleanup(self.remove, name)
                shown = self.succeeds("new", environment, name, cwd=base)
                self.assertIn(f"tinyfaas dev {name}", shown)
                self.succeeds("deploy", name, cwd=base)
                self.answers(name, "hello world\n")
                self.answers(name, "hello you\n", "you")
                answer = self.call(f"{name}/json", 'a "b"')
                self.assertEqual(json.loads(answer.text), {"hello": 'a "b"'})
                self.wait_for_log(name, "called: POST /json")
                self.assertEqual(self.tells("status", name)["description"], "says hello")

    def test_a_path_and_json(self):
        base = self.folder()
        told = self.tells("new", "binary", "deep/er/name-1", cwd=base)
        self.assertEqual((told["name"], told["env"], told["folder"]), ("name-1", "binary", "deep/er/name-1"))
        self.assertEqual(sorted(told["files"]), sorted(os.listdir(base / told["folder"])))
        self.assertTrue(os.access(base / told["folder"] / "fn.sh", os.X_OK))

    def test_nothing_is_overwritten(self):
        base = self.folder({"there/x": "", "file": ""})
        self.fails(1, "new", "binary", "there", cwd=base, words=["there already"])
        self.fails(1, "new", "binary", "file", cwd=base, words=["there already"])
        self.assertEqual(os.listdir(base / "there"), ["x"])
        self.fails(1, "new", "binary", "file/x", cwd=base, words=["file"])

    def test_wrong_usage(self):
        for arguments, word in (
            ([], "ENV"), (["binary"], "NAME"), (["cobol", "x"], "python3"), (["python", "x"], "python3"),
            (["binary", "no name"], "name"), (["binary", ".."], "name"), (["binary", ""], "name"),
        ):
            with self.subTest(arguments=arguments):
                self.fails(2, "new", *arguments, cwd=self.folder(), words=[word])


class Dev(CommandLine, OwnServerCase):
    """`dev` has a server of its own; none of the suite's is started."""

    class Nowhere:
        management = "http://127.0.0.1:1"

    @property
    def server(self):
        return self.Nowhere

    def remove(self, name):
        pass

    def function(self, entries):
        folder = self.folder() / new_name("dev")
        folder.mkdir()
        return folders.write(folder, entries)

    def begin(self, folder, *arguments, **environment):
        """`tinyfaas dev` on a terminal, with a folder for temporary files of its own."""
        self.temporary = self.folder()
        terminal = self.terminal("dev", folder, *arguments, environment={"TMPDIR": self.temporary, **environment})
        return terminal

    def url(self, terminal, name):
        found = re.search(rf"http://[^\s\x1b]+:\d+/{name}(?=\s)", terminal.text)
        self.assertTrue(found, terminal.text)
        return found.group()

    def left(self):
        """What of its processes and files is there."""
        mark = f"@{self.temporary}/".encode()
        processes = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                environ = Path("/proc", entry, "environ").read_bytes()
                command = Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue
            if mark in environ or f"{self.temporary}/".encode() in command:
                processes.append(int(entry))
        return [pid for pid in processes if alive(pid)], os.listdir(self.temporary)

    def test_every_save_is_deployed(self):
        folder = self.function({"fn.sh": folders.File("#!/bin/sh\necho one\necho noted >&2\n", 0o755)})
        terminal = self.begin(folder)
        terminal.shows("is ready", f"/{folder.name}\r\n", timeout=60)
        url = self.url(terminal, folder.name)
        self.assertEqual(http.request(url).text, "one\n")
        terminal.shows("noted")

        # As editors save: a new file takes the old one's place.
        folders.write(folder, {"fn.sh.new": folders.File("#!/bin/sh\necho two\n", 0o755)})
        (folder / "fn.sh.new").rename(folder / "fn.sh")
        self.eventually(lambda: http.request(url).text, lambda text: text == "two\n", "the new one")
        terminal.shows("version 2")

        # A save that is none: swap files, caches, an unchanged file.
        terminal.text = ""
        folders.write(folder, {".fn.sh.swp": "x", "__pycache__/x.pyc": "x", "node_modules/a/b.js": "x", "fn.sh~": "x"})
        # One that cannot work: the old one stays.
        (folder / "fn.sh").rename(folder / "gone.sh")
        said = terminal.shows("goes on serving")
        self.assertIn("fn.sh", said)
        self.assertEqual(said.count("changed:"), 1)
        self.assertEqual(http.request(url).text, "two\n")

        folders.write(folder, {"fn.sh": folders.File("#!/bin/sh\nexec ./lib/run\n", 0o755)})
        folders.write(folder, {"lib/run": folders.File("#!/bin/sh\necho three\n", 0o755)})
        self.eventually(lambda: http.request(url).text, lambda text: text == "three\n", "the third")
        folders.write(folder, {"lib/run": folders.File("#!/bin/sh\necho four\n", 0o755)})
        self.eventually(lambda: http.request(url).text, lambda text: text == "four\n", "the fourth")

        terminal.type("\x03")
        self.assertEqual(terminal.exit(), 0)
        self.assertEqual(self.left(), ([], []))

    def test_certificates_that_variables_name_are_for_other_servers(self):
        folder = self.function({"fn.sh": folders.File("#!/bin/sh\necho one\n", 0o755)})
        # They cannot all be: a server that meant them would not start.
        terminal = self.begin(folder, HTTPS_PORT="0", TF_TLS_SELF_SIGNED="yes", TF_ACME_DOMAINS="gw.example")
        self.assertNotIn("certificate", terminal.shows("is ready", timeout=60))
        terminal.type("\x03")
        self.assertEqual(terminal.exit(), 0)

    def test_a_first_deploy_that_fails_waits_for_the_next_save(self):
        folder = self.function({"fn.py": "def fn(:\n"})
        terminal = self.begin(folder, "--var", "A=of-dev", "--threads", "2")
        said = terminal.shows("waiting for the next save")
        self.assertIn("SyntaxError", said)
        folders.write(folder, {"fn.py": "import os\ndef fn(input):\n    return os.environ['A']\n"})
        terminal.shows("is ready", "2 handlers", f"/{folder.name}\r\n")
        self.assertEqual(http.request(self.url(terminal, folder.name)).text, "of-dev")
        terminal.type("\x03")
        self.assertEqual(terminal.exit(), 0)
        self.assertEqual(self.left(), ([], []))

    def test_sigterm_and_sigkill_leave_no_process(self):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGHUP):
            with self.subTest(signal=number):
                folder = self.function({"fn.sh": folders.File("#!/bin/sh\ncat\n", 0o755)})
                terminal = self.begin(folder)
                terminal.shows("is ready", f"/{folder.name}\r\n")
                self.assertTrue(self.left()[0])
                os.kill(terminal.pid, number)
                killed = number == signal.SIGKILL
                self.assertEqual(terminal.exit(), -9 if killed else 0)
                self.eventually(lambda: self.left()[0], lambda left: not left, "no process")
                if not killed:
                    self.assertEqual(self.left()[1], [])

    def test_wrong_arguments_start_nothing(self):
        self.fails(1, "dev", "/no/such", words=["/no/such"])
        self.fails(2, "dev", self.function({"readme": ""}), words=["tinyfaas new"])
        self.fails(2, "dev", words=["FOLDER"])
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            folder = self.function({"fn.sh": "#!/bin/sh\n"})
            self.fails(1, "dev", folder, "--http-port", port, words=[str(port), "did not start"])

    def test_other_commands_find_it(self):
        folder = self.function({"fn.sh": folders.File("#!/bin/sh\ncat\n", 0o755)})
        terminal = self.begin(folder)
        terminal.shows("is ready", "TINYFAAS_SERVER=")
        server = re.search(r"TINYFAAS_SERVER=(http://\S+)", terminal.text).group(1)
        for protocol in ([], ["--coap"], ["--grpc"]):
            self.assertEqual(self.succeeds("call", folder.name, "-d", "x", "--server", server, *protocol), "x")
        self.succeeds("delete", folder.name, "--server", server)
        terminal.type("\x03")
        self.assertEqual(terminal.exit(), 0)


if __name__ == "__main__":
    unittest.main()
