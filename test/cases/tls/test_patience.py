"""Clients that stall, that come in numbers, and that stay."""

import os
import select
import socket
import time
import unittest

from blackbox import http, tls
from blackbox.tls_case import ENDPOINTS, TlsCase

HELLO = tls.hello()
REFUSED_AT_A_TIME = 64


def opened(port, sent=b""):
    connection = socket.create_connection(("127.0.0.1", port), 20)
    if sent:
        connection.sendall(sent)
    return connection


def close(connections):
    for connection in connections:
        connection.close()


def open_files(server):
    return len(os.listdir(f"/proc/{server.pid}/fd"))


class Stalling(TlsCase):
    settings = {"TF_TLS_HANDSHAKE_TIMEOUT": "1s"}

    def test_handshakes_that_stall_are_ended(self):
        before = open_files(self.server)
        for port in self.ports():
            began = time.monotonic()
            stalled = {
                "says nothing": opened(port),
                "one byte": opened(port, HELLO[:1]),
                "half a record's head": opened(port, HELLO[:3]),
                "half a hello": opened(port, HELLO[: len(HELLO) // 2]),
                "a hello and no more": opened(port, HELLO),
                "the start of a request": opened(port, b"GET /"),
            }
            self.still_answers()
            for what, connection in stalled.items():
                with self.subTest(what=what):
                    # The end, whatever was said before it.
                    http.read_all(connection)
            self.assertLess(time.monotonic() - began, 10)
            close(stalled.values())
        self.eventually(lambda: open_files(self.server), lambda now: now <= before + 2, "closed")

    def test_a_hello_byte_by_byte_is_ended(self):
        for port in self.ports():
            with opened(port) as connection:
                began = time.monotonic()
                with self.assertRaises(OSError):
                    while time.monotonic() - began < 10:
                        connection.sendall(HELLO[:1])
                        # The pace of a client that is to be thrown out by the clock.
                        connection.settimeout(0.05)
                        try:
                            if not connection.recv(4096):
                                raise ConnectionResetError
                        except TimeoutError:
                            pass
                self.assertLess(time.monotonic() - began, 8)


class Numbers(TlsCase):
    def test_many_that_stall_keep_nobody_out(self):
        """They have been answered, and say no more."""
        stalled = [opened(self.server.ports["https"], HELLO) for _ in range(400)]
        try:
            self.eventually(lambda: len(select.select(stalled, [], [], 0)[0]), lambda count: count >= 250, "answered")
            for _ in range(3):
                began = time.monotonic()
                self.still_answers()
                self.assertLess(time.monotonic() - began, 3)
        finally:
            close(stalled)

    def test_memory_of_idle_connections_is_bounded(self):
        self.still_answers()
        before = self.server.memory()
        idle, context = [], tls.anyone()
        try:
            for number in range(500):
                idle.append(tls.connect(self.server.ports["https"], context))
            each = (self.server.memory() - before) / len(idle)
            self.assertLess(each, 100 << 10, "bytes for each")
            self.still_answers()
        finally:
            close(idle)

    def test_stopping_with_open_connections_is_quick(self):
        server = self.start(**self.of_tls())
        context = tls.anyone()
        opened_ones = []
        try:
            for endpoint in ENDPOINTS:
                opened_ones += [opened(server.ports[endpoint]), opened(server.ports[endpoint], HELLO)]
                opened_ones += [tls.connect(server.ports[endpoint], context) for _ in range(5)]
            kept = self.https()
            kept.request("GET", "/nobody")
            kept.getresponse().read()
            began = time.monotonic()
            self.ends_clean(server)
            self.assertLess(time.monotonic() - began, 2)
            for connection in opened_ones:
                http.read_all(connection)
            kept.close()
        finally:
            close(opened_ones)


class Flood(TlsCase):
    settings = {"TF_CONNECTIONS_MAX": "40", "TF_TLS_HANDSHAKE_TIMEOUT": "2s"}

    def test_no_more_connections_than_allowed(self):
        flood = []
        try:
            for _ in range(200):
                flood.append(opened(self.server.ports["https"], HELLO))
            most = 0
            ends = time.monotonic() + 2
            while time.monotonic() < ends:
                most = max(most, self.sockets())
            # Besides those that are allowed, a few are being told that there is no place.
            self.assertLessEqual(most, 40 + REFUSED_AT_A_TIME + 5, "open connections")
        finally:
            close(flood)
        self.eventually(lambda: self.secure("nobody").status, lambda status: status == 404, "answered")

    def sockets(self):
        """The connections to its port that the server holds open."""
        port = f":{self.server.ports['https']:04X}"
        held = 0
        inodes = set()
        for entry in os.scandir(f"/proc/{self.server.pid}/fd"):
            try:
                target = os.readlink(entry.path)
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            with open(table) as lines:
                for line in list(lines)[1:]:
                    fields = line.split()
                    held += fields[1].endswith(port) and fields[3] != "0A" and fields[9] in inodes
        return held


if __name__ == "__main__":
    unittest.main()
