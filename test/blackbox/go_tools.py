"""Programs in Go that the suite needs and that others wrote: pebble, buf.

Owns where they are. What installs them is scripts/make/go-tools.sh, and for buf
npm; `make test` starts both.
"""

import os

from .server import REPOSITORY

TOOLS = REPOSITORY / ".tools"
# Built ones are published for npm; one package for each kind of processor.
FROM_NPM = {"buf": "npm/node_modules/@bufbuild/buf-linux-*/bin/buf"}


def need_go_tool(case, name):
    """Skips a case that needs a program which is not installed; its path. In CI,
    where everything can be installed, the case fails instead."""
    found = sorted(TOOLS.glob(FROM_NPM.get(name, f"bin/{name}")))
    if not found:
        source = "npm: test/npm" if name in FROM_NPM else f"sh scripts/make/go-tools.sh {name}"
        lacking(case, f"{name} is not installed ({source})")
    return str(found[0])


def lacking(case, reason):
    """Skips a case for something that is not installed, or fails it in CI."""
    if os.environ.get("CI"):
        case.fail(reason)
    case.skipTest(reason)
