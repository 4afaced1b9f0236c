"""The keys of CoAP over DTLS: where they come from, and that nothing shows them."""

import json
import subprocess
import unittest
from pathlib import Path

from blackbox import http
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

    def test_switched_off_they_are_not_even_read(self):
        path = self.file(KEY)
        server = self.start(COAPS_PORT="-1", TF_COAP_KEYS_FILE=path)
        self.assertIsNone(server.ports["coaps"])
        self.assertRegex(server.output(), r"\n  coaps +off\n")


if __name__ == "__main__":
    unittest.main()
