"""Ports and switches: where a server listens, and what it says when it cannot."""

import json
import os
import socket
import stat
import unittest

from blackbox import http
from blackbox.case import OwnServerCase, give_away
from blackbox.server import KEPT


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
        return True
    except OSError:
        return False


def listens(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), 2).close()
        return True
    except OSError:
        return False


def datagrams_answered(port, host="127.0.0.1"):
    """Whether a CoAP endpoint answers there: a ping (RFC 7252 section 4.3) gets a
    reset, which comes from the address that was asked."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one:
        one.settimeout(2)
        one.connect((host, port))
        try:
            one.send(bytes.fromhex("40001234"))
            return one.recv(100) == bytes.fromhex("70001234")
        except OSError:
            return False


def taken_udp_port():
    """A socket that has a UDP port."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind(("127.0.0.1", 0))
    return one


class CoapPorts(OwnServerCase):
    def test_the_kernels_choice_is_told(self):
        server = self.start(COAP_PORT="0")
        port = server.ports["coap"]
        self.assertGreater(port, 0)
        self.assertRegex(server.output(), rf"\n  coap +UDP port {port} on all addresses\n")
        self.assertTrue(datagrams_answered(port))
        about = json.loads(self.manage("/v1/server").text)
        self.assertEqual(about["endpoints"]["coap"], port)
        self.ends_clean(server)

    def test_one_port_for_both_families(self):
        if not has_ipv6():
            self.skipTest("this machine has no IPv6")
        server = self.start(COAP_PORT="0")
        self.assertTrue(datagrams_answered(server.ports["coap"]))
        self.assertTrue(datagrams_answered(server.ports["coap"], "::1"))

    def test_a_given_port_is_taken_and_a_negative_one_is_none(self):
        with taken_udp_port() as free:
            port = free.getsockname()[1]
        server = self.start(COAP_PORT=None, coap_PORT=port)
        self.assertEqual(server.ports["coap"], port)
        self.assertTrue(datagrams_answered(port))
        server = self.start(COAP_PORT="-1", GRPC_PORT="-1")
        self.assertIsNone(server.ports["coap"])
        self.assertRegex(server.output(), r"\n  coap +off\n")
        self.assertEqual(self.upload("echo", "binary", "echo-binary").text.split(), [f"http://127.0.0.1:{server.ports['http']}/echo"])

    def test_a_port_in_use_is_named_and_is_never_shared(self):
        with taken_udp_port() as taken:
            port = str(taken.getsockname()[1])
            self.fails_to_start(port, "in use", "for coap", "COAP_PORT=0 takes any free one", COAP_PORT=port)
        one = self.start(COAP_PORT="0")
        server = self.prepare(COAP_PORT=str(one.ports["coap"])).launch()
        self.assertEqual(server.exit(), 1, server.output())
        self.assertIn("in use", server.output())
        self.assertTrue(datagrams_answered(one.ports["coap"]))

    def test_an_address_is_taken(self):
        server = self.start(COAP_ADDRESS="127.0.0.2")
        self.assertTrue(datagrams_answered(server.ports["coap"], "127.0.0.2"))
        self.assertFalse(datagrams_answered(server.ports["coap"], "127.0.0.1"))


class Ports(OwnServerCase):
    def test_kernel_chosen_ports_are_told(self):
        server = self.start()
        self.assertGreater(server.ports["http"], 0)
        self.assertGreater(server.ports["management"], 0)
        self.assertIn(str(server.ports["http"]), server.output())
        self.assertIn(str(server.ports["management"]), server.output())
        self.assertEqual(self.names(), [])
        self.assertEqual(self.call("nobody").status, 404)
        self.ends_clean(server)

    def test_a_given_port_is_taken(self):
        port = free_port()
        server = self.start(HTTP_PORT=port)
        self.assertEqual(server.ports["http"], port)
        self.assertEqual(self.call("nobody").status, 404)

    def test_one_port_for_both_families(self):
        if not has_ipv6():
            self.skipTest("this machine has no IPv6")
        server = self.start()
        for name, path in (("http", "/nobody"), ("management", "/list")):
            for host in ("127.0.0.1", "[::1]"):
                with self.subTest(name=name, host=host):
                    answer = http.request(f"http://{host}:{server.ports[name]}{path}")
                    self.assertEqual(answer.status, 404 if name == "http" else 200, answer.text)

    def test_both_spellings_and_upper_case_wins(self):
        lower, upper = free_port(), free_port()
        server = self.start(HTTP_PORT=None, http_PORT=lower)
        self.assertEqual(server.ports["http"], lower)
        server = self.start(HTTP_PORT=upper, http_PORT=lower)
        self.assertEqual(server.ports["http"], upper)

    def test_an_empty_variable_is_not_set(self):
        port = free_port()
        server = self.start(HTTP_PORT="", http_PORT=port)
        self.assertEqual(server.ports["http"], port)

    def test_an_empty_port_is_the_default(self):
        if listens(8000) or listens(8000, "::1"):
            self.skipTest("something listens on the default port 8000 of this machine")
        server = self.start(HTTP_PORT="")
        self.assertEqual(server.ports["http"], 8000)

    def test_a_negative_port_switches_off(self):
        server = self.start(HTTP_PORT="-1", COAP_PORT="-1", GRPC_PORT="-1")
        self.assertFalse(server.ports.get("http"))
        name = self.script("#!/bin/sh\ncat\n")
        answer = self.upload(name, "binary", "echo-binary")
        self.assertEqual((answer.status, answer.text), (200, ""))

    def test_all_endpoints_may_be_off(self):
        server = self.start(HTTP_PORT="-1", COAP_PORT="-5", GRPC_PORT="-99999")
        self.assertEqual(self.names(), [])
        self.ends_clean(server)

    def test_every_endpoint_that_is_on_has_its_line(self):
        server = self.start(GRPC_PORT="0")
        port = server.ports["grpc"]
        self.assertIn(f"port {port} on", server.output())
        answer = self.upload("echo", "binary", "echo-binary")
        self.assertEqual(answer.status, 200, answer.text)
        lines = answer.text.splitlines()
        self.assertEqual([line.split(":")[0] for line in lines], ["coap", "http", "grpc"])
        self.assertTrue(lines[2].endswith(f":{port}/echo"), answer.text)

    def test_a_wrong_port_is_named(self):
        for variable in ("HTTP_PORT", "COAP_PORT", "GRPC_PORT", "MANAGEMENT_PORT", "grpc_PORT"):
            for text in ("http", "65536", "1.5", "80x"):
                with self.subTest(variable=variable, text=text):
                    given = {variable.upper(): None, variable: text}
                    self.fails_to_start(variable, text, **given)

    def test_every_mistake_is_reported_at_once(self):
        self.fails_to_start(
            "HTTP_PORT", "TF_CALL_DEADLINE", "TF_BACKEND", "HTTP_ADDRESS",
            HTTP_PORT="x", TF_CALL_DEADLINE="soon", TF_BACKEND="podman", HTTP_ADDRESS="nowhere",
        )

    def test_docker_ends_the_start(self):
        self.fails_to_start("docker", "not built", TF_BACKEND="docker")

    def test_an_unknown_argument_is_named(self):
        self.fails_to_start("--no-such-flag", arguments=["--no-such-flag"])
        self.fails_to_start("dance", arguments=["dance"])

    def test_serve_is_the_same_as_no_argument(self):
        server = self.start(arguments=["serve"])
        self.assertEqual(self.names(), [])
        self.ends_clean(server)

    def test_a_flag_wins_over_its_variable(self):
        port = free_port()
        server = self.start(arguments=["--http-port", str(port)], HTTP_PORT=free_port())
        self.assertEqual(server.ports["http"], port)

    def test_a_port_in_use_is_named(self):
        for variable in ("HTTP_PORT", "MANAGEMENT_PORT"):
            with self.subTest(variable=variable), socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = str(taken.getsockname()[1])
                said = self.fails_to_start(port, "in use", **{variable: port})
                self.assertIn(variable.split("_")[0].lower(), said.lower())

    def test_management_is_on_loopback_unless_asked(self):
        server = self.start()
        self.assertNotRegex(server.output(), r"(?i)warn.*management")
        with open("/proc/net/tcp", encoding="ascii") as table:
            lines = [line.split() for line in table.readlines()[1:]]
        port = f"{server.ports['management']:04X}"
        bound = [line[1] for line in lines if line[3] == "0A" and line[1].endswith(":" + port)]
        self.assertEqual(bound, [f"0100007F:{port}"])

    def test_management_on_all_addresses_warns(self):
        server = self.start(MANAGEMENT_ADDRESS="all")
        self.assertEqual(self.names(), [])
        self.assertRegex(server.output(), r"(?i)warn.*management|management.*warn")

    def test_an_address_is_taken(self):
        server = self.start(HTTP_ADDRESS="127.0.0.2")
        answer = http.request(f"http://127.0.0.2:{server.ports['http']}/nobody")
        self.assertEqual(answer.status, 404)
        self.assertFalse(listens(server.ports["http"], "127.0.0.1"))


class DataDirectory(OwnServerCase):
    def test_two_servers_side_by_side(self):
        one = self.start()
        mine = self.deploy("binary", "echo-binary", name="mine")
        two = self.start()
        self.assertEqual(self.names(), [])
        self.assertEqual(self.call(mine, "x").status, 404)
        self.ends_clean(two)
        self._current = one
        self.answers(mine, "still here", "still here")
        self.ends_clean(one)

    def test_a_directory_in_use_is_named(self):
        one = self.start()
        self.deploy("binary", "echo-binary", name="mine")
        self.fails_to_start_beside(one)
        self.answers("mine", "x", "x")
        self.ends_clean(one)

    def fails_to_start_beside(self, one):
        """Unlike `fails_to_start`: the first server's processes live on."""
        two = self.prepare(one.data)
        # `launch` would take away the running server's ports.
        ports = (one.data / "ports.json").read_bytes()
        two.launch()
        (one.data / "ports.json").write_bytes(ports)
        self.assertGreater(two.exit(), 0)
        self.assertIn(str(one.data), two.output())
        self.assertIn("in use", two.output())

    def test_a_directory_that_cannot_be_made_is_named(self):
        self.fails_to_start("/proc/no-such-place", TF_DATA_DIR="/proc/no-such-place")
        self.fails_to_start("/dev/null/below", TF_DATA_DIR="/dev/null/below")

    def test_a_directory_that_cannot_be_written_is_named(self):
        # Root may write everywhere.
        place = self.open_folder()
        folder = place / "data"
        folder.mkdir()
        give_away(folder)
        folder.chmod(0o500)
        self.addCleanup(lambda: folder.exists() and folder.chmod(0o700))
        server = self.prepare(folder).as_ordinary_user(place).launch()
        self.assertGreater(server.exit(), 0, server.output())
        self.assertIn(str(folder), server.output())

    def test_the_directory_is_nobody_elses(self):
        server = self.start()
        self.assertEqual(stat.S_IMODE(server.data.stat().st_mode) & 0o077, 0)

    def test_ports_json_goes_and_the_id_stays(self):
        server = self.start()
        self.assertEqual(json.loads((server.data / "ports.json").read_text()), server.ports)
        made = (server.data / "id").read_text()
        self.ends_clean(server)
        self.assertLessEqual(set(os.listdir(server.data)), KEPT)
        again = self.start(server.data)
        self.assertEqual((again.data / "id").read_text(), made)
        self.ends_clean(again)

    def test_the_default_directory_follows_the_user(self):
        # Root's is under /var/lib, which a test must not touch.
        home = self.open_folder()
        server = self.prepare(TF_DATA_DIR=None, XDG_STATE_HOME=None, HOME=home)
        server.as_ordinary_user(home)
        server.data = home / ".local" / "state" / "tinyfaas"
        self._current = server.start()
        self.assertEqual(self.names(), [])
        self.ends_clean(server)


if __name__ == "__main__":
    unittest.main()
