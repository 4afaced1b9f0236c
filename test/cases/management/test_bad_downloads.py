"""Downloads that go wrong: each with its exact outcome."""

import gzip
import json
import os
import time
import unittest

from blackbox import folders
from blackbox.bad_input import BadInput
from blackbox.case import OwnServerCase, new_name
from blackbox.server import LocalSite, sends

ECHO = {"fn.sh": "#!/bin/sh\ncat\n", "repo/fns/one/fn.sh": "#!/bin/sh\nprintf one\n"}
TOO_LARGE = "the zip is larger than the 65536 bytes that are allowed"
NOT_FOLLOWED = "it redirects to {}:, and only http: and https: are followed"


def endless(head, part):
    """An answer that goes on until its reader has had enough."""

    def answer(handler):
        handler.close_connection = True
        try:
            handler.wfile.write(head)
            while True:
                handler.wfile.write(part)
        except OSError:
            pass

    return answer


def slow(handler):
    """Never silent, never done."""
    handler.send_response(200)
    handler.send_header("Content-Length", "50")
    handler.end_headers()
    try:
        for _ in range(50):
            handler.wfile.write(b"P")
            handler.wfile.flush()
            time.sleep(0.1)
    except OSError:
        pass


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b"PK\x03\x04")
    handler.close_connection = True


class BadDownloads(BadInput, OwnServerCase):
    settings = {
        "TF_DOWNLOAD_TIMEOUT": "700ms", "TF_ZIP_PACKED_MAX": "64KiB", "TF_DOWNLOAD_REDIRECTS": "2",
        "http_proxy": None, "https_proxy": None, "HTTP_PROXY": None, "HTTPS_PROXY": None, "ALL_PROXY": None,
        "all_proxy": None,
    }

    def setUp(self):
        super().setUp()
        self.paths = {"/a.zip": sends(folders.zip_of(ECHO))}
        self.site = LocalSite(self.paths)
        self.addCleanup(self.site.close)
        self.host = self.site.url.split("//")[1]

    def fetch(self, url, **more):
        self.name = new_name("bad")
        self.addCleanup(self.remove, self.name)
        url = self.site.url + url if isinstance(url, str) and url.startswith("/") and not url.startswith("//") else url
        return self.manage("/uploadURL", {"name": self.name, "env": "binary", "url": url, **more})

    def fails(self, url, status, sentence):
        """The download fails in these words, behind those that name its host."""
        self.refused_with(self.fetch(url), status, f"the download from {self.host} failed: {sentence}")

    def test_an_answer_that_is_no_success(self):
        login = "; the archive must be there for everybody, without a login"
        for status, sentence in (
            (404, "it answers 404 Not Found; does the URL lead to the archive itself?"),
            (410, "it answers 410 Gone; does the URL lead to the archive itself?"),
            (401, "it answers 401 Unauthorized" + login), (403, "it answers 403 Forbidden" + login),
            (500, "it answers 500 Internal Server Error\n"), (503, "it answers 503 Service Unavailable\n"),
            (304, "it answers 304 Not Modified\n"),
        ):
            with self.subTest(status=status):
                self.paths["/answer"] = sends(b"" if status == 304 else b"words of its own", status)
                self.fails("/answer", 502, sentence)

    def test_a_timeout(self):
        self.paths["/slow"] = slow
        self.paths["/silent"] = lambda handler: time.sleep(1.5)
        for path in ("/slow", "/silent"):
            with self.subTest(path=path):
                began = time.monotonic()
                answer = self.fetch(path)
                sentence = f"the download from {self.host} took longer than the 700ms it may take"
                self.refused_with(answer, 504, sentence)
                self.assertLess(time.monotonic() - began, 5)

    def test_a_redirect_loop(self):
        self.paths["/loop"] = sends(b"", 302, Location="/loop")
        self.paths["/to"], self.paths["/fro"] = (sends(b"", 307, Location=to) for to in ("/fro", "/to"))
        for path in ("/loop", "/to"):
            with self.subTest(path=path):
                self.fails(path, 502, "it redirects more than 2 times")

    def test_redirects_up_to_the_limit(self):
        for number in range(1, 4):
            target = "/a.zip" if number == 1 else f"/r{number - 1}"
            self.paths[f"/r{number}"] = sends(b"", 307, Location=target)
        self.assertEqual(self.fetch("/r2").status, 200)
        self.answers(self.name, "x", "x")
        self.fails("/r3", 502, "it redirects more than 2 times")

    def test_a_redirect_to_what_is_not_the_web(self):
        for target, scheme in (
            ("file:///etc/passwd", "file"), ("FILE:/etc/passwd", "file"), ("ftp://127.0.0.1/x", "ftp"),
            ("data:,x", "data"), ("unix:///run/docker.sock", "unix"), ("javascript:1", "javascript"),
        ):
            with self.subTest(target=target):
                self.paths["/away"] = sends(b"", 302, Location=target)
                self.fails("/away", 502, NOT_FOLLOWED.format(scheme))
        self.paths["/nowhere"] = sends(b"", 302)
        self.fails("/nowhere", 502, "it answers 302 Found")

    def test_what_is_no_zip(self):
        whole = folders.zip_of(ECHO)
        for body, why in (
            (b"", "the zip has no bytes"), (b"just text", "this is no zip archive"),
            (b"<!doctype html>", "this is no zip archive, it looks like a web page"),
            (b'{"message":"Not Found"}', "this is no zip archive, it looks like JSON"),
            (gzip.compress(whole), "this is no zip archive, it looks like a gzip file, such as a .tar.gz"),
            (whole[:-30], "the zip archive is cut off or damaged: the directory at its end cannot be read"),
        ):
            with self.subTest(body=body[:20]):
                self.paths["/page"] = sends(body)
                self.refused_with(self.fetch("/page"), 422, f"what {self.host} sent cannot be unpacked: {why}\n")

    def test_an_endless_body(self):
        start = b"HTTP/1.1 200 OK\r\n"
        self.paths["/bare"] = endless(start + b"Connection: close\r\n\r\n", b"x" * 65536)
        self.paths["/chunks"] = endless(start + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65536 + b"\r\n")
        self.paths["/said"] = sends(os.urandom(70_000))
        for path in ("/bare", "/chunks", "/said"):
            with self.subTest(path=path):
                self.refused_with(self.fetch(path), 413, TOO_LARGE)
        self.paths["/headers"] = endless(start, b"X-A: " + b"x" * 1000 + b"\r\n")
        self.fails("/headers", 502, "message head is too large")

    def test_a_body_cut_off(self):
        self.paths["/cut"] = cut_off
        self.fails("/cut", 502, "")

    def test_a_subfolder_that_leaves_the_archive(self):
        for subfolder in ("../../..", "..", "repo/../../..", "/../x", "../etc", "a\\b", "a\x00b", "x" * 300):
            with self.subTest(subfolder=subfolder[:20]):
                shown = json.dumps(subfolder).replace("\\u0000", "\\0") if len(subfolder) < 100 else '"' + "x" * 100 + '"…'
                answer = self.fetch("/a.zip", subfolder_path=subfolder)
                self.refused_with(answer, 422, f"subfolder_path {shown} is no folder inside an archive")

    def test_a_subfolder_that_is_not_there(self):
        for subfolder, shown in (
            ("repo/fns/two", "repo/fns/two"), ("repo/fns/one/fn.sh", "repo/fns/one/fn.sh"), ("REPO", "REPO"),
            ("/etc", "etc"), ("x/" * 5000, "x/" * 50),
        ):
            with self.subTest(subfolder=subfolder[:20]):
                answer = self.fetch("/a.zip", subfolder_path=subfolder)
                self.refused_with(answer, 422, f'the archive has no folder "{shown}"', '; at its top it has "fn.sh", "repo"')
        for subfolder, found in ((3, "a number"), ([], "a list")):
            answer = self.fetch("/a.zip", subfolder_path=subfolder)
            self.refused_with(answer, 422, f'"subfolder_path" is {found}; it must be a string')

    def test_urls_that_are_not_fetched(self):
        scheme = '"url" has the scheme "{}"; send one that starts with http:// or https://'
        for url, sentence in (
            ("file:///etc/passwd", scheme.format("file")), ("ftp://127.0.0.1/x.zip", scheme.format("ftp")),
            ("gopher://x", scheme.format("gopher")), ("no url", '"url" is not a URL'), ("", '"url" is not a URL'),
            ("//x/y", '"url" is not a URL'), ("http://", '"url" is not a URL'), ("http://[::1", '"url" is not a URL'),
            ("http://127.0.0.1:99999/", '"url" is not a URL'), ("x" * 50_000 + ":y", '"url" has the scheme'),
            (None, 'the body lacks "url": where the zip archive lies'), (3, '"url" is a number; it must be a string'),
        ):
            with self.subTest(url=str(url)[:30]):
                self.refused_with(self.fetch(url), 422, sentence)

    def test_servers_that_are_not_there(self):
        for url, host, why in (
            ("http://127.0.0.1:1/x.zip", "127.0.0.1:1", "Connection refused (os error 111)"),
            ("http://user:hidden@127.0.0.1:1/x", "127.0.0.1:1", "Connection refused (os error 111)"),
            ("http://no-such-host.invalid/x", "no-such-host.invalid", ""),
            (f"https://{self.host}/a.zip", self.host, "it does not speak TLS there; is http:// meant?"),
        ):
            with self.subTest(url=url):
                answer = self.fetch(url)
                self.refused_with(answer, 502, f"the download from {host} failed: {why}")
                self.assertNotIn("hidden", answer.text)


if __name__ == "__main__":
    unittest.main()
