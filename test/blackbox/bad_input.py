"""Cases of bad input: refused in exact words, and nothing is left of it.

Owns what "nothing is left" means: the same functions, files, processes and open
files as before, and a function that was there before still answers. Must not know
the inputs.
"""

import os

from .case import new_name
from .folders import File
from .server import Server

# An answer repeats little of what a stranger sent.
ANSWER_BYTES_MAX = 4096


class BadInput:
    """Goes before `Case` or `OwnServerCase` in a class's bases; each case of such a
    class stands in docs/bad-input.md."""

    def setUp(self):
        super().setUp()
        self.bystander = self.deploy("binary", {"fn.sh": File("#!/bin/sh\nprintf here\n", 0o755)})
        before = self._seen()
        # Runs when the case has removed what it deployed itself.
        self.addCleanup(self._nothing_has_changed, before)

    def refused_with(self, answer, status, *sentences):
        """Checks that an answer has this status and says this."""
        self.assertEqual(answer.status, status, answer.text[:ANSWER_BYTES_MAX])
        for sentence in sentences:
            self.assertIn(sentence, answer.text)
        self.assertLess(len(answer.body), ANSWER_BYTES_MAX)

    def refused_upload(self, status, sentence, environment, code, **more):
        """Uploads under a new name, and checks the refusal and that no call finds it."""
        name = new_name("bad")
        self.addCleanup(self.remove, name)
        answer = self.upload(name, environment, code, **more)
        self.refused_with(answer, status, sentence)
        self.assertEqual(self.call(name, "x").status, 404)
        return answer

    def _seen(self):
        seen = {"functions": set(self.names())}
        if isinstance(self.server, Server):
            data = self.server.data
            # The first level's folders are made when they are needed first.
            paths = [path.relative_to(data) for path in data.glob("*/**/*")]
            seen["files"] = {str(path) for path in paths if path.parts[0] != "cache"}
            seen["processes"] = set(self.server.processes())
            seen["open files"] = len(os.listdir(f"/proc/{self.server.pid}/fd"))
        return seen

    def _nothing_has_changed(self, before):
        def changes():
            changed = []
            for what, now in self._seen().items():
                if isinstance(now, int):
                    # What an earlier case had open may have closed meanwhile.
                    changed += [f"{now - before[what]} {what}"] if now > before[what] else []
                elif now != before[what]:
                    changed += [f"{what}: {sorted(now ^ before[what], key=str)[:20]}"]
            return changed

        self.eventually(changes, lambda changed: not changed, "as it was before")
        self.answers(self.bystander, "here")
