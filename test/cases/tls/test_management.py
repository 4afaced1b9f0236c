"""Managing over TLS: the command line and the scripts, and whom they trust."""

import json
import ssl
import unittest

from blackbox.certificates import DAY_S, openssl, pin
from blackbox.commandline import CommandLine
from blackbox.server import REPOSITORY, LocalSite, scratch, sends
from blackbox.tls_case import ECHO, SHOW_HEADERS, Certificates, TlsCase, clients, known

NOBODYS_PIN = "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


class ManagementCase(CommandLine, TlsCase):
    """The server is asked over TLS, and by nothing else."""

    def of_tls(self):
        return {**super().of_tls(), "MANAGEMENT_PORT": "-1", "HTTP_PORT": "-1", "GRPC_PORT": "-1"}

    def remove(self, name):
        self.tinyfaas("delete", name, environment=self.trust(TINYFAAS_CA_FILE=Certificates.authority().root))

    def trust(self, host="localhost", **more):
        return {"TINYFAAS_SERVER": f"https://{host}:{self.server.ports['management_tls']}", **more}

    def ca(self, **more):
        return self.trust(TINYFAAS_CA_FILE=Certificates.authority().root, **more)

    def list_by_script(self, environment):
        return self.run_script("list.sh", environment=environment)

    def script_fails(self, environment, *words):
        done = self.list_by_script(environment)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word.lower(), done.stderr.decode().lower())

    def run_script(self, name, *arguments, environment=None, **more):
        return super().run_script(name, *arguments, environment=environment or self.ca(), **more)


class Management(ManagementCase):
    def test_only_tls_is_there(self):
        self.assertIsNone(self.server.ports.get("management"))
        about = self.tells("status", environment=self.ca())
        self.assertEqual(about["endpoints"]["management_tls"], self.server.ports["management_tls"])
        self.assertIsNone(about["endpoints"].get("http"))

    def test_every_command_works(self):
        folder = self.folder({"hello/fn.py": ECHO}) / "hello"
        ca = self.ca()
        self.addCleanup(self.remove, "hello")
        self.succeeds("deploy", folder, environment=ca)
        self.assertEqual(self.succeeds("call", "hello", "-d", "hi", environment=ca), "hi")
        identifier = self.succeeds("call", "hello", "-d", "hi", "--async", environment=ca).strip()
        self.assertRegex(identifier, r"^[0-9a-f]{32}$")
        self.assertEqual(self.succeeds("call", "hello", "-d", "later", "--async", "--wait", environment=ca), "later")
        self.assertIn("hello", self.succeeds("list", environment=ca))
        self.assertIn("hello", self.succeeds("status", "hello", environment=ca))
        self.succeeds("logs", "hello", environment=ca)
        self.assertIn("tinyFaaS", self.tinyfaas("doctor", environment=ca).stdout.decode())
        self.succeeds("delete", "hello", environment=ca)
        self.succeeds("wipe", "--yes", environment=ca)

    def test_a_log_is_followed(self):
        self.addCleanup(self.remove, "talks")
        folder = self.folder({"talks/fn.py": "def fn(input, headers):\n    print('said', input)\n"}) / "talks"
        self.succeeds("deploy", folder, environment=self.ca())
        log = self.terminal("logs", "talks", "-f", environment=self.ca())
        self.succeeds("call", "talks", "-d", "one", environment=self.ca())
        log.shows("said one")

    def test_every_script_works(self):
        for environment in (self.ca(), self.trust(TINYFAAS_PINNED_PUBKEY=Certificates.of_server().pin)):
            for arguments in (
                ("upload.sh", REPOSITORY / "test/fns/echo", "echo", "python3", 1), ("list.sh",), ("logs.sh", "echo"),
                ("get_logs.sh",), ("delete.sh", "echo"), ("wipe-functions.sh",),
            ):
                done = self.run_script(*arguments, environment=environment)
                self.assertEqual(done.returncode, 0, (arguments, done.stderr))
                if arguments[0] == "list.sh":
                    self.assertEqual(done.stdout, b"echo\n")

    def test_flags_do_what_variables_do(self):
        server = self.trust()["TINYFAAS_SERVER"]
        pin = Certificates.of_server().pin
        for trust in (("--ca-file", Certificates.authority().root), ("--pinned-pubkey", pin), ("--pinned-pubkey", f"{NOBODYS_PIN};{pin}")):
            self.succeeds("list", "--server", server, *trust)
        # A flag wins.
        wrong = self.trust(TINYFAAS_PINNED_PUBKEY=NOBODYS_PIN)
        self.succeeds("list", "--pinned-pubkey", pin, environment=wrong)

    def test_web_pages_are_refused_as_ever(self):
        curl = ("--cacert", Certificates.authority().root, "--write-out", "%{http_code}", "--output", "/dev/null")
        url = self.trust()["TINYFAAS_SERVER"] + "/list"
        for header, status in (("Host: evil.example", b"403"), ("Origin: https://evil.example", b"403"), ("Host: localhost", b"200")):
            self.assertEqual(self.curl(*curl, "--header", header, url).stdout, status, header)

    def test_nobody_is_trusted_unasked(self):
        self.fails(3, "list", environment=self.trust(), words=["signed by nobody who is trusted", "--ca-file", "--pinned-pubkey"])
        self.script_fails(self.trust(), "certificate", "TINYFAAS_PINNED_PUBKEY")

    def test_a_wrong_authority(self):
        wrong = self.trust(TINYFAAS_CA_FILE=clients().root)
        self.fails(3, "list", environment=wrong, words=["signed by nobody"])
        self.script_fails(wrong, "certificate")

    def test_a_wrong_pin(self):
        pin = Certificates.of_server().pin
        wrong = self.trust(TINYFAAS_PINNED_PUBKEY=NOBODYS_PIN)
        self.fails(3, "list", environment=wrong, words=[pin, "not pinned"])
        self.script_fails(wrong, "pinned", "somebody stands between")
        # An authority that is right does not make up for it, nor the other way round.
        both = self.ca(TINYFAAS_PINNED_PUBKEY=NOBODYS_PIN)
        self.fails(3, "list", environment=both, words=[pin, "not pinned"])
        self.script_fails(both, "pinned")
        other = self.trust(TINYFAAS_CA_FILE=clients().root, TINYFAAS_PINNED_PUBKEY=pin)
        self.fails(3, "list", environment=other, words=["signed by nobody"])
        self.script_fails(other, "certificate")

    def test_another_name_than_the_certificates(self):
        server = self.start(**{**self.of_tls(), **Certificates.authority().issue("/CN=board", names=("DNS:board",)).environment()})
        self.fails(3, "list", environment=self.ca(), words=["for board", "not for localhost"])
        self.script_fails(self.ca(), "subject name")
        pin = self.trust(TINYFAAS_PINNED_PUBKEY=self.pin_of(server))
        self.succeeds("list", environment=pin)
        self.assertEqual(self.list_by_script(pin).returncode, 0)

    def pin_of(self, server):
        return pin(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", server.ports["management_tls"]))))

    def test_no_tls_where_tls_is_asked_for(self):
        site = LocalSite({"/list": sends(b"x\n")})
        self.addCleanup(site.close)
        url = site.url.replace("http://", "https://")
        environment = {"TINYFAAS_SERVER": url, "TINYFAAS_CA_FILE": Certificates.authority().root}
        self.fails(3, "list", environment=environment, words=["does not speak TLS", "http://"])
        self.script_fails(environment, "https://")

    def test_tls_where_none_is_asked_for(self):
        plain = {"TINYFAAS_SERVER": f"http://localhost:{self.server.ports['management_tls']}"}
        self.fails(1, "list", environment=plain, words=["https://"])
        self.script_fails(plain, "https://")

    def test_files_that_are_none(self):
        empty = scratch() / "empty"
        empty.touch()
        for file, word in ((scratch() / "none", "No such file"), (empty, "no certificate")):
            wrong = self.trust(TINYFAAS_CA_FILE=file)
            self.fails(1, "list", environment=wrong, words=[str(file), word])
            self.script_fails(wrong, str(file))

    def test_wrong_use(self):
        self.fails(2, "list", "--pinned-pubkey", "abc", environment=self.trust(), words=["sha256//BASE64"])
        self.fails(2, "list", "--ca-file", "x", "--server", "http://localhost:1", words=["https://"])
        self.fails(2, "list", environment=self.ca(TINYFAAS_CLIENT_KEY="x"), words=["--client-certificate"])
        self.script_fails(self.trust(TINYFAAS_PINNED_PUBKEY="abc"), "sha256//BASE64")
        self.script_fails(self.ca(TINYFAAS_CLIENT_KEY="x"), "TINYFAAS_CLIENT_CERTIFICATE")
        # Variables may stand for good, whoever is asked.
        site = LocalSite({"/list": sends(b"x\n")})
        self.addCleanup(site.close)
        self.assertEqual(self.list_by_script(self.ca(TINYFAAS_SERVER=site.url)).stdout, b"x\n")

    def test_an_expired_server(self):
        """Which no server of ours would be at start; another program may."""
        pair = Certificates.authority().issue(begins_in=-DAY_S, ends_in=-3600)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        site = LocalSite({"/list": sends(b"x\n")}, context)
        self.addCleanup(site.close)
        expired = self.ca(TINYFAAS_SERVER=site.url)
        self.fails(3, "list", environment=expired, words=["has expired on", "clock"])
        self.script_fails(expired, "expired")

    def test_a_certificate_made_by_hand(self):
        """One that signs itself, as openssl makes it, is its own authority."""
        folder = self.open_folder()
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", 2, "-subj", "/CN=board",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
        )
        self.start(**{**self.of_tls(), "TF_TLS_CERTIFICATE": folder / "cert.pem", "TF_TLS_KEY": folder / "key.pem"})
        trust = self.trust(TINYFAAS_CA_FILE=folder / "cert.pem")
        self.succeeds("list", environment=trust)
        self.assertEqual(self.list_by_script(trust).returncode, 0)


class Calling(CommandLine, TlsCase):
    """Where both ways are there."""

    def test_who_is_asked_over_tls_is_called_over_tls(self):
        name = self.python(SHOW_HEADERS)
        root = Certificates.authority().root
        seen = lambda *arguments, **more: json.loads(self.succeeds("call", name, *arguments, **more))["Host"]  # noqa: E731
        secure = {"TINYFAAS_SERVER": f"https://localhost:{self.server.ports['management_tls']}", "TINYFAAS_CA_FILE": root}
        https, http = (f":{self.server.ports[endpoint]}" for endpoint in ("https", "http"))
        self.assertTrue(seen(environment=secure).endswith(https))
        self.assertTrue(seen().endswith(http))
        self.assertTrue(seen("--tls", "--ca-file", root).endswith(https))
        self.assertTrue(seen("--tls", "--pinned-pubkey", Certificates.of_server().pin).endswith(https))
        self.assertTrue(seen("--gateway", f"https://localhost{https}", "--ca-file", root).endswith(https))
        self.fails(3, "call", name, "--tls", words=["signed by nobody"])
        self.fails(3, "call", name, "--gateway", f"https://localhost{https}", words=["signed by nobody"])
        self.fails(2, "call", name, "--ca-file", root, words=["without"])

    def test_grpc_goes_over_tls_as_well(self):
        name = self.python(ECHO)
        root, grpc = Certificates.authority().root, f"grpcs://localhost:{self.server.ports['grpc_tls']}"
        secure = {"TINYFAAS_SERVER": f"https://localhost:{self.server.ports['management_tls']}", "TINYFAAS_CA_FILE": root}
        for arguments, environment in (
            ((), secure), (("--tls", "--ca-file", root), {}), (("--gateway", grpc, "--ca-file", root), {}),
            (("--gateway", grpc, "--pinned-pubkey", Certificates.of_server().pin), {}),
        ):
            self.assertEqual(self.succeeds("call", name, "--grpc", "-d", "hi", *arguments, environment=environment), "hi")
        self.fails(3, "call", name, "--grpc", "--tls", words=["signed by nobody", "--ca-file"])
        self.fails(3, "call", name, "--gateway", grpc, "--pinned-pubkey", NOBODYS_PIN, words=["not pinned"])

    def test_the_call_does_not_go_openly_unasked(self):
        server = self.start(**{**self.of_tls(), "HTTPS_PORT": "-1"})
        name = self.python(ECHO)
        secure = {"TINYFAAS_SERVER": f"https://localhost:{server.ports['management_tls']}", "TINYFAAS_CA_FILE": Certificates.authority().root}
        gateway = f"http://localhost:{server.ports['http']}"
        self.fails(1, "call", name, "-d", "x", environment=secure, words=["no HTTP over TLS", "HTTPS_PORT", f"--gateway {gateway}"])
        self.assertEqual(self.succeeds("call", name, "-d", "x", "--gateway", gateway, environment=secure), "x")


class CallingWithCertificates(CommandLine, TlsCase):
    """Where callers show who they are."""

    def of_tls(self):
        return {**super().of_tls(), "TF_TLS_CLIENTS": "required", "TF_TLS_CLIENT_CA": clients().root}

    def test_callers_are_known(self):
        name = self.python(SHOW_HEADERS)
        trust = ["--tls", "--ca-file", Certificates.authority().root]
        shown = [*trust, "--client-certificate", known().certificate, "--client-key", known().key]
        for protocol in ([], ["--grpc"]):
            seen = json.loads(self.succeeds("call", name, "-d", "x", *protocol, *shown))
            self.assertEqual(seen["X-Tinyfaas-Client-Subject"], "CN=sensor-1,O=Sensors")
            self.fails(3, "call", name, "-d", "x", *protocol, *trust, words=["wants to see a certificate"])


class WithCertificates(ManagementCase):
    """A server whose managers show who they are."""

    def of_tls(self):
        return {**super().of_tls(), "TF_MANAGEMENT_CLIENTS": "required", "TF_MANAGEMENT_CLIENT_CA": clients().root}

    def shown(self, client):
        return self.ca(TINYFAAS_CLIENT_CERTIFICATE=client.certificate, TINYFAAS_CLIENT_KEY=client.key)

    def test_who_shows_one_is_let_in(self):
        self.succeeds("list", environment=self.shown(known()))
        self.assertEqual(self.list_by_script(self.shown(known())).returncode, 0)
        self.succeeds("list", "--client-certificate", known().certificate, "--client-key", known().key, environment=self.ca())
        both = scratch() / "a:b.pem"
        both.write_bytes(known().certificate.read_bytes() + known().key.read_bytes())
        one_file = self.ca(TINYFAAS_CLIENT_CERTIFICATE=both)
        self.succeeds("list", environment=one_file)
        self.assertEqual(self.list_by_script(one_file).returncode, 0, self.list_by_script(one_file).stderr)

    def test_who_shows_none_is_told_to(self):
        self.fails(3, "list", environment=self.ca(), words=["wants to see a certificate", "--client-certificate"])
        self.script_fails(self.ca(), "TINYFAAS_CLIENT_CERTIFICATE")

    def test_who_shows_another_is_told_so(self):
        for client in (Certificates.authority("strangers").client(), clients().client(begins_in=-DAY_S, ends_in=-60)):
            self.fails(3, "list", environment=self.shown(client), words=["certificate that was shown"])
            self.script_fails(self.shown(client), "TINYFAAS_CLIENT_CERTIFICATE")

    def test_another_key_is_told_here(self):
        wrong = self.ca(TINYFAAS_CLIENT_CERTIFICATE=known().certificate, TINYFAAS_CLIENT_KEY=Certificates.of_client().key)
        self.fails(1, "list", environment=wrong, words=["is not that of the certificate"])
        self.script_fails(wrong, "TINYFAAS_CLIENT_KEY")


if __name__ == "__main__":
    unittest.main()
