"""Machines that have little: no space on the disk, none to write to, few files."""

import os
import socket
import unittest
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from blackbox import folders
from blackbox.bad_input import BadInput
from blackbox.case import OwnServerCase
from blackbox.confined import OnSmallDisk, WithFewFiles, need_mounts, processor_seconds
from blackbox.folders import File
from blackbox.http import host_and_port

ECHO = {"fn.sh": File("#!/bin/sh\ncat\n", 0o755)}
FREE_SOME = "; free some space on the server's disk and try again"
NO_SPACE = "No space left on device (os error 28)"


class Disks(OwnServerCase):
    def on_disk(self, options, **more):
        need_mounts()
        server = OnSmallDisk(options, **more)
        self.addCleanup(self._forget, server)
        self.addCleanup(server.close)
        return server

    def does_not_start(self, server, *sentences):
        self.assertEqual(server.launch().exit(), 1, server.output())
        said = server.output()
        for sentence in sentences:
            self.assertIn(sentence, said)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertEqual(server.processes(), [])

    def test_a_start_on_a_full_disk(self):
        advice = "; free some space there, or set TF_DATA_DIR to a directory on another disk"
        for options in ("size=4k,nr_inodes=2", "size=4k", "size=32k", "size=1m,nr_inodes=4"):
            with self.subTest(options=options):
                server = self.on_disk(options)
                self.does_not_start(server, "tinyfaas: cannot ", str(server.place), NO_SPACE + advice)

    def test_a_start_where_nothing_can_be_written(self):
        server = self.on_disk("size=1m", for_reading=True)
        self.does_not_start(
            server, f"cannot write to the data directory {server.place}: Read-only file system (os error 30); "
            "let it be written (mount -o remount,rw), or set TF_DATA_DIR to a directory that can be",
        )

    def test_a_disk_that_fills(self):
        """However much is left: an upload works, or it is a 507 and changes nothing."""
        server = self._current = self.on_disk("size=2m").start()
        # It needs more room with every step: spooled, unpacked, copied for two handlers.
        code = folders.zip_of({**ECHO, "data": os.urandom(40_000), "zeros": b"\0" * 60_000})
        self.assertEqual(self.upload("old", "binary", ECHO).status, 200)
        steps = Counter()
        # The steps' borders lie between these.
        for leave in (0, 4096, 20_000, 48_000, 90_000, 130_000, 160_000, 190_000, 230_000, 270_000, 320_000, 400_000):
            with self.subTest(leave=leave):
                server.fill(leave)
                answer = self.upload("new", "binary", code, threads=2)
                self.answers("old", "x", "x")
                if answer.status == 200:
                    self.answers("new", "y", "y")
                    self.manage("/delete", {"name": "new"})
                else:
                    self.assertEqual(answer.status, 507, answer.text)
                    self.assertTrue(answer.text.endswith(f"{NO_SPACE}{FREE_SOME}\n"), answer.text)
                    steps[answer.text.split()[0]] += 1
                self.assertEqual(self.names(), ["old"])
                left = self.eventually(
                    lambda: [str(p.relative_to(server.data)) for part in ("spool", "functions") for p in (server.data / part).glob("*")],
                    lambda seen: len(seen) == 1, "only the old function's folder",
                )
                self.assertRegex(left[0], r"^functions/old-")
                server.free()
        # Each step was met, and the last upload had room enough.
        self.assertGreaterEqual(len(steps), 2, steps)
        self.assertEqual(answer.status, 200, answer.text)
        # A full disk hinders neither deleting nor stopping.
        server.fill()
        self.assertEqual(self.manage("/delete", {"name": "old"}).status, 200)
        server.free()
        self.assertEqual(server.stop(), 0, server.output())
        self.assertLessEqual(server.left_on_disk(), {"lock", "id", "cache"})
        self.assertEqual(server.processes(), [])

    def test_logs_on_a_full_disk(self):
        """A function goes on when its log has no room."""
        server = self._current = self.on_disk("size=2m").start()
        code = "def fn(input, headers):\n    for n in range(2000):\n        print('line', n, 'x' * 100)\n    return 'done'\n"
        name = self.python(code)
        server.fill()
        for _ in range(3):
            self.answers(name, "done", "x")
        server.free()
        self.answers(name, "done", "x")
        self.wait_for_log(name, "line 1999")
        self.remove(name)
        self.assertEqual(server.stop(), 0, server.output())


class TooFewFiles(OwnServerCase):
    def test_a_start_with_too_few_files(self):
        for files in (5, 12, 63):
            with self.subTest(files=files):
                server = WithFewFiles(files)
                self.addCleanup(self._forget, server)
                self.assertEqual(server.launch().exit(), 1, server.output())
                self.assertEqual(
                    server.output(),
                    f"tinyfaas: this process may have only {files} files open at a time, and a server needs 64; raise "
                    "the limit (ulimit -n, or LimitNOFILE= of its systemd unit)\n",
                )
                self.assertFalse(server.data.exists())


class SixtyFourFiles(BadInput, OwnServerCase):
    def setUp(self):
        server = WithFewFiles(64)
        self.addCleanup(self._forget, server)
        self._current = server.start()
        super().setUp()

    def test_start_says_what_that_means(self):
        self.assertRegex(
            self.server.output(), r"WARN only 64 files may be open at a time: at most \d+ connections \(not 4096\) and "
            r"\d+ handlers; raise that limit",
        )

    def test_under_load_calls_wait_or_are_503(self):
        name = self.python("import time\ndef fn(input, headers):\n    time.sleep(float(input))\n    return 'slept'\n")
        used = processor_seconds(self.server)
        with ThreadPoolExecutor(60) as pool:
            answers = list(pool.map(lambda _: self.call(name, "0.2"), range(120)))
        said = Counter((answer.status, answer.text) for answer in answers)
        full = (503, "the server has as many connections as it may have; try again later\n")
        self.assertEqual(set(said), {(200, "slept"), full})
        self.assertGreaterEqual(said[(200, "slept")], 8)
        for answer in answers:
            self.assertTrue(answer.status == 200 or answer.header("Retry-After"))
        self.assertLess(processor_seconds(self.server) - used, 2)
        self.answers(name, "slept", "0")

    def test_callers_that_hold_every_connection(self):
        """They keep nobody from managing, and the server does not spin."""
        held = [socket.create_connection(host_and_port(self.server.http), 10) for _ in range(100)]
        self.addCleanup(lambda: [one.close() for one in held])
        self.eventually(lambda: self.server.open_files(), lambda count: count > 24, "connected")
        used = processor_seconds(self.server)
        for _ in range(20):
            self.assertEqual(self.names(), [self.bystander])
        name = self.script("#!/bin/sh\ncat\n")
        self.assertLess(processor_seconds(self.server) - used, 1)
        self.assertLess(self.server.output().count("WARN"), 5)
        for one in held:
            one.close()
        self.eventually(lambda: self.call(name, "x").text, lambda text: text == "x", "answering again")

    def test_more_handlers_than_files(self):
        sentence = "Too many open files (os error 24); the server may have no more files open: delete functions, or " \
            "raise its limit (ulimit -n, or LimitNOFILE= of its systemd unit)"
        self.refused_upload(503, sentence, "binary", ECHO, threads=40)
        deployed = []
        for number in range(20):
            answer = self.upload(f"many{number}", "binary", ECHO)
            self.addCleanup(self.remove, f"many{number}")
            if answer.status != 200:
                self.refused_with(answer, 503, sentence)
                break
            deployed.append(f"many{number}")
        self.assertTrue(2 <= len(deployed) < 20, deployed)
        for name in deployed:
            self.answers(name, "x", "x")
        # What one gives back, the next gets.
        self.remove(deployed[0])
        self.assertEqual(self.upload(f"many{number}", "binary", ECHO).status, 200)


if __name__ == "__main__":
    unittest.main()
