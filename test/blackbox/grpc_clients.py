"""gRPC clients that others wrote: grpcio with its health and reflection packages, and
buf curl.

Owns how they are found and asked. Must not know what is asked of them.
"""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass

from .go_tools import lacking, need_go_tool
from .server import REPOSITORY

# The stubs that users take.
STUBS = REPOSITORY / "pkg" / "grpc" / "tinyfaas"
WAIT_S = 30
# Nothing of one case's channel is used again by another one's, no proxy is asked, and
# messages are as large as they come.
OPTIONS = {
    "grpc.use_local_subchannel_pool": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
}


def need_package(case, name, package):
    """Skips a case that needs a Python package which is not installed; its module."""
    # The suite starts processes, for which grpcio would prepare itself each time.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        return importlib.import_module(name)
    except ImportError:
        return lacking(case, f"{package} is not installed (pip: test/requirements.txt)")


def need_grpcio(case):
    """Skips a case where grpcio is not installed, or what its stubs need; its module."""
    need_package(case, "google.protobuf", "protobuf")
    return need_package(case, "grpc", "grpcio")


def stubs(case):
    """This repository's stubs: the messages and the services of both versions."""
    need_grpcio(case)
    if str(STUBS) not in sys.path:
        sys.path.append(str(STUBS))
    import tinyfaas_pb2
    import tinyfaas_pb2_grpc
    import tinyfaas_v2_pb2
    import tinyfaas_v2_pb2_grpc

    return tinyfaas_pb2, tinyfaas_pb2_grpc, tinyfaas_v2_pb2, tinyfaas_v2_pb2_grpc


def generate(case, folder, *protos):
    """Generates stubs into a folder, as users of other languages and versions do."""
    need_package(case, "grpc_tools.protoc", "grpcio-tools")
    arguments = [f"-I{STUBS}", f"--python_out={folder}", f"--grpc_python_out={folder}"]
    return subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", *arguments, *protos],
        capture_output=True, text=True, timeout=WAIT_S, check=False,
    )


def python(folder, code, *arguments):
    """Runs a program of a user's with stubs from a folder; how it ended."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(folder), "no_proxy": "*", "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT_S, check=False,
    )


@dataclass
class Ran:
    """How buf curl ended, and what it printed."""

    exit_code: int
    replies: list
    # gRPC's code and message, where there was no reply.
    error: dict
    printed: str


def buf_curl(case, url, body=None, *more, timeout=WAIT_S):
    """One run of buf curl, which learns of messages by the server's reflection; `body`
    is what is sent, several values one after the other."""
    folder = case.folder()
    arguments = [need_go_tool(case, "buf"), "curl", "--protocol", "grpc", "--http2-prior-knowledge", *map(str, more)]
    if body is not None:
        bodies = body if isinstance(body, list) else [body]
        arguments += ["--data", "\n".join(map(json.dumps, bodies))]
    done = subprocess.run(
        [*arguments, url], cwd=folder, env={**os.environ, "no_proxy": "*", "HOME": str(folder)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
    )
    return Ran(done.returncode, _values(done.stdout), (_values(done.stderr) or [{}])[-1], done.stdout + done.stderr)


def _values(text):
    """The JSON values that stand one after the other in a text."""
    decoder, found = json.JSONDecoder(), []
    while "{" in text:
        text = text[text.index("{"):]
        try:
            value, end = decoder.raw_decode(text)
        except ValueError:
            text = text[1:]
            continue
        found.append(value)
        text = text[end:]
    return found
