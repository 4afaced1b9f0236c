"""GET /metrics: what is counted is what has happened, and nothing goes down."""

import os
import pwd
import signal
import socket
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox import coap, http
from blackbox.case import OwnServerCase
from blackbox.metrics import Page
from blackbox.server import NOBODY

BEHAVES = """
import os, time
def fn(input, headers):
    what, _, more = (input or '').partition(' ')
    if what == 'raise': raise ValueError('no')
    if what == 'die': os._exit(7)
    if what == 'sleep': time.sleep(float(more))
    if what == 'burn':
        ends = time.process_time() + float(more)
        while time.process_time() < ends: pass
    if what == 'status': return 'so', int(more)
    if what == 'stream':
        def parts():
            yield 'first'
            time.sleep(float(more))
            yield 'last'
        return parts()
    if what == 'break':
        def parts():
            yield 'first'
            raise ValueError('no more')
        return parts()
    return str(os.getpid())
"""
OUTCOMES = (
    "succeeded failed busy unavailable stopping deadline_exceeded crashed reply_broken "
    "request_broken cancelled"
).split()


class MetricsCase(OwnServerCase):
    settings = {"TF_HTTP_BODY_MAX": "1kB"}

    def page(self):
        answer = self.manage("/metrics")
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8")
        return Page(answer.text)

    def outcomes(self, name, page=None):
        """How often each outcome was counted that was; sums are checked."""
        page = page or self.page()
        counts = {o: page.value("tinyfaas_calls_total", function=name, outcome=o) for o in OUTCOMES}
        self.assertNotIn(None, counts.values())
        ended = page.value("tinyfaas_call_duration_seconds_count", function=name)
        self.assertEqual(ended, sum(counts.values()))
        return {outcome: count for outcome, count in counts.items() if count}

    def counts(self, name, **expected):
        """Waits until exactly these were counted: a call is counted when it has
        ended, which its caller may see a moment earlier."""
        return self.eventually(lambda: self.outcomes(name), lambda seen: seen == expected, expected)

    def limited(self, **limits):
        """A function that may take a second for a call, and other limits."""
        limits = {"call_deadline": '"1s"', **limits}
        lines = "".join(f"{key} = {value}\n" for key, value in limits.items())
        files = {"fn.py": BEHAVES, "tinyfaas.toml": lines}
        return self.deploy("python3", files)


class Calls(MetricsCase):
    def test_every_outcome_is_counted_once(self):
        name = self.python(BEHAVES)
        self.assertEqual(self.outcomes(name), {})
        for _ in range(3):
            self.assertEqual(self.call(name).status, 200)
        self.assertEqual(self.call(name, "status 503").status, 503)
        self.counts(name, succeeded=4)
        self.assertEqual(self.call(name, "raise").status, 500)
        self.counts(name, succeeded=4, failed=1)
        self.assertEqual(self.call(name, "x" * 2000).status, 413)
        self.counts(name, succeeded=4, failed=1, request_broken=1)
        self.refused(self.call(name, "die"), (500, 502))
        self.counts(name, succeeded=4, failed=1, request_broken=1, crashed=1)

    def test_a_call_past_its_deadline(self):
        name = self.limited()
        self.assertEqual(self.call(name, "sleep 30").status, 504)
        self.counts(name, deadline_exceeded=1)
        took = self.page().value("tinyfaas_call_duration_seconds_sum", function=name)
        self.assertTrue(1 <= took < 3, took)

    def test_a_full_function(self):
        name = self.limited(calls_per_handler=1, waiting=1, call_deadline='"20s"')
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(self.call, name, "sleep 2")
            self.eventually(lambda: self.page().value("tinyfaas_calls_running", function=name), lambda n: n == 1)
            second = pool.submit(self.call, name, "sleep 0")
            self.eventually(lambda: self.page().value("tinyfaas_calls_waiting", function=name), lambda n: n == 1)
            self.assertGreaterEqual(self.page().value("tinyfaas_gateway_waiting_calls"), 1)
            self.assertEqual(self.call(name).status, 429)
            self.counts(name, busy=1)
            self.assertEqual([first.result().status, second.result().status], [200, 200])
        self.counts(name, busy=1, succeeded=2)
        page = self.page()
        self.assertEqual(page.value("tinyfaas_call_queue_seconds_count", function=name), 2)
        self.assertGreater(page.value("tinyfaas_call_queue_seconds_sum", function=name), 0.5)
        self.assertEqual(page.value("tinyfaas_calls_running", function=name), 0)

    def leaves(self, name, body, wait_for=b""):
        """A caller that goes away while its call runs."""
        with http.open_socket(self.server.http) as connection:
            head = f"POST /{name} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall((head + body).encode())
            seen = b""
            while wait_for not in seen:
                seen += connection.recv(1000)
            # The call that was left before may still hold its place beside it.
            running = lambda: self.page().value("tinyfaas_calls_running", function=name)
            self.eventually(running, lambda n: n >= 1, "running")
            connection.shutdown(socket.SHUT_RDWR)

    def test_a_caller_that_leaves(self):
        name = self.python(BEHAVES)
        self.leaves(name, "sleep 10")
        self.counts(name, cancelled=1)
        self.leaves(name, "stream 10", b"first")
        self.counts(name, cancelled=2)

    def test_a_stream_ends_with_its_last_byte(self):
        name = self.python(BEHAVES)
        self.answers(name, "firstlast", "stream 0.5")
        self.counts(name, succeeded=1)
        took = self.page().value("tinyfaas_call_duration_seconds_sum", function=name)
        self.assertTrue(0.5 <= took < 3, took)

    def test_a_reply_that_breaks_off(self):
        name = self.python(BEHAVES)
        try:
            self.call(name, "break")
        except Exception:  # pylint: disable=broad-except
            pass  # how the caller learns of it is not this case's matter
        self.counts(name, reply_broken=1)

    def test_asynchronous_calls(self):
        name = self.python(BEHAVES)
        later = {"X-tinyFaaS-Async": "yes"}
        for body in ("x", "raise", "sleep 60"):
            answer = self.call(name, body, headers=later)
            self.assertEqual(answer.status, 202)
        where = answer.header("Location").lstrip("/")
        self.counts(name, succeeded=1, failed=1)
        self.assertEqual(self.call(where, method="DELETE").status, 200)
        self.counts(name, succeeded=1, failed=1, cancelled=1)

    def test_names_that_nobody_has(self):
        before = self.page()
        for _ in range(3):
            self.assertEqual(self.call("no-such-function").status, 404)
        after = self.page()
        key = "tinyfaas_gateway_unknown_function_calls_total"
        self.assertEqual(after.value(key) - before.value(key), 3)
        self.assertNotIn("no-such-function", after.functions())


class Handlers(MetricsCase):
    def test_starts_and_restarts(self):
        name = self.python(BEHAVES, threads=2)
        page = self.page()
        self.assertEqual(page.value("tinyfaas_handlers_ready", function=name), 2)
        self.assertEqual(page.value("tinyfaas_handlers_wanted", function=name), 2)
        self.assertEqual(page.value("tinyfaas_handler_start_seconds_count", function=name), 2)
        self.assertEqual(page.value("tinyfaas_handler_restarts_total", function=name), 0)
        pid = int(self.call(name).text)
        if pid not in self.server.processes():
            self.skipTest("a worker does not know its own number here")
        os.kill(pid, signal.SIGKILL)
        page = self.eventually(
            self.page,
            lambda page: page.value("tinyfaas_handler_start_seconds_count", function=name) == 3,
            "a third start",
        )
        self.assertEqual(page.value("tinyfaas_handler_restarts_total", function=name), 1)
        ready = lambda: self.page().value("tinyfaas_handlers_ready", function=name)
        self.eventually(ready, lambda ready: ready == 2, "two again")

    def test_memory_and_processor_time(self):
        name = self.python(BEHAVES)
        page = self.page()
        self.assertGreaterEqual(page.value("tinyfaas_function_processes", function=name), 2)
        self.assertGreater(page.value("tinyfaas_function_memory_bytes", function=name), 1 << 20)
        cpu = lambda: self.page().value("tinyfaas_function_cpu_seconds_total", function=name)
        before = cpu()
        self.assertEqual(self.call(name, "burn 0.5").status, 200)
        after = self.eventually(cpu, lambda now: now >= before + 0.4, "half a second more")
        self.assertLess(after, before + 5)
        # What it took stays counted when the process ends.
        self.refused(self.call(name, "die"), (500, 502))
        restarts = lambda: self.page().value("tinyfaas_handler_restarts_total", function=name)
        self.eventually(restarts, lambda count: count == 1, "another")
        self.assertGreaterEqual(cpu(), after)

    def test_what_a_script_took_is_counted_though_it_has_ended(self):
        name = self.script("#!/bin/sh\ni=0\nwhile [ $i -lt 200000 ]; do i=$((i+1)); done\necho done\n")
        self.answers(name, "done\n", "x")
        cpu = lambda: self.page().value("tinyfaas_function_cpu_seconds_total", function=name)
        self.eventually(cpu, lambda seconds: seconds > 0.02, "counted")

    def test_builds(self):
        name = self.python(BEHAVES)
        self.assertEqual(self.page().value("tinyfaas_function_build_seconds_count", function=name), 1)
        self.refused(self.upload(name, "python3", {"other.py": ""}), 422)
        page = self.page()
        self.assertEqual(page.value("tinyfaas_function_build_failures_total", function=name), 1)
        self.assertEqual(page.value("tinyfaas_function_build_seconds_count", function=name), 1)
        self.assertEqual(self.upload(name, "python3", {"fn.py": BEHAVES}).status, 200)
        self.assertEqual(self.page().value("tinyfaas_function_build_seconds_count", function=name), 2)


class OwnUser(MetricsCase):
    settings = None

    def test_a_server_with_a_user_of_its_own_sees_what_functions_take(self):
        if os.geteuid() != 0:
            self.skipTest("only root can start a server that changes to another user")
        self.start(self.open_folder() / "data", TF_USER=pwd.getpwuid(NOBODY).pw_name)
        name = self.python(BEHAVES)
        page = self.page()
        # Its guard is root's: of that the size that is resident is known.
        self.assertEqual(page.value("tinyfaas_function_processes", function=name), 2)
        self.assertGreater(page.value("tinyfaas_function_memory_bytes", function=name), 1 << 20)
        self.assertGreater(page.value("process_open_fds"), 5)
        self.assertEqual(self.call(name, "burn 0.2").status, 200)
        cpu = lambda: self.page().value("tinyfaas_function_cpu_seconds_total", function=name)
        self.eventually(cpu, lambda seconds: seconds >= 0.2, "counted")


class Pages(MetricsCase):
    def test_nothing_goes_down_and_what_is_deleted_goes(self):
        name, other = self.python(BEHAVES), self.python(BEHAVES)
        self.call(name, "burn 0.1")
        last = self.page()
        for step in ("x", "raise", "redeploy", "y", "die", "z"):
            if step == "redeploy":
                self.assertEqual(self.upload(name, "python3", {"fn.py": BEHAVES}).status, 200)
            else:
                self.call(name, step)
            page = self.page()
            for key, number in last.counters().items():
                self.assertGreaterEqual(page.values[key], number, key)
            last = page
        self.assertEqual(self.outcomes(name)["failed"], 1)
        self.remove(name)
        page = self.page()
        self.assertNotIn(name, page.functions())
        self.assertIn(other, page.functions())
        # A new function of that name is another one.
        self.python(BEHAVES, name=name)
        self.assertEqual(self.outcomes(name), {})

    def test_the_server_itself(self):
        page = self.page()
        pid = self.server.pid
        self.assertLess(abs(page.value("process_resident_memory_bytes") - self.server.memory()), 16 << 20)
        self.assertGreaterEqual(page.value("process_cpu_seconds_total"), 0)
        self.assertGreater(page.value("process_open_fds"), 5)
        open_files = len(os.listdir(f"/proc/{pid}/fd"))
        self.assertLess(abs(page.value("process_open_fds") - open_files), 20)
        self.assertGreaterEqual(page.value("process_max_fds"), page.value("process_open_fds"))
        started = page.value("process_start_time_seconds")
        self.assertTrue(time.time() - 600 < started <= time.time() + 1, started)
        self.assertEqual(started, self.page().value("process_start_time_seconds"))
        self.assertEqual(len([1 for name, _ in page.values if name == "tinyfaas_build_info"]), 1)
        self.assertEqual(page.value("tinyfaas_functions"), len(self.names()))

    def test_both_texts_are_what_their_parsers_take(self):
        try:
            from prometheus_client.openmetrics.parser import text_string_to_metric_families as newer
            from prometheus_client.parser import text_string_to_metric_families as older
        except ImportError:
            self.skipTest("Prometheus' own Python parser is not there: pip install prometheus-client")
        name = self.python(BEHAVES)
        self.call(name)
        counted = {}
        for accept, kind, parse in (
            ("text/plain", "text/plain; version=0.0.4; charset=utf-8", older),
            (
                "application/openmetrics-text; version=1.0.0",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                newer,
            ),
        ):
            answer = self.manage("/metrics", headers={"Accept": accept})
            self.assertEqual(answer.header("Content-Type"), kind)
            families = {family.name: family for family in parse(answer.text)}
            calls = families["tinyfaas_calls"]
            self.assertEqual(calls.type, "counter")
            samples = [s.value for s in calls.samples if s.labels["function"] == name]
            counted[accept] = sum(samples)
            self.assertEqual(families["tinyfaas_call_duration_seconds"].type, "histogram")
            self.assertNotIn("unknown", {family.type for family in families.values()})
        self.assertEqual(list(counted.values()), [1, 1])

    def test_only_for_who_may_manage(self):
        self.assertEqual(self.manage("/metrics", headers={"Host": "rebound.example"}).status, 403)
        self.assertEqual(self.manage("/metrics", method="POST", body="").status, 405)
        self.assertEqual(self.call("metrics").status, 404)


class CoapFigures(MetricsCase):
    def test_what_comes_and_goes_over_coap_is_counted(self):
        self.start()
        names = ("datagrams_received", "datagrams_sent", "malformed_messages", "repeated_requests")

        def counts():
            page = self.page()
            return tuple(page.value(f"tinyfaas_coap_{name}_total") for name in names)

        self.assertEqual(counts(), (0, 0, 0, 0))
        with coap.Client(http.host_and_port(self.server.coap)) as client:
            request = client.request("GET", ".well-known/core")
            for _ in range(2):
                client.send(request)
                self.assertEqual(client.receive().status, "2.05")
            # A token of 9 bytes: refused with a reset.
            client.socket.send(bytes.fromhex("49011234") + bytes(9))
            self.assertEqual(client.receive().kind, coap.RST)
            # Not of this version of CoAP: no answer at all.
            client.socket.send(b"\xff" * 8)
        self.eventually(counts, lambda seen: seen == (4, 3, 2, 1), "four datagrams, three answers")
        page = self.page()
        self.assertEqual(page.value("tinyfaas_coap_running_requests_limit"), 4096)
        self.assertEqual(page.value("tinyfaas_coap_running_requests"), 0)
        name = self.deploy("python3", {"fn.py": BEHAVES})
        with coap.Client(http.host_and_port(self.server.coap)) as client:
            self.assertEqual(client.ask("POST", name).status, "2.05")
            self.counts(name, succeeded=1)
            client.send(client.request("POST", name, b"sleep 60"))
            running = lambda: self.page().value("tinyfaas_coap_running_requests")  # noqa: E731
            self.eventually(running, lambda seen: seen == 1, "one request that runs")


if __name__ == "__main__":
    unittest.main()
