"""make clean: removes what dead servers left, and nothing of a running one."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from blackbox.case import OwnServerCase
from blackbox.server import REPOSITORY, alive


class Clean(OwnServerCase):
    """Runs it in a copy of what it needs, so that this run's own ./tmp stays."""

    def setUp(self):
        super().setUp()
        self.copy = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.copy)
        shutil.copy(REPOSITORY / "Makefile", self.copy)
        shutil.copytree(REPOSITORY / "scripts", self.copy / "scripts")

    def clean(self):
        done = subprocess.run(["make", "clean"], cwd=self.copy, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode()

    def orphan(self, directory):
        """A process that a server of this directory might have left."""
        process = subprocess.Popen(
            ["sleep", "3004"], env={"PATH": os.environ["PATH"], "TINYFAAS_INSTANCE": f"0123456789abcdef@{directory}"}, start_new_session=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_it_succeeds_at_once_without_anything(self):
        began = time.monotonic()
        self.clean()
        self.assertLess(time.monotonic() - began, 10)

    def test_leftovers_go(self):
        gone = self.orphan("/no/such/data/directory")
        unlocked = self.folder({"lock": "", "id": "0123456789abcdef\n"})
        stopped = self.orphan(unlocked)
        (self.copy / "tmp" / "old").mkdir(parents=True)
        (self.copy / "tinyfaas-linux-amd64").write_text("the built binary")
        self.clean()
        self.assertEqual(gone.wait(5), -signal.SIGKILL)
        self.assertEqual(stopped.wait(5), -signal.SIGKILL)
        self.assertFalse((self.copy / "tmp").exists())
        self.assertTrue((self.copy / "tinyfaas-linux-amd64").exists())

    def test_a_running_server_is_left_alone(self):
        (self.copy / "tmp").mkdir()
        server = self.start(self.copy / "tmp" / "live" / "state")
        self.deploy("python3", "echo", name="python")
        before = server.processes()
        self.clean()
        self.assertEqual([pid for pid in before if not alive(pid)], [])
        self.answers("python", "x", "x")
        self.assertTrue((server.data / "lock").exists())
        self.ends_clean(server)
        self.clean()
        self.assertFalse((self.copy / "tmp").exists())


if __name__ == "__main__":
    unittest.main()
