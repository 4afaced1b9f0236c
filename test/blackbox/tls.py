"""TLS from below: handshakes begun by hand, and openssl's own client.

Knows ClientHellos, alerts, and what `openssl s_client` prints. Must not know who
answers.
"""

import os
import re
import socket
import ssl
import struct
import subprocess
from dataclasses import dataclass

from .http import read_all

SSL_3, TLS_1_0, TLS_1_1, TLS_1_2 = 0x0300, 0x0301, 0x0302, 0x0303
# Types of records (RFC 8446, section 5.1).
ALERT, HANDSHAKE, APPLICATION = 21, 22, 23
# Alerts (section 6).
UNEXPECTED_MESSAGE, HANDSHAKE_FAILURE, ILLEGAL_PARAMETER = 10, 40, 47
DECODE_ERROR, PROTOCOL_VERSION, NO_APPLICATION_PROTOCOL = 50, 70, 120
# Suites that are good (RFC 5289), and one for the end of the list.
GOOD = [0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8]
# What each kind of weakness is offered as, with suites for ECDSA and RSA keys alike.
WEAK = {
    "no encryption": [0x0000, 0x0001, 0x0002, 0x003B, 0xC006, 0xC010],
    "export": [0x0003, 0x0006, 0x0008, 0x000B, 0x000E, 0x0011, 0x0014, 0x0062, 0x0064],
    "RC4": [0x0004, 0x0005, 0xC007, 0xC011],
    "DES": [0x0009, 0x0012, 0x0015],
    "3DES": [0x000A, 0x0016, 0xC008, 0xC012],
    "CBC with SHA-1": [0xC009, 0xC00A, 0xC013, 0xC014, 0x0033, 0x0039],
    "CBC with SHA-2": [0xC023, 0xC024, 0xC027, 0xC028, 0x0067, 0x006B],
    "the server's RSA key as the secret's": [0x002F, 0x0035, 0x003C, 0x003D, 0x009C, 0x009D],
    "finite fields": [0x009E, 0x009F, 0xCCAA],
    "nobody's certificate": [0x0018, 0x001B, 0x0034, 0x00A6, 0x00A7, 0xC016, 0xC018, 0xC019],
    "a key shared beforehand": [0x008C, 0x00A8, 0x00A9, 0xC035],
}


def hello(version=TLS_1_2, suites=tuple(GOOD), compressions=(0,), name="localhost", extensions=b""):
    """A record with a ClientHello (RFC 5246, section 7.4.1.2)."""
    def vector(size, content):
        return len(content).to_bytes(size, "big") + content

    host = vector(2, b"\0" + vector(2, name.encode()))
    all_extensions = b"".join(
        struct.pack("!H", kind) + vector(2, content)
        for kind, content in [
            (0, host),  # server_name
            (10, vector(2, b"\x00\x1d\x00\x17")),  # supported_groups
            (11, vector(1, b"\0")),  # ec_point_formats
            (13, vector(2, b"\x04\x03\x08\x04\x04\x01\x08\x07")),  # signature_algorithms
            (23, b""),  # extended_master_secret
            (0xFF01, b"\0"),  # renegotiation_info
        ]
    ) + extensions
    body = struct.pack("!H", version) + os.urandom(32) + b"\0"
    body += vector(2, b"".join(struct.pack("!H", suite) for suite in suites))
    body += vector(1, bytes(compressions))
    if version > SSL_3:
        body += vector(2, all_extensions)
    message = b"\x01" + vector(3, body)
    return struct.pack("!BH", HANDSHAKE, min(version, TLS_1_0)) + vector(2, message)


@dataclass
class Alert:
    """How the other side ended a handshake."""

    level: int
    description: int


@dataclass
class ServerHello:
    """What the other side chose."""

    version: int
    suite: int
    compression: int


def said(received):
    """What these bytes of a server are: an `Alert`, a `ServerHello`, or themselves."""
    if len(received) >= 7 and received[0] == ALERT:
        return Alert(received[5], received[6])
    if len(received) >= 45 and received[0] == HANDSHAKE and received[5] == 2:
        (version,) = struct.unpack_from("!H", received, 9)
        after_session = 44 + received[43]
        suite, compression = struct.unpack_from("!HB", received, after_session)
        return ServerHello(version, suite, compression)
    return received


def offer(port, record, timeout=20):
    """What a server says first to these bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout) as connection:
        connection.sendall(record)
        received = b""
        # As much as a ServerHello has at least, if it is one.
        while len(received) < 128:
            try:
                part = connection.recv(4096)
            except ConnectionResetError:
                break
            if not part:
                break
            received += part
        return said(received)


def connect(port, context, name="localhost", timeout=20):
    """A connection over TLS."""
    plain = socket.create_connection(("127.0.0.1", port), timeout)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def anyone():
    """A context that trusts whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(connection, path="/", host="localhost", body=b"", headers=()):
    """Sends one HTTP request and says that it is the last; all that comes."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
    return read_all(connection)


def s_client(port, *arguments, given="", timeout=20):
    """Runs openssl's client; all that it printed."""
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *map(str, arguments)],
        input=given.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        timeout=timeout, check=False,
    )
    return done.stdout.decode(errors="replace")


def agreed(printed):
    """Version and suite that openssl's client agreed on; None: on nothing."""
    if "no peer certificate available" in printed:
        return None
    found = re.search(r"^\w+, (\S+), Cipher is (\S+)$", printed, flags=re.MULTILINE)
    return None if found is None or found[2] == "(NONE)" else (found[1], found[2])
