"""Cases of the CoAP endpoint: a server that has one, functions on it, clients of it.

Owns how a case finds the endpoint and deploys the interoperability functions, and
a gateway that loses datagrams. Must not know what is asked of them.
"""

import base64
import socket
import threading
import time

from . import coap, folders
from .case import OwnServerCase
from .server import REPOSITORY

INTEROP = REPOSITORY / "examples" / "coap-interop"


class CoapCase(OwnServerCase):
    """Cases on a server of their class's own, with CoAP on a port of the kernel's."""

    settings = {"COAP_PORT": "0"}

    @property
    def port(self):
        return self.server.ports["coap"]

    def url(self, path="", scheme="coap", host="127.0.0.1", port=None):
        """Where a function is: NAME, or NAME/sub/path?query."""
        return f"{scheme}://{host}:{port or self.port}/{path}"

    def client(self, host="127.0.0.1", port=None, source=None):
        """A client that goes with the case."""
        client = coap.Client((host, port or self.port), source)
        self.addCleanup(client.close)
        return client

    def interop(self, *names):
        """Deploys interoperability functions by the names that suites know, once for
        all cases of the class."""
        there = self.names()
        for name in names:
            if name not in there:
                code = folders.zip_of_folder(INTEROP / name)
                body = {"name": name, "zip": base64.b64encode(code).decode()}
                answer = self.manage("/upload", body)
                self.assertEqual(answer.status, 200, answer.text)

    def is_code(self, answer, code, *words):
        """Checks a response's code, and that its payload says these."""
        self.assertEqual(answer.status, code, answer)
        for word in words:
            self.assertIn(word.lower(), answer.text.lower())
        return answer


class Gateway:
    """A gateway between clients and a server that loses datagrams: `loses` is asked
    of each with its direction ("request" or "response", by who sent it) and its
    bytes. Every client has a port of its own behind it."""

    def __init__(self, server, loses):
        self._server, self._loses = server, loses
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._backs = {}
        self.lost = []
        self.passed = []
        self._threads = []
        self._start(self._forward)

    def _start(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    @property
    def port(self):
        return self._front.getsockname()[1]

    def _take(self, direction, data):
        lost = self._loses(direction, data)
        (self.lost if lost else self.passed).append((time.monotonic(), direction, data))
        return not lost

    def _forward(self):
        while True:
            try:
                data, client = self._front.recvfrom(1 << 16)
                if not data and client == self._front.getsockname():
                    return
            except OSError:
                return
            if client not in self._backs:
                back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                back.connect(self._server)
                self._backs[client] = back
                self._start(self._return, back, client)
            if self._take("request", data):
                self._backs[client].send(data)

    def _return(self, back, client):
        while True:
            try:
                data = back.recv(1 << 16)
                if not data:
                    return
                if self._take("response", data):
                    self._front.sendto(data, client)
            except OSError:
                return

    def close(self):
        """Ends it, and its threads."""
        for back in self._backs.values():
            back.shutdown(socket.SHUT_RDWR)
        self._front.sendto(b"", self._front.getsockname())
        for thread in self._threads:
            thread.join()
        for one in [self._front, *self._backs.values()]:
            one.close()
