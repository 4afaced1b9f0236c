"""The scripts that users type, from a folder that is not the repository's."""

import os
import shutil
import subprocess
import unittest

from blackbox import folders
from blackbox.case import Case, new_name
from blackbox.server import REPOSITORY

SCRIPTS = ("upload.sh", "uploadURL.sh", "list.sh", "delete.sh", "logs.sh", "get_logs.sh", "wipe-functions.sh")


class Scripts(Case):
    def succeeds(self, name, *arguments, **more):
        done = self.run_script(name, *arguments, **more)
        self.assertEqual((done.returncode, done.stderr), (0, b""), done.stdout)
        return done.stdout.decode()

    def uploaded(self, entries=None, folder=None):
        name = new_name("script")
        self.addCleanup(self.remove, name)
        folder = folder or self.folder(entries)
        self.assertIn(f"/{name}", self.succeeds("upload.sh", folder, name, "binary", 1))
        return name

    def test_the_documented_round(self):
        name = new_name("round")
        self.addCleanup(self.remove, name)
        folder = "./test/fns/echo-binary"
        printed = self.succeeds("upload.sh", folder, name, "binary", 1, cwd=REPOSITORY)
        self.assertRegex(printed, rf"^coap://\S+/{name}\nhttp://\S+/{name}\ngrpc://\S+/{name}\n$")
        self.answers(name, "hello", "hello")
        self.assertIn(name, self.succeeds("list.sh").split("\n"))
        self.assertEqual(self.succeeds("delete.sh", name), "")
        self.assertNotIn(name, self.succeeds("list.sh").split("\n"))

    def test_logs_by_both_names(self):
        name = self.uploaded({"fn.sh": "#!/bin/sh\necho noted >&2\n"})
        self.answers(name, "")
        self.wait_for_log(name, "noted")
        for script in ("logs.sh", "get_logs.sh"):
            with self.subTest(script=script):
                self.assertIn("noted", self.succeeds(script, name))
                self.assertIn("noted", self.succeeds(script))

    def test_a_failure_is_not_zero_with_the_servers_words(self):
        for name, arguments, words in (
            ("delete.sh", ["nobody"], b"nobody"),
            ("logs.sh", ["nobody"], b"nobody"),
            ("upload.sh", [folders.SAMPLES / "echo-binary", "x", "cobol", 1], b"cobol"),
            ("upload.sh", [folders.SAMPLES / "echo-binary", "no name", "binary", 1], b"name"),
            ("upload.sh", [folders.SAMPLES / "echo-binary", "x", "binary", 0], b"threads"),
        ):
            with self.subTest(name=name, arguments=arguments):
                done = self.run_script(name, *arguments)
                self.assertEqual((done.returncode, done.stdout), (1, b""))
                self.assertIn(words, done.stderr)

    def test_names_are_quoted_properly(self):
        for name in ('a"b', "a\\b", "a\nb", "$(id)", "ä", "a&name=b", "a b"):
            with self.subTest(name=name):
                done = self.run_script("delete.sh", name)
                self.assertEqual(done.returncode, 1)
                self.assertNotIn(b"JSON", done.stderr)
                done = self.run_script("logs.sh", name)
                self.assertEqual(done.returncode, 1)

    def test_wrong_arguments_show_the_usage(self):
        for name, arguments in (
            ("upload.sh", []), ("upload.sh", ["a", "b", "c"]), ("upload.sh", ["a", "b", "c", "d"]),
            ("uploadURL.sh", []), ("uploadURL.sh", ["a", "b", "c", "d"]), ("uploadURL.sh", ["a"] * 6),
            ("list.sh", ["x"]), ("delete.sh", []), ("delete.sh", ["a", "b"]), ("logs.sh", ["a", "b"]),
            ("get_logs.sh", ["a", "b"]), ("wipe-functions.sh", ["x"]),
        ):
            with self.subTest(name=name, arguments=arguments):
                done = self.run_script(name, *arguments)
                self.assertEqual((done.returncode, done.stdout), (2, b""))
                self.assertIn(b"usage:", done.stderr)
                self.assertIn(b"example:", done.stderr)

    def test_no_server_is_said(self):
        for name, arguments in (("list.sh", []), ("upload.sh", [folders.SAMPLES / "echo-binary", "x", "binary", 1])):
            with self.subTest(name=name):
                done = self.run_script(name, *arguments, environment={"TINYFAAS_SERVER": "http://127.0.0.1:1"})
                self.assertEqual((done.returncode, done.stdout), (1, b""))
                self.assertIn(b"http://127.0.0.1:1", done.stderr)
                self.assertIn(b"TINYFAAS_SERVER", done.stderr)

    def test_a_missing_tool_is_named(self):
        few = self.folder()
        for tool in ("sh", "dirname", "readlink", "cat"):
            (few / tool).symlink_to(shutil.which(tool))
        done = self.run_script("upload.sh", "/", "x", "binary", 1, environment={"PATH": str(few)})
        self.assertEqual(done.returncode, 1)
        for word in (b"zip", b"curl", b"install"):
            self.assertIn(word, done.stderr)

    def test_a_missing_or_empty_folder_is_said(self):
        for folder, word in (("/no/such/folder", b"/no/such/folder"), (self.folder(), b"empty")):
            done = self.run_script("upload.sh", folder, "x", "binary", 1)
            self.assertEqual(done.returncode, 1)
            self.assertIn(word, done.stderr)

    def test_a_folder_with_an_odd_name(self):
        base = self.folder()
        for odd in ("with space", "q'uo\"te", "-dash", "dollar $(x)", "ünï", "new\nline"):
            with self.subTest(folder=odd):
                folders.write(base, {f"{odd}/fn.sh": "#!/bin/sh\ncat\n"})
                name = new_name("odd")
                self.addCleanup(self.remove, name)
                self.succeeds("upload.sh", odd, name, "binary", 1, cwd=base)
                self.answers(name, "x", "x")

    def test_all_of_the_folder_travels(self):
        name = self.uploaded({
            "fn.sh": folders.File("#!/bin/sh\ncat .dot sub/.deep 'grüße ☃'; ./run; readlink link; cat link\n", 0o644),
            ".dot": "dot ",
            "sub/.deep": "deep ",
            "grüße ☃": "winter ",
            "run": folders.File("#!/bin/sh\necho ran\n", 0o755),
            "link": folders.Link("sub/.deep"),
        })
        self.answers(name, "dot deep winter ran\nsub/.deep\ndeep ")

    def test_a_folder_larger_than_an_argument_may_be(self):
        folder = self.folder({"fn.sh": "#!/bin/sh\nwc -c <blob\n", "blob": os.urandom(3_000_000)})
        self.assertEqual(int(self.call(self.uploaded(folder=folder)).text), 3_000_000)

    def test_a_refused_large_folder_still_tells_why(self):
        folder = self.folder({"readme": "no function", "blob": os.urandom(3_000_000)})
        done = self.run_script("upload.sh", folder, new_name("large"), "binary", 1)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"fn.sh", done.stderr)

    def test_nothing_is_left_in_the_temporary_folder(self):
        temporary = self.folder()
        self.run_script("upload.sh", folders.SAMPLES / "echo-binary", "x y", "binary", 1, environment={"TMPDIR": str(temporary)})
        self.run_script("list.sh", environment={"TMPDIR": str(temporary)})
        self.assertEqual(list(temporary.iterdir()), [])

    def test_by_a_link_and_by_path(self):
        folder = self.folder()
        (folder / "tf-list").symlink_to(REPOSITORY / "scripts" / "list.sh")
        done = subprocess.run(
            ["./tf-list"], cwd=folder, env={**os.environ, "TINYFAAS_SERVER": self.server.management + "/"},
            capture_output=True, timeout=30, check=False,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Wiping(Case):
    def test_wipe_functions(self):
        from blackbox.case import Run

        if Run.remote:
            self.skipTest("would remove every function of the server that this run is pointed at")
        name = self.deploy("binary", "echo-binary")
        done = self.run_script("wipe-functions.sh")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(self.names(), [])
        self.assertEqual(self.call(name, "x").status, 404)


if __name__ == "__main__":
    unittest.main()
