"""POST /uploadURL: the server fetches the zip itself."""

import unittest

from blackbox import folders
from blackbox.case import Case, Run, new_name
from blackbox.server import LocalSite, sends

# A download that failed is the request's mistake or the other server's.
FAILED = (422, 502, 504)


def says(text):
    return f"#!/bin/sh\nprintf '%s' '{text}'\n"


ARCHIVE = {
    "fn.sh": says("top"),
    "repo-main/fns/one/fn.sh": says("one"),
    "repo-main/fns/two/fn.sh": says("two"),
}


class FromSite(Case):
    def setUp(self):
        super().setUp()
        if Run.remote and not Run.remote.management.startswith(("http://127.", "http://localhost")):
            self.skipTest("the server under test is elsewhere and cannot reach this machine's loopback")
        self.answers_by_path = {"/a.zip": sends(folders.zip_of(ARCHIVE))}
        self.site = LocalSite(self.answers_by_path)
        self.addCleanup(self.site.close)

    def fetch(self, path, subfolder=None, name=None, environment="binary", **more):
        self.name = name or new_name("url")
        self.addCleanup(self.remove, self.name)
        url = path if "://" in path or ":" in path else self.site.url + path
        body = {"name": self.name, "env": environment, "threads": 1, "url": url, **more}
        if subfolder is not None:
            body["subfolder_path"] = subfolder
        return self.manage("/uploadURL", body)


class UploadUrl(FromSite):
    def test_the_top(self):
        for subfolder in (None, "", "/", ".", "./"):
            with self.subTest(subfolder=subfolder):
                answer = self.fetch("/a.zip", subfolder)
                self.assertEqual(answer.status, 200, answer.text)
                self.assertIn(f"/{self.name}", answer.text)
                self.answers(self.name, "top")

    def test_a_subfolder(self):
        for subfolder in ("repo-main/fns/one", "/repo-main/fns/one/", "repo-main//fns/./one"):
            with self.subTest(subfolder=subfolder):
                self.assertEqual(self.fetch("/a.zip", subfolder).status, 200)
                self.answers(self.name, "one")

    def test_a_subfolder_cannot_leave_the_archive(self):
        for subfolder in ("../../..", "repo-main/../../..", "..", "../etc", "/../x"):
            with self.subTest(subfolder=subfolder):
                self.refused(self.fetch("/a.zip", subfolder), (400, 422), "subfolder_path")
                self.assertNotIn(self.name, self.names())

    def test_a_subfolder_that_is_not_there(self):
        self.refused(self.fetch("/a.zip", "repo-main/fns/three"), 422, "repo-main/fns/three")
        self.refused(self.fetch("/a.zip", "repo-main/fns/one/fn.sh"), 422, "fn.sh")

    def test_envs(self):
        self.answers_by_path["/e.zip"] = sends(folders.zip_of({"fn.sh": '#!/bin/sh\nprintf "$LAB"\n'}))
        self.assertEqual(self.fetch("/e.zip", envs=["LAB=edge"]).status, 200)
        self.answers(self.name, "edge")

    def test_a_query_belongs_to_the_url(self):
        self.assertEqual(self.fetch("/a.zip?raw=1").status, 200)
        self.answers(self.name, "top")

    def test_a_redirect_is_followed(self):
        self.answers_by_path["/r"] = sends(b"", 302, Location="/a.zip")
        self.assertEqual(self.fetch("/r").status, 200)
        self.answers(self.name, "top")

    def test_a_missing_file_is_reported(self):
        self.refused(self.fetch("/none.zip"), FAILED, "404", "127.0.0.1")
        self.assertNotIn(self.name, self.names())

    def test_a_redirect_loop_ends(self):
        self.answers_by_path["/loop"] = sends(b"", 302, Location="/loop")
        self.refused(self.fetch("/loop"), FAILED, "redirect")

    def test_a_redirect_to_a_file_is_refused(self):
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
            with self.subTest(target=target):
                self.answers_by_path["/file"] = sends(b"", 302, Location=target)
                self.refused(self.fetch("/file"), FAILED)

    def test_other_schemes_are_refused(self):
        for url in ("file:///etc/passwd", "ftp://127.0.0.1/x.zip", "no url", "", "gopher://x", "//x/y"):
            with self.subTest(url=url):
                body = {"name": new_name("url"), "env": "binary", "threads": 1, "url": url}
                self.refused(self.manage("/uploadURL", body), (400, 422), "url")

    def test_what_is_no_zip_is_refused(self):
        self.answers_by_path["/page"] = sends(b"<html>not a zip</html>")
        self.refused(self.fetch("/page"), (400, 422), "zip")

    def test_a_host_that_does_not_answer_is_reported(self):
        self.refused(self.fetch("http://127.0.0.1:1/x.zip"), FAILED, "127.0.0.1")
        self.refused(self.fetch("http://no-such-host.invalid/x.zip"), FAILED, "no-such-host.invalid")

    def test_a_download_cut_off_is_reported(self):
        def cut(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", "5000")
            handler.end_headers()
            handler.wfile.write(b"PK\x03\x04")
            handler.wfile.flush()
            handler.close_connection = True

        self.answers_by_path["/cut.zip"] = cut
        self.refused(self.fetch("/cut.zip"), FAILED)

    def test_a_failed_replacement_changes_nothing(self):
        self.assertEqual(self.fetch("/a.zip").status, 200)
        name = self.name
        self.refused(self.fetch("/none.zip", name=name), FAILED)
        self.answers(name, "top")

    def test_what_is_missing_is_named(self):
        body = {"name": new_name("url"), "env": "binary", "threads": 1}
        self.refused(self.manage("/uploadURL", body), (400, 422), "url")


class Script(FromSite):
    def test_both_orders_of_arguments(self):
        url = self.site.url + "/a.zip"
        for arguments in (
            (url, "repo-main/fns/two", None, "binary", 1),
            (url, None, "binary", 1, "repo-main/fns/two"),
        ):
            with self.subTest(arguments=arguments):
                name = new_name("order")
                self.addCleanup(self.remove, name)
                done = self.run_script("uploadURL.sh", *(name if a is None else a for a in arguments))
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn(name.encode(), done.stdout)
                self.answers(name, "two")

    def test_a_failure_is_not_zero_with_the_servers_words(self):
        done = self.run_script("uploadURL.sh", self.site.url + "/none.zip", "/", new_name("none"), "binary", 1)
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"404", done.stderr)


if __name__ == "__main__":
    unittest.main()
