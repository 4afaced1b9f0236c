"""The limits of gRPC are settings, and hold; many calls at a time are no trouble."""

import time
import unittest

from blackbox.grpc_case import V1_REQUEST, GrpcCase
from blackbox.grpc_clients import stubs
from blackbox.grpc_wire import data, field, fields, framed

MIB = 1 << 20
# Bytes of a field's key and length, where its length takes four bytes.
KEY_AND_LENGTH = 5
ECHO = "def fn(input, headers, context):\n    return context.body\n"


class Messages(GrpcCase):
    """With the limit as it is unless it is set: 16 MiB."""

    def exactly(self, name, size):
        """A message for a function that has so many bytes."""
        message = data(name, b"")
        body = b"x" * (size - len(message) - KEY_AND_LENGTH)
        message += field(2, body)
        self.assertEqual(len(message), size)
        return message, body

    def test_16_mib_exactly_pass_and_a_byte_more_does_not(self):
        name = self.function("def fn(input, headers, context):\n    return str(len(context.body))\n")
        connection = self.wire()
        message, body = self.exactly(name, 16 * MIB)
        answer = self.told(connection.call(V1_REQUEST, message), "OK")
        self.assertEqual(fields(answer.replies[0]), [(1, b"%d" % len(body))])
        message, _ = self.exactly(name, 16 * MIB + 1)
        stream = connection.open(V1_REQUEST)
        connection.send(stream, framed(message), end=True)
        self.told(connection.wait(stream), "RESOURCE_EXHAUSTED", "larger", str(16 * MIB))
        # The connection goes on.
        self.told(connection.call(V1_REQUEST, data(name, "x")), "OK")

    def test_grpcio_is_told_that_its_message_is_too_large(self):
        name = self.function()
        self.failing("RESOURCE_EXHAUSTED", self.ask, name, "x" * (16 * MIB), words=["larger"])
        self.failing("RESOURCE_EXHAUSTED", self.invoke, name, "x" * (16 * MIB), words=["larger"])

    def test_replies(self):
        name = self.function()
        # The reply's message has a key and a length, too.
        most = 16 * MIB - KEY_AND_LENGTH
        self.assertEqual(len(self.ask(name, f"many {most}")), most)
        self.failing("RESOURCE_EXHAUSTED", self.ask, name, f"many {16 * MIB + 1}", words=["larger", "InvokeStream"])
        self.assertEqual(len(self.invoke(name, f"many {16 * MIB - 4096}").body), 16 * MIB - 4096)
        self.failing("RESOURCE_EXHAUSTED", self.invoke, name, f"many {16 * MIB + 1}", words=["larger"])


class Set(GrpcCase):
    settings = {"GRPC_PORT": "0", "TF_GRPC_MESSAGE_MAX": "64KiB", "TF_HELD_BYTES": "200KiB"}

    def test_the_largest_message_is_a_setting(self):
        name = self.function(ECHO)
        for ask in (self.ask, self.invoke):
            ask(name, "x" * 60_000)
            self.failing("RESOURCE_EXHAUSTED", ask, name, "x" * 70_000, words=["65536"])
        self.failing("RESOURCE_EXHAUSTED", self.ask, self.function(), "many 70000", words=["65536"])
        # Messages may be many.
        messages = stubs(self)[2]
        given = [messages.InvokeStreamRequest(head=self.request(name))]
        given += [messages.InvokeStreamRequest(body=b"x" * 60_000)] * 10
        self.assertEqual(sum(len(one.body) for one in self.v2.InvokeStream(iter(given), timeout=20)), 600_000)

    def test_all_that_is_held_is_bounded(self):
        name = self.function(ECHO)
        message = framed(data(name, b"x" * 60_000))
        connections = [self.wire() for _ in range(3)]
        streams = []
        for connection in connections:
            stream = connection.open(V1_REQUEST)
            connection.send(stream, message[:-1])
            streams.append(stream)
        # Each of them was read before: an answer on its connection tells so.
        for connection in connections:
            self.told(connection.call("/no.Such/Method", b""), "UNIMPLEMENTED")
        self.failing("RESOURCE_EXHAUSTED", self.ask, name, "x" * 60_000, words=["memory", "try again"])
        for connection, stream in zip(connections, streams):
            connection.reset(stream)
        whole = self.wire()
        again = lambda: whole.call(V1_REQUEST, data(name, "x" * 60_000)).code  # noqa: E731
        self.eventually(again, lambda code: code == "OK", "given back")


class Streams(GrpcCase):
    def test_as_many_calls_on_a_connection_as_told(self):
        name = self.script("#!/bin/sh\nexec sleep 300\n")
        connection = self.wire()
        self.told(connection.call(V1_REQUEST, data(self.function(), "echo x")), "OK")
        limit = connection.h2.remote_settings.max_concurrent_streams
        self.assertEqual(limit, 128)
        # This client would not open one more.
        connection.h2.remote_settings.acknowledge()
        connection.h2.remote_settings.max_concurrent_streams = 1000
        connection.h2.remote_settings.acknowledge()
        streams = []
        for _ in range(limit + 1):
            streams.append(connection.open(V1_REQUEST))
            connection.send(streams[-1], framed(data(name)), end=True)
        answer = connection.wait(streams[-1])
        # REFUSED_STREAM: nothing has run, so a client may try again by itself.
        self.assertEqual(answer.reset, 7)
        connection.close()
        self.wait_running(name, 0)

    def test_more_calls_than_a_connection_takes_at_a_time_wait_in_the_client(self):
        name = self.function("import time\ndef fn(input, headers):\n    time.sleep(0.05)\n    return input\n")
        client = self.v1
        message = stubs(self)[0].Data
        calls = [client.Request.future(message(functionIdentifier=name, data=str(n)), timeout=30) for n in range(400)]
        self.assertEqual([call.result().response for call in calls], [str(n) for n in range(400)])
        self.counts(name, succeeded=400)

    def test_a_thousand_calls_at_a_time(self):
        limits = "calls_per_handler = 64\nwaiting = 2000\n"
        code = {"fn.py": "import asyncio\nasync def fn(input, headers):\n    await asyncio.sleep(0.05)\n    return input\n", "tinyfaas.toml": limits}
        name = self.deploy("python3", code)
        messages = stubs(self)
        clients = [messages[1].TinyFaaSStub(self.channel()) for _ in range(8)]
        data_of = messages[0].Data
        calls = [clients[n % 8].Request.future(data_of(functionIdentifier=name, data=str(n)), timeout=60) for n in range(1000)]
        self.assertEqual([call.result().response for call in calls], [str(n) for n in range(1000)])
        self.counts(name, succeeded=1000)

    def test_pings_are_answered_and_no_offence(self):
        connection = self.wire()
        for number in range(50):
            connection.h2.ping(b"%08d" % number)
        connection.flush()
        connection.pump(lambda: len(connection.pongs) == 50)
        self.assertEqual(connection.pongs, [b"%08d" % number for number in range(50)])
        self.told(connection.call(V1_REQUEST, data(self.function(), "echo x")), "OK")

    def test_grpcio_keeps_its_connection_alive_while_it_waits(self):
        options = {"keepalive_time_ms": 100, "keepalive_timeout_ms": 5000, "keepalive_permit_without_calls": 1}
        more = {"http2.max_pings_without_data": 0, "http2.min_time_between_pings_ms": 100}
        channel = self.channel(**options, **more)
        client = stubs(self)[1].TinyFaaSStub(channel)
        self.assertEqual(self.ask(self.function(), "sleep 1.5", client=client), "slept")
        self.assertEqual(self.ask(self.function(), "echo on", client=client), "on")

    def test_calls_side_by_side_do_not_wait_for_each_other(self):
        name = self.function()
        slow = self.beside(self.ask, name, "sleep 1.5")
        self.wait_running(name, 1)
        began = time.monotonic()
        for number in range(20):
            self.assertEqual(self.ask(name, f"echo {number}"), str(number))
        self.assertLess(time.monotonic() - began, 1.4)
        self.assertEqual(slow.result(), "slept")

    def test_streams_and_large_messages_share_a_connection(self):
        name = self.function()
        messages = stubs(self)[2]
        client = self.v2
        requests = [self.request(name, b"echo " + bytes([n]) * 2_000_000) for n in range(8)]
        calls = [client.Invoke.future(request, timeout=60) for request in requests]
        head = messages.InvokeStreamRequest(head=self.request(name, b"many 3000000"))
        body = b"".join(one.body for one in client.InvokeStream(iter([head]), timeout=60))
        self.assertEqual(len(body), 3_000_000)
        self.assertEqual([call.result().body for call in calls], [bytes([n]) * 2_000_000 for n in range(8)])


if __name__ == "__main__":
    unittest.main()
