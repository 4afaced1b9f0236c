"""The server's own certificate: wrong at start, and when it is read again."""

import os
import ssl
import threading
import unittest

from blackbox import tls
from blackbox.certificates import DAY_S, Certificate, openssl, pin, trusting
from blackbox.server import Server
from blackbox.tls_case import Certificates, TlsCase

SLOW = "import time\ndef fn(input, headers):\n    time.sleep(float(input))\n    return 'slept'\n"


def wrong(good):
    """What can be wrong with a certificate or its key: a name, and what makes it so
    of good files that lie in a folder of their own, with the file and the words that
    tell of it."""
    authority = Certificates.authority()

    def take(**more):
        def change(pair):
            pair.replace_by(authority.issue(**more))
        return change

    def write(of, make):
        def change(pair):
            file = getattr(pair, of)
            file.write_bytes(make(file.read_bytes()))
        return change

    def encrypt(kind):
        def change(pair):
            openssl(*kind, "-in", pair.key, "-passout", "pass:secret", "-out", pair.key.with_suffix(".new"))
            pair.key.with_suffix(".new").rename(pair.key)
        return change

    def swap(pair):
        one, other = pair.certificate.read_bytes(), pair.key.read_bytes()
        pair.certificate.write_bytes(other)
        pair.key.write_bytes(one)

    def other_key(pair):
        pair.key.write_bytes(authority.issue().key.read_bytes())

    def backwards(pair):
        parts = pair.certificate.read_bytes().split(b"-----BEGIN")
        pair.certificate.write_bytes(b"-----BEGIN".join([b"", parts[2], parts[1]]))

    def folder(pair):
        pair.certificate.unlink()
        pair.certificate.mkdir()

    half = lambda content: content[: len(content) // 3]  # noqa: E731
    return {
        "expired": (take(ends_in=-3600, begins_in=-DAY_S), "certificate", "has expired"),
        "not valid yet": (take(begins_in=DAY_S, ends_in=2 * DAY_S), "certificate", "not valid yet"),
        "of another key": (other_key, "key", "does not belong to the certificate in"),
        "half-written": (write("certificate", half), "certificate", "half-written"),
        "with a half-written key": (write("key", half), "key", "half-written"),
        "empty": (write("certificate", lambda _: b""), "certificate", "it is empty"),
        "with an empty key": (write("key", lambda _: b""), "key", "it is empty"),
        "gone": (lambda pair: pair.certificate.unlink(), "certificate", "no such file"),
        "without its key": (lambda pair: pair.key.unlink(), "key", "no such file"),
        "a folder": (folder, "certificate", "it is not a file"),
        "no PEM": (write("certificate", lambda content: ssl.PEM_cert_to_DER_cert(
            content.decode().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        )), "certificate", "openssl x509 -inform der"),
        "damaged": (write("certificate", lambda content: content.replace(b"MII", b"M!I", 1)), "certificate", "damaged"),
        "damaged within": (write("certificate", lambda content: content.replace(b"MII", b"MIA", 1)), "certificate", "damaged"),
        "with an encrypted key": (encrypt(("pkey", "-aes128")), "key", "encrypted"),
        "with a key encrypted as of old": (encrypt(("ec", "-aes128")), "key", "encrypted"),
        "swapped with its key": (swap, "certificate", "no certificate, only"),
        "behind its root": (backwards, "certificate", "must be the first"),
        "huge": (write("certificate", lambda content: content + b"\n" * (4 << 20)), "certificate", "larger than"),
    }


# What is tried while a server serves, which takes a server each.
WHILE_SERVING = {
    "expired", "of another key", "half-written", "with an empty key", "gone", "a folder", "damaged", "with an encrypted key",
    "swapped with its key",
}


def pair_of(case):
    """A good certificate in files that may be changed."""
    folder = case.open_folder()
    return Certificates.of_server().copy_to(folder)


class AtStart(TlsCase):
    """No server comes up, and the message names the file."""

    settings = None

    def test_wrong_files(self):
        good = Certificates.of_server()
        for name, (change, of, words) in wrong(good).items():
            with self.subTest(certificate=name):
                pair = pair_of(self)
                change(pair)
                words = words.replace("it is not a file", "ordinary file")
                said = self.fails_to_start(words, str(getattr(pair, of)), **{**self.of_tls(), **pair.environment()})
                self.assertNotIn("BEGIN", said.replace("-----BEGIN CERTIFICATE-----", ""))
                self.assertNotIn("panicked", said)

    def test_a_file_that_this_user_may_not_read(self):
        if os.geteuid() != 0:
            self.skipTest("only root has files that another user may not read")
        place = self.open_folder()
        pair = Certificates.of_server().copy_to(place)
        pair.key.chmod(0o600)
        pair.certificate.chmod(0o644)
        server = Server(place / "data", **{**self.of_tls(), **pair.environment()}).as_ordinary_user(place)
        self.addCleanup(self._forget, server)
        self.assertGreater(server.launch().exit(), 0)
        self.assertIn(str(pair.key), server.output())
        self.assertIn("may not read it", server.output())

    def test_a_key_that_others_may_read_is_told(self):
        pair = pair_of(self)
        pair.key.chmod(0o644)
        server = self.start(**{**self.of_tls(), **pair.environment()})
        self.assertRegex(server.output(), rf"WARN.*{pair.key}")


class WhileServing(TlsCase):
    """What was good goes on serving, and one line tells of it."""

    settings = None

    def serving(self, pair, **more):
        return self.prepare(**{**self.of_tls(), **pair.environment()}, **more)

    def shown(self, server, endpoint="https"):
        """The certificate that a server shows now."""
        with tls.connect(server.ports[endpoint], tls.anyone()) as connection:
            return connection.getpeercert(binary_form=True)

    def test_wrong_files_leave_the_old_one(self):
        good = Certificates.of_server()
        servers = {}
        for name, (change, of, words) in wrong(good).items():
            if name not in WHILE_SERVING:
                continue
            pair = pair_of(self)
            servers[name] = (self.serving(pair).launch(), pair, change, of, words)
        for server, *_ in servers.values():
            server.wait_ready()
        for _, pair, change, *_ in servers.values():
            change(pair)
        for name, (server, pair, _, of, words) in servers.items():
            with self.subTest(certificate=name):
                file = str(getattr(pair, of))
                told = lambda: [line for line in server.output().splitlines() if "WARN" in line and file in line and words in line]  # noqa: B023, E731
                self.eventually(told, what="told")
                self.assertEqual(self.shown(server), good.der)
        other = Certificates.authority().issue("/CN=new")
        for server, pair, *_ in servers.values():
            if pair.certificate.is_dir():
                pair.certificate.rmdir()
            pair.replace_by(other)
        for name, (server, pair, _, of, words) in servers.items():
            with self.subTest(certificate=name):
                for endpoint in ("https", "grpc_tls", "management_tls"):
                    self.eventually(lambda: self.shown(server, endpoint), lambda shown: shown == other.der, "the new one")  # noqa: B023
                # It was looked at several times meanwhile, and told of once.
                self.assertEqual(server.output().count(words), 1, server.output())
                self.ends_clean(server)

    def test_a_new_one_is_taken_without_dropping_anything(self):
        pair = pair_of(self)
        server = self.start(**{**self.of_tls(), **pair.environment()})
        name = self.python(SLOW)
        other = Certificates.authority().issue("/CN=new")
        kept = self.https()
        kept.request("POST", f"/{name}", b"0")
        self.assertEqual(kept.getresponse().read(), b"slept")
        before = kept.sock
        running = {}

        def call():
            answer = self.secure(name, "3")
            running["reply"] = (answer.status, answer.text)

        caller = threading.Thread(target=call)
        caller.start()
        self.eventually(lambda: self.manage(f"/v1/functions/{name}").text, lambda text: '"running":1' in text.replace(" ", ""), "running")
        pair.replace_by(other)
        self.eventually(lambda: self.shown(server), lambda shown: shown == other.der, "the new one")
        kept.request("POST", f"/{name}", b"0")
        self.assertEqual(kept.getresponse().read(), b"slept")
        self.assertIs(kept.sock, before, "the connection was made anew")
        caller.join(30)
        self.assertEqual(running.get("reply"), (200, "slept"))
        # And who comes now trusts it for what it says.
        with tls.connect(server.ports["https"], trusting(Certificates.authority().root)) as connection:
            self.assertEqual(dict(part[0] for part in connection.getpeercert()["subject"])["commonName"], "new")

    def test_a_link_to_another_folder_is_followed(self):
        """As it is where a tool keeps each certificate in a folder and moves a link."""
        folder = self.open_folder()
        for place, pair in (("old", Certificates.of_server()), ("new", Certificates.authority().issue("/CN=new"))):
            (folder / place).mkdir()
            pair.copy_to(folder / place)
        (folder / "live").symlink_to("old")
        server = self.start(**{**self.of_tls(), **Certificate(folder / "live/copy.pem", folder / "live/copy.key").environment()})
        (folder / "next").symlink_to("new")
        (folder / "next").rename(folder / "live")
        new = Certificate(folder / "new/copy.pem", folder / "new/copy.key").der
        self.eventually(lambda: self.shown(server), lambda shown: shown == new, "the new one")


class SelfSigned(TlsCase):
    """For a trial."""

    settings = None

    def of_tls(self):
        return {"TF_TLS_SELF_SIGNED": "yes", "HTTPS_PORT": "0", "MANAGEMENT_TLS_PORT": "0"}

    def test_it_is_made_once_and_its_pin_is_printed(self):
        server = self.start(**self.of_tls())
        first = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", server.ports["https"])))
        self.assertIn(pin(first), server.output())
        done = self.curl("--insecure", "--pinnedpubkey", pin(first), f"https://localhost:{server.ports['https']}/nobody")
        self.assertEqual(done.returncode, 0, done.stderr)
        for path in server.data.rglob("*"):
            if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
                self.assertEqual(path.stat().st_mode & 0o777, 0o600, path)
        self.assertEqual(server.stop(), 0, server.output())
        again = self.start(data=server.data, **self.of_tls())
        second = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", again.ports["https"])))
        self.assertEqual(pin(second), pin(first))


if __name__ == "__main__":
    unittest.main()
