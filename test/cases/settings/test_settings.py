"""tinyfaas.toml: what a function's folder says of itself."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from blackbox import folders
from blackbox.case import Case, OwnServerCase, new_name

ECHO = "#!/bin/sh\ncat\n"
SLEEPS = "#!/bin/sh\nsleep 30\n"


def shell(settings, code=ECHO):
    return {"fn.sh": code, "tinyfaas.toml": settings}


class FolderSettings(Case):
    def test_a_folder_may_say_it_all(self):
        settings = 'environment = "binary"\nthreads = 2\ndescription = "says what it hears"\nwaiting = 7\n'
        name = self.deploy("binary", shell(settings), name=new_name("says"))
        self.remove(name)
        answer = self.upload(name, None, shell(settings), None)
        self.assertEqual(answer.status, 200, answer.text)
        self.answers(name, "x", "x")

    def test_the_request_wins(self):
        name = self.deploy("binary", shell('environment = "python3"\nthreads = 3\n'))
        self.answers(name, "x", "x")

    def test_who_gives_no_environment_learns_both_ways(self):
        answer = self.upload(new_name("none"), None, {"fn.sh": ECHO})
        self.refused(answer, 422, '"env"', "tinyfaas.toml", "environment =", "python3, nodejs, binary")

    def test_mistakes_are_told_with_their_lines_and_all_at_once(self):
        settings = 'thread = 1\n\ncall_deadline = "soon"\nwaiting = true\n'
        answer = self.upload(new_name("wrong"), "binary", shell(settings))
        self.refused(
            answer, 422, 'tinyfaas.toml:1: there is no setting "thread"; is threads meant?',
            "tinyfaas.toml:3: call_deadline", "tinyfaas.toml:4: waiting is true",
        )

    def test_what_a_function_is_over_coap_is_told_and_held_to_what_links_carry(self):
        table = '[coap]\nobservable = true\nrt = "Type1 Type2"\nct = [0, 50]\ntitle = "W\u00e4rme"\n'
        name = self.deploy("binary", shell(table))
        answer = self.manage(f"/v1/functions/{name}")
        self.assertEqual(json.loads(answer.text)["coap"], {
            "observable": True, "rt": "Type1 Type2", "if": None, "ct": [0, 50], "sz": None, "title": "W\u00e4rme",
        })
        answer = self.upload(new_name("links"), "binary", shell("[coap]\nobs = true\nrt = 'a\"b'\n\nct = 65536\n"))
        self.refused(
            answer, 422, 'tinyfaas.toml:2: there is no setting "obs" in [coap]', "tinyfaas.toml:3: rt is",
            "tinyfaas.toml:5: ct is 65536; it must be the number of a content format",
        )

    def test_what_is_no_toml_is_told(self):
        answer = self.upload(new_name("broken"), "binary", shell("threads = 1\n= 2\n"))
        self.refused(answer, 422, "tinyfaas.toml:2: this is not toml")
        answer = self.upload(new_name("huge"), "binary", shell("#" * 70_000))
        self.refused(answer, 422, "tinyfaas.toml is larger than")
        answer = self.upload(new_name("bytes"), "binary", {"fn.sh": ECHO, "tinyfaas.toml": b"# \xff"})
        self.refused(answer, 422, "utf-8")
        answer = self.upload(new_name("link"), "binary", {"fn.sh": ECHO, "tinyfaas.toml": folders.Link("/etc/passwd")})
        self.refused(answer, 422)

    def test_a_wrong_replacement_leaves_the_old_one(self):
        name = self.script(ECHO)
        self.refused(self.upload(name, "binary", shell("threads = 0")), 422, "threads is 0")
        self.answers(name, "x", "x")

    def test_calls_end_at_the_functions_own_deadline(self):
        name = self.deploy("binary", shell('call_deadline = "500ms"', SLEEPS))
        began = time.monotonic()
        answer = self.call(name)
        self.assertEqual(answer.status, 504, answer.text)
        self.assertLess(time.monotonic() - began, 10)

    def test_a_start_ends_at_the_functions_own_timeout(self):
        code = {"fn.py": "import time\nprint('loading')\ntime.sleep(60)\n", "tinyfaas.toml": "start_timeout = 1\n"}
        began = time.monotonic()
        self.refused(self.upload(new_name("slow"), "python3", code), 422, "not ready after 1s", "loading")
        self.assertLess(time.monotonic() - began, 20)

    def test_calls_at_a_time_and_waiting_are_the_functions_own(self):
        settings = "calls_per_handler = 1\nwaiting = 0\ncall_deadline = 20\n"
        code = "#!/bin/sh\nread word\n[ \"$word\" = wait ] && echo waits >&2 && while ! [ -e go ]; do sleep 0.05; done\n[ \"$word\" = go ] && : > go\necho $word\n"
        name = self.deploy("binary", shell(settings, code))
        with ThreadPoolExecutor(1) as others:
            first = others.submit(self.call, name, "wait\n")
            self.wait_for_log(name, "waits")
            refused = self.eventually(lambda: self.call(name, "x\n"), lambda answer: answer.status != 200, "full")
            self.assertIn(refused.status, (429, 503), refused.text)
            self.remove(name)
            first.result()


class Cgi(Case):
    def test_status_and_headers_come_from_the_output(self):
        code = (
            "#!/bin/sh\nprintf 'Status: 201 Created\\r\\nContent-Type: text/csv\\r\\nSet-Cookie: a\\r\\nSet-Cookie: b\\r\\n\\r\\n'\n"
            "printf '%s,' \"$REQUEST_METHOD\"; cat\n"
        )
        name = self.deploy("binary", shell("cgi = true", code))
        answer = self.call(name, "body")
        self.assertEqual((answer.status, answer.text), (201, "POST,body"))
        self.assertEqual(answer.header("Content-Type"), "text/csv")
        self.assertEqual(answer.all("Set-Cookie"), ["a", "b"])

    def test_a_location_is_a_redirection(self):
        name = self.deploy("binary", shell("cgi = true", "#!/bin/sh\necho Location: https://example.org/\necho\n"))
        answer = self.call(name)
        self.assertEqual((answer.status, answer.header("Location")), (302, "https://example.org/"))

    def test_output_without_header_lines_is_a_clear_failure(self):
        name = self.deploy("binary", shell("cgi = true", "#!/bin/sh\necho hello\n"))
        answer = self.call(name)
        self.assertEqual(answer.status, 500)
        self.assertIn('line 1, "hello", has no colon', answer.text)

    def test_it_is_for_scripts_only(self):
        answer = self.upload(new_name("cgi"), "python3", {"fn.py": "def fn(i): pass", "tinyfaas.toml": "\ncgi = true\n"})
        self.refused(answer, 422, "tinyfaas.toml:2: cgi is for the environment binary only")


class Maxima(OwnServerCase):
    settings = {"TF_CALL_DEADLINE_MAX": "10min", "TF_CALLS_PER_HANDLER_MAX": "100", "TF_THREADS_MAX": "2"}

    def test_a_folder_is_held_to_the_servers_maxima(self):
        for settings, word in [
            ('call_deadline = "11min"', "600s"),
            ("calls_per_handler = 101", "from 1 to 100"),
            ("threads = 3", "from 1 to 2"),
            ('build_timeout = "2h"', "3600s"),
        ]:
            with self.subTest(settings=settings):
                answer = self.upload(new_name("much"), "binary", shell(settings))
                self.refused(answer, 422, word, "this server allows")


class Defaults(OwnServerCase):
    def test_a_default_above_its_maximum_is_told_at_start(self):
        self.fails_to_start("TF_CALL_DEADLINE=\"2h\"", "TF_CALL_DEADLINE_MAX=\"1h\"", TF_CALL_DEADLINE="2h")
