"""POST /upload: what it takes, what it answers, what it refuses."""

import base64
import json
import os
import unittest

from blackbox import folders
from blackbox.case import Case, OwnServerCase, new_name
from blackbox.http import host_and_port, request
from blackbox.server import Server

ECHO = "#!/bin/sh\ncat\n"


class Upload(Case):
    def urls(self, host, name):
        """What an upload is answered with, by protocol in the order of old."""
        grpc = self.server.grpc and f"//{self.server.grpc}"
        endpoints = (("coap", self.server.coap), ("http", self.server.http), ("grpc", grpc))
        ports = [(protocol, host_and_port(url)[1]) for protocol, url in endpoints if url]
        return [f"{protocol}://{host}:{port}/{name}" for protocol, port in ports]

    def test_answers_with_the_addresses_to_call(self):
        name = new_name("urls")
        self.addCleanup(self.remove, name)
        answer = self.upload(name, "binary", "echo-binary")
        self.assertEqual(answer.status, 200)
        host, _ = host_and_port(self.server.http)
        self.assertEqual(answer.text.splitlines(), self.urls(host, name))

    def test_the_host_is_the_one_that_was_asked(self):
        name = new_name("host")
        self.addCleanup(self.remove, name)
        body = {"name": name, "env": "binary", "threads": 1}
        body["zip"] = base64.b64encode(folders.sample("echo-binary")).decode()
        management = host_and_port(self.server.management)[1]
        for host, shown in (("localhost", "localhost"), ("192.0.2.7", "192.0.2.7"), ("[2001:db8::1]", "[2001:db8::1]")):
            with self.subTest(host=host):
                answer = self.manage("/upload", body, headers={"Host": f"{host}:{management}"})
                self.assertEqual((answer.status, answer.text.split()), (200, self.urls(shown, name)))

    def test_json_is_json_whatever_its_content_type(self):
        name = new_name("form")
        self.addCleanup(self.remove, name)
        folder = self.folder()
        body = {"name": name, "env": "binary", "threads": 1}
        body["zip"] = base64.b64encode(folders.sample("echo-binary")).decode()
        (folder / "body").write_text(json.dumps(body))
        done = self.curl("--data", f"@{folder / 'body'}", self.server.management + "/upload")
        self.assertIn(name.encode(), done.stdout)
        self.answers(name, "x", "x")

    def test_keys_match_whatever_their_case_and_unknown_ones_are_ignored(self):
        name = new_name("keys")
        self.addCleanup(self.remove, name)
        packed = base64.b64encode(folders.sample("echo-binary")).decode()
        body = {"Name": name, "ENV": "binary", "tHreads": 1, "Zip": packed, "colour": {"deep": [1]}}
        answer = self.manage("/upload", body)
        self.assertEqual(answer.status, 200, answer.text)
        self.answers(name, "x", "x")

    def test_line_breaks_inside_the_zip_are_allowed(self):
        name = new_name("breaks")
        self.addCleanup(self.remove, name)
        for line_break in ("\n", "\r\n"):
            with self.subTest(line_break=line_break):
                packed = base64.encodebytes(folders.sample("echo-binary")).decode()
                body = {"name": name, "env": "binary", "threads": 1}
                answer = self.manage("/upload", {**body, "zip": packed.replace("\n", line_break)})
                self.assertEqual(answer.status, 200, answer.text)

    def test_threads_missing_means_one(self):
        name = self.deploy("binary", {"fn.sh": "#!/bin/sh\necho $$\n"}, threads=None)
        self.assertEqual(self.call(name).status, 200)

    def test_threads_that_make_no_sense_are_refused(self):
        for threads in (0, -1, 1_000_000_000, 1.5, "many", 10**30):
            with self.subTest(threads=threads):
                answer = self.upload(new_name("threads"), "binary", "echo-binary", threads)
                self.refused(answer, (400, 422) if isinstance(threads, str) else 422, "threads")

    def test_names_that_make_no_sense_are_refused(self):
        wrong = ("", "-a", "_a", "a b", "a/b", "../x", ".x", "é", "a" * 64, "a\n", "a\x00b")
        for name in wrong:
            with self.subTest(name=name):
                self.refused(self.upload(name, "binary", "echo-binary"), 422, "name")
        self.assertEqual([n for n in self.names() if n in wrong], [])

    def test_names_at_their_limits_work(self):
        for name in ("a" * 63, "9", "A-b_9"):
            with self.subTest(name=name):
                self.deploy("binary", "echo-binary", name=name)
                self.answers(name, "x", "x")

    def test_names_that_differ_in_case_are_two_functions(self):
        name = new_name("case")
        for one in (name, name.upper()):
            self.deploy("binary", {"fn.sh": f"#!/bin/sh\nprintf {one}\n"}, name=one)
        self.answers(name, name)
        self.answers(name.upper(), name.upper())

    def test_an_unknown_environment_is_refused(self):
        self.refused(self.upload(new_name("env"), "cobol", "echo-binary"), 422, "cobol", "python3")
        self.refused(self.upload(new_name("env"), "", "echo-binary"), 422, "python3")

    def test_what_is_missing_is_named(self):
        body = {"name": "x", "env": "binary", "threads": 1, "zip": ""}
        # A missing "env" is a matter of the folder too: test/cases/settings.
        for key in ("name", "zip"):
            with self.subTest(key=key):
                answer = self.manage("/upload", {k: v for k, v in body.items() if k != key})
                self.refused(answer, (400, 422), key)

    def test_what_is_not_json_is_refused(self):
        for text in ("", "{", "[]", "null", '"x"', "name=x&env=binary", '{"name":"x"', b"\xff\xfe"):
            with self.subTest(text=text):
                self.refused(self.manage("/upload", text, "POST"), (400, 422))

    def test_what_is_no_base64_is_refused(self):
        for text in ("####", "A", "QUJD=QUJD", "ÄÖÜ"):
            with self.subTest(text=text):
                body = {"name": "x", "env": "binary", "threads": 1, "zip": text}
                self.refused(self.manage("/upload", body), (400, 422))

    def test_what_is_no_zip_is_refused(self):
        answer = self.upload(new_name("nozip"), "binary", b"this is no zip file at all")
        self.refused(answer, (400, 422), "zip")
        answer = self.upload(new_name("cut"), "binary", folders.sample("echo-binary")[:-30])
        self.refused(answer, (400, 422), "zip")

    def test_a_folder_without_a_function_is_refused(self):
        for environment, missing in (("python3", "fn.py"), ("binary", "fn.sh"), ("nodejs", "package.json")):
            with self.subTest(environment=environment):
                if environment == "nodejs":
                    from blackbox.case import need_environment

                    need_environment(self, environment)
                name = new_name("empty")
                answer = self.upload(name, environment, {"readme.txt": "nothing here"})
                self.refused(answer, 422, missing)
                self.assertNotIn(name, self.names())

    def test_a_failed_first_upload_leaves_nothing(self):
        name = new_name("fails")
        answer = self.upload(name, "python3", {"fn.py": "raise RuntimeError('not on my watch')\n"})
        self.refused(answer, 422, "not on my watch")
        self.assertNotIn(name, self.names())
        self.assertEqual(self.call(name).status, 404)

    def test_errors_are_problem_details_where_json_is_accepted(self):
        answer = self.manage("/upload", "{", "POST", {"Accept": "application/json"})
        self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        problem = json.loads(answer.body)
        self.assertEqual(problem["status"], answer.status)
        self.assertTrue(problem["title"] or problem["detail"])
        answer = self.manage("/upload", "{", "POST", {"Accept": "application/problem+json"})
        self.assertEqual(answer.header("Content-Type"), "application/problem+json")
        answer = self.manage("/upload", "{", "POST", {"Accept": "*/*"})
        self.assertTrue(answer.header("Content-Type").startswith("text/plain"), answer.headers)

    def test_envs_reach_the_function_and_no_log(self):
        secret = "s3cr3t-of-this-test"
        name = self.script(
            "#!/bin/sh\nprintf '%s|%s|%s' \"$TOKEN\" \"$EMPTY\" \"$TWO\"\n",
            envs=[f"TOKEN={secret}", "EMPTY=", "no-equals-sign", "TWO=a=b", "TOKEN=" + secret],
        )
        self.answers(name, f"{secret}||a=b")
        self.assertNotIn(secret, self.logs())
        if isinstance(self.server, Server):
            self.assertNotIn(secret, self.server.output())

    def test_envs_that_make_no_sense_are_refused(self):
        for envs in ("A=B", [1], {"A": "B"}, ["A=\x00"]):
            with self.subTest(envs=envs):
                answer = self.upload(new_name("envs"), "binary", "echo-binary", envs=envs)
                self.refused(answer, (400, 422))

    def test_replacing_serves_the_new_one(self):
        name = self.script("#!/bin/sh\nprintf one\n")
        self.answers(name, "one")
        self.assertEqual(self.upload(name, "binary", {"fn.sh": "#!/bin/sh\nprintf two\n"}).status, 200)
        self.answers(name, "two")
        self.assertEqual(self.names().count(name), 1)

    def test_replacing_by_another_environment(self):
        name = self.script("#!/bin/sh\nprintf one\n")
        answer = self.upload(name, "python3", {"fn.py": "def fn(input, headers): return 'two'\n"})
        self.assertEqual(answer.status, 200, answer.text)
        self.answers(name, "two")

    def test_a_failed_replacement_changes_nothing(self):
        name = self.script("#!/bin/sh\nprintf one\n")
        broken = (
            ("python3", {"fn.py": "raise RuntimeError('broken')\n"}),
            ("python3", {"fn.py": "def other(): pass\n"}),
            ("python3", {"fn.py": "def fn(:\n"}),
            ("binary", {"readme": "x"}),
            ("cobol", {"fn.sh": ECHO}),
        )
        for environment, entries in broken:
            with self.subTest(environment=environment, entries=entries):
                self.refused(self.upload(name, environment, entries), 422)
                self.answers(name, "one")
        self.assertIn(name, self.names())

    def test_executable_bits_survive_and_fn_sh_needs_none(self):
        name = self.deploy(
            "binary",
            {
                "fn.sh": "#!/bin/sh\n./tool; test -x plain && echo plain || echo not\n",
                "tool": folders.File("#!/bin/sh\necho ran\n", 0o755),
                "plain": folders.File("#!/bin/sh\n", 0o644),
            },
        )
        self.answers(name, "ran\nnot\n")

    def test_a_zip_without_folder_entries(self):
        name = self.deploy("binary", {"deep/er/data": "found", "fn.sh": "#!/bin/sh\ncat deep/er/data\n"})
        self.answers(name, "found")

    def test_a_zip_with_folder_entries(self):
        entries = {"deep/": "", "deep/er/": "", "deep/er/data": "found", "fn.sh": "#!/bin/sh\ncat deep/er/data\n"}
        self.answers(self.deploy("binary", entries), "found")

    def test_what_is_unreadable_in_the_zip_becomes_readable_to_its_owner(self):
        entries = {"closed": folders.File("x", 0o000), "fn.sh": folders.File("#!/bin/sh\ncat closed\n", 0o000)}
        self.answers(self.deploy("binary", entries), "x")

    def test_names_beyond_ascii(self):
        name = self.deploy("binary", {"grüße ☃.txt": "winter", "fn.sh": "#!/bin/sh\ncat 'grüße ☃.txt'\n"})
        self.answers(name, "winter")


class OtherCalls(Case):
    def test_list_is_one_name_per_line(self):
        names = {self.deploy("binary", "echo-binary") for _ in range(2)}
        answer = self.manage("/list")
        self.assertLessEqual(names, set(answer.text.split("\n")))
        self.assertTrue(answer.text.endswith("\n"))

    def test_delete_is_empty_and_final(self):
        name = self.deploy("binary", "echo-binary")
        answer = self.manage("/delete", {"name": name})
        self.assertEqual((answer.status, answer.body), (200, b""))
        self.assertEqual(self.call(name, "x").status, 404)
        self.assertNotIn(name, self.names())
        self.refused(self.manage("/delete", {"name": name}), 404, name)

    def test_delete_of_nothing_that_can_be(self):
        self.refused(self.manage("/delete", {"name": "../x"}), (404, 422))
        self.refused(self.manage("/delete", {}), (400, 422), "name")
        self.refused(self.manage("/delete", "no json", "POST"), 400)

    def test_a_deleted_function_can_come_again(self):
        name = self.script("#!/bin/sh\nprintf one\n")
        self.manage("/delete", {"name": name})
        self.deploy("binary", {"fn.sh": "#!/bin/sh\nprintf two\n"}, name=name)
        self.answers(name, "two")

    def test_delete_lets_running_calls_end(self):
        import threading

        name = self.python("import time\ndef fn(input, headers):\n    print('began')\n    time.sleep(1)\n    return 'whole'\n")
        seen = []
        calling = threading.Thread(target=lambda: seen.append(self.call(name, "x").text))
        calling.start()
        self.wait_for_log(name, "began")
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        self.assertEqual(self.call(name, "x").status, 404)
        calling.join(20)
        self.assertEqual(seen, ["whole"])

    def test_unknown_paths_and_methods(self):
        self.refused(self.manage("/nowhere"), 404)
        for path, method, allowed in (
            ("/upload", "GET", "POST"), ("/uploadURL", "PUT", "POST"), ("/delete", "GET", "POST"),
            ("/wipe", "GET", "POST"), ("/list", "POST", "GET"), ("/logs", "DELETE", "GET"),
        ):
            with self.subTest(path=path, method=method):
                answer = self.manage(path, None, method)
                self.refused(answer, 405)
                self.assertIn(allowed, answer.header("Allow") or "")

    def test_head_is_answered_as_get_without_a_body(self):
        answer = self.manage("/list", None, "HEAD")
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_log_lines_have_their_form_and_order(self):
        name = self.python("def fn(input, headers):\n    print('line ' + input)\n")
        for number in range(3):
            self.answers(name, "", str(number))
        log = self.wait_for_log(name, "line 2")
        lines = [line for line in log.splitlines() if "line " in line]
        stamps = []
        for line, number in zip(lines, range(3)):
            self.assertRegex(
                line, rf"^function={name} handler=\S+ \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) line {number}$"
            )
            stamps.append(line.split()[2])
        self.assertEqual(stamps, sorted(stamps))

    def test_logs_of_all_stand_function_after_function(self):
        one, two = (self.python("def fn(input, headers): print('said ' + input)\n") for _ in range(2))
        for body in "ab":
            self.call(one, body)
            self.call(two, body)
        self.wait_for_log(one, "said b")
        self.wait_for_log(two, "said b")
        owners = [line.split()[0] for line in self.logs().splitlines() if " said " in line]
        mine = [owner for owner in owners if owner in (f"function={one}", f"function={two}")]
        self.assertEqual(mine, sorted(mine, key=mine.index))
        self.assertEqual(len(mine), 4)

    def test_logs_of_a_function_that_is_not_there(self):
        self.refused(self.manage("/logs?name=nobody"), 404, "nobody")

    def test_stderr_is_in_the_log_and_not_in_the_reply(self):
        name = self.script("#!/bin/sh\necho to the log >&2\nprintf reply\n")
        self.answers(name, "reply")
        self.wait_for_log(name, "to the log")


class Guard(Case):
    """Else any web page could deploy code."""

    def check(self, expected, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.manage("/list", None, "GET", named)
        self.assertEqual(answer.status, expected, (headers, answer.text))
        if expected == 403:
            self.assertTrue(answer.body.strip())

    def test_a_foreign_origin_is_refused(self):
        port = host_and_port(self.server.management)[1]
        for origin in ("http://evil.example", "https://localhost.evil.example", "null", f"http://evil.example:{port}"):
            with self.subTest(origin=origin):
                self.check(403, Origin=origin)

    def test_an_own_origin_is_taken(self):
        port = host_and_port(self.server.management)[1]
        self.check(200, Origin=f"http://localhost:{port}", Host=f"localhost:{port}")
        self.check(200, Origin=f"http://127.0.0.1:{port}", Host=f"127.0.0.1:{port}")

    def test_a_host_that_can_be_rebound_is_refused(self):
        port = host_and_port(self.server.management)[1]
        self.check(403, Host=f"evil.example:{port}")
        self.check(403, Host="evil.example")
        # That both are alike proves nothing.
        self.check(403, Host=f"evil.example:{port}", Origin=f"http://evil.example:{port}")

    def test_addresses_and_own_names_are_hosts(self):
        import socket

        for host in ("127.0.0.1", "[::1]", "localhost", "LOCALHOST", "192.0.2.1:8080", "localhost:1", socket.gethostname()):
            with self.subTest(host=host):
                self.check(200, Host=host)

    def test_it_stands_before_every_call(self):
        name = self.deploy("binary", "echo-binary")
        for path, body in (("/delete", {"name": name}), ("/wipe", ""), ("/upload", "{"), ("/uploadURL", "{")):
            with self.subTest(path=path):
                self.assertEqual(self.manage(path, body, "POST", {"Origin": "http://evil.example"}).status, 403)
        self.answers(name, "x", "x")


class ManagementHosts(OwnServerCase):
    settings = {"TF_MANAGEMENT_HOSTS": "faas.example, edge.lan"}

    def test_listed_hosts_are_taken(self):
        for host, status in (("faas.example", 200), ("edge.lan:9", 200), ("other.example", 403)):
            with self.subTest(host=host):
                self.assertEqual(self.manage("/list", None, "GET", {"Host": host}).status, status)


class Wipe(OwnServerCase):
    settings = {}

    def test_every_function_is_gone(self):
        names = [self.deploy("binary", "echo-binary") for _ in range(3)]
        names.append(self.deploy("python3", "echo"))
        answer = self.manage("/wipe", None, "POST")
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(self.manage("/list").text, "")
        for name in names:
            self.assertEqual(self.call(name, "x").status, 404)
        self.eventually(
            lambda: [f for f in (self.server.data / "functions").rglob("*")] if (self.server.data / "functions").exists() else [],
            lambda seen: not seen, "every function's folder gone",
        )

    def test_wiping_nothing(self):
        self.assertEqual(self.manage("/wipe", None, "POST").status, 200)


class Turns(Case):
    def test_uploads_of_one_name_take_turns(self):
        from concurrent.futures import ThreadPoolExecutor

        name = new_name("turns")
        self.addCleanup(self.remove, name)

        def upload(number):
            return self.upload(name, "binary", {"fn.sh": f"#!/bin/sh\nprintf {number}\n"}).status

        with ThreadPoolExecutor(4) as pool:
            self.assertEqual(set(pool.map(upload, range(12))), {200})
        self.assertIn(self.call(name).text, [str(number) for number in range(12)])
        self.assertEqual(self.names().count(name), 1)

    def test_each_is_answered_for_itself_and_the_last_success_is_live(self):
        from concurrent.futures import ThreadPoolExecutor

        name = new_name("turns")
        self.addCleanup(self.remove, name)
        good = {"fn.py": "def fn(input, headers): return 'good'\n"}
        bad = {"fn.py": "raise RuntimeError('bad')\n"}
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(self.upload, name, "python3", code) for code in (good, bad, good, bad)]
            statuses = [one.result().status for one in waiting]
        self.assertEqual(statuses, [200, 422, 200, 422])
        self.answers(name, "good")


class Memory(OwnServerCase):
    settings = {}

    def test_memory_does_not_grow_with_an_upload(self):
        name = new_name("big")
        packed = folders.zip_of({"fn.sh": "#!/bin/sh\nwc -c <blob\n", "blob": os.urandom(75_000_000)}, compress=False)
        body = json.dumps({"name": name, "env": "binary", "threads": 1, "zip": base64.b64encode(packed).decode()})
        self.assertGreater(len(body), 100_000_000)
        before = self.server.memory_peak()
        answer = request(self.server.management + "/upload", "POST", body, timeout=120)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertLess(self.server.memory_peak() - before, 24 << 20)
        self.assertEqual(int(self.call(name).text), 75_000_000)



class Limits(OwnServerCase):
    settings = {
        "TF_ZIP_PACKED_MAX": "64KiB",
        "TF_UPLOADS_MAX": "1",
    }

    def test_a_zip_too_large_is_413(self):
        packed = folders.zip_of({"fn.sh": ECHO, "blob": os.urandom(80_000)}, compress=False)
        self.refused(self.upload("large", "binary", packed), 413)
        self.assertEqual(self.names(), [])
        self.assertEqual(self.upload("small", "binary", "echo-binary").status, 200)

    def test_uploads_beyond_the_limit_are_503(self):
        import socket

        host, port = host_and_port(self.server.management)
        held = []

        def hold():
            """Another upload under way; the one of last time may have come second."""
            slow = socket.create_connection((host, port), 20)
            held.append(slow)
            slow.sendall(
                f"POST /upload HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5000\r\n\r\n".encode()
                + b'{"name":"slow","env":"binary","threads":1,"zip":"'
            )
            return self.upload("second", "binary", "echo-binary")

        answer = self.eventually(hold, lambda answer: answer.status == 503, "refused")
        self.refused(answer, 503)
        self.assertTrue(answer.header("Retry-After"))
        for slow in held:
            slow.close()
        self.eventually(
            lambda: self.upload("second", "binary", "echo-binary").status, lambda status: status == 200,
            "taken once the other has gone",
        )
        self.manage("/delete", {"name": "second"})


if __name__ == "__main__":
    unittest.main()
