"""/v1/functions: deploying by every kind of body, looking, deleting."""

import json
import threading

from blackbox import folders, http
from blackbox.case import Case, OwnServerCase, new_name, need_environment
from blackbox.server import LocalSite, sends

ECHO = {"fn.sh": folders.File("#!/bin/sh\ncat\n", 0o755)}
SLOW_START = "import time\nprint('one moment', flush=True)\ndef fn(input): return input\n"


def events(answer):
    """The events of a deploy that was asked for as JSON lines."""
    return [json.loads(line) for line in answer.text.splitlines()]


class Functions(Case):
    def put(self, name, body, query="", headers=()):
        self.addCleanup(self.remove, name)
        return self.manage(f"/v1/functions/{name}{query}", body, "PUT", headers)

    def function(self, name):
        answer = self.manage(f"/v1/functions/{name}")
        self.assertEqual(answer.status, 200, answer.text)
        return json.loads(answer.text)

    def test_a_raw_zip_or_tar_gz_is_deployed(self):
        for kind, pack in (("application/zip", folders.zip_of), ("application/gzip", folders.tar_gz_of),
                           ("application/octet-stream", folders.tar_gz_of), (None, folders.zip_of)):
            with self.subTest(kind=kind, pack=pack.__name__):
                name = new_name("raw")
                answer = self.put(name, pack(ECHO), "?env=binary&threads=2", {"Content-Type": kind})
                self.assertEqual(answer.status, 201, answer.text)
                self.assertEqual(answer.header("Location"), f"/v1/functions/{name}")
                function = json.loads(answer.text)
                self.assertEqual((function["name"], function["env"], function["threads"]), (name, "binary", 2))
                self.assertEqual(function["handlers"]["ready"], 2)
                self.assertEqual(function["state"], "healthy")
                self.answers(name, "hello", "hello")
                self.assertEqual(function["urls"]["http"], f"{self.server.http}/{name}")

    def test_a_replacement_is_told_apart_and_counted(self):
        name = new_name("twice")
        self.assertEqual(self.put(name, folders.zip_of(ECHO), "?env=binary").status, 201)
        self.answers(name, "x", "x")
        answer = self.put(name, folders.zip_of(ECHO), "?env=binary")
        self.assertEqual((answer.status, json.loads(answer.text)["version"]), (200, 2))
        self.assertEqual(self.function(name)["calls"]["succeeded"], 1)

    def test_curl_uploads_a_file_and_a_form(self):
        folder = self.folder()
        (folder / "fn.tar.gz").write_bytes(folders.tar_gz_of(ECHO))
        (folder / "fn.zip").write_bytes(folders.zip_of(ECHO))
        raw, form = new_name("file"), new_name("form")
        for name in (raw, form):
            self.addCleanup(self.remove, name)
        url = f"{self.server.management}/v1/functions/"
        done = self.curl("--fail-with-body", "--upload-file", folder / "fn.tar.gz", f"{url}{raw}?env=binary")
        self.assertEqual(done.returncode, 0, done.stdout)
        self.answers(raw, "hello", "hello")
        settings = '{"env": "binary", "envs": ["TOKEN=secret"], "threads": 2}'
        done = self.curl("--fail-with-body", "--request", "PUT", "--form", f"archive=@{folder / 'fn.zip'}",
                         "--form", f"settings={settings}", url + form)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertNotIn(b"secret", done.stdout)
        function = self.function(form)
        self.assertEqual((function["envs"], function["threads"]), (["TOKEN"], 2))
        done = self.curl("--request", "PUT", "--form", f"archive=@{folder / 'fn.zip'}",
                         "--form", "env=binary", "--form", "envs=A=1", "--form", "envs=B=2", url + form)
        self.assertEqual(self.function(form)["envs"], ["A", "B"], done.stdout)

    def test_a_url_is_downloaded(self):
        site = LocalSite({"/repo.tar.gz": sends(folders.tar_gz_of({"repo/fns/echo/fn.sh": ECHO["fn.sh"]}))})
        self.addCleanup(site.close)
        name = new_name("url")
        body = json.dumps({"url": site.url + "/repo.tar.gz", "subfolder_path": "repo/fns/echo", "env": "binary"})
        answer = self.put(name, body, headers={"Content-Type": "application/json"})
        self.assertEqual(answer.status, 201, answer.text)
        self.answers(name, "hello", "hello")
        body = json.dumps({"url": site.url + "/none", "env": "binary"})
        answer = self.put(name, body, headers={"Content-Type": "application/json"})
        self.refused(answer, 502, "404")
        self.assertIn("404", self.function(name)["build"]["problem"])
        self.answers(name, "still", "still")

    def test_progress_is_told_as_it_happens(self):
        need_environment(self, "python3")
        name = new_name("progress")
        lines = {"Accept": "application/x-ndjson"}
        answer = self.put(name, folders.zip_of({"fn.py": SLOW_START}), "?env=python3", lines)
        self.assertEqual((answer.status, answer.header("Content-Type")), (200, "application/x-ndjson"))
        told = events(answer)
        kinds = [event["event"] for event in told if event["event"] != "output"]
        self.assertEqual(kinds, ["queued", "unpacking", "building", "starting", "ready"])
        self.assertIn({"event": "output", "text": "one moment"}, told)
        self.assertEqual((told[-1]["function"]["name"], told[-1]["replaced"]), (name, False))
        broken = folders.zip_of({"fn.py": "def fn(:\n"})
        told = events(self.put(name, broken, "?env=python3", lines))
        self.assertEqual((told[-1]["event"], told[-1]["status"]), ("failed", 422))
        self.assertIn("SyntaxError", told[-1]["detail"] + told[-1].get("output", ""))
        function = self.function(name)
        self.assertFalse(function["build"]["succeeded"])
        self.assertIn("SyntaxError", function["build"]["problem"])
        self.answers(name, "x", "x")

    def test_who_stops_listening_stops_no_deploy(self):
        need_environment(self, "python3")
        name = new_name("left")
        self.addCleanup(self.remove, name)
        body = folders.zip_of({"fn.py": "import time\ntime.sleep(0.5)\ndef fn(input): return input\n"})
        with http.open_socket(self.server.management) as connection:
            head = (f"PUT /v1/functions/{name}?env=python3 HTTP/1.1\r\nHost: localhost\r\n"
                    f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n")
            connection.sendall(head.encode() + body)
            seen = b""
            while b"starting" not in seen:
                seen += connection.recv(4096)
            self.assertIn(b"text/event-stream", seen)
        self.eventually(lambda: self.call(name, "x").status, lambda status: status == 200, "deployed")

    def test_wrong_names_suggest_near_ones(self):
        name = self.deploy("binary", ECHO, name=new_name("sieve"))
        for method in ("GET", "DELETE"):
            answer = self.manage(f"/v1/functions/{name[:-1]}", method=method)
            self.refused(answer, 404, "meant?")
            self.assertIn(name, json.loads(answer.text)["suggestions"])

    def test_a_function_is_deleted(self):
        name = self.deploy("binary", ECHO)
        listed = json.loads(self.manage("/v1/functions").text)["functions"]
        self.assertIn(name, [function["name"] for function in listed])
        answer = self.manage(f"/v1/functions/{name}", method="DELETE")
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(self.manage(f"/v1/functions/{name}").status, 404)
        self.assertEqual(self.call(name, "x").status, 404)

    def test_archives_are_judged_whatever_they_are(self):
        name = new_name("bad")
        for entries, words in (
            ({"../evil": "x"}, "'..'"),
            ({"/evil": "x"}, "root"),
            ({"fn.sh": folders.Link("/etc/passwd")}, "absolute"),
            ([("fn.sh", "1"), ("./fn.sh", "2")], "twice"),
        ):
            for pack in (folders.zip_of, folders.tar_gz_of):
                with self.subTest(entries=entries, pack=pack.__name__):
                    self.refused(self.put(name, pack(entries), "?env=binary"), 422, words)
        whole = folders.tar_gz_of({"fn.sh": "x" * 100_000, "other": str(list(range(50_000)))})
        self.refused(self.put(name, whole[: len(whole) // 2], "?env=binary"), 400, "cut off")
        self.refused(self.put(name, b"hello", "?env=binary"), 400, "neither a zip nor a tar.gz")
        self.assertEqual(self.manage(f"/v1/functions/{name}").status, 404)

    def test_what_functions_print_is_followed(self):
        name = self.deploy("binary", {"fn.sh": folders.File("#!/bin/sh\necho \"saw $(cat)\" >&2\n", 0o755)})
        self.call(name, "one")
        self.wait_for_log(name, "saw one")
        text = self.manage(f"/v1/functions/{name}/logs?tail=1").text
        self.assertEqual(text.count("\n"), 1)
        self.assertIn("saw one", text)
        lines = self.manage(f"/v1/functions/{name}/logs?since=1h", headers={"Accept": "application/x-ndjson"})
        lines = events(lines)
        self.assertEqual((lines[-1]["function"], lines[-1]["text"]), (name, "saw one"))
        self.assertEqual(self.manage(f"/v1/functions/{name}/logs?since=2999-01-01T00:00:00Z").text, "")
        self.assertIn("saw one", self.manage("/v1/logs").text)
        followed, seen = threading.Event(), []

        def follow():
            with http.open_socket(self.server.management) as connection:
                connection.sendall(f"GET /v1/functions/{name}/logs?follow=true&tail=1 HTTP/1.1\r\n"
                                   "Host: localhost\r\nConnection: close\r\n\r\n".encode())
                received = b""
                while part := connection.recv(65536):
                    received += part
                    if b"saw one" in received:
                        followed.set()
                seen.append(received.decode())

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        self.assertTrue(followed.wait(20))
        self.call(name, "two")
        self.wait_for_log(name, "saw two")
        # It ends with the function.
        self.manage(f"/v1/functions/{name}", method="DELETE")
        follower.join(20)
        self.assertTrue(seen and "saw two" in seen[0], seen)


class Server(Case):
    def test_the_server_tells_of_itself(self):
        for path in ("/healthz", "/readyz"):
            answer = self.manage(path)
            self.assertEqual((answer.status, answer.text), (200, "ok\n"))
        server = json.loads(self.manage("/v1/server").text)
        self.assertEqual(server["endpoints"]["http"], http.host_and_port(self.server.http)[1])
        self.assertEqual([runtime["env"] for runtime in server["runtimes"]], ["python3", "nodejs", "binary"])
        self.assertGreater(server["uptime_seconds"], 0)
        index = json.loads(self.manage("/v1").text)
        for link in index["links"].values():
            self.assertEqual(self.manage(link).status, 200, link)

    def test_calls_are_listed_and_cancelled(self):
        slow = {"fn.sh": folders.File("#!/bin/sh\nsleep 60\n", 0o755)}
        name = self.deploy("binary", slow)
        accepted = self.call(name, "x", headers={"X-tinyFaaS-Async": "true"})
        call = accepted.header("X-tinyFaaS-Call-Id")
        running = f"/v1/calls?function={name}&state=running"
        page = self.eventually(
            lambda: json.loads(self.manage(running).text)["calls"], bool, "a running call"
        )
        self.assertEqual([one["id"] for one in page], [call])
        cancelled = self.manage(f"/v1/calls/{call}", method="DELETE")
        self.assertEqual((cancelled.status, json.loads(cancelled.text)["state"]), (200, "cancelled"))
        self.assertEqual(json.loads(self.manage(f"/v1/calls/{call}").text)["state"], "cancelled")
        self.refused(self.manage("/v1/calls/0"), 404, "no call")


class Stopping(OwnServerCase):
    settings = None

    def test_a_follower_holds_no_stop_up(self):
        server = self.start()
        with http.open_socket(server.management) as connection:
            connection.sendall(b"GET /v1/logs?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
            connection.recv(4096)
            self.ends_clean(server, timeout=5)
