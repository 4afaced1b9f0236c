"""Programs in Go that the suite needs and that others wrote: pebble, for one.

Owns where they are. What installs them, at which versions, is
scripts/make/go-tools.sh, which `make test` starts.
"""

import os

from .server import REPOSITORY

TOOLS = REPOSITORY / ".tools" / "bin"


def need_go_tool(case, name):
    """Skips a case that needs a program which is not installed; its path. In CI,
    where everything can be installed, the case fails instead."""
    path = TOOLS / name
    if not path.exists():
        reason = f"{name} is not installed (sh scripts/make/go-tools.sh {name})"
        if os.environ.get("CI"):
            case.fail(reason)
        case.skipTest(reason)
    return str(path)
