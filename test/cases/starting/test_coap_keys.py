"""The keys of CoAP over DTLS: where they come from, and that nothing shows them."""

import json
import socket
import subprocess
import unittest
from pathlib import Path

from blackbox import coap_clients
from blackbox.case import OwnServerCase
from blackbox.server import READY_S, binary, clean_environment

# Text that stands nowhere else. Long enough not to be warned of.
KEY = "swordfish-9f2c81"


class CoapKeys(OwnServerCase):
    def file(self, text, mode=0o600, name="keys"):
        path = Path(self.folder()) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def refuses(self, *lines, arguments=(), **variables):
        """Starts a server that must not start, with these lines and no others."""
        said = self.fails_to_start(arguments=arguments, **variables)
        first, *told = said.splitlines()
        self.assertEqual(first, "tinyfaas: the configuration has mistakes:")
        self.assertEqual(len(told), len(lines), said)
        for line, expected in zip(told, lines):
            self.assertTrue(line.startswith(f"  {expected}"), f"{line} is not {expected}")
        self.assertNotIn(KEY, said)

    def test_every_mistake_in_a_file_is_told_with_its_line(self):
        path = self.file(f"# ours\n\n{KEY}\na:{KEY}\na:{KEY}\nb:{KEY}:{KEY}\nc:hex:{KEY}\n:{KEY}\n")
        self.refuses(
            f"{path}: line 3: there is no colon", f'{path}: line 5: the identity "a" has a key already, in line 4',
            f"{path}: line 6: more than one colon", f"{path}: line 7: the key in hex", f"{path}: line 8: there is no identity",
            TF_COAP_KEYS_FILE=path, COAPS_PORT="0",
        )
        path = self.file(f"a:{KEY}\nb:".encode() + b"\xff\n")
        self.refuses(f"{path}: line 2: it is not UTF-8", TF_COAP_KEYS_FILE=path, COAPS_PORT="0")
        path = self.file("# nobody yet\n")
        self.refuses(f"{path}: there is no key in it", TF_COAP_KEYS_FILE=path, COAPS_PORT="0")

    def test_a_variable_and_a_configuration_file_are_held_to_the_same(self):
        self.refuses("TF_COAP_KEYS: entry 2: ", TF_COAP_KEYS=f"a:{KEY},{KEY}")
        path = self.file(f"\ncoap-keys = 'a:{KEY},{KEY}'\n", name="config.toml")
        self.refuses(f"{path}:2: coap-keys: entry 2: ", TF_CONFIG=path)
        path = self.file(f"coap-keys = {KEY}\n", name="config.toml")
        self.refuses(f"{path}:1: this is not TOML: ", TF_CONFIG=path)
        path = self.file(f"a:{KEY}\n")
        self.refuses(f'{path}: the identity "a" has a key in both', TF_COAP_KEYS=f"a:{KEY}", TF_COAP_KEYS_FILE=path)

    def test_there_is_no_flag_for_them(self):
        for arguments in (["--coap-keys", f"a:{KEY}"], [f"--coap-keys=a:{KEY}"]):
            self.assertNotIn(f"a:{KEY}", self.fails_to_start("--coap-keys", arguments=arguments))

    def test_a_port_without_keys_is_a_mistake(self):
        self.refuses('COAPS_PORT="0": no key is given for CoAP over DTLS', COAPS_PORT="0")
        self.refuses('--coaps-port="5684": no key is given', arguments=["--coaps-port", "5684"])

    def everything_said(self, server):
        """All that a user of this server can be shown."""
        paths = ("/v1/server", "/v1/functions", "/v1/logs", "/metrics", "/openapi.json", "/logs", "/list")
        variables = {key: value for key, value in server.environment.items() if "COAP" in key}
        doctor = subprocess.run(
            [binary(), "doctor", "--json", "--server", server.management],
            env={**clean_environment(), **variables, "HTTP_PORT": "0", "MANAGEMENT_PORT": "0", "TF_DATA_DIR": str(self.folder() / "d")},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=READY_S, check=False,
        ).stdout.decode()
        self.assertIn('"coaps keys"', doctor)
        told = [self.manage(path).text for path in paths]
        return "\n".join([server.output(), json.dumps(server.ports), doctor, *told])

    def test_nothing_shows_a_key(self):
        path = self.file(f"sensor:{KEY}\nshort:{KEY[:9]}\n", mode=0o644)
        server = self.start(TF_LOG="trace", TF_COAP_KEYS_FILE=path, TF_COAP_KEYS=f"other:{KEY}", COAPS_PORT="0", COAP_TCP_PORT="0")
        self.assertRegex(server.output(), rf"\n  coaps +UDP port {server.ports['coaps']} on all addresses, for 3 identities\n")
        self.assertRegex(server.output(), rf"\n  coap-tcp +port {server.ports['coap_tcp']} on all addresses\n")
        self.assertRegex(server.output(), rf"WARN {path} holds keys, and every user of this machine can read")
        self.assertRegex(server.output(), r'WARN keys shorter than 16 bytes .*: "short"')
        name = self.script("#!/bin/sh\nenv\n")
        function = json.loads(self.manage(f"/v1/functions/{name}").text)
        self.assertEqual(function["urls"]["coaps"], f"coaps://127.0.0.1:{server.ports['coaps']}/{name}")
        self.assertEqual(function["urls"]["coap+tcp"], f"coap+tcp://127.0.0.1:{server.ports['coap_tcp']}/{name}")
        # An upload is answered as ever.
        self.assertEqual([line.split(":")[0] for line in self.upload(name, "binary", "echo-binary").text.split()], ["coap", "http", "grpc"])
        self.deploy("binary", {"fn.sh": "#!/bin/sh\nenv\n"}, name=name)
        self.assertNotIn(KEY[:9], self.call(name).text)
        if coap_clients.find("coap-client-gnutls"):
            for key, status in ((KEY, "2.05"), ("a wrong one", "")):
                answer = coap_clients.libcoap(self, "GET", f"{server.coaps}/{name}", "-u", "sensor", "-k", key, variant="gnutls")
                self.assertEqual(answer.code, status, answer.printed)
        said = self.everything_said(server)
        self.assertNotIn(KEY[:9], said)
        # Nor in bytes as people print them.
        self.assertNotIn(KEY.encode().hex(), said.lower())
        self.assertNotIn(", ".join(map(str, KEY.encode())), said)
        self.ends_clean(server)
        self.assertNotIn(KEY[:9], server.output())

    def test_ports_of_tcp_and_dtls_that_are_taken_are_named(self):
        path = self.file(f"a:{KEY}")
        for kind, variable, more in (
            (socket.SOCK_STREAM, "COAP_TCP_PORT", {}), (socket.SOCK_DGRAM, "COAPS_PORT", {"TF_COAP_KEYS_FILE": path}),
        ):
            with self.subTest(variable=variable), socket.socket(socket.AF_INET, kind) as taken:
                taken.bind(("127.0.0.1", 0))
                if kind == socket.SOCK_STREAM:
                    taken.listen()
                port = str(taken.getsockname()[1])
                name = variable.removesuffix("_PORT").lower().replace("_", "-")
                self.fails_to_start(f":{port} for {name}:", f"{variable}=0 takes any free one", **{variable: port}, **more)
        server = self.start(COAP_PORT="-1", HTTP_PORT="-1", COAP_TCP_PORT="-1", TF_COAP_KEYS_FILE=path, COAPS_PORT="-1")
        self.assertEqual({server.ports[name] for name in ("http", "coap", "coap_tcp", "coaps")}, {None})
        self.ends_clean(server)

    def test_switched_off_they_are_not_even_read(self):
        path = self.file(KEY)
        server = self.start(COAPS_PORT="-1", TF_COAP_KEYS_FILE=path)
        self.assertIsNone(server.ports["coaps"])
        self.assertRegex(server.output(), r"\n  coaps +off\n")


if __name__ == "__main__":
    unittest.main()
