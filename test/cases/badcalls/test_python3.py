"""python3: functions that misbehave when they are called."""

import os
import textwrap
import time
import unittest

from blackbox.misbehaving import DEADLINE_S, LONG_S, PRINTED_LINES, PRINTING, SLOW_S, Misbehaving, running, told

AROUND = """\
import os, signal, sys, time

{code}

def fn(input, headers):
    if input == 'ok':
        return 'ok'
    if input in ('slow', 'long'):
        print('slow began')
        time.sleep({slow} if input == 'slow' else {long})
        return 'slow done'
    return misbehave()
"""


class Bad(Misbehaving):
    def bad(self, code, threads=1):
        """Deploys a function that does this when it is asked to misbehave."""
        if "def misbehave" not in code:
            code = "def misbehave():\n" + textwrap.indent(code, "    ")
        return self.python(AROUND.format(code=code, slow=SLOW_S, long=LONG_S), threads=threads)

    def values(self, *codes):
        """Deploys a function that does one of these, by its number."""
        cases = [f"    if number == {n}:\n" + textwrap.indent(code, " " * 8) for n, code in enumerate(codes)]
        return self.python(
            AROUND.format(code="def misbehave(number):\n" + "\n".join(cases), slow=SLOW_S, long=LONG_S)
            .replace("misbehave()\n", "misbehave(int(input))\n")
        )


class Replies(Bad):
    def test_nothing(self):
        answer, _ = self.misbehaves(self.bad("pass"), "x", 200)
        self.assertEqual(answer.body, b"")

    def test_what_is_no_reply(self):
        kinds = {"5": "int", "1.5": "float", "True": "bool", "{'a': 1}": "dict", "['a']": "list", "{1}": "set", "object()": "object"}
        name = self.values(*(f"return {value}" for value in kinds))
        with self.beside(name):
            for number, kind in enumerate(kinds.values()):
                told(self, self.call(name, str(number)), 500, f"fn returned {kind}; return a str, bytes, None")

    def test_an_iterator_that_breaks_at_once(self):
        yields = "fn returned an iterator that yields int; yield str or bytes"
        name = self.values(
            "def it():\n    raise ValueError('broke at once')\n    yield 'never'\nreturn it()",
            "return iter(int, 1)",
            "class It:\n    def __iter__(self): return self\n    def __next__(self): raise KeyError('no more')\nreturn It()",
        )
        with self.beside(name):
            for number, words in enumerate(("ValueError: broke at once", yields, "KeyError: 'no more'")):
                told(self, self.call(name, str(number)), 500, words)

    def test_an_iterator_that_breaks_later(self):
        name = self.values(
            "def it():\n    yield 'first '\n    raise ValueError('broke later')\nreturn it()",
            "return iter(['first ', 5])",
        )
        with self.beside(name):
            for number, words in enumerate(("ValueError: broke later", "fn returned an iterator that yields int; yield str or bytes")):
                self.broken_off(name, str(number), b"first ")
                self.wait_for_log(name, words)


class Large(Bad):
    settings = {"TF_CALL_DEADLINE": "60s"}

    def test_50_mb(self):
        name = self.values("return 'x' * 50_000_000", "return b'\\xff' * 50_000_000")
        with self.beside(name):
            for number, one in enumerate((b"x", b"\xff")):
                answer = self.call(name, str(number))
                self.assertEqual((answer.status, len(answer.body)), (200, 50_000_000))
                self.assertEqual(answer.body.count(one), 50_000_000)


class Ends(Bad):
    def test_exits(self):
        self.misbehaves(self.bad("sys.exit(3)"), "x", 500, "fn called exit(3); it must return its reply")

    def test_exits_at_once(self):
        for code in (0, 3):
            with self.subTest(code=code):
                words = f"the function's handler ended while it ran the call: exited with code {code}\n"
                name = self.bad(f"os._exit({code})")
                self.misbehaves(name, "x", 500, words, beside=(500, words))
                self.wait_for_log(name, f"tinyfaas: exited with code {code}; starting another handler")

    def test_killed_by_a_signal(self):
        for number, signal in ((9, "SIGKILL"), (2, "SIGINT"), (11, "SIGSEGV"), (15, "SIGTERM"), (6, "SIGABRT")):
            with self.subTest(signal=signal):
                words = f"ended while it ran the call: killed by signal {number} ({signal})\n"
                name = self.bad(f"os.kill(os.getpid(), {number})\ntime.sleep(9)")
                self.misbehaves(name, "x", 500, words, beside=(500, words))

    def test_stopped(self):
        name = self.bad("os.kill(os.getpid(), signal.SIGSTOP)")
        late = f"the call took longer than the {DEADLINE_S}s it may take"
        self.misbehaves(name, "x", 504, late, beside=(504, late))
        self.wait_for_log(name, "a call did not end within 500ms after its deadline; replacing this handler")

    def test_recursion_and_memory_without_end(self):
        self.misbehaves(self.bad("return misbehave()"), "x", 500, "RecursionError")
        self.misbehaves(self.bad("return bytearray(1 << 60)"), "x", 500, "MemoryError")

    def test_loops_for_ever(self):
        name = self.bad("while True: pass")
        _, took = self.misbehaves(name, "x", 504, f"the call took longer than the {DEADLINE_S}s it may take")
        self.assertLess(took, DEADLINE_S + 2)
        self.wait_for_log(name, "a call did not end within 500ms after its deadline; replacing this handler")


class Prints(Bad):
    settings = PRINTING

    def test_without_end(self):
        name = self.bad(f"for n in range({PRINTED_LINES}): print(n, 'x' * 990)\nreturn 'printed'")
        self.prints(name, "x")


class Processes(Bad):
    def test_a_fork_that_comes_back(self):
        for end in ("return 'from the child'", "raise ValueError('in the child')"):
            with self.subTest(end=end):
                name = self.bad(f"if os.fork() == 0: {end}\nos.wait()\nreturn 'from the parent'")
                self.misbehaves(name, "x", 200, "from the parent")
                self.wait_for_log(name, "a process that fn forked came back from fn; it must end by os._exit")

    def test_a_fork_that_stays_ends_with_its_function(self):
        mark = f"sleep 8{os.getpid()}1"
        name = self.bad(f"if os.fork() == 0: os.execvp('sleep', '{mark}'.split())\nreturn 'forked'")
        told(self, self.call(name, "x"), 200, "forked")
        self.gone_with_it(name, mark)

    def test_a_daemon_ends_with_its_function(self):
        mark = f"sleep 8{os.getpid()}2"
        name = self.bad(
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            "    if os.fork() == 0:\n"
            "        os.closerange(0, 100)\n"
            "        os.chdir('/')\n"
            f"        os.execve('/bin/sleep', '{mark}'.split(), {{}})\n"
            "    os._exit(0)\n"
            "return 'a daemon'"
        )
        told(self, self.call(name, "x"), 200, "a daemon")
        self.gone_with_it(name, mark)

    def test_a_daemon_ends_with_its_handler(self):
        mark = f"sleep 8{os.getpid()}3"
        name = self.bad(
            f"import subprocess\nsubprocess.Popen('{mark}'.split(), start_new_session=True, env={{}})\nos._exit(4)"
        )
        self.misbehaves(name, "x", 500, "exited with code 4", beside=(500, "exited with code 4"))
        self.assertEqual(running(mark), [])

    def test_a_thread_that_stays(self):
        name = self.bad("import threading\nthreading.Thread(target=time.sleep, args=(600,)).start()\nreturn 'a thread'")
        self.misbehaves(name, "x", 200, "a thread")
        began = time.monotonic()
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        self.assertLess(time.monotonic() - began, 5)


class Socket(Bad):
    def test_closes_its_socket(self):
        words = "file descriptor 3"
        for code in ("os.close(3)\ntime.sleep(0.2)\nreturn 'closed'", "os.closerange(0, 100)\ntime.sleep(0.2)\nreturn 'closed'"):
            with self.subTest(code=code):
                self.misbehaves(self.bad(code), "x", 500, words, beside=(500, words))

    def test_writes_rubbish_into_it(self):
        words = "file descriptor 3"
        for code in ("os.write(3, b'rubbish' * 5)", "os.write(3, b'\\xff' * 100_000)", "os.write(3, bytes([0, 0, 0, 0, 69, 0, 0, 0, 9, 9, 9, 9]))"):
            with self.subTest(code=code):
                self.misbehaves(self.bad(code + "\ntime.sleep(9)"), "x", 500, words, beside=(500, words))

    def test_closes_its_log(self):
        self.misbehaves(self.bad("os.close(1)\nos.close(2)\nprint('unheard')\nreturn 'closed'"), "x", 500, "Bad file descriptor")


class Directory(Bad):
    def test_changes_its_directory(self):
        name = self.bad("os.chdir('/')\nreturn os.getcwd()")
        answer, _ = self.misbehaves(name, "x", 200)
        self.assertEqual(answer.text, "/")


class Folder(Bad):
    """On a server apart: nothing else on it may have changed its directory."""

    def test_deletes_its_folder(self):
        # By its own absolute path, and only if that lies where this server's handlers do.
        name = self.bad(
            "import shutil\n"
            "folder = os.path.dirname(os.path.realpath(__file__))\n"
            f"if not folder.startswith({str(self.server.data.resolve()) + '/'!r}) or '/handler-' not in folder:\n"
            "    return 'refused: ' + folder\n"
            "shutil.rmtree(folder)\n"
            "return 'deleted'"
        )
        self.misbehaves(name, "x", 200, "deleted")


if __name__ == "__main__":
    unittest.main()
