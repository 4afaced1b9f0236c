"""The API's description, tried by a stranger: schemathesis makes requests of it and
judges the answers. It is installed from the Python package index where that can be
reached."""

import json
import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

from blackbox import folders
from blackbox.case import OwnServerCase
from blackbox.server import REPOSITORY, scratch

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
# Kept between runs: ./tmp goes with `make clean`.
PLACE = REPOSITORY / "tmp" / "schemathesis"
INSTALL_MAX_S = 300
RUN_MAX_S = 120


def schemathesis():
    """The program, installed if need be; skips aloud where it cannot be."""
    program = PLACE / "bin" / "schemathesis"
    wanted = REQUIREMENTS.read_text()
    note = PLACE / "installed"
    if program.exists() and note.exists() and note.read_text() == wanted:
        return program
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PLACE)], check=True, capture_output=True)
        subprocess.run(
            [str(PLACE / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
             "--requirement", str(REQUIREMENTS)],
            check=True, capture_output=True, timeout=INSTALL_MAX_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", None) or str(error).encode()
        last = why.decode(errors="replace").strip().splitlines()[-1:]
        raise unittest.SkipTest(f"pip cannot install schemathesis: {' '.join(last)}") from error
    note.write_text(wanted)
    return program


# Nobody listens there: what the server is told to download fails, on loopback.
NOWHERE = "http://127.0.0.1:9"
# These leave no function to be looked at: they are tried last.
DELETING = ("delete", "deleteFunction", "deleteFunctions", "wipe")


class OpenApi(OwnServerCase):
    settings = {
        "http_proxy": NOWHERE, "https_proxy": NOWHERE, "HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE,
        "all_proxy": NOWHERE, "ALL_PROXY": NOWHERE, "no_proxy": None, "NO_PROXY": None,
    }

    def test_it_is_served(self):
        answer = self.manage("/openapi.json")
        self.assertEqual((answer.status, answer.header("Content-Type")), (200, "application/json"))
        self.assertEqual(json.loads(answer.text)["openapi"], "3.1.0")

    def test_it_holds_against_a_stranger(self):
        program = schemathesis()
        self.deploy("binary", {"fn.sh": folders.File("#!/bin/sh\ncat\n", 0o755)}, name="echo")
        self.call("echo", "x", headers={"X-tinyFaaS-Async": "true"})
        self.try_with(program, "exclude")
        self.assertEqual(self.manage("/v1/functions/echo").status, 200)
        self.try_with(program, "include")

    def try_with(self, program, which):
        chosen = [f"--{which}-operation-id={operation}" for operation in DELETING]
        command = [
            str(program), "--config-file", str(HERE / "schemathesis.toml"), "run",
            self.server.management + "/openapi.json", *chosen,
        ]
        # Python 3.11 can fail in the tool itself (AST constructor recursion depth
        # mismatch): what is no judgement of the server is tried once more.
        for _ in range(2):
            done = subprocess.run(
                command, cwd=scratch(), env={**os.environ, "NO_COLOR": "1", "NO_PROXY": "*"},
                stdin=subprocess.DEVNULL, capture_output=True, timeout=RUN_MAX_S, check=False,
            )
            output = (done.stdout + done.stderr).decode(errors="replace")
            if done.returncode == 0 or "Runtime Error" not in output or "= FAILURES =" in output:
                break
        self.assertEqual(done.returncode, 0, output[-20_000:])
        tested = re.search(r"Tested: (\d+)", output)
        self.assertTrue(tested and int(tested[1]) > 0, output[-20_000:])
        self.assertEqual(self.manage("/healthz").status, 200)
