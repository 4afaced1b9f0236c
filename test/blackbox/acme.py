"""A certificate authority that speaks ACME, pebble, and the network between it and a
server: names that all lead to this machine, and a port that is passed on.

Knows how these are started and what they saw. Must not know what a server makes of
them.
"""

import json
import os
import re
import socket
import socketserver
import ssl
import struct
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

START_S = 20


class Names(socketserver.ThreadingTCPServer):
    """A name server (RFC 1035, over TCP) for which every name is 127.0.0.1."""

    daemon_threads = True

    class Answer(socketserver.StreamRequestHandler):
        timeout = 10

        def handle(self):
            while length := self.rfile.read(2):
                query = self.rfile.read(struct.unpack("!H", length)[0])
                end = query.index(b"\0", 12) + 5
                question = query[12:end]
                is_a = question[-4:-2] == b"\0\1"
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4\x7f\0\0\1" if is_a else b""
                head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + bytes(4)
                reply = head + question + answer
                self.wfile.write(struct.pack("!H", len(reply)) + reply)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.server_address[1]

    def close(self):
        self.shutdown()
        self.server_close()


class Passage(socketserver.ThreadingTCPServer):
    """A port that a router passes on to one of a server's, once it is told to which;
    until then whoever connects is hung up on."""

    daemon_threads = True

    class Through(socketserver.BaseRequestHandler):
        def handle(self):
            if self.server.to is None:
                return
            with socket.create_connection(("127.0.0.1", self.server.to), 10) as other:
                back = threading.Thread(target=pump, args=(other, self.request), daemon=True)
                back.start()
                pump(self.request, other)
                back.join(10)

    def __init__(self):
        self.to = None
        super().__init__(("127.0.0.1", 0), self.Through)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self):
        return self.server_address[1]

    def close(self):
        self.shutdown()
        self.server_close()


def pump(of, to):
    """Takes everything from one to the other."""
    try:
        while data := of.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class Pebble:
    """The authority: `program` in a folder, with a certificate for its own address."""

    def __init__(self, program, folder, own, port, life_s=90 * 24 * 3600, blocked=(), **environment):
        """`own` certifies it, and `port` is where it looks at names, over both
        protocols. Certificates live `life_s` seconds."""
        self.program = program
        self.folder = Path(folder)
        self.root = own.root
        self.names = Names()
        self.output_path = self.folder / "pebble.log"
        self.config = self.folder / "pebble.json"
        self.settings = {
            "listenAddress": "127.0.0.1:0",
            "managementListenAddress": "127.0.0.1:0",
            "httpPort": port,
            "tlsPort": port,
            "domainBlocklist": list(blocked),
            "keyAlgorithm": "ecdsa",
            "profiles": {"default": {"description": "the only one", "validityPeriod": life_s}},
            "retryAfter": {"authz": 1, "order": 1},
        }
        certificate = own.issue()
        self.settings["certificate"] = str(certificate.certificate)
        self.settings["privateKey"] = str(certificate.key)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PEBBLE_")},
            "PEBBLE_VA_NOSLEEP": "1",
            "PEBBLE_WFE_NONCEREJECT": "0",
            "PEBBLE_AUTHZREUSE": "0",
            **{key: str(value) for key, value in environment.items()},
        }
        self.process = None

    def start(self):
        self.config.write_text(json.dumps({"pebble": self.settings}))
        with open(self.output_path, "ab") as output:
            self.process = subprocess.Popen(
                [self.program, "-config", self.config, "-dnsserver", self.names.address],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=self.environment, cwd=self.folder,
            )
        ends = time.monotonic() + START_S
        while len(ports := self._listening()) < 2:
            if self.process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError("pebble has not started: " + self.output()[-2000:])
            time.sleep(0.02)
        # Which one is which: the authority's has a directory.
        self.port = next(port for port in ports if self._has_directory(port))
        self.management = next(port for port in ports if port != self.port)
        # The same one when it is started again.
        self.settings["listenAddress"] = f"127.0.0.1:{self.port}"
        return self

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def close(self):
        self.stop()
        self.names.close()

    @property
    def directory(self):
        return f"https://127.0.0.1:{self.port}/dir"

    def output(self):
        return self.output_path.read_text(errors="replace") if self.output_path.exists() else ""

    def orders(self):
        """How many orders it was asked for."""
        return len(re.findall(r"POST /order-plz", self.output()))

    def roots(self):
        """A file with the certificate that its certificates lead to."""
        path = self.folder / "pebble-root.pem"
        path.write_bytes(self._get(self.management, "/roots/0"))
        return path

    def _has_directory(self, port):
        try:
            return b"newOrder" in self._get(port, "/dir")
        except OSError:
            return False

    def _get(self, port, path):
        trusted = ssl.create_default_context(cafile=str(self.root))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trusted)
        )
        with opener.open(f"https://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.read()

    def _listening(self):
        """The ports that the kernel gave it: pebble does not tell."""
        own = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                own.add(os.readlink(descriptor))
            except OSError:
                pass
        ports = []
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
                ports.append(int(fields[1].partition(":")[2], 16))
        return ports
