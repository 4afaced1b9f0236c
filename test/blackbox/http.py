"""Plain HTTP, by Python's own client and by sockets.

Owns what a request and an answer are to the suite. Must not know tinyFaaS.
"""

import http.client
import socket
import urllib.parse
from dataclasses import dataclass


@dataclass
class Answer:
    """An answer: its status, its headers as they came, its body."""

    status: int
    headers: list
    body: bytes

    @property
    def text(self):
        return self.body.decode(errors="replace")

    def header(self, name):
        """The first header of this name, or None."""
        return next((v for k, v in self.headers if k.lower() == name.lower()), None)

    def all(self, name):
        """Every header of this name."""
        return [v for k, v in self.headers if k.lower() == name.lower()]


def host_and_port(url):
    parts = urllib.parse.urlsplit(url)
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def connect(url, timeout=60, context=None):
    """A connection of http.client's to the server of this URL, over TLS as `context`
    (of ssl) has it."""
    if context:
        return http.client.HTTPSConnection(*host_and_port(url), timeout=timeout, context=context)
    return http.client.HTTPConnection(*host_and_port(url), timeout=timeout)


def request(url, method="GET", body=None, headers=(), timeout=60, context=None):
    """One request on a connection of its own. `headers` is a dict or pairs; one
    without a value (None) is left out."""
    connection = connect(url, timeout, context)
    try:
        return exchange(connection, url, method, body, headers)
    finally:
        connection.close()


def exchange(connection, url, method="GET", body=None, headers=()):
    """One request on a connection that is kept."""
    parts = urllib.parse.urlsplit(url)
    path = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers)
    named = {name.lower() for name, _ in pairs}
    if isinstance(body, str):
        body = body.encode()
    connection.putrequest(
        method, path, skip_host="host" in named, skip_accept_encoding=True
    )
    if body is not None and not named & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    for name, value in pairs:
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    return Answer(answer.status, answer.getheaders(), answer.read())


def open_socket(url, timeout=20):
    """A bare connection."""
    return socket.create_connection(host_and_port(url), timeout)


def raw(url, sent, timeout=20):
    """Sends these bytes and returns all that comes until the other side closes."""
    with open_socket(url, timeout) as connection:
        connection.sendall(sent)
        return read_all(connection)


def read_all(connection):
    """All that comes until the other side closes, however it does."""
    received = b""
    try:
        while True:
            part = connection.recv(65536)
            if not part:
                return received
            received += part
    except ConnectionResetError:
        return received
