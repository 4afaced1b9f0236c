"""The committed stubs of pkg/grpc/tinyfaas, and the Pythons that they are tried with.

Owns where they are. Must not know what is asked of them.
"""

import subprocess

from .go_tools import lacking
from .server import REPOSITORY

FOLDER = REPOSITORY / "pkg" / "grpc" / "tinyfaas"
# Has the oldest libraries that the stubs promise to work with.
OLDEST = REPOSITORY / ".tools" / "grpc" / "bin" / "python3"


def need_oldest(case):
    """Skips a case that needs those where they are not installed; their Python."""
    if not (REPOSITORY / ".tools" / "grpc" / "installed").exists():
        lacking(case, "grpcio-tools 1.64.0 is not installed (sh scripts/make/grpc.sh --tools)")
    return OLDEST


def need_libraries(case, python):
    """Skips a case where a Python lacks gRPC's libraries; the versions of grpcio and
    protobuf."""
    show = "import grpc, google.protobuf; print(grpc.__version__, google.protobuf.__version__)"
    shown = subprocess.run(
        [str(python), "-c", show], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, check=False,
    )
    if shown.returncode != 0:
        lacking(case, f"grpcio is not installed for {python} (pip: test/requirements.txt)")
    return shown.stdout.split()
