"""Cases on servers that speak TLS on every port that can.

Owns the certificates of a run, made once, and how such a server is called. Must not
know what is tried.
"""

import http.client

try:
    import grpc
except ImportError:
    grpc = None

from . import http as plain
from .case import OwnServerCase, need_tool
from .certificates import DAY_S, Authority, trusting
from .server import Server, scratch

# The endpoints over TLS, as ports.json names them.
ENDPOINTS = ("https", "grpc_tls", "management_tls")
SHOW_HEADERS = "import json\ndef fn(input, headers): return json.dumps(headers)\n"
ECHO = "def fn(input, headers): return input\n"

# Goes on when a file of the name that it is given is there.
STREAM = """
import os, time
def fn(input, headers):
    yield "data: one\\n\\n"
    while not os.path.exists(input):
        time.sleep(0.01)
    yield "data: two\\n\\n"
"""


class Certificates:
    """What all cases of a run share."""

    _made = {}

    @classmethod
    def authority(cls, name="root"):
        """An authority of this name."""
        if name not in cls._made:
            cls._made[name] = Authority(scratch() / name, f"tinyFaaS test {name}")
        return cls._made[name]

    @classmethod
    def once(cls, key, make):
        """What `make` makes, which is made once."""
        if key not in cls._made:
            cls._made[key] = make()
        return cls._made[key]

    @classmethod
    def of_server(cls, rsa=False):
        """A good certificate of a server."""
        return cls.once(f"server {rsa}", lambda: cls.authority().issue(rsa=rsa))

    @classmethod
    def of_client(cls, **more):
        """A good certificate of a client."""
        return cls.once(f"client {more}", lambda: cls.authority().client(**more))


def clients():
    return Certificates.authority("clients")


def known(subject="/O=Sensors/CN=sensor-1"):
    """A certificate that the server has to take."""
    return Certificates.once(f"known {subject}", lambda: clients().client(subject))


def unwelcome():
    """Certificates that no server may take, each with what is wrong with it."""
    make = Certificates.once
    return {
        "of another authority": make("stranger", lambda: Certificates.authority("strangers").client()),
        "of the server's own authority": make("root's", lambda: Certificates.authority().client()),
        "expired": make("expired", lambda: clients().client(begins_in=-DAY_S, ends_in=-60)),
        "not valid yet": make("early", lambda: clients().client(begins_in=3600)),
        "for servers only": make("no client", lambda: clients().issue("/CN=server", usage="serverAuth")),
    }


class TlsCase(OwnServerCase):
    """`settings` is what the class's server has besides TLS on all ports."""

    settings = {}
    rsa = False

    def setUp(self):
        need_tool(self, "openssl")
        super().setUp()

    def class_server(self):
        return Server(**self.of_tls(), **self.settings)

    def of_tls(self):
        """The settings of a server with TLS on all ports."""
        return {
            **Certificates.of_server(self.rsa).environment(),
            "TF_TLS_RELOAD_INTERVAL": "200ms",
            **dict.fromkeys(("HTTPS_PORT", "GRPC_TLS_PORT", "MANAGEMENT_TLS_PORT", "GRPC_PORT"), "0"),
        }

    def ports(self):
        """The ports that speak TLS."""
        return [self.server.ports[endpoint] for endpoint in ENDPOINTS]

    def secure(self, path, body=None, method=None, headers=(), client=None, timeout=60):
        """A request over HTTPS that trusts the run's authority alone, and shows the
        certificate of `client`."""
        connection = self.https(client, timeout)
        try:
            method = method or ("GET" if body is None else "POST")
            return plain.exchange(connection, "https://localhost/" + path.lstrip("/"), method, body, headers)
        finally:
            connection.close()

    def https(self, client=None, timeout=60, endpoint="https"):
        """A connection of http.client's, which may carry several requests."""
        context = trusting(Certificates.authority().root, client)
        return http.client.HTTPSConnection("localhost", self.server.ports[endpoint], timeout=timeout, context=context)

    def still_answers(self, **more):
        """Checks that who asks is answered over HTTPS."""
        self.assertEqual(self.secure("nobody-has-this-name", **more).status, 404)

    def need_grpc(self):
        if grpc is None:
            self.skipTest("grpcio is not installed (test/requirements.txt)")


def request(channel, name, metadata=(), data="x", timeout=20):
    """A call by the original's service; its messages have two texts and one."""
    def text(number, value):
        value = value.encode()
        return bytes([number << 3 | 2, len(value)]) + value

    def read(message):
        length, shift, at = 0, 0, 1
        while True:
            length |= (message[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if message[at - 1] < 0x80:
                return message[at : at + length].decode()

    method = channel.unary_unary("/openfogstack.tinyfaas.tinyfaas.TinyFaaS/Request", lambda message: message, read)
    return method(text(1, name) + text(2, data), timeout=timeout, metadata=metadata)
