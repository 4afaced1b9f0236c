"""Workers that die: replaced at once, backed off when they die again and again."""

import os
import signal
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.case import Case, OwnServerCase

PID = "import os, time\ndef fn(input, headers):\n    if input: time.sleep(float(input))\n    return str(os.getpid())\n"


class Killed(OwnServerCase):
    settings = {}

    def worker(self, name):
        """The process that runs a Python function, by its own word: the worker may
        stand in a process namespace, so what it says is checked."""
        pid = int(self.call(name).text)
        if pid not in self.server.processes():
            self.skipTest("a worker does not know its own number here")
        return pid

    def test_a_killed_worker_is_replaced_at_once(self):
        name = self.python(PID)
        old = self.worker(name)
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()

        def again():
            answer = self.call(name)
            return answer.status == 200 and int(answer.text)

        new = self.eventually(again, lambda pid: pid and pid != old, "a new worker")
        self.assertNotEqual(new, old)
        self.assertLess(time.monotonic() - began, 5)

    def test_its_calls_fail_clearly(self):
        name = self.python(PID)
        pid = self.worker(name)
        with ThreadPoolExecutor(4) as pool:
            waiting = [pool.submit(self.call, name, "30") for _ in range(4)]
            time.sleep(0.3)
            began = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            answers = [one.result() for one in waiting]
        self.assertLess(time.monotonic() - began, 5)
        for answer in answers:
            self.refused(answer, (500, 502, 503))

    def test_the_other_handlers_go_on(self):
        name = self.python(PID, threads=3)
        os.kill(self.worker(name), signal.SIGKILL)
        statuses = [self.call(name).status for _ in range(30)]
        self.assertLessEqual(len([s for s in statuses if s != 200]), 1)

    def test_a_function_that_ends_its_own_worker(self):
        name = self.python("import os\ndef fn(input, headers):\n    if input == 'die': os._exit(7)\n    return 'alive'\n")
        self.refused(self.call(name, "die"), (500, 502))
        self.eventually(lambda: self.call(name, "x").text, lambda text: text == "alive", "answering again")
        self.assertRegex(self.logs(name), r"7")

    def test_calls_that_had_not_started_are_not_lost(self):
        """Those that waited when a worker died are run by its successor."""
        name = self.python("import os\ndef fn(input, headers):\n    if input == 'die': os._exit(1)\n    return 'alive'\n")
        self.call(name, "die")
        self.assertEqual(self.call(name, "x").status, 200)


class CrashLoop(Case):
    def test_backed_off_with_503_and_the_log_says_why(self):
        folder = self.folder({"dies": ""})
        name = self.python(
            "import os\n"
            "if not os.path.exists('/nonexistent') and os.environ.get('WITNESS') and not os.path.exists(os.environ['WITNESS']):\n"
            "    print('cannot start any more', flush=True)\n"
            "    os._exit(9)\n"
            "def fn(input, headers):\n"
            "    if input == 'die': os._exit(8)\n"
            "    return 'alive'\n",
            envs=[f"WITNESS={folder / 'dies'}"],
        )
        self.answers(name, "alive", "x")
        (folder / "dies").unlink()
        self.call(name, "die")
        answer = self.eventually(lambda: self.call(name, "x"), lambda answer: answer.status == 503, "503")
        self.refused(answer, 503)
        self.assertTrue(answer.header("Retry-After"))
        log = self.wait_for_log(name, "cannot start any more")
        self.assertRegex(log, r"9")
        # It is not started a thousand times a second.
        time.sleep(1)
        self.assertLess(self.logs(name).count("cannot start any more"), 30)
        # And it comes back by itself once the trouble is over.
        (folder / "dies").touch()
        self.eventually(lambda: self.call(name, "x").text, lambda text: text == "alive", "answering again", timeout=30)


class Spawner(OwnServerCase):
    def test_the_server_survives_its_spawner(self):
        """Or ends with a clear error: never does it go on without handlers."""
        server = self.start()
        name = self.deploy("python3", "echo")
        children = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) == server.pid]
        self.assertTrue(children)
        for pid in children:
            os.kill(pid, signal.SIGKILL)

        def outcome():
            if server.process.poll() is not None:
                return "ended"
            try:
                return "serves" if self.call(name, "x").text == "x" else None
            except OSError:
                return None

        if self.eventually(outcome, bool, "serving or ended") == "ended":
            self.assertIn("spawner", server.output().lower())
        else:
            self.ends_clean(server)
        self.assertEqual(server.processes(), [])


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


if __name__ == "__main__":
    unittest.main()
