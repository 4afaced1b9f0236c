"""A server that root starts and that changes to a user of its own: it, its
functions and their installers run as that user, what guards them stays root's."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import unittest

from blackbox.case import OwnServerCase, need_environment, need_pip
from blackbox.server import NOBODY, READY_S, REPOSITORY, alive

NAME = pwd.getpwuid(NOBODY).pw_name

# Who it is, and what it may do to its guard and its server.
WHO = """
import json, os, signal

def tried(what):
    try:
        what()
        return "done"
    except PermissionError:
        return "refused"

def fn(input, headers):
    server = int(input)
    status = open("/proc/self/status").read()
    with open("mine", "w") as file:
        file.write("writable")
    return json.dumps({
        "uids": os.getresuid(),
        "gids": os.getresgid(),
        "groups": os.getgroups(),
        "capabilities": [line.split()[1] for line in status.splitlines() if line.startswith(("CapPrm", "CapEff", "CapAmb"))],
        "home": os.environ["HOME"],
        "kill the guard": tried(lambda: os.kill(os.getppid(), signal.SIGKILL)),
        "stop the guard": tried(lambda: os.kill(os.getppid(), signal.SIGSTOP)),
        "read the server's environment": tried(lambda: open(f"/proc/{server}/environ").read()),
        "write the server's memory": tried(lambda: open(f"/proc/{server}/mem", "wb")),
        "become root": tried(lambda: os.setuid(0)),
    })
"""


# Starts a server that shall end with it, and waits.
STARTER = """
import os, subprocess, sys
child = subprocess.Popen([sys.argv[1], "serve", "--end-with", str(os.getpid())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.read()
"""


def status(pid, field):
    """A field of a process's status; empty where the process is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].split() for line in file if line.startswith(field + ":"))
    except OSError:
        return []


def below(pid):
    """All processes that descend from this one."""
    parents = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        parents.setdefault(tuple(status(entry, "PPid")), []).append(int(entry))
    found, left = [], [pid]
    while left:
        children = parents.get((str(left.pop()),), [])
        found += children
        left += children
    return found


@unittest.skipUnless(os.geteuid() == 0, "only root can start a server as another user")
class OwnUser(OwnServerCase):
    def start_as_user(self, data=None, **environment):
        return self.start(data or self.open_folder() / "data", TF_USER=NAME, **environment)

    def test_server_and_functions_run_as_the_user(self):
        server = self.start_as_user()
        self.assertRegex(server.output(), rf"\n  user +{NAME}:")
        self.assertEqual(status(server.pid, "Uid"), [str(NOBODY)] * 4)
        self.assertEqual(status(server.pid, "Gid"), [str(NOBODY)] * 4)
        for field in ("CapPrm", "CapEff", "CapAmb"):
            self.assertEqual(status(server.pid, field), ["0" * 16], field)
        self.assertEqual(status(server.pid, "NoNewPrivs"), ["1"])
        name = self.python(WHO)
        seen = json.loads(self.call(name, str(server.pid)).text)
        self.assertEqual((seen["uids"], seen["gids"]), ([NOBODY] * 3, [NOBODY] * 3))
        self.assertEqual(seen["groups"], os.getgrouplist(NAME, NOBODY))
        self.assertEqual(seen["capabilities"], ["0" * 16] * 3)
        for what in ("kill the guard", "stop the guard", "read the server's environment", "write the server's memory", "become root"):
            self.assertEqual(seen[what], "refused", what)
        self.answers(self.script("#!/bin/sh\nid -u\n"), f"{NOBODY}\n")
        # All that carries the server's mark is the user's; the rest guards it.
        workers = server.processes()
        self.assertTrue(workers)
        for pid in workers:
            self.assertEqual(status(pid, "Uid"), [str(NOBODY)] * 4)
        guards = [pid for pid in below(server.pid) if pid not in workers]
        for pid in guards:
            self.assertEqual(status(pid, "Uid"), ["0"] * 4)
        self.ends_clean(server)
        self.assertEqual([pid for pid in guards if alive(pid)], [])

    def test_node_runs_as_the_user(self):
        need_environment(self, "nodejs")
        self.start_as_user()
        self.answers(self.node("module.exports = (req, res) => res.send(String(process.getuid()));"), str(NOBODY))

    def test_installers_run_as_the_user(self):
        need_pip(self)
        self.start_as_user()
        backend = "import os\nraise SystemExit(f'installing as {os.getuid()} at {os.environ[\"HOME\"]}')\n"
        body = {
            "fn.py": "def fn(input, headers):\n    return input\n",
            "requirements.txt": "--no-index\n./package\n",
            "package/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "package/backend.py": backend,
        }
        self.refused(self.upload("installed", "python3", body), 422, f"installing as {NOBODY} at {pwd.getpwuid(NOBODY).pw_dir}")

    def test_ports_of_root_work(self):
        with socket.socket() as probe:
            for port in range(1023, 600, -1):
                try:
                    probe.bind(("0.0.0.0", port))
                    break
                except OSError:
                    continue
            else:
                self.skipTest("no port under 1024 is free")
        server = self.start_as_user(HTTP_PORT=port)
        self.assertEqual(server.ports["http"], port)
        self.deploy("python3", "echo", name="echo")
        self.answers("echo", "x", "x")

    def test_a_service_manager_of_root_is_told(self):
        path = str(self.folder() / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            os.chmod(path, 0o600)
            manager.settimeout(READY_S)
            server = self.start_as_user(NOTIFY_SOCKET=path)
            self.assertRegex(manager.recv(4096).decode(), "^READY=1\nSTATUS=serving")
            server.send(signal.SIGTERM)
            self.assertRegex(manager.recv(4096).decode(), "^STOPPING=1\n")
            self.assertEqual(server.exit(), 0)

    def test_by_number(self):
        folder = self.open_folder()
        os.chmod(folder, 0o755)
        server = self.start(folder / "data", TF_USER="3999999999")
        self.assertEqual(status(server.pid, "Uid"), ["3999999999"] * 4)
        self.assertEqual(status(server.pid, "Groups"), [])
        self.answers(self.script("#!/bin/sh\nid -u\n"), "3999999999\n")
        self.ends_clean(server)

    def test_it_ends_with_whoever_asked_for_that(self):
        # As a shell would that starts it and must not leave it behind.
        data = self.open_folder() / "data"
        server = self.prepare(data, TF_USER=NAME)
        parent = subprocess.Popen(
            [sys.executable, "-c", STARTER, server.program], env=server.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.addCleanup(lambda: (parent.kill(), parent.communicate()))
        pid = int(parent.stdout.readline())
        self.addCleanup(lambda: alive(pid) and os.kill(pid, signal.SIGKILL))
        self.eventually((data / "ports.json").exists, what="ready")
        self.assertEqual(status(pid, "Uid"), [str(NOBODY)] * 4)
        parent.kill()
        self.eventually(lambda: alive(pid), lambda there: not there, "ended")
        self.eventually((data / "ports.json").exists, lambda there: not there, "an orderly end")

    def test_make_clean_leaves_it_alone(self):
        server = self.start_as_user()
        self.deploy("python3", "echo", name="echo")
        before = below(server.pid)
        copy = self.folder()
        shutil.copy(REPOSITORY / "Makefile", copy)
        shutil.copytree(REPOSITORY / "scripts", copy / "scripts")
        done = subprocess.run(["make", "clean"], cwd=copy, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(below(server.pid), before)
        self.answers("echo", "x", "x")
        self.ends_clean(server)

    def test_nothing_survives_sigkill_and_the_next_start_cleans(self):
        server = self.start_as_user()
        name = self.script("#!/bin/sh\nsetsid sleep 3005 </dev/null >/dev/null 2>&1 &\necho $!\n")
        daemon = int(self.call(name).text)
        pids = below(server.pid) + server.processes()
        self.assertIn(daemon, pids)
        os.kill(server.pid, signal.SIGKILL)
        server.exit()
        self.eventually(lambda: [pid for pid in pids if alive(pid)], lambda seen: not seen, "without processes")
        again = self.start_as_user(server.data)
        self.assertEqual(self.names(), [])
        self.deploy("python3", "echo", name="echo")
        self.answers("echo", "x", "x")
        self.ends_clean(again)

    def test_a_spawner_that_died_is_replaced_with_all_its_rights(self):
        server = self.start_as_user()
        name = self.python(WHO)

        def spawners():
            return [pid for pid in below(server.pid) if status(pid, "Name") == ["tinyfaas-spawn"]]

        (spawner,) = spawners()
        os.kill(spawner, signal.SIGKILL)
        # Until its death is seen, the old handlers answer.
        (again,) = self.eventually(spawners, lambda seen: seen and seen != [spawner], "replaced")

        def answer():
            reply = self.call(name, str(server.pid))
            return json.loads(reply.text) if reply.status == 200 else {}

        seen = self.eventually(answer, what="answered again")
        self.assertEqual((seen["uids"], seen["kill the guard"]), ([NOBODY] * 3, "refused"))
        self.assertEqual(status(again, "Uid"), ["0"] * 4)
        self.ends_clean(server)

    def test_a_directory_of_roots_server_is_taken_over(self):
        data = self.open_folder() / "data"
        first = self.start(data)
        self.assertIn("set TF_USER", first.output())
        self.ends_clean(first)
        (data / "cache" / "pip").mkdir()
        elsewhere = self.open_folder() / "of-root"
        elsewhere.write_text("root's")
        os.chown(elsewhere, 0, 0)
        (data / "cache" / "link").symlink_to(elsewhere)
        os.link(elsewhere, data / "cache" / "second-name")
        identity = (data / "id").read_text()
        self.assertEqual(os.stat(data).st_uid, 0)
        server = self.start_as_user(data)
        self.assertEqual((data / "id").read_text(), identity)
        for path in (data, data / "lock", data / "id", data / "cache" / "pip"):
            self.assertEqual(os.lstat(path).st_uid, NOBODY, path)
        self.assertEqual(os.stat(elsewhere).st_uid, 0, "it was reached by a link")
        self.ends_clean(server)

    def test_a_directory_that_is_no_servers_is_left_alone(self):
        data = self.open_folder()
        (data / "letters").mkdir()
        os.chown(data, 0, 0)
        output = self.fails_to_start("something else than a server's", data=data, TF_USER=NAME)
        self.assertIn(str(data), output)
        self.assertEqual([os.stat(path).st_uid for path in (data, data / "letters")], [0, 0])
        os.chown(data, 4242, 4242)
        self.fails_to_start("belongs to user 4242", "chown -R", data=data, TF_USER=NAME)

    def test_a_directory_out_of_reach_is_named(self):
        closed = self.open_folder()
        os.chown(closed, 0, 0)
        os.chmod(closed, 0o700)
        self.fails_to_start(f"as {NAME}", str(closed), "permission denied", data=closed / "data", TF_USER=NAME)

    def test_an_unknown_user_is_named(self):
        self.fails_to_start("no such user", "useradd --system", TF_USER="no-such-user-here")


class WithoutRoot(OwnServerCase):
    def test_another_user_needs_root(self):
        place = self.open_folder()
        server = self.prepare(place / "data", TF_USER="root").as_ordinary_user(place).launch()
        self.assertEqual(server.exit(), 1)
        self.assertIn("only root can start the server as another user", server.output())

    def test_oneself_needs_nothing(self):
        place = self.open_folder()
        own = NOBODY if os.geteuid() == 0 else os.geteuid()
        server = self.prepare(place / "data", TF_USER=pwd.getpwuid(own).pw_name).as_ordinary_user(place).start()
        self.assertRegex(server.output(), rf"user +{re.escape(pwd.getpwuid(own).pw_name)}: server and functions")
        self.ends_clean(server)


if __name__ == "__main__":
    unittest.main()
