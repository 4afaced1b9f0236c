"""The gRPC endpoint: where it listens, what goes through it while functions change and
servers stop, and what is counted of it."""

import json
import signal
import socket
import threading
import time
import unittest

from blackbox.case import OwnServerCase
from blackbox.grpc_case import BEHAVES, V1_REQUEST, Clients, GrpcCase
from blackbox.grpc_clients import need_grpcio, stubs
from blackbox.grpc_wire import data, framed

CALLERS = 6


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
        return True
    except OSError:
        return False


class Started(Clients, OwnServerCase):
    """Cases that start what they need."""

    def served(self, address=None):
        """Whether gRPC is spoken there."""
        grpc = need_grpcio(self)
        client = stubs(self)[1].TinyFaaSStub(self.channel(address))
        try:
            self.ask("nobody", client=client, timeout=5)
        except grpc.RpcError as error:
            return error.code() == grpc.StatusCode.NOT_FOUND
        return False


class Ports(Started):
    def test_the_kernels_choice_is_told(self):
        server = self.start(GRPC_PORT="0")
        port = server.ports["grpc"]
        self.assertGreater(port, 0)
        self.assertRegex(server.output(), rf"\n  grpc +port {port} on all addresses\n")
        self.assertTrue(self.served())
        self.assertEqual(json.loads(self.manage("/v1/server").text)["endpoints"]["grpc"], port)
        lines = self.upload("echo", "binary", "echo-binary").text.split()
        self.assertEqual(lines[-1], f"grpc://127.0.0.1:{port}/echo")
        self.assertEqual([line.split(":")[0] for line in lines], ["coap", "http", "grpc"])
        self.ends_clean(server)

    def test_one_port_for_both_families(self):
        if not has_ipv6():
            self.skipTest("this machine has no IPv6")
        server = self.start(GRPC_PORT="0")
        for host in ("127.0.0.1", "[::1]"):
            self.assertTrue(self.served(f"{host}:{server.ports['grpc']}"), host)

    def test_a_given_port_is_taken_in_both_spellings(self):
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        server = self.start(GRPC_PORT=None, grpc_PORT=port)
        self.assertEqual(server.ports["grpc"], port)
        self.assertTrue(self.served())
        self.ends_clean(server)
        server = self.start(GRPC_PORT="0", grpc_PORT="-1")
        self.assertTrue(self.served())

    def test_a_negative_one_is_none(self):
        server = self.start(GRPC_PORT="-1")
        self.assertIsNone(server.ports["grpc"])
        self.assertRegex(server.output(), r"\n  grpc +off\n")
        self.assertNotIn("grpc", self.upload("echo", "binary", "echo-binary").text)
        self.ends_clean(server)

    def test_the_only_endpoint_that_is_on(self):
        server = self.start(GRPC_PORT="0", HTTP_PORT="-1", COAP_PORT="-1")
        name = self.deploy("binary", "echo-binary")
        self.assertEqual(self.ask(name, "alone"), "alone")
        self.ends_clean(server)

    def test_a_port_in_use_is_named(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            self.fails_to_start(port, "in use", "grpc", "GRPC_PORT=0", GRPC_PORT=port)

    def test_an_address_is_taken(self):
        server = self.start(GRPC_PORT="0", GRPC_ADDRESS="127.0.0.2")
        port = server.ports["grpc"]
        self.assertTrue(self.served(f"127.0.0.2:{port}"))
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", port), 2).close()


class Stopping(Started):
    def test_running_calls_may_end_and_new_ones_are_told(self):
        server = self.start(GRPC_PORT="0")
        name = self.python(BEHAVES)
        asked = [self.beside(self.ask, name, "sleep 1"), self.beside(self.invoke, name, "sleep 1")]
        self.wait_running(name, 2)
        kept = self.wire()
        self.told(kept.call(V1_REQUEST, data(name, "echo x")), "OK")
        server.send(signal.SIGTERM)
        self.eventually(server.output, lambda said: "stop" in said.lower().rpartition("ready\n")[2], "stopping")
        try:
            answer = kept.call(V1_REQUEST, data(name, "echo late"))
            self.assertTrue(answer.code == "UNAVAILABLE" or answer.reset == 7, answer)
        except (ConnectionError, OSError):
            pass  # it was closed before it was asked
        except Exception as error:  # pylint: disable=broad-except
            # The h2 package opens no stream once it was told that the server goes.
            self.assertIn("closed", str(error).lower() + type(error).__name__.lower())
        self.failing("UNAVAILABLE", self.ask, name, "echo late", client=stubs(self)[1].TinyFaaSStub(self.channel()))
        self.assertEqual([asked[0].result(), asked[1].result().body], ["slept", b"slept"])
        self.assertEqual(server.exit(15), 0)
        self.assertEqual(server.left_over(), [])

    def test_the_drain_is_bounded(self):
        server = self.start(GRPC_PORT="0", TF_DRAIN_STOP="300ms")
        name = self.script("#!/bin/sh\necho begun >&2\nexec sleep 300\n")
        call = self.beside(self.failing, "UNAVAILABLE", self.ask, name)
        self.wait_for_log(name, "begun")
        began = time.monotonic()
        self.ends_clean(server)
        self.assertLess(time.monotonic() - began, 4)
        call.result()

    def test_open_connections_do_not_keep_it(self):
        server = self.start(GRPC_PORT="0")
        name = self.deploy("binary", "echo-binary")
        kept = [self.wire() for _ in range(5)]
        for connection in kept:
            self.told(connection.call(V1_REQUEST, data(name, "x")), "OK")
        began = time.monotonic()
        self.ends_clean(server, signal.SIGINT)
        self.assertLess(time.monotonic() - began, 1.5)


class Load:
    """Calls a function over gRPC all the time, by several callers."""

    def __init__(self, case, name):
        self.case, self.name = case, name
        self.answers, self.troubles = [], []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CALLERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.case.eventually(lambda: len(self.answers), lambda n: n > CALLERS * 2, "under load")
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, number):
        import grpc

        client = stubs(self.case)[1 if number % 2 else 3].TinyFaaSStub(self.case.channel())
        ask = self.case.ask if number % 2 else self.case.invoke
        count = 0
        while not self._stop.is_set():
            count += 1
            try:
                answer = ask(self.name, f"{number}-{count}", client=client)
            except grpc.RpcError as error:
                self.troubles.append(f"{error.code()}: {error.details()}")
                continue
            text = answer if isinstance(answer, str) else answer.body.decode()
            version, _, echoed = text.partition(" ")
            if echoed != f"{number}-{count}":
                self.troubles.append(f"{number}-{count}: {text[:200]!r}")
            self.answers.append(version)


def code(version):
    return {"fn.py": f"import time\ndef fn(input, headers):\n    time.sleep(0.005)\n    return '{version} ' + input\n"}


class Redeploying(GrpcCase):
    def test_under_load_no_call_is_lost(self):
        name = self.deploy("python3", code("v0"), threads=2)
        with Load(self, name) as load:
            for number in range(1, 4):
                answer = self.upload(name, "python3", code(f"v{number}"), 2)
                self.assertEqual(answer.status, 200, answer.text)
                before = len(load.answers)
                self.eventually(lambda: len(load.answers), lambda n: n > before + CALLERS, "answering")
        self.assertEqual(load.troubles, [])
        self.assertEqual(self.ask(name, "x"), "v3 x")
        self.assertEqual(set(load.answers), {"v0", "v1", "v2", "v3"})

    def test_deleting_under_load_ends_in_not_found(self):
        name = self.deploy("python3", code("v0"), threads=2)
        with Load(self, name) as load:
            self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
            self.eventually(lambda: load.troubles, bool, "unknown to its callers")
        self.assertEqual({trouble.split(":")[0] for trouble in load.troubles}, {"StatusCode.NOT_FOUND"})


class Counted(GrpcCase):
    def test_each_call_once_by_its_outcome(self):
        name = self.deploy("python3", {"fn.py": BEHAVES, "tinyfaas.toml": "calls_per_handler = 1\nwaiting = 1\n"})
        for ask in (self.ask, self.invoke):
            ask(name, "echo x")
        self.counts(name, succeeded=2)
        self.invoke(name, "status 503 so")
        self.counts(name, succeeded=3)
        for ask in (self.ask, self.invoke):
            self.failing("INTERNAL", ask, name, "raise it")
        self.counts(name, succeeded=3, failed=2)
        self.failing("INTERNAL", self.ask, name, "die")
        self.counts(name, succeeded=3, failed=2, crashed=1)
        self.failing("INTERNAL", self.ask, name, "bytes ff")
        self.counts(name, succeeded=3, failed=2, crashed=1, reply_broken=1)
        slow, later = self.beside(self.ask, name, "sleep 1"), None
        self.wait_running(name, 1)
        later = self.beside(self.ask, name, "echo x")
        self.eventually(lambda: self.page().value("tinyfaas_calls_waiting", function=name), lambda n: n == 1)
        self.failing("RESOURCE_EXHAUSTED", self.ask, name, "echo x")
        self.assertEqual((slow.result(), later.result()), ("slept", "x"))
        self.counts(name, succeeded=5, failed=2, crashed=1, reply_broken=1, busy=1)
        head = stubs(self)[2].InvokeStreamRequest(head=self.request(name, "echo x"))
        self.assertEqual(len(list(self.v2.InvokeStream(iter([head]), timeout=20))), 2)
        call_id = self.v2.InvokeAsync(self.request(name, "echo x"), timeout=20).call_id
        request = stubs(self)[2].GetResultRequest(call_id=call_id)
        request.wait.seconds = 20
        self.assertEqual(self.v2.GetResult(request, timeout=30).response.body, b"x")
        self.counts(name, succeeded=7, failed=2, crashed=1, reply_broken=1, busy=1)

    def test_names_that_nobody_has(self):
        key = "tinyfaas_gateway_unknown_function_calls_total"
        before = self.page().value(key)
        for ask in (self.ask, self.invoke, self.ask):
            self.failing("NOT_FOUND", ask, "no-such-function")
        page = self.page()
        self.assertEqual(page.value(key) - before, 3)
        self.assertNotIn("no-such-function", page.functions())

    def test_nothing_of_what_strangers_send_is_logged_as_trouble(self):
        before = len(self.server.output())
        self.failing("NOT_FOUND", self.ask, "nobody")
        connection = self.wire()
        connection.reset(connection.open(V1_REQUEST))
        connection.send(connection.open(V1_REQUEST), framed(b"\xff" * 10), end=True)
        self.told(connection.call("/no.Such/Method", b""), "UNIMPLEMENTED")
        self.assertNotRegex(self.server.output()[before:], r"(?i)warn|error|panic")


if __name__ == "__main__":
    unittest.main()
