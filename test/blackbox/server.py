"""A server as its user sees it: a program, its environment, its data directory.

Knows how one is started, found, stopped, and what it may leave behind. Must not
know what is asked of it.
"""

import ctypes
import json
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# What stays in a data directory when its server has stopped.
KEPT = {"lock", "id", "cache", "tls", "acme"}
# All output of all servers.
OUTPUT = REPOSITORY / "tf_test.out"
READY_S = 30
_PROTOCOLS = (
    *("HTTP", "COAP", "COAP_TCP", "COAPS", "GRPC", "MANAGEMENT"),
    *("HTTPS", "COAPS_TCP", "GRPC_TLS", "MANAGEMENT_TLS"),
)
_libc = ctypes.CDLL(None)


class ServerDied(Exception):
    """The server ended before it was ready; says how, and what it printed."""


def binary():
    """The program under test: the one of TINYFAAS_BINARY, else the one built."""
    given = os.environ.get("TINYFAAS_BINARY")
    if given:
        return Path(given)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    return REPOSITORY / f"tinyfaas-linux-{machine}"


def clean_environment():
    """The environment of this process less all that a server reads."""
    ours = {f"{name}_{what}" for name in _PROTOCOLS for what in ("PORT", "ADDRESS")}
    return {
        key: value
        for key, value in os.environ.items()
        if key.upper() not in ours and not key.startswith(("TF_", "TINYFAAS_"))
    }


# The user and group without rights that every Linux has.
NOBODY = 65534

# This run's own folder below ./tmp, which `make clean` removes.
SCRATCH = REPOSITORY / "tmp" / f"test-{os.getpid()}"


def scratch():
    """A new folder of this run."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=SCRATCH))


class Remote:
    """A server that somebody else has started, known by its addresses."""

    def __init__(self, management, http, coap=None, grpc=None):
        self.management = management.rstrip("/")
        self.http = http.rstrip("/")
        self.coap = coap and coap.rstrip("/")
        self.coap_tcp = self.coaps = None
        self.grpc = grpc and grpc.rpartition("/")[2]


class Server:
    """A server of the suite's own, on ports that the kernel chooses."""

    _counter = 0
    _running = set()

    def __init__(self, data=None, arguments=(), **environment):
        """`environment` goes over the defaults; None takes a variable away."""
        self.folder = scratch()
        self.data = Path(data) if data else self.folder / "data"
        self.output_path = self.folder / "output"
        self.arguments = list(arguments)
        self.environment = clean_environment()
        self.environment.update(
            TF_DATA_DIR=str(self.data),
            HTTP_PORT="0",
            MANAGEMENT_PORT="0",
            COAP_PORT="0",
            GRPC_PORT="0",
        )
        for key, value in environment.items():
            if value is None:
                self.environment.pop(key, None)
            else:
                self.environment[key] = str(value)
        Server._counter += 1
        self.number = Server._counter
        self.process = None
        self.ports = {}
        self.program = str(binary())
        self.user = None

    def as_ordinary_user(self, place):
        """Has a user without rights run it, where root runs the suite. `place` is a
        folder that such a user reaches."""
        if os.geteuid() == 0:
            self.user = NOBODY
            self.folder = place
            self.program = shutil.copy(binary(), place / "tinyfaas")
        return self

    def start(self):
        """Starts it and waits until it says that it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def launch(self):
        """Starts it, and waits for nothing."""
        ports = self.data / "ports.json"
        if ports.exists():
            # What an earlier run wrote would look like this one's.
            ports.unlink()

        def before_exec():
            if self.user is not None:
                os.setgroups([])
                os.setgid(self.user)
                os.setuid(self.user)
            # The suite's own end, however it comes, ends the server.
            _libc.prctl(1, signal.SIGTERM)

        with open(self.output_path, "ab") as output:
            self.process = subprocess.Popen(
                [self.program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.folder,
                preexec_fn=before_exec,
                start_new_session=True,
            )
        Server._running.add(self)
        return self

    def wait_ready(self):
        ends = time.monotonic() + READY_S
        ports = self.data / "ports.json"
        # The file comes first, then the lines that tell of it; the last is "ready".
        while not (ports.exists() and "ready\n" in self.output()):
            if self.process.poll() is not None:
                Server._running.discard(self)
                self._keep_output()
                raise ServerDied(f"ended with {self.process.returncode}: {self.output()}")
            if time.monotonic() > ends:
                raise ServerDied(f"not ready after {READY_S} s: {self.output()}")
            time.sleep(0.002)
        self.ports = json.loads(ports.read_text())
        return self

    @property
    def pid(self):
        return self.process.pid

    @property
    def management(self):
        return f"http://127.0.0.1:{self.ports['management']}"

    @property
    def http(self):
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def https(self):
        return f"https://127.0.0.1:{self.ports['https']}"

    @property
    def management_tls(self):
        return f"https://127.0.0.1:{self.ports['management_tls']}"

    @property
    def coap(self):
        """Where it is called over CoAP, or None; likewise over TCP and over DTLS."""
        return self._coap("coap", "coap")

    @property
    def coap_tcp(self):
        return self._coap("coap+tcp", "coap_tcp")

    @property
    def coaps(self):
        return self._coap("coaps", "coaps")

    @property
    def grpc(self):
        """Where it is called over gRPC, HOST:PORT as its clients write it, or None."""
        port = self.ports.get("grpc")
        return port and f"127.0.0.1:{port}"

    def _coap(self, scheme, endpoint):
        port = self.ports.get(endpoint)
        return port and f"{scheme}://127.0.0.1:{port}"

    def output(self):
        """What it has printed so far."""
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    def exit(self, timeout=READY_S):
        """Waits for its end; the exit code, negative for a signal."""
        code = self.process.wait(timeout)
        Server._running.discard(self)
        self._keep_output()
        return code

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout=READY_S):
        """Stops it; the exit code."""
        if self.process is None or self.process.poll() is not None:
            return self.process and self.process.returncode
        self.send(number)
        try:
            return self.exit(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.exit()
            raise

    def processes(self):
        """The processes that carry this server's mark, itself not among them."""
        end = f"@{self.data.resolve()}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or (self.process and int(entry) == self.process.pid):
                continue
            try:
                variables = Path("/proc", entry, "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(v.startswith(b"TINYFAAS_INSTANCE=") and v.endswith(end) for v in variables):
                found.append(int(entry))
        return found

    def left_over(self):
        """What is there of it that must not be there once it has stopped."""
        left = [f"process {pid}: {command_line(pid)}" for pid in self.processes()]
        if self.data.exists():
            left += [f"file {name}" for name in os.listdir(self.data) if name not in KEPT]
        return left

    def memory_peak(self):
        """The most memory that it ever had resident, in bytes."""
        return self._memory("VmHWM")

    def memory(self):
        """The memory that it has resident, in bytes."""
        return self._memory("VmRSS")

    def _memory(self, field):
        for line in Path("/proc", str(self.pid), "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in /proc/{self.pid}/status")

    def _keep_output(self):
        with open(OUTPUT, "a", encoding="utf-8") as kept:
            kept.write(f"== server {self.number}, process {self.pid}\n{self.output()}\n")
        # It is read again where a server is started twice.

    @classmethod
    def stop_all(cls):
        """Ends whatever still runs, at once."""
        for server in list(cls._running):
            server.process.kill()
            server.exit()


def command_line(pid):
    try:
        return Path("/proc", str(pid), "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "(gone)"


def alive(pid):
    """Whether a process runs; one that is only not waited for does not."""
    try:
        state = Path("/proc", str(pid), "stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


class LocalSite:
    """An HTTP server of the suite's own, for the server under test to fetch from.

    `answers` maps a path to a function that answers with the request handler.
    """

    def __init__(self, answers, context=None):
        """`context` makes it speak TLS."""
        import http.server

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                answer = answers.get(self.path.split("?")[0])
                if answer is None:
                    self.send_error(404, "no such file here")
                else:
                    answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if context:
            scheme = "https"
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def sends(body, status=200, **headers):
    """An answer of `LocalSite`: this body, whole."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer
