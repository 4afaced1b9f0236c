"""A caller's deadline and a caller's leaving: enforced, handed on, and the place freed."""

import json
import time
import unittest

from blackbox.case import need_environment
from blackbox.grpc_case import V1_REQUEST, V2_INVOKE, GrpcCase
from blackbox.grpc_clients import need_grpcio
from blackbox.grpc_wire import CANCEL, data, framed

# Says that it began, and leaves two processes to be ended.
STOPS = "#!/bin/sh\necho begun >&2\nsleep 300 & wait\n"
BOTH = ((V1_REQUEST, "version 1"), (V2_INVOKE, "version 2"))
# Takes one call at a time, and lets none wait for long.
ONE = "calls_per_handler = 1\nwaiting = 4\n"


class StopCase(GrpcCase):
    def stops(self):
        """A function of STOPS, and a look at whether all that it started has ended."""
        name = self.script(STOPS)
        before = set(self.server.processes())

        def ended(begun):
            self.assertEqual(self.logs(name).count("begun"), begun)
            more = lambda: set(self.server.processes()) - before  # noqa: E731
            self.eventually(more, lambda left: not left, "ended")
            self.wait_running(name, 0)

        return name, ended

    def begun(self, name, count):
        """Waits until so many of its calls have begun."""
        self.eventually(lambda: self.logs(name).count("begun"), lambda n: n == count, f"{count} begun")


class Deadlines(StopCase):
    def test_it_ends_in_time_whoever_watches_the_clock(self):
        # A bare client: it would wait for ever.
        name, ended = self.stops()
        for number, (path, version) in enumerate(BOTH, 1):
            with self.subTest(version=version):
                began = time.monotonic()
                answer = self.wire().call(path, data(name), [("grpc-timeout", "300m")])
                took = time.monotonic() - began
                self.told(answer, "DEADLINE_EXCEEDED", "longer than")
                self.assertTrue(0.25 <= took < 5, took)
                ended(number)
        self.counts(name, deadline_exceeded=2)

    def test_grpcio_is_told_the_same(self):
        name, ended = self.stops()
        for number, ask in enumerate((self.ask, self.invoke), 1):
            self.failing("DEADLINE_EXCEEDED", ask, name, timeout=0.5)
            ended(number)

    def test_its_place_is_given_to_the_next(self):
        code = {"fn.sh": "#!/bin/sh\nread what\n[ \"$what\" = wait ] && exec sleep 300\nprintf '%s' \"$what\"\n", "tinyfaas.toml": ONE}
        name = self.deploy("binary", code)
        self.told(self.wire().call(V1_REQUEST, data(name, "wait\n"), [("grpc-timeout", "200m")]), "DEADLINE_EXCEEDED")
        self.assertEqual(self.ask(name, "on\n"), "on")

    def test_one_that_waits_for_a_place_ends_in_time(self):
        name = self.deploy("binary", {"fn.sh": STOPS, "tinyfaas.toml": ONE})
        first = self.wire()
        stream = first.open(V1_REQUEST)
        first.send(stream, framed(data(name)), end=True)
        self.wait_running(name, 1)
        self.told(self.wire().call(V1_REQUEST, data(name), [("grpc-timeout", "200m")]), "DEADLINE_EXCEEDED")
        self.assertEqual(self.logs(name).count("begun"), 1)
        first.reset(stream)
        self.wait_running(name, 0)

    def test_the_function_sees_it(self):
        name = self.function()
        # grpcio gives a little more than it is told, lest it be less.
        for given, least, most in ((20, 10, 21), (3600, 200, 300)):
            left = json.loads(self.ask(name, "show", timeout=given))["left"]
            self.assertTrue(least < left <= most, left)
            left = json.loads(self.invoke(name, "show", timeout=given).body)["left"]
            self.assertTrue(least < left <= most, left)

    def test_without_one_the_functions_own_holds(self):
        limits = "call_deadline = '300ms'\n"
        name = self.deploy("binary", {"fn.sh": STOPS, "tinyfaas.toml": limits})
        for ask in (self.ask, self.invoke):
            began = time.monotonic()
            self.failing("DEADLINE_EXCEEDED", ask, name, timeout=None, words=["longer than the 300ms"])
            self.assertLess(time.monotonic() - began, 5)
            # A caller cannot have more.
            self.failing("DEADLINE_EXCEEDED", ask, name, timeout=60, words=["longer than the 300ms"])

    def test_every_unit_is_known(self):
        name = self.function()
        for value, least, most in (("1H", 299, 300), ("2M", 110, 120), ("50S", 40, 50), ("50000m", 40, 50), ("50000000u", 40, 50), ("99999999n", 0, 0.1)):
            with self.subTest(value=value):
                answer = self.wire().call(V1_REQUEST, data(name, "show"), [("grpc-timeout", value)])
                if value.endswith("n") and answer.code == "DEADLINE_EXCEEDED":
                    continue
                self.told(answer, "OK")
                left = json.loads(answer.replies[0][answer.replies[0].index(b"{"):])["left"]
                self.assertTrue(least < left <= most, left)

    def test_one_that_is_over_runs_nothing(self):
        name = self.script("#!/bin/sh\necho begun >&2\n")
        for value in ("0m", "0n", "1n"):
            with self.subTest(value=value):
                self.told(self.wire().call(V1_REQUEST, data(name), [("grpc-timeout", value)]), "DEADLINE_EXCEEDED")
        self.ask(name)
        self.wait_for_log(name, "begun")


class Cancelling(StopCase):
    def test_a_call_that_is_reset_is_told_to_its_function(self):
        other = self.function()
        name, ended = self.stops()
        for number, (path, version) in enumerate(BOTH, 1):
            with self.subTest(version=version):
                connection = self.wire()
                stream = connection.open(path)
                connection.send(stream, framed(data(name)), end=True)
                self.begun(name, number)
                connection.reset(stream, CANCEL)
                ended(number)
                # The connection goes on.
                self.told(connection.call(V1_REQUEST, data(other, "echo on")), "OK")
        self.counts(name, cancelled=2)

    def test_a_connection_that_ends_takes_its_calls_with_it(self):
        name, ended = self.stops()
        connection = self.wire()
        for _ in range(3):
            connection.send(connection.open(V1_REQUEST), framed(data(name)), end=True)
        self.begun(name, 3)
        connection.close()
        ended(3)
        self.counts(name, cancelled=3)

    def test_grpcio_cancels(self):
        grpc = need_grpcio(self)
        name, ended = self.stops()
        call = self.v2.Invoke.future(self.request(name))
        self.begun(name, 1)
        call.cancel()
        ended(1)
        self.assertEqual(call.code(), grpc.StatusCode.CANCELLED)
        self.counts(name, cancelled=1)

    def test_it_is_told_to_node(self):
        need_environment(self, "nodejs")
        name = self.node("module.exports = (req, res) => { console.log('begun'); (req.on ? req : res).on('close', () => console.log('it closed')) }")
        call = self.v2.Invoke.future(self.request(name))
        self.wait_for_log(name, "begun")
        call.cancel()
        self.wait_for_log(name, "it closed")

    def test_one_that_waits_never_runs(self):
        name = self.deploy("binary", {"fn.sh": STOPS, "tinyfaas.toml": ONE})
        connection = self.wire()
        first = connection.open(V1_REQUEST)
        connection.send(first, framed(data(name)), end=True)
        self.begun(name, 1)
        second = connection.open(V1_REQUEST)
        connection.send(second, framed(data(name)), end=True)
        self.eventually(lambda: self.page().value("tinyfaas_calls_waiting", function=name), lambda n: n == 1)
        connection.reset(second)
        self.eventually(lambda: self.page().value("tinyfaas_calls_waiting", function=name), lambda n: n == 0)
        connection.reset(first)
        self.wait_running(name, 0)
        self.assertEqual(self.logs(name).count("begun"), 1)

    def test_one_whose_message_never_came_whole_never_runs(self):
        name = self.script("#!/bin/sh\necho begun >&2\n")
        connection = self.wire()
        stream = connection.open(V1_REQUEST)
        connection.send(stream, framed(data(name, "x" * 100))[:-1])
        connection.reset(stream)
        self.told(connection.call(V1_REQUEST, data(name)), "OK")
        self.wait_for_log(name, "begun")
        self.assertEqual(self.logs(name).count("begun"), 1)


if __name__ == "__main__":
    unittest.main()
