"""What the tests of both workers stand on: a function written to a folder of its own,
and a worker started on it. It asserts nothing."""

import os
import shutil
import tempfile
import unittest

import driver


class WorkerCase(unittest.TestCase):
    runtime = None

    def setUp(self):
        if self.runtime == "nodejs" and not shutil.which(os.environ.get("NODE", "node")):
            self.skipTest("node is not installed")

    def folder(self, files):
        folder = tempfile.mkdtemp(prefix="tinyfaas-worker-")
        self.addCleanup(shutil.rmtree, folder)
        for name, text in files.items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        return folder

    def start(self, files, **options):
        """A worker on a function of these files, or of this one text."""
        if isinstance(files, str):
            files = {"fn.py" if self.runtime == "python3" else "index.js": files}
        worker = driver.Worker(self.runtime, self.folder(files), **options)
        self.addCleanup(worker.close)
        return worker

    def ready(self, files, **options):
        worker = self.start(files, **options)
        worker.ready()
        return worker

    def refused(self, files, **options):
        """Why a function could not be loaded."""
        worker = self.start(files, **options)
        reason = worker.failed()
        self.assertNotEqual(worker.exit_code(), 0)
        return reason

    def answers(self, worker, number, status, body):
        """The call ends with this reply, and whole."""
        reply = worker.wait(number)
        self.assertIsNone(reply.error)
        self.assertIn(reply.end, (driver.REPLY, driver.BODY))
        self.assertEqual((reply.status, reply.body), (status, body))
        return reply
