"""`tinyfaas deploy`, `list`, `status`, `delete`, `wipe`: functions come and go."""

import json
import os
import re
import unittest

from blackbox import folders
from blackbox.case import Case, OwnServerCase, new_name
from blackbox.commandline import CommandLine
from blackbox.server import REPOSITORY, LocalSite, sends

SCRIPT = folders.File("#!/bin/sh\ncat\n", 0o755)


class Deploying(CommandLine, Case):
    def function(self, entries=None, **more):
        """A folder of a function's, whose name goes with the case."""
        folder = self.folder() / new_name("cli")
        folder.mkdir()
        folders.write(folder, entries or {"fn.sh": SCRIPT})
        self.addCleanup(self.remove, folder.name)
        return folder

    def test_a_folder_says_all_that_is_needed(self):
        folder = self.function()
        done = self.tinyfaas("deploy", folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout.decode(), rf"^coap://\S+/{folder.name}\ngrpc://\S+/{folder.name}\nhttp://\S+/{folder.name}\n$")
        said = done.stderr.decode()
        for word in (f"function {folder.name}", "binary (there is fn.sh)", "1 handler", "packed 1 file", "is ready"):
            self.assertIn(word, said)
        self.answers(folder.name, "hello", "hello")

    def test_the_folder_that_one_is_in(self):
        folder = self.function()
        self.succeeds("deploy", ".", cwd=folder)
        self.answers(folder.name, "x", "x")

    def test_flags_win(self):
        folder = self.function({"fn.sh": '#!/bin/sh\necho "$A $B"\n', "package.json": "{}", "tinyfaas.toml": "threads = 3\n"})
        name = new_name("flags")
        self.addCleanup(self.remove, name)
        function = self.tells(
            "deploy", folder, "--name", name, "--env", "binary", "--threads", 2,
            "--var", "A=1 = 2", "--var", "B", environment={"B": "of here"},
        )
        self.assertEqual(
            (function["name"], function["env"], function["threads"], function["envs"]),
            (name, "binary", 2, ["A", "B"]),
        )
        self.answers(name, "1 = 2 of here\n")
        self.assertNotIn("of here", self.logs(name))

    def test_settings_in_the_folder_are_followed(self):
        folder = self.function({"fn.sh": SCRIPT, "package.json": "{}", "tinyfaas.toml": 'environment = "binary"\nthreads = 2\n'})
        done = self.tinyfaas("deploy", folder, "--json")
        self.assertEqual(json.loads(done.stdout)["threads"], 2, done.stderr)
        self.assertIn(b"binary (tinyfaas.toml), 2 handlers (tinyfaas.toml)", done.stderr)

    def test_what_travels_and_what_does_not(self):
        folder = self.function({
            "fn.sh": folders.File("#!/bin/sh\n./run; ls -A; cat link sub/.deep\n", 0o755),
            "run": folders.File("#!/bin/sh\necho ran\n", 0o755),
            "sub/.deep": "deep", "link": folders.Link("sub/.deep"), "ünï": "",
            ".git/config": "x", "__pycache__/a.pyc": "x", ".env": "",
        })
        os.mkfifo(folder / "pipe")
        done = self.tinyfaas("deploy", folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in (".git", "__pycache__", "pipe (no ordinary file)"):
            self.assertIn(word, done.stderr.decode())
        self.answers(folder.name, "ran\n.env\nfn.sh\nlink\nrun\nsub\nünï\ndeepdeep")

    def test_a_link_out_of_the_folder_is_refused(self):
        folder = self.function({"fn.sh": SCRIPT, "out": folders.Link("/etc/passwd")})
        self.fails(1, "deploy", folder, words=["out", "leads out of the folder"])
        self.assertNotIn(folder.name, self.names())

    def test_replacing_says_so_and_a_failure_leaves_the_old_one(self):
        folder = self.function()
        self.succeeds("deploy", folder)
        folders.write(folder, {"fn.sh": "#!/bin/sh\necho two\n"})
        done = self.tinyfaas("deploy", folder)
        self.assertIn(b"replaced, version 2", done.stderr)
        self.answers(folder.name, "two\n")
        (folder / "fn.sh").rename(folder / "other.sh")
        self.fails(1, "deploy", folder, "--env", "binary", words=["fn.sh"])
        self.answers(folder.name, "two\n")

    def test_a_build_is_shown_as_it_goes(self):
        folder = self.function({"fn.py": "import no_such_module\ndef fn(input):\n    return 'x'\n"})
        self.fails(1, "deploy", folder, words=["no_such_module"])
        folder = self.function({"fn.py": "print('loading aloud', flush=True)\ndef fn(input):\n    return 'x'\n"})
        done = self.tinyfaas("deploy", folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(b"loading aloud", done.stderr)

    def test_what_is_wrong_with_a_folder_is_said(self):
        self.fails(1, "deploy", "/no/such/folder", words=["/no/such/folder", "no such folder"])
        self.fails(1, "deploy", REPOSITORY / "LICENSE", words=["is no folder"])
        self.fails(2, "deploy", self.function({"readme": ""}), words=["fn.py", "tinyfaas new"])
        self.fails(2, "deploy", self.function({"fn.py": "", "fn.sh": ""}), words=["fn.py and fn.sh", "--env"])
        self.fails(2, "deploy", self.folder(), "--env", "binary", "--name", "x", words=["is empty"])
        self.fails(1, "deploy", self.function({"fn.sh": SCRIPT, "tinyfaas.toml": "threads = 0\nx = 1"}), words=["threads", ":2"])

    def test_wrong_usage(self):
        folder = self.function()
        for arguments, word in (
            (["deploy"], "FOLDER"),
            (["deploy", folder, "--url", "http://x/y.zip"], "--url"),
            (["deploy", folder, "--env", "cobol"], "python3"),
            (["deploy", folder, "--threads", "0"], "--threads"),
            (["deploy", folder, "--name", "no name"], "name"),
            (["deploy", folder, "--var", "=secret"], "--var"),
            (["deploy", folder, "--var", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE"),
            (["deploy", folder, "--subfolder", "x"], "--subfolder"),
            (["deplo", folder], "deploy"),
            (["deploy", folder, "--treads", "1"], "--threads"),
            (["deploy", folder, "--server", "ftp://x"], "ftp"),
        ):
            with self.subTest(arguments=arguments):
                self.assertNotIn("secret", self.fails(2, *arguments, words=[word]))

    def test_an_archive_that_the_server_fetches(self):
        packed = folders.zip_of({"top/fns/echo/fn.sh": SCRIPT})
        site = LocalSite({"/a/main.zip": sends(packed)})
        self.addCleanup(site.close)
        name = new_name("fetched")
        self.addCleanup(self.remove, name)
        url = f"{site.url}/a/main.zip"
        self.succeeds("deploy", "--url", url, "--subfolder", "top/fns/echo", "--name", name, "--env", "binary")
        self.answers(name, "x", "x")
        self.fails(1, "deploy", "--url", url, "--name", name, "--env", "binary", words=["fn.sh"])
        self.fails(1, "deploy", "--url", f"{site.url}/none.zip", "--env", "binary", words=["404"])
        self.fails(1, "deploy", "--url", url, "--name", name, words=["environment"])
        self.answers(name, "x", "x")

    def test_a_large_folder_travels(self):
        folder = self.function({"fn.sh": "#!/bin/sh\nwc -c <blob\n", "blob": os.urandom(5_000_000)})
        self.succeeds("deploy", folder)
        self.assertEqual(int(self.call(folder.name).text), 5_000_000)

    def test_listing_and_status(self):
        folder = self.function()
        self.succeeds("deploy", folder)
        self.answers(folder.name, "x", "x")
        shown = self.succeeds("list")
        row = next(line for line in shown.splitlines() if line.split()[0] == folder.name)
        self.assertEqual(row.split()[1:4], ["binary", "1/1", "healthy"])
        self.assertIn(folder.name, self.succeeds("list", "--quiet").split("\n"))
        listed = {one["name"]: one for one in self.tells("list")["functions"]}
        self.assertEqual(listed[folder.name]["calls"]["succeeded"], 1)
        self.assertIn("healthy", self.succeeds("status", folder.name))
        one = self.tells("status", folder.name)
        self.assertEqual((one["name"], one["handlers"]["ready"]), (folder.name, 1))
        server = self.tells("status")
        self.assertEqual(server["endpoints"]["http"], int(self.server.http.rsplit(":", 1)[1]))
        self.assertRegex(self.succeeds("status"), r"(?s)tinyFaaS \S+ at http.*binary")

    def test_a_name_that_is_nearly_right(self):
        folder = self.function()
        self.succeeds("deploy", folder)
        nearly = folder.name.replace("cli", "clj")
        for command in ("status", "logs", "delete"):
            with self.subTest(command=command):
                self.fails(4, command, nearly, words=[nearly, folder.name])
        self.fails(4, "status", "a/../b c", words=["a/../b c"])

    def test_deleting(self):
        one, two = self.function(), self.function()
        self.succeeds("deploy", one)
        self.succeeds("deploy", two)
        done = self.tinyfaas("delete", one.name, "nobody-has-this", two.name)
        self.assertEqual(done.returncode, 4)
        self.assertEqual(done.stdout.decode(), f"deleted {one.name}\ndeleted {two.name}\n")
        self.assertIn(b"nobody-has-this", done.stderr)
        self.assertFalse({one.name, two.name} & set(self.names()))
        self.succeeds("delete", one.name, "--if-exists")
        told = self.tinyfaas("delete", one.name, two.name, "--json")
        self.assertEqual(told.returncode, 4)
        told = json.loads(told.stdout)
        self.assertEqual((told["deleted"], [one["name"] for one in told["failed"]]), ([], [one.name, two.name]))
        self.fails(2, "delete", words=["NAME"])

    def test_no_server_says_what_to_start(self):
        nowhere = {"TINYFAAS_SERVER": "http://127.0.0.1:1"}
        folder = self.function()
        for arguments in (
            ["list"], ["status"], ["status", "x"], ["logs"], ["deploy", folder], ["delete", "x"],
            ["wipe", "--yes"], ["call", "x"],
        ):
            with self.subTest(arguments=arguments):
                self.fails(3, *arguments, environment=nowhere, words=["http://127.0.0.1:1", "tinyfaas", "--server"])
        self.fails(2, "list", environment={"TINYFAAS_SERVER": "http://"}, words=["TINYFAAS_SERVER"])
        # The flag wins.
        self.succeeds("list", "--server", self.server.management, environment=nowhere)

    def test_something_else_answers_there(self):
        site = LocalSite({"/v1/functions": sends(b"<html>", Content_Type="text/html"), "/list": sends(b"")})
        self.addCleanup(site.close)
        self.fails(1, "list", "--server", site.url, words=["not JSON"])

    def test_every_help_has_examples(self):
        whole = self.succeeds("--help")
        self.assertIn("Exit codes:", whole)
        commands = re.findall(r"(?m)^  ([a-z]+) {2,}[A-Z]", whole.split("Options:")[0])
        for expected in ("deploy", "list", "status", "logs", "call", "delete", "wipe", "new", "dev", "doctor", "completions", "man", "serve"):
            self.assertIn(expected, commands)
        for command in commands:
            if command != "help":
                with self.subTest(command=command):
                    self.assertIn("Examples:\n  ", self.succeeds(command, "--help"))

    def test_output_that_nobody_reads_is_no_error(self):
        import subprocess

        from blackbox.server import binary

        done = subprocess.run(
            ["sh", "-c", f"{{ '{binary()}' list; echo \"code $?\" >&2; }} | true"],
            env=self.variables(), capture_output=True, timeout=60, check=False,
        )
        self.assertEqual(done.stderr.decode().splitlines()[-1:], ["code 0"], done.stderr)


class Wiping(CommandLine, OwnServerCase):
    settings = {}

    def deployed(self):
        name = new_name("wiped")
        self.deploy("binary", "echo-binary", name=name)
        return name

    def test_wiping_asks_on_a_terminal(self):
        name = self.deployed()
        self.fails(2, "wipe", words=["--yes"])
        terminal = self.terminal("wipe")
        terminal.shows(name, "[y/N]")
        terminal.type("n\n")
        self.assertEqual(terminal.exit(), 1)
        self.assertIn("nothing was removed", terminal.text)
        self.assertEqual(self.names(), [name])
        terminal = self.terminal("wipe")
        terminal.shows("[y/N]")
        terminal.type("yes\n")
        self.assertEqual(terminal.exit(), 0)
        self.assertEqual(self.names(), [])

    def test_wiping_without_a_question(self):
        name = self.deployed()
        self.assertEqual(self.tells("wipe", "--yes"), {"deleted": [name]})
        self.assertEqual(self.names(), [])
        done = self.tinyfaas("wipe")
        self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.assertIn(b"no functions", done.stderr)

    def test_colours_are_for_terminals(self):
        self.deployed()
        terminal = self.terminal("list")
        self.assertEqual(terminal.exit(), 0)
        self.assertIn("\x1b[32mhealthy", terminal.text)
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            terminal = self.terminal("list", environment=environment)
            self.assertEqual(terminal.exit(), 0)
            self.assertNotIn("\x1b", terminal.text)
        self.assertNotIn("\x1b", self.succeeds("list"))


class SmallServer(CommandLine, OwnServerCase):
    settings = {"TF_ZIP_PACKED_MAX": "100KiB"}

    def test_a_folder_that_is_too_large_is_not_sent(self):
        folder = self.folder({"fn.sh": SCRIPT, "blob": os.urandom(200_000)})
        said = self.fails(1, "deploy", folder, "--name", "large", words=["larger than", "102 kB"])
        self.assertNotIn("packed", said.split("larger")[0])


if __name__ == "__main__":
    unittest.main()
