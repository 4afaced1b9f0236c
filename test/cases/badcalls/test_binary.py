"""binary: scripts that misbehave when they are called."""

import os
import unittest

from blackbox.misbehaving import DEADLINE_S, LONG_S, OK, PRINTED_LINES, PRINTING, SLOW_S, Misbehaving, running, told

AROUND = """\
#!/bin/sh
case $(cat) in
ok) printf ok ;;
slow) echo 'slow began' >&2; sleep {slow}; printf 'slow done' ;;
long) echo 'slow began' >&2; sleep {long} ;;
*) {code} ;;
esac
"""
LATE = f"the call took longer than the {DEADLINE_S}s it may take"


class Bad(Misbehaving):
    def bad(self, code):
        """Deploys a script that does this when it is asked to misbehave."""
        return self.script(AROUND.format(code=code, slow=SLOW_S, long=LONG_S))


class Replies(Bad):
    def test_nothing(self):
        self.assertEqual(self.misbehaves(self.bad(":"), "x", 200)[0].body, b"")

    def test_output_that_breaks_later(self):
        name = self.bad("head -c 3000000 /dev/zero; exit 1")
        with self.beside(name):
            self.broken_off(name, "x", bytes(1 << 20))


class Large(Bad):
    settings = {"TF_CALL_DEADLINE": "60s"}

    def test_50_mb(self):
        answer, _ = self.misbehaves(self.bad("head -c 50000000 /dev/zero | tr '\\0' x"), "x", 200)
        self.assertEqual((len(answer.body), answer.body.count(b"x")), (50_000_000, 50_000_000))


class Ends(Bad):
    def test_exits(self):
        self.misbehaves(self.bad("exit 3"), "x", 500, "fn.sh exited with code 3 and printed nothing to its standard output")
        answer, _ = self.misbehaves(self.bad("echo what it printed; exit 3"), "x", 500)
        self.assertEqual(answer.text, "what it printed\n")

    def test_killed_by_a_signal(self):
        for number in (9, 11, 15):
            with self.subTest(number=number):
                name = self.bad(f"kill -{number} $$")
                self.misbehaves(name, "x", 500, f"fn.sh was ended by signal {number} (")

    def test_kills_its_worker(self):
        words = "the function's handler ended while it ran the call: killed by signal 9 (SIGKILL)\n"
        name = self.bad("kill -9 $PPID; sleep 9")
        self.misbehaves(name, "x", 500, words, beside=(500, words))

    def test_stopped(self):
        self.misbehaves(self.bad("kill -STOP $$"), "x", 504, LATE)

    def test_loops_for_ever(self):
        for code in ("while :; do :; done", "trap '' TERM INT HUP; while :; do sleep 1; done"):
            with self.subTest(code=code):
                _, took = self.misbehaves(self.bad(code), "x", 504, LATE)
                self.assertLess(took, DEADLINE_S + 1)


class Prints(Bad):
    settings = PRINTING

    def test_without_end(self):
        name = self.bad(
            f"line=$(printf %0990d 0); seq -f \"%.0f $line\" 0 {PRINTED_LINES - 1} >&2; printf printed"
        )
        self.prints(name, "x")


class Processes(Bad):
    def test_a_child_in_the_background_ends_with_its_function(self):
        mark = f"sleep 8{os.getpid()}7"
        name = self.bad(f"{mark} & printf forked")
        told(self, self.call(name, "x"), 200, "forked")
        self.gone_with_it(name, mark)

    def test_a_daemon_ends_with_its_function(self):
        mark = f"sleep 8{os.getpid()}8"
        name = self.bad(f"cd /; env -i setsid {mark} </dev/null >/dev/null 2>&1 & printf 'a daemon'")
        told(self, self.call(name, "x"), 200, "a daemon")
        self.gone_with_it(name, mark)

    def test_a_daemon_ends_with_its_handler(self):
        mark = f"sleep 8{os.getpid()}9"
        words = "killed by signal 9 (SIGKILL)"
        name = self.bad(f"env -i setsid {mark} </dev/null >/dev/null 2>&1 & kill -9 $PPID; sleep 9")
        self.misbehaves(name, "x", 500, words, beside=(500, words))
        self.assertEqual(running(mark), [])


class Socket(Bad):
    def test_has_no_socket(self):
        # It is the worker's; a script does not inherit it.
        name = self.bad("if { true >&3; } 2>/dev/null; then printf 'it has one'; else printf 'it has none'; fi")
        self.misbehaves(name, "x", 200, "it has none")

    def test_closes_its_streams(self):
        name = self.bad("exec 0<&- 1>&- 2>&-; sleep 0.1")
        self.assertEqual(self.misbehaves(name, "x", 200)[0].body, b"")


class Directory(Bad):
    def test_changes_its_directory(self):
        name = self.bad("cd /; pwd")
        self.assertEqual(self.misbehaves(name, "x", 200)[0].text, "/\n")


class Folder(Bad):
    """On a server apart: nothing else on it may have changed its directory."""

    GONE = "tinyfaas: lost its fn.sh, which a call has deleted or moved, or made unreadable, in the handler's folder; starting another handler"

    def test_deletes_its_folder(self):
        # By its own absolute path, and only if that lies where this server's handlers do.
        data = str(self.server.data.resolve())
        name = self.bad(
            "folder=$(readlink -f -- \"$(dirname -- \"$0\")\")\n"
            f"case $folder in {data}/*/handler-*) rm -r -- \"$folder\" && printf deleted ;; *) printf 'refused: %s' \"$folder\" ;; esac"
        )
        self.misbehaves(name, "x", 200, "deleted")
        self.wait_for_log(name, self.GONE)

    def test_loses_its_script(self):
        for code in ("mv -- \"$0\" \"$0.old\"", "chmod 000 -- \"$0\""):
            with self.subTest(code=code):
                name = self.bad(f"{code} && printf done")
                before = self.belongings()
                told(self, self.call(name, "x"), 200, "done")
                # No call is lost on a handler that has no script any more.
                self.answers(name, OK, OK)
                self.wait_for_log(name, self.GONE)
                self.settled(before)


if __name__ == "__main__":
    unittest.main()
