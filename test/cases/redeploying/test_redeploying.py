"""Redeploying without a gap: no call is lost, none is answered wrongly."""

import http.client
import threading
import time
import unittest

from blackbox import folders
from blackbox.case import Case, new_name
from blackbox.http import connect, exchange

CALLERS = 6


class Load:
    """Calls a function all the time, by several callers, and keeps what each
    answer was and when it was asked for."""

    def __init__(self, case, name):
        self.case, self.name = case, name
        self.answers, self.troubles = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CALLERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.case.eventually(lambda: len(self.answers), lambda n: n > CALLERS * 2, "under load")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number):
        url = f"{self.case.server.http}/{self.name}"
        connection = connect(url, 30)
        count = 0
        while not self._stop.is_set():
            count += 1
            body = f"{number}-{count}"
            asked = time.monotonic()
            try:
                answer = exchange(connection, url, "POST", body)
            except (OSError, http.client.HTTPException) as error:
                self.troubles.append(f"{body}: {type(error).__name__} {error}")
                connection.close()
                continue
            version, _, echoed = answer.text.partition(" ")
            if answer.status != 200 or echoed != body:
                self.troubles.append(f"{body}: {answer.status} {answer.text[:200]!r}")
            self.answers.append((asked, version))
        connection.close()


def code(environment, version):
    if environment == "python3":
        return {"fn.py": f"import time\ndef fn(input, headers):\n    time.sleep(0.005)\n    return '{version} ' + input\n"}
    if environment == "nodejs":
        return folders.node_module(f"module.exports = (q, r) => setTimeout(() => r.send('{version} ' + q.body), 5)")
    return {"fn.sh": f"#!/bin/sh\nprintf '{version} '\nexec cat\n"}


class Redeploying(Case):
    def under_load(self, environment, threads=2, rounds=4):
        name = self.deploy(environment, code(environment, "v0"), threads=threads)
        replaced = []
        with Load(self, name) as load:
            for number in range(1, rounds + 1):
                answer = self.upload(name, environment, code(environment, f"v{number}"), threads)
                self.assertEqual(answer.status, 200, answer.text)
                replaced.append(time.monotonic())
                before = len(load.answers)
                self.eventually(lambda: len(load.answers), lambda n: n > before + CALLERS, "answering")
        self.assertEqual(load.troubles, [])
        # Asked for after the upload was answered: answered by that version, or a later one.
        for asked, version in load.answers:
            least = sum(1 for moment in replaced if asked > moment)
            self.assertGreaterEqual(int(version[1:]), least)
        self.assertEqual(self.call(name, "x").text, f"v{rounds} x")

    def test_python_under_load(self):
        self.under_load("python3")

    def test_node_under_load(self):
        self.under_load("nodejs")

    def test_binary_under_load(self):
        self.under_load("binary")

    def test_a_broken_replacement_under_load_changes_nothing(self):
        name = self.deploy("python3", code("python3", "v0"))
        with Load(self, name) as load:
            for broken in ({"fn.py": "raise RuntimeError('broken')\n"}, {"fn.py": "import os; os._exit(1)\n"}, {"no": "fn"}):
                self.assertEqual(self.upload(name, "python3", broken).status, 422)
            self.assertEqual(self.upload(name, "python3", b"no zip").status // 100, 4)
        self.assertEqual(load.troubles, [])
        self.assertEqual({version for _, version in load.answers}, {"v0"})

    def test_a_call_that_has_begun_ends_on_the_old_one(self):
        name = self.python("import time\ndef fn(input, headers):\n    print('began')\n    time.sleep(1.5)\n    return 'old'\n")
        seen = []
        calling = threading.Thread(target=lambda: seen.append(self.call(name, "x").text))
        calling.start()
        self.wait_for_log(name, "began")
        began = time.monotonic()
        self.assertEqual(self.upload(name, "python3", {"fn.py": "def fn(input, headers):\n    return 'new'\n"}).status, 200)
        # The new one serves though the old one still works.
        self.answers(name, "new", "x")
        self.assertLess(time.monotonic() - began, 1.4)
        calling.join(20)
        self.assertEqual(seen, ["old"])

    def test_accepted_calls_that_wait_go_to_the_new_one(self):
        # On the old one the last of them would begin when its time is almost over.
        code = {
            "fn.py": "import time\ndef fn(input, headers):\n    time.sleep(0.4)\n    return 'VERSION'\n",
            "tinyfaas.toml": "calls_per_handler = 1\ncall_deadline = '1s'\n",
        }
        new = {**code, "fn.py": code["fn.py"].replace("VERSION", "new")}
        name = self.deploy("python3", code)
        calls = [self.call(name, "x", headers={"X-tinyFaaS-Async": "1"}) for _ in range(8)]
        self.assertEqual({answer.status for answer in calls}, {202})
        self.assertEqual(self.upload(name, "python3", new).status, 200)
        results = [self.call(answer.header("Location")[1:] + "/result?wait=30s") for answer in calls]
        self.assertEqual([result.status for result in results], [200] * 8, [result.text for result in results])
        self.assertEqual(results[-1].text, "new")

    def test_the_old_folder_goes(self):
        import os

        name = self.python("import os\ndef fn(input, headers):\n    return os.getcwd()\n")
        old = self.call(name).text
        self.assertEqual(self.upload(name, "python3", {"fn.py": "def fn(input, headers):\n    return 'new'\n"}).status, 200)
        self.eventually(lambda: os.path.exists(old), lambda there: not there, "the old handler's folder gone")

    def test_deleting_under_load_ends_in_404_only(self):
        name = self.deploy("python3", code("python3", "v0"))
        with Load(self, name) as load:
            self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
            self.eventually(lambda: load.troubles, bool, "unknown to its callers")
        # A connection may be closed behind such an answer; nothing else is heard.
        told = {trouble.split()[1] for trouble in load.troubles}
        self.assertLessEqual(told, {"404", "BrokenPipeError", "ConnectionResetError", "RemoteDisconnected"})
        self.assertIn("404", told)
        self.assertEqual({version for _, version in load.answers if version.startswith("v")}, {"v0"})

    def test_deploying_again_and_again_leaks_nothing(self):
        from blackbox.server import Server

        if not isinstance(self.server, Server):
            self.skipTest("counts the processes of a server of the suite's own")
        name = new_name("again")
        self.addCleanup(self.remove, name)
        counts = []
        for number in range(6):
            self.assertEqual(self.upload(name, "python3", code("python3", f"v{number}"), 2).status, 200)
            self.assertEqual(self.call(name, "x").text, f"v{number} x")
            counts.append(self.eventually(lambda: len(self.server.processes()), lambda n: not counts or n <= counts[0], "the old handlers gone"))


if __name__ == "__main__":
    unittest.main()
