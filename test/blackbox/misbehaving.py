"""Functions that do what none should: how their callers are told, and that nothing
is the worse for it.

Owns the server that they run on (an ordinary user's: functions are not confined, and
nothing that they do may hurt the machine) and the look at what it has before and
after. Must not know what a function does.
"""

import os
import re
import shutil
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import IncompleteRead
from pathlib import Path

from .case import OwnServerCase, give_away
from .http import connect
from .server import Server, command_line

# A call of a misbehaving function has this time.
DEADLINE_S = 1
# Every function here answers this to itself.
OK = "ok"
# Every function answers so to "slow", after it has said in its log that it began.
SLOW, SLOW_BEGAN, SLOW_DONE = "slow", "slow began", "slow done"
# How long a slow call takes, in seconds.
SLOW_S = 0.4
# The same for a call that takes longer than it may, unless something ends it before.
LONG, LONG_S = "long", 20

# What a function prints that prints without end; a gigabyte takes its time and is
# for the long run: TINYFAAS_TEST_PRINTS=1000000000.
PRINTED_LINES = int(os.environ.get("TINYFAAS_TEST_PRINTS", 10_000_000)) // 1000
PRINTING = {"TF_CALL_DEADLINE": "300s", "TF_LOG_BYTES_MAX": "256KiB"}


class Misbehaving(OwnServerCase):
    """Cases whose functions misbehave, one server of an ordinary user's for the class."""

    settings = {"TF_CALL_DEADLINE": f"{DEADLINE_S}s"}

    def class_server(self):
        place = Path(tempfile.mkdtemp(prefix="tinyfaas-badcall-", dir="/tmp"))
        (place / "tmp").mkdir()
        for folder in (place, place / "tmp"):
            give_away(folder)
        server = Server(place / "data", HOME=place, TMPDIR=place / "tmp", **self.settings)
        shutil.rmtree(server.folder, ignore_errors=True)
        server.folder, server.output_path = place, place / "output"
        return server.as_ordinary_user(place)

    # What is there

    def belongings(self):
        """What the server has: its processes by what they are, its files by where they
        lie, how many descriptors are open. Handlers that take each other's place count
        as the same one."""
        server = self.server
        processes = Counter(_kind(command_line(pid)) for pid in server.processes())
        files = Counter()
        for folder, _, names in os.walk(server.data):
            places = (_place(os.path.join(folder, name), server.data) for name in names)
            # How many files a log has follows from how much is printed.
            files.update(place for place in places if not place.startswith("logs/"))
        return processes, files, len(os.listdir(f"/proc/{server.pid}/fd"))

    def settled(self, before):
        """Waits until the server has what it had, no process, file or descriptor more."""

        def more():
            now = self.belongings()
            surplus = [dict(now[0] - before[0]), dict(now[1] - before[1])]
            # A connection that a client has just closed may be there for a moment.
            return surplus + [max(0, now[2] - before[2])]

        self.eventually(more, lambda seen: seen == [{}, {}, 0], "as it was before", timeout=6)

    def counted(self, name, outcome, count, at_least=False):
        """Waits until so many calls of a function have ended in this way."""
        line = f'tinyfaas_calls_total{{function="{name}",outcome="{outcome}"}} '

        def seen():
            found = [one for one in self.manage("/metrics").text.splitlines() if one.startswith(line)]
            return float(found[0][len(line):]) if found else None

        self.eventually(seen, lambda calls: calls == count or at_least and calls and calls > count, f"{count} {outcome}", timeout=6)

    # What happens

    @contextmanager
    def beside(self, name, status=200, *words, timeout=60):
        """What happens within does so while a slow call is in the same handler. Checks
        how that one is answered, that the function answers again, and that nothing
        more is there than before."""
        self.answers(name, OK, OK)
        before = self.belongings()
        log = self.logs(name).count(SLOW_BEGAN)
        with ThreadPoolExecutor(1) as pool:
            body = SLOW if status == 200 else LONG
            slow = pool.submit(self.call, name, body, timeout=timeout)
            self.eventually(lambda: self.logs(name).count(SLOW_BEGAN), lambda n: n > log, "begun")
            yield
            told(self, slow.result(), status, *(words or [SLOW_DONE] * (status == 200)))
        self.answers_again(name)
        self.settled(before)

    def misbehaves(self, name, body, status, *words, beside=(200,), timeout=60):
        """Calls the function with what makes it misbehave, and checks how that is
        answered. The answer, and how long it took."""
        with self.beside(name, *beside, timeout=timeout):
            began = time.monotonic()
            answer = self.call(name, body, timeout=timeout)
            took = time.monotonic() - began
            told(self, answer, status, *words)
        outcome = "deadline_exceeded" if status == 504 else "succeeded" if status == 200 else "failed"
        if "ended while it ran the call" in answer.text:
            outcome = "crashed"
        # It, its neighbour and one before.
        expected = {200: 3, 504: 1, 500: 1}[status]
        if beside[0] == status and status != 200:
            expected += 1
        self.counted(name, outcome, expected, at_least=True)
        return answer, took

    def prints(self, name, body):
        """Calls a function that prints PRINTED_LINES and answers "printed": its log stays
        in its bound and says so, and the server holds no more memory for it."""
        self.answers(name, OK, OK)
        before = self.server.memory_peak()
        self.misbehaves(name, body, 200, "printed", timeout=300)
        # What comes faster than the disk takes it is dropped, the last line too.
        log = self.eventually(
            lambda: self.logs(name),
            lambda log: f" {PRINTED_LINES - 1} " in log or "they came faster than the disk" in log,
            "the last line, or that lines were dropped",
        )
        self.assertLess(len(log), 300_000)
        first = log.splitlines()[0]
        self.assertRegex(first, rf"^function={name} handler=log \S+ the oldest \d+ bytes of this log are gone$")
        # Before any line is dropped, far more waits for the disk than is kept.
        self.assertGreater(int(first.split(" the oldest ")[1].split()[0]), 500_000)
        kept = [path for path in (self.server.data / "logs").rglob("*") if path.is_file()]
        self.assertLess(sum(path.stat().st_size for path in kept), 300_000)
        self.assertLess(self.server.memory_peak() - before, 32 << 20)

    def broken_off(self, name, body, begins):
        """Checks that the reply begins so and never comes whole."""
        connection = connect(self.server.http, timeout=20)
        try:
            connection.request("POST", f"/{name}", body)
            answer = connection.getresponse()
            self.assertEqual(answer.status, 200)
            with self.assertRaises((IncompleteRead, ConnectionError)) as raised:
                answer.read()
            if isinstance(raised.exception, IncompleteRead):
                self.assertEqual(raised.exception.partial[:len(begins)], begins)
        finally:
            connection.close()

    def answers_again(self, name):
        """Waits until the function answers; until then it says when to try again."""

        def again():
            answer = self.call(name, OK)
            if answer.status == 503:
                self.assertTrue(answer.header("Retry-After"), answer.text)
                return False
            told(self, answer, 200, OK)
            return True

        self.eventually(again, bool, "answering again")

    def gone_with_it(self, name, mark):
        """Checks that a process with this in its command line runs, and that deleting the
        function ends it."""
        self.eventually(lambda: running(mark), bool, "running")
        self.answers(name, OK, OK)
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        self.eventually(lambda: running(mark), lambda seen: not seen, "ended with its function")


def told(case, answer, status, *words):
    """Checks an answer's status and that its body says these."""
    case.assertEqual(answer.status, status, answer.text[:400])
    for word in words:
        case.assertIn(word, answer.text[:4000])
    case.assertRegex(answer.header("X-tinyFaaS-Call-Id") or "", r"^[0-9a-f]{32}$")


def running(mark):
    """The processes that have this in their command line."""
    found = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [pid for pid in found if mark in command_line(pid) and pid != os.getpid()]


def _kind(line):
    return re.sub(r"/proc/\S+|\S*/tinyfaas\b", "tinyfaas", re.sub(r"\d+", "#", line)).strip()


def _place(path, data):
    place = os.path.relpath(path, data)
    return re.sub(r"handler-(\d+)-\d+", r"handler-\1", place)
