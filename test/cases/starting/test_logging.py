"""The server's own log, and what a service manager is told."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import unittest
from pathlib import Path

from blackbox.case import OwnServerCase
from blackbox.server import READY_S, binary, clean_environment


class Logging(OwnServerCase):
    def run_once(self, expected=1, **variables):
        """Has a server say something of itself and fail; its standard error."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(lambda: (folder.joinpath("err").unlink(), folder.rmdir()))
        with open(folder / "err", "wb") as stderr:
            stat = os.fstat(stderr.fileno())
            environment = {**clean_environment(), "TF_DATA_DIR": "/proc/none", "TF_BACKENT": "docker"}
            environment["JOURNAL_STREAM"] = f"{stat.st_dev}:{stat.st_ino}" if variables.pop("journal", False) else "1:2"
            done = subprocess.run(
                [binary()], env={**environment, **variables}, stderr=stderr, stdout=subprocess.PIPE, timeout=READY_S, check=False,
            )
        self.assertEqual(done.returncode, expected)
        lines = (folder / "err").read_text().splitlines()
        self.assertTrue(lines)
        return lines

    def test_text(self):
        warning, error = self.run_once()
        self.assertRegex(warning, r"^\d{4}-\d\d-\d\dT[0-9:.]+Z  WARN TF_BACKENT is no setting")
        self.assertRegex(error, r"^tinyfaas: cannot make the data directory /proc/none")

    def test_json(self):
        warning, error = map(json.loads, self.run_once(TF_LOG_FORMAT="json"))
        self.assertEqual(warning["level"], "WARN")
        self.assertIn("TF_BACKENT", warning["message"])
        self.assertRegex(warning["timestamp"], r"^\d{4}-\d\d-\d\dT[0-9:.]+Z$")
        self.assertEqual(error["level"], "ERROR")
        self.assertIn("/proc/none", error["message"])

    def test_the_journal_gets_levels_and_no_time(self):
        warning, error = self.run_once(journal=True)
        self.assertRegex(warning, r"^<4>TF_BACKENT is no setting")
        self.assertRegex(error, r"^<3>tinyfaas: cannot make the data directory")
        warning, error = self.run_once(journal=True, TF_LOG_FORMAT="json")
        for line, prefix in ((warning, "<4>"), (error, "<3>")):
            self.assertTrue(line.startswith(prefix), line)
            self.assertNotIn("timestamp", json.loads(line[len(prefix):]))

    def test_the_journal_gets_each_mistake_as_an_error(self):
        lines = self.run_once(expected=2, journal=True, HTTP_PORT="x", TF_LOG="loud", TF_LOG_FORMAT="xml")
        self.assertEqual(len(lines), 4)
        self.assertEqual([line for line in lines if not line.startswith("<3>")], [])

    def test_a_service_manager_is_told(self):
        path = str(self.folder() / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(READY_S)
            server = self.start(NOTIFY_SOCKET=path, WATCHDOG_USEC="200000")

            def told(wanted):
                while True:
                    state = manager.recv(4096).decode()
                    if state.startswith(wanted):
                        return state

            self.assertRegex(told("READY=1"), rf"STATUS=serving: management on port {server.ports['management']}, http on port \d+, coap on port \d+, grpc on port \d+$")
            # Ready means that it answers.
            self.assertEqual(self.names(), [])
            told("WATCHDOG=1")
            told("WATCHDOG=1")
            server.send(signal.SIGTERM)
            self.assertIn("STATUS=stopping", told("STOPPING=1"))
            self.assertEqual(server.exit(), 0)


if __name__ == "__main__":
    unittest.main()
