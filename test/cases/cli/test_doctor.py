"""`tinyfaas doctor`: what a host offers, and what each missing thing costs."""

import json
import os
import socket
import subprocess
import unittest

from blackbox.case import OwnServerCase
from blackbox.commandline import CommandLine
from blackbox.server import binary


class Doctor(CommandLine, OwnServerCase):
    class Nowhere:
        management = "http://127.0.0.1:1"

    @property
    def server(self):
        return self._current or self.Nowhere

    def free(self):
        """An environment in which a server could start."""
        return {"HTTP_PORT": "0", "COAP_PORT": "0", "GRPC_PORT": "0", "MANAGEMENT_PORT": "0", "TF_DATA_DIR": str(self.folder() / "data")}

    def checks(self, environment):
        done = self.tinyfaas("doctor", "--json", environment=environment)
        told = json.loads(done.stdout)
        self.assertEqual(done.returncode, 0 if told["ok"] else 1, done.stderr)
        for check in told["checks"]:
            self.assertEqual(set(check), {"group", "name", "state", "found", "cost"})
            self.assertIn(check["state"], ("ok", "missing", "problem"))
            self.assertEqual(check["cost"] is None, check["state"] == "ok", check)
        return told["ok"], {check["name"]: check for check in told["checks"]}

    def test_certificates_are_looked_at(self):
        empty = self.folder({"cert.pem": "", "key.pem": ""})
        tls = {"HTTPS_PORT": "0", "TF_TLS_CERTIFICATE": empty / "cert.pem", "TF_TLS_KEY": empty / "key.pem"}
        ok, checks = self.checks({**self.free(), **tls})
        self.assertFalse(ok)
        self.assertIn("it is empty", checks["certificate"]["found"])
        ok, checks = self.checks({**self.free(), "HTTPS_PORT": "0", "TF_TLS_SELF_SIGNED": "yes"})
        self.assertTrue(ok)
        self.assertEqual(checks["certificate"]["state"], "ok")

    def test_what_a_host_offers(self):
        ok, checks = self.checks(self.free())
        self.assertTrue(ok, checks)
        python = subprocess.run(["python3", "--version"], capture_output=True, check=True).stdout.decode().strip()
        self.assertIn(python, checks["python3"]["found"])
        for name in (
            "python3", "nodejs", "binary", "user namespaces", "namespaces", "cgroups", "landlock", "seccomp",
            "overlayfs", "open files", "processes", "memory", "data directory", "engine", "running", "configuration",
        ):
            self.assertIn(name, checks)
        self.assertEqual(checks["running"]["state"], "missing")
        self.assertIn("start one", checks["running"]["cost"])
        shown = self.succeeds("doctor", environment=self.free())
        self.assertIn("a server can run functions here", shown)
        self.assertIn(python, shown)

    def test_nothing_is_left(self):
        temporary = self.folder()
        self.succeeds("doctor", environment={**self.free(), "TMPDIR": temporary})
        self.assertEqual(os.listdir(temporary), [])

    def test_what_is_missing_is_told_with_its_cost(self):
        few = self.folder()
        (few / "python3").symlink_to(subprocess.run(
            ["python3", "-c", "import os,sys;print(os.path.realpath(sys.executable))"],
            capture_output=True, check=True).stdout.decode().strip())
        ok, checks = self.checks({**self.free(), "PATH": str(few)})
        self.assertTrue(ok)
        self.assertEqual(checks["nodejs"]["state"], "missing")
        self.assertIn("cannot be deployed", checks["nodejs"]["cost"])
        self.assertNotIn("npm", checks)

    def test_a_port_that_is_taken_is_a_problem(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            ok, checks = self.checks({**self.free(), "MANAGEMENT_PORT": port})
            self.assertFalse(ok)
            self.assertEqual(checks["management port"]["state"], "problem")
            self.assertIn(port, checks["management port"]["found"])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = str(taken.getsockname()[1])
            ok, checks = self.checks({**self.free(), "COAP_PORT": port})
            self.assertFalse(ok)
            self.assertIn("COAP_PORT", checks["coap port"]["cost"])
            self.assertIn(port, checks["coap port"]["found"])

    def test_a_running_server_says_its_version(self):
        server = self.start()
        ports = {f"{name.upper()}_PORT": str(server.ports[name]) for name in ("http", "coap", "grpc", "management")}
        ok, checks = self.checks({**self.free(), **ports})
        self.assertTrue(ok, checks)
        version = subprocess.run([binary(), "--version"], capture_output=True, check=True).stdout.decode().split()[1]
        self.assertIn(version, checks["running"]["found"])
        self.assertIn("running server", checks["http port"]["found"])
        self.assertIn("running server", checks["coap port"]["found"])
        self.assertIn("running server", checks["grpc port"]["found"])

    def test_mistakes_in_the_configuration_are_told(self):
        ok, checks = self.checks({**self.free(), "HTTP_PORT": "x", "COAP_PORT": "y"})
        self.assertFalse(ok)
        for word in ("HTTP_PORT", "COAP_PORT"):
            self.assertIn(word, checks["configuration"]["found"])

    def test_a_directory_that_cannot_be_used(self):
        ok, checks = self.checks({**self.free(), "TF_DATA_DIR": "/proc/no"})
        self.assertFalse(ok, checks)
        self.assertEqual(checks["data directory"]["state"], "problem")


if __name__ == "__main__":
    unittest.main()
