"""CoAP clients that others wrote: libcoap's coap-client, aiocoap-client, coap-cli.

Owns how they are found, asked and read: coap-client ends with 0 even on 4.04, so
what it prints is what counts. Must not know tinyFaaS.
"""

import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from .server import REPOSITORY, scratch

# Where test.sh puts what the suite takes from npm.
NPM = REPOSITORY / ".tools" / "npm" / "node_modules" / ".bin"
LIBCOAP = ("notls", "gnutls", "openssl")
WAIT_S = 30


@dataclass
class Answer:
    """What a client was told at last, and all that it printed."""

    # As people write it: "2.05"; empty where no response came.
    code: str
    body: bytes
    # What it shows of the response's options, by their names: lists of texts.
    options: dict
    printed: str
    exit_code: int
    seconds: float
    # Every response in order: pairs of code and options (libcoap only).
    responses: list = field(default_factory=list)

    @property
    def text(self):
        return self.body.decode(errors="replace")


def find(name):
    """Where a client's program is, or None."""
    for folder in (Path(sys.executable).parent, REPOSITORY / ".venv" / "bin", NPM):
        if (folder / name).exists():
            return str(folder / name)
    return shutil.which(name)


def need_client(case, *names):
    """Skips a case that needs a client which this machine lacks; their paths."""
    sources = {"aiocoap-client": "pip: test/requirements.txt", "coap": "npm: test/npm"}
    for name in names:
        if find(name) is None:
            case.skipTest(f"{name} is not installed ({sources.get(name, 'Debian: libcoap3-bin')})")
    return [find(name) for name in names]


def need_libcoap(case, variant="notls"):
    """Skips a case that needs one of libcoap's clients where it is missing."""
    return need_client(case, f"coap-client-{variant}")[0]


def _run(arguments, timeout, data=b""):
    began = time.monotonic()
    done = subprocess.run(arguments, input=data, capture_output=True, timeout=timeout + 10, check=False)
    return done, time.monotonic() - began


def _options_of_libcoap(text):
    """`Content-Format:text/plain, Block2:0/M/256` as a dict of lists."""
    found = {}
    for part in re.split(r", (?=[A-Z0-9][\w-]*(?::|,|$))", text.strip()):
        name, _, value = part.strip().partition(":")
        if name:
            found.setdefault(name, []).append(value)
    return found


_PDU = re.compile(r"^v:(?:1|Reliable) (?:t:(\w+) )?c:(\d\.\d\d|\w+)(?: i:\w+)? \{\w*\} \[ ?(.*?) ?\](?: :: |$)", re.MULTILINE)


def libcoap(case, method, url, *more, data=None, variant="notls", timeout=WAIT_S):
    """One run of coap-client; `data` goes as its payload, by a file."""
    program = need_libcoap(case, variant)
    folder = scratch()
    got = folder / "got"
    arguments = [program, "-v", "6", "-B", str(timeout), "-m", method.lower(), "-o", str(got)]
    if data is not None:
        sent = folder / "sent"
        sent.write_bytes(data.encode() if isinstance(data, str) else data)
        arguments += ["-f", str(sent)]
    done, seconds = _run([*arguments, *map(str, more), url], timeout)
    printed = (done.stdout + done.stderr).decode(errors="replace")
    responses = [
        (code, _options_of_libcoap(options))
        for _, code, options in _PDU.findall(printed)
        if code[0] in "245"
    ]
    code, options = responses[-1] if responses else ("", {})
    body = got.read_bytes() if got.exists() else b""
    shutil.rmtree(folder, ignore_errors=True)
    return Answer(code, body, options, printed, done.returncode, seconds, responses)


def aiocoap(case, method, url, *more, data=None, timeout=WAIT_S):
    """One run of aiocoap-client."""
    program = need_client(case, "aiocoap-client")[0]
    arguments = [program, "-v", "--no-color", "--no-pretty-print", "-m", method]
    if data is not None:
        arguments += ["--payload", "@-"]
    data = data.encode() if isinstance(data, str) else data or b""
    done, seconds = _run([*arguments, *map(str, more), url], timeout, data)
    printed = done.stderr.decode(errors="replace")
    response = printed.rpartition("Received response:")[2]
    code = re.search(r":(\d\.\d\d) ", response)
    options = {}
    for name, value in re.findall(r":- ([\w-]+) \(\d+\): (.*)", response if code else ""):
        options.setdefault(name, []).append(value)
    return Answer(code[1] if code else "", done.stdout, options, printed, done.returncode, seconds)


def coap_cli(case, method, url, *more, data=None, timeout=WAIT_S):
    """One run of node's coap-cli, which knows GET, POST, PUT and DELETE, and
    sends no body that needs blocks."""
    program = need_client(case, "coap")[0]
    data = data.encode() if isinstance(data, str) else data or b""
    done, seconds = _run([program, method.lower(), "-n", *map(str, more), url], timeout, data)
    printed = done.stderr.decode(errors="replace")
    codes = re.findall(r"\((\d\.\d\d)\)", printed)
    return Answer(codes[-1] if codes else "", done.stdout, {}, printed, done.returncode, seconds)
