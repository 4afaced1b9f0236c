"""`tinyfaas logs`: what functions print, then and as it comes."""

import json
import unittest

from blackbox.case import Case
from blackbox.commandline import CommandLine


class Logs(CommandLine, Case):
    def test_logs_of_one_and_of_all(self):
        name = self.script("#!/bin/sh\necho noted $1 >&2\ncat >&2\n")
        self.answers(name, "", "first\n")
        self.answers(name, "", "second\n")
        self.wait_for_log(name, "second")
        self.assertEqual(self.succeeds("logs", name), self.logs(name))
        self.assertIn("second", self.succeeds("logs"))
        self.assertEqual(len(self.succeeds("logs", name, "--tail", 1).splitlines()), 1)
        self.assertIn("second", self.succeeds("logs", name, "--since", "10min"))
        self.assertNotIn("second", self.succeeds("logs", name, "--since", "2999-01-01T00:00:00Z"))
        lines = [json.loads(line) for line in self.succeeds("logs", name, "--json").splitlines()]
        self.assertEqual({line["function"] for line in lines}, {name})
        self.assertIn("second", [line["text"] for line in lines])
        self.fails(1, "logs", name, "--since", "soon", words=["since"])
        self.fails(2, "logs", name, "--tail", "-1", words=["--tail"])
        self.fails(4, "logs", "nobody-has-this", words=["nobody-has-this"])

    def test_following_until_the_function_goes(self):
        name = self.script("#!/bin/sh\ncat >&2\n")
        terminal = self.terminal("logs", "-f", name)
        self.answers(name, "", "while it is followed\n")
        terminal.shows("while it is followed")
        self.answers(name, "", "\x1b[31mno colour\n")
        terminal.shows("[31mno colour")
        self.assertNotIn("\x1b[31m", terminal.text)
        self.remove(name)
        self.assertEqual(terminal.exit(), 0)

    def test_following_until_ctrl_c(self):
        name = self.script("#!/bin/sh\ncat >&2\n")
        terminal = self.terminal("logs", "-f", name)
        self.answers(name, "", "something\n")
        terminal.shows("something")
        terminal.type("\x03")
        self.assertEqual(terminal.exit(), -2)


if __name__ == "__main__":
    unittest.main()
