"""Stopping: nothing runs on, nothing lies about, whatever ends the server."""

import os
import re
import signal
import threading
import time
import unittest

from blackbox import folders
from blackbox.case import OwnServerCase, need_environment, need_pip
from blackbox.misbehaving import running
from blackbox.server import alive

# Leaves two processes behind: one in the background, one that has gone as far
# away as a process can, its marks wiped off.
DAEMONS = (
    "#!/bin/sh\n"
    "sleep 3001 </dev/null >/dev/null 2>&1 &\n"
    "echo $!\n"
    "setsid sh -c 'env -i sleep 3002 </dev/null >/dev/null 2>&1 & echo $!'\n"
)
PYTHON_DAEMON = (
    "import os\n"
    "def fn(input, headers):\n"
    "    read, write = os.pipe()\n"
    "    if os.fork() == 0:\n"
    "        os.setsid()\n"
    "        if os.fork() == 0:\n"
    "            os.write(write, str(os.getpid()).encode())\n"
    "            os.closerange(0, 500)\n"
    "            os.execve('/bin/sleep', ['sleep', '3003'], {})\n"
    "        os._exit(0)\n"
    "    os.close(write)\n"
    "    return os.read(read, 20).decode()\n"
)


class Stopping(OwnServerCase):
    def with_functions(self, **environment):
        """A server with handlers of each environment, some of them busy."""
        server = self.start(**environment)
        self.deploy("python3", "echo", threads=2, name="python")
        self.deploy("binary", "echo-binary", name="binary")
        self.answers("python", "x", "x")
        self.answers("binary", "x", "x")
        return server

    def test_each_signal_stops_within_a_second_when_idle(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            with self.subTest(signal=number):
                server = self.with_functions()
                began = time.monotonic()
                code = server.stop(number)
                took = time.monotonic() - began
                self.assertEqual(code, 0, server.output())
                self.assertEqual(server.left_over(), [])
                self.assertLess(took, 1)

    def test_with_node_and_open_connections(self):
        from blackbox.http import connect, exchange

        need_environment(self, "nodejs")
        server = self.with_functions()
        self.deploy("nodejs", "echo-js", name="node")
        kept = [connect(server.http) for _ in range(5)]
        for connection in kept:
            self.assertEqual(exchange(connection, f"{server.http}/node", "POST", "x").text, "x")
        began = time.monotonic()
        self.ends_clean(server, signal.SIGINT)
        self.assertLess(time.monotonic() - began, 1.5)
        for connection in kept:
            connection.close()

    def test_stopping_right_after_start(self):
        server = self.start()
        self.ends_clean(server, signal.SIGINT)

    def test_running_calls_may_end(self):
        server = self.start()
        name = self.python("import time\ndef fn(input, headers):\n    print('began')\n    time.sleep(1)\n    return 'whole'\n")
        seen = []
        calling = threading.Thread(target=lambda: seen.append(self.call(name, "x").text))
        calling.start()
        self.wait_for_log(name, "began")
        self.ends_clean(server)
        calling.join(10)
        self.assertEqual(seen, ["whole"])

    def test_the_drain_is_bounded_and_what_is_given_up_is_logged(self):
        server = self.start(TF_DRAIN_STOP="500ms")
        name = self.python("import time\ndef fn(input, headers):\n    print('began')\n    time.sleep(600)\n")
        answer = self.call(name, "x", headers={"X-tinyFaaS-Async": "1"})
        self.assertEqual(answer.status, 202)
        self.wait_for_log(name, "began")
        began = time.monotonic()
        self.ends_clean(server)
        self.assertLess(time.monotonic() - began, 4)
        self.assertIn(answer.header("X-tinyFaaS-Call-Id"), server.output())

    def test_a_second_signal_ends_at_once(self):
        server = self.start()
        name = self.python("import time\ndef fn(input, headers):\n    print('began')\n    time.sleep(600)\n")
        threading.Thread(target=self._call_and_forget, args=(name,), daemon=True).start()
        self.wait_for_log(name, "began")
        server.send(signal.SIGINT)
        with self.assertRaises(Exception):
            server.exit(0.7)
        began = time.monotonic()
        server.send(signal.SIGINT)
        server.exit(10)
        self.assertLess(time.monotonic() - began, 1)
        self.eventually(server.processes, lambda seen: not seen, "without processes", timeout=5)

    def _call_and_forget(self, name):
        try:
            self.call(name, "x")
        except Exception:  # noqa: BLE001  it is the server's end that breaks it
            pass

    def daemons(self):
        """Starts processes that try to outlive their server; their numbers."""
        one = self.script(DAEMONS)
        two = self.python(PYTHON_DAEMON)
        pids = [int(line) for line in self.call(one).text.split()] + [int(self.call(two).text)]
        self.assertEqual(len(pids), 3)
        return pids

    def test_no_daemon_survives_a_stop(self):
        server = self.start()
        pids = self.daemons()
        self.ends_clean(server)
        self.assertEqual([pid for pid in pids if alive(pid)], [])

    def test_no_daemon_survives_its_handler(self):
        server = self.start()
        name = self.python(PYTHON_DAEMON)
        pid = int(self.call(name).text)
        self.assertTrue(alive(pid))
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        self.eventually(lambda: alive(pid), lambda there: not there, "its daemon gone")
        self.ends_clean(server)

    def test_nothing_survives_sigkill_and_the_next_start_cleans(self):
        server = self.start()
        self.deploy("python3", "echo", threads=2, name="python")
        pids = self.daemons() + server.processes()
        folder = self.python("import os\ndef fn(input, headers):\n    return os.getcwd()\n", name="where")
        folder = self.call(folder).text
        os.kill(server.pid, signal.SIGKILL)
        self.assertEqual(server.exit(), -signal.SIGKILL)
        self.eventually(
            lambda: [pid for pid in pids if alive(pid)] + server.processes(), lambda seen: not seen, "without processes", timeout=5,
        )
        again = self.start(server.data)
        self.assertEqual(self.names(), [])
        self.assertFalse(os.path.exists(folder))
        self.assertEqual([p for p in again.data.rglob("*") if p.is_file() and p.parent.name == "spool"], [])
        self.deploy("python3", "echo", name="python")
        self.answers("python", "x", "x")
        self.ends_clean(again)

    def test_sigkill_leaves_another_server_alone(self):
        one = self.with_functions()
        two = self.with_functions()
        os.kill(two.pid, signal.SIGKILL)
        two.exit()
        self.eventually(two.processes, lambda seen: not seen, "without processes", timeout=5)
        again = self.start(two.data)
        self.ends_clean(again)
        self._current = one
        self.answers("python", "x", "x")
        self.ends_clean(one)

    def test_a_stop_during_an_upload(self):
        from blackbox.http import open_socket

        server = self.start(TF_DRAIN_STOP="500ms")
        with open_socket(server.management) as connection:
            connection.sendall(b"POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{\"name\":\"x\",\"zip\":\"QUJD")
            self.ends_clean(server)

    def test_a_stop_during_a_build(self):
        need_pip(self)
        server = self.start(TF_DRAIN_STOP="500ms")
        mark = f"endless-{os.getpid()}-stopping"
        body = folders.endless_build(mark)

        def upload():
            try:
                self.upload("endless", "python3", body)
            except Exception:  # noqa: BLE001  it is the server's end that breaks it
                pass

        uploading = threading.Thread(target=upload)
        uploading.start()
        self.eventually(lambda: running(mark), bool, "building")
        self.ends_clean(server)
        self.assertEqual(running(mark), [])
        uploading.join(10)

    def test_what_is_printed(self):
        server = self.start()
        self.assertRegex(server.output(), r"(?i)functions run with|rights")
        self.assertTrue(re.search(r"(?i)python", server.output()), server.output())
        self.ends_clean(server)


class MissingInterpreters(OwnServerCase):
    def test_a_missing_node_costs_only_its_environment(self):
        import shutil

        few = self.folder()
        for tool in ("python3", "sh", "cat", "env"):
            real = shutil.which(tool)
            (few / tool).symlink_to(os.path.realpath(real) if tool != "python3" else real)
        self.start(PATH=str(few))
        self.assertEqual(self.upload("script", "binary", "echo-binary").status, 200)
        self.answers("script", "x", "x")
        answer = self.upload("node", "nodejs", "echo-js")
        self.refused(answer, (422, 501, 503), "node", "install")
        self.assertEqual(self.names(), ["script"])


if __name__ == "__main__":
    unittest.main()
