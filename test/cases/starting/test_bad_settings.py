"""Every setting wrong: each by itself, and all of them at once."""

import os
import re
import subprocess
import unittest

from blackbox.case import OwnServerCase
from blackbox.server import READY_S, REPOSITORY, binary, clean_environment

# What no setting can mean: no number, time, size, word, address or host name, and
# below it can be neither a directory nor a file.
WRONG = "/dev/null/wrong"
PORTS = ("HTTP", "COAP", "GRPC", "MANAGEMENT")


# Nothing shows its text.
SECRET = {"TF_COAP_KEYS", "coap-keys"}


def settings():
    """Each setting's variable, its name and whether there is a flag for it, as
    docs/configuration.md has them."""
    table = (REPOSITORY / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`--|(only) `)([a-z-]+)`", table, flags=re.MULTILINE)
    return [(variable, name, not only) for variable, only, name in rows]


def given(name, text=WRONG):
    """How a message begins that is about a setting that was given so."""
    return f"{name}: " if name in SECRET else f'{name}="{text}": '


class BadSettings(OwnServerCase):
    def end(self, arguments=(), **variables):
        """Starts a server that must not start; its exit code and what it says."""
        place = self.folder()
        variables.setdefault("TF_DATA_DIR", str(place / "data"))
        done = subprocess.run(
            [binary(), *arguments], env={**clean_environment(), **variables}, cwd=place, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=READY_S, check=False,
        )
        self.assertEqual(os.listdir(place), [], "it has begun to start")
        return done.returncode, done.stdout.decode()

    def mistakes(self, said):
        first, *lines = said.splitlines()
        self.assertEqual(first, "tinyfaas: the configuration has mistakes:")
        return lines

    def test_the_table_has_them_all(self):
        """So that a new setting is tried by itself."""
        helped = subprocess.run([binary(), "serve", "--help"], capture_output=True, text=True, check=True).stdout
        in_help = set(re.findall(r"\[(?:default [^\]]*?, )?env ([A-Z_]+)\]", " ".join(helped.split())))
        self.assertEqual({variable for variable, _, flag in settings() if flag}, in_help)
        self.assertEqual({variable for variable, _, flag in settings() if not flag}, {"TF_COAP_KEYS"})
        self.assertGreater(len(in_help), 40)

    def test_every_variable_wrong_in_turn(self):
        for variable, _, _ in settings():
            with self.subTest(variable=variable):
                code, said = self.end(**{variable: WRONG})
                self.assertEqual(code, 2, said)
                lines = self.mistakes(said)
                # Nothing else is wrong, and what would be right is said.
                self.assertEqual(len(lines), 1, said)
                self.assertRegex(lines[0], rf"^  ({given(variable)}|{WRONG}: ).{{10,}}")

    def test_every_flag_wrong_in_turn(self):
        for flag in [name for _, name, flag in settings() if flag]:
            with self.subTest(flag=flag):
                code, said = self.end([f"--{flag}", WRONG])
                self.assertEqual(code, 2, said)
                lines = self.mistakes(said)
                self.assertEqual(len(lines), 1, said)
                self.assertRegex(lines[0], rf'^  (--{flag}="{WRONG}"|{WRONG}): .{{10,}}')

    def test_all_variables_wrong_at_once(self):
        code, said = self.end(**{variable: WRONG for variable, _, _ in settings()})
        self.assertEqual(code, 2, said)
        lines = self.mistakes(said)
        self.assertEqual(len(lines), len(settings()), said)
        for variable, _, _ in settings():
            shown = f"{WRONG}: " if variable == "TF_CONFIG" else given(variable)
            self.assertEqual(len([line for line in lines if line.startswith(f"  {shown}")]), 1, variable)

    def test_all_keys_of_the_file_wrong_at_once(self):
        keys = [name for _, name, _ in settings() if name != "config"]
        place = self.folder({"config.toml": "".join(f'{key} = "{WRONG}"\n' for key in keys)})
        variables = {"TF_CONFIG": str(place / "config.toml"), "TF_DATA_DIR": ""}
        code, said = self.end(**variables)
        self.assertEqual(code, 2, said)
        lines = self.mistakes(said)
        self.assertEqual(len(lines), len(keys), said)
        for number, key in enumerate(keys, 1):
            start = f"  {place}/config.toml:{number}: {given(key)}"
            self.assertEqual(len([line for line in lines if line.startswith(start)]), 1, key)

    def test_what_is_not_utf_8(self):
        place = self.folder()
        for variable, _, _ in settings():
            with self.subTest(variable=variable):
                environment = {os.fsencode(key): os.fsencode(value) for key, value in clean_environment().items()}
                environment[b"TF_DATA_DIR"] = os.fsencode(place / "data")
                environment[variable.encode()] = b"\xff\xfe"
                done = subprocess.run(
                    [binary()], env=environment, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, timeout=READY_S, check=False,
                )
                self.assertEqual(done.returncode, 2, done.stdout)
                self.assertIn(variable.encode(), done.stdout)
                self.assertEqual(os.listdir(place), [])

    def test_numbers_at_their_edges(self):
        for variable, text, sentence in (
            ("HTTP_PORT", "65536", "ports end at 65535"),
            ("HTTP_PORT", "99999999999999999999", "not a whole number; give a port, 0 for any free one, -1 for none"),
            ("MANAGEMENT_PORT", "-1", "it cannot be switched off"),
            ("TF_THREADS_MAX", "0", "out of range; give a whole number from 1 to 1000000000"),
            ("TF_THREADS_MAX", "1000000001", "out of range"), ("TF_THREADS_MAX", "-1", "not a whole number"),
            ("TF_CALL_DEADLINE", "367d", "not a time; write 500ms, 30s, 10min or 1h"),
            ("TF_CALL_DEADLINE", "99999h", "longer than a year; give a shorter time"),
            ("TF_CALL_DEADLINE", "2h", 'more than TF_CALL_DEADLINE_MAX="1h" allows; raise that one too'),
            ("TF_HTTP_BODY_MAX", "9999999GiB", "larger than a pebibyte; give a smaller size"),
            ("TF_HTTP_BODY_MAX", "1TiB", "not a size; write 512KiB, 64MiB, 1GiB or a number of bytes"),
            ("TF_MANAGEMENT_HOSTS", "a.example:8080", '"a.example:8080" is no host name'),
            ("COAPS_PORT", "5684", "no key is given for CoAP over DTLS; name a file of keys by TF_COAP_KEYS_FILE"),
            ("COAPS_PORT", "65536", "ports end at 65535"), ("COAP_TCP_PORT", "x", "not a whole number"),
            ("TF_COAP_BODY_MAX", "17MiB", "too large; give at most 16777216 bytes (16 MiB)"),
            ("TF_COAP_TCP_MESSAGE_MAX", "1151", "too small; give at least 1152 bytes"),
            ("TF_COAP_TCP_MESSAGE_MAX", "17MiB", "too large; give at most 16777216 bytes (16 MiB)"),
            ("TF_COAP_CHALLENGE", "maybe", "use one of: yes, no"),
            ("TF_COAP_KEYS_FILE", "/no/such/keys", "there is no such file"),
            ("TF_COAP_KEYS_FILE", "/dev/null", "it is not an ordinary file"),
            ("HTTP_ADDRESS", "127.0.0.1,localhos", '"localhos" is no IP address'),
        ):
            with self.subTest(variable=variable, text=text):
                code, said = self.end(**{variable: text})
                self.assertEqual(code, 2, said)
                self.assertEqual(len(self.mistakes(said)), 1, said)
                self.assertIn(f'  {variable}="{text}": {sentence}', said)


if __name__ == "__main__":
    unittest.main()
