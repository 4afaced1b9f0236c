"""Certificates of callers: who is let in, and what a function learns of them."""

import json
import ssl
import unittest

from blackbox import http, tls
from blackbox.case import need_tool
from blackbox.certificates import trusting
from blackbox.server import scratch
from blackbox.tls import s_client
from blackbox.tls_case import SHOW_HEADERS, Certificates, TlsCase, clients, grpc, known, request, unwelcome

SUBJECT, FINGERPRINT = "X-Tinyfaas-Client-Subject", "X-Tinyfaas-Client-Fingerprint"
# What a caller may hope to be taken for the server's own header.
FORGED = [
    ("X-tinyFaaS-Client-Subject", "CN=admin"),
    ("x-tinyfaas-client-subject", "CN=admin"),
    ("X-TINYFAAS-CLIENT-SUBJECT", "CN=admin"),
    ("X_tinyFaaS_Client_Subject", "CN=admin"),
    ("X-tinyFaaS_Client-Subject", "CN=admin"),
    ("x_tinyfaas_client_subject", "CN=admin"),
    ("X-tinyFaaS-Client-Fingerprint", "admin" * 8),
    ("X_tinyFaaS_Client_Fingerprint", "admin" * 8),
]
SHOW_VARIABLES = "#!/bin/sh\nenv\n"
SHOW_IN_NODE = "module.exports = (req, res) => res.json({...req.headers, raw: req.rawHeaders});\n"


class ClientCase(TlsCase):
    def headers_seen(self, name, client=None, headers=()):
        """What headers a function sees of a call over HTTPS."""
        answer = self.secure(name, "x", headers=headers, client=client)
        self.assertEqual(answer.status, 200, answer.text)
        return json.loads(answer.text)

    def refused_handshake(self, port, client=None, alpn=("http/1.1",), **more):
        """Checks that a client gets no answer to what it asks."""
        context = trusting(Certificates.authority().root, client, alpn, **more)
        try:
            with tls.connect(port, context) as connection:
                # With TLS 1.3 the client learns of it when it reads first.
                self.assertEqual(tls.ask(connection, "/nobody"), b"")
        except (ssl.SSLError, ConnectionError):
            pass

    def unforged(self, answer):
        """Checks that a function was called and saw nothing of what was forged."""
        self.assertEqual(answer.status, 200, answer.text)
        self.no_forgery_in(answer.text)

    def no_forgery_in(self, seen):
        text = seen if isinstance(seen, str) else json.dumps(seen)
        self.assertIn("{" if text.startswith("{") else "PATH=", text)
        self.assertNotIn("admin", text)


class Optional(ClientCase):
    def of_tls(self):
        return {**super().of_tls(), "TF_TLS_CLIENTS": "optional", "TF_TLS_CLIENT_CA": clients().root}

    def test_the_subject_reaches_the_function(self):
        name = self.python(SHOW_HEADERS)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = trusting(Certificates.authority().root, known(), maximum_version=version)
            with tls.connect(self.server.ports["https"], context) as connection:
                body = tls.ask(connection, f"/{name}").split(b"\r\n\r\n", 1)[1]
            seen = json.loads(body)
            self.assertEqual(seen[SUBJECT], "CN=sensor-1,O=Sensors")
            self.assertEqual(seen[FINGERPRINT], known().fingerprint)

    def test_it_reaches_functions_in_every_environment(self):
        name = self.script(SHOW_VARIABLES)
        answer = self.secure(name, client=known())
        self.assertIn("HTTP_X_TINYFAAS_CLIENT_SUBJECT=CN=sensor-1,O=Sensors\n", answer.text)
        need_tool(self, "node")
        name = self.node(SHOW_IN_NODE)
        seen = self.headers_seen(name, known())
        self.assertEqual(seen["x-tinyfaas-client-subject"], "CN=sensor-1,O=Sensors")

    def test_strange_subjects_are_one_line_of_ascii(self):
        name = self.python(SHOW_HEADERS)
        for subject, shown in (
            ("/CN=Müller, GmbH", "CN=M\\C3\\BCller\\, GmbH"),
            ("/CN=a\\+CN=root", "CN=a\\+CN=root"),
            ("/CN=tab\there", "CN=tab\\09here"),
            ("/CN=line\nX-Admin: yes", "CN=line\\0AX-Admin: yes"),
            ("/CN= a ", "CN=\\ a\\ "),
        ):
            with self.subTest(subject=subject):
                seen = self.headers_seen(name, known(subject))
                self.assertEqual(seen[SUBJECT], shown)
                self.assertNotIn("X-Admin", seen)

    def test_without_one_a_caller_is_let_in_and_is_nobody(self):
        name = self.python(SHOW_HEADERS)
        seen = self.headers_seen(name)
        self.assertFalse({SUBJECT, FINGERPRINT} & set(seen), seen)

    def test_an_unwelcome_one_is_refused_all_the_same(self):
        for what, client in unwelcome().items():
            with self.subTest(client=what):
                for endpoint in ("https", "grpc_tls"):
                    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                        self.refused_handshake(self.server.ports[endpoint], client, maximum_version=version)
        self.still_answers()

    def test_no_caller_can_forge_one(self):
        places = [self.python(SHOW_HEADERS), self.script(SHOW_VARIABLES)]
        for name in places:
            for client in (None, known()):
                self.unforged(self.secure(name, "x", headers=FORGED, client=client))
            for header in FORGED:
                self.unforged(self.secure(name, "x", headers=[header]))
                self.unforged(self.call(name, "x", headers=[header]))
        seen = self.headers_seen(places[0], known(), FORGED)
        self.assertEqual(seen[SUBJECT], "CN=sensor-1,O=Sensors")

    def test_no_caller_can_forge_one_in_node(self):
        need_tool(self, "node")
        name = self.node(SHOW_IN_NODE)
        self.unforged(self.secure(name, "x", headers=FORGED))
        seen = self.headers_seen(name, known(), FORGED)
        self.assertEqual(seen["x-tinyfaas-client-subject"], "CN=sensor-1,O=Sensors")

    def test_no_caller_can_forge_one_over_http_2(self):
        name = self.python(SHOW_HEADERS)
        headers = [part for key, value in FORGED for part in ("--header", f"{key}: {value}")]
        for arguments in (
            ["--http2", "--cacert", Certificates.authority().root, f"https://localhost:{self.server.ports['https']}/{name}"],
            ["--http2-prior-knowledge", f"{self.server.http}/{name}"],
        ):
            done = self.curl(*headers, *arguments)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.no_forgery_in(done.stdout.decode())
            self.assertIn(b"{", done.stdout)

    def test_no_caller_can_have_it_taken_off(self):
        name = self.python(SHOW_HEADERS)
        for value in ("x-tinyfaas-client-subject", "close, X-tinyFaaS-Client-Subject, X-tinyFaaS-Client-Fingerprint"):
            seen = self.headers_seen(name, known(), [("Connection", value)])
            self.assertEqual(seen[SUBJECT], "CN=sensor-1,O=Sensors")
            self.assertEqual(seen[FINGERPRINT], known().fingerprint)

    def test_an_asynchronous_call_has_it_too(self):
        name = self.python(SHOW_HEADERS)
        answer = self.secure(name, "x", headers=[("X-tinyFaaS-Async", "1"), *FORGED], client=known())
        self.assertEqual(answer.status, 202, answer.text)
        result = self.eventually(
            lambda: self.secure(answer.header("Location") + "/result?wait=10s"), lambda answer: answer.status == 200, "there"
        )
        self.no_forgery_in(result.text)
        self.assertEqual(json.loads(result.text)[SUBJECT], "CN=sensor-1,O=Sensors")

    def test_sessions_are_not_resumed(self):
        """A resumed one would not be judged again."""
        ask = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        for version in ("-tls1_2", "-tls1_3"):
            kept = scratch() / "session"
            show = ("-cert", known().certificate, "-key", known().key)
            s_client(self.server.ports["https"], version, *show, "-sess_out", kept, "-ign_eof", given=ask)
            if kept.exists():
                printed = s_client(self.server.ports["https"], version, "-sess_in", kept, "-ign_eof", given=ask)
                self.assertIn("\nNew, ", printed)

    def test_over_grpc(self):
        self.need_grpc()
        name = self.python(SHOW_HEADERS)
        metadata = [(key.lower(), value) for key, value in FORGED] + [("lab", "x")]
        for client in (None, known()):
            seen = json.loads(self.ask_grpc(name, client, metadata))
            self.no_forgery_in(seen)
            self.assertEqual(seen.get("Lab"), "x")
            self.assertEqual(seen.get(SUBJECT), "CN=sensor-1,O=Sensors" if client else None)
            self.assertEqual(seen.get(FINGERPRINT), client.fingerprint if client else None)

    def test_no_caller_can_forge_one_over_plain_grpc(self):
        self.need_grpc()
        name = self.python(SHOW_HEADERS)
        with grpc.insecure_channel(f"localhost:{self.server.ports['grpc']}") as channel:
            seen = request(channel, name, [(key.lower(), value) for key, value in FORGED])
        self.no_forgery_in(seen)

    def ask_grpc(self, name, client, metadata):
        shown = {"private_key": client.key.read_bytes(), "certificate_chain": client.certificate.read_bytes()} if client else {}
        credentials = grpc.ssl_channel_credentials(Certificates.authority().root.read_bytes(), **shown)
        with grpc.secure_channel(f"localhost:{self.server.ports['grpc_tls']}", credentials) as channel:
            return request(channel, name, metadata)


class Required(ClientCase):
    def of_tls(self):
        required = {"TF_TLS_CLIENTS": "required", "TF_TLS_CLIENT_CA": clients().root}
        return {**super().of_tls(), **required, "TF_MANAGEMENT_CLIENTS": "required"}

    def test_who_shows_one_is_let_in(self):
        name = self.python(SHOW_HEADERS)
        self.assertEqual(self.headers_seen(name, known())[SUBJECT], "CN=sensor-1,O=Sensors")
        connection = self.https(known(), endpoint="management_tls")
        connection.request("GET", "/list")
        self.assertIn(name, connection.getresponse().read().decode())
        connection.close()

    def test_who_shows_none_or_an_unwelcome_one_is_not(self):
        for port in self.ports():
            for what, client in {"nobody": None, **unwelcome()}.items():
                with self.subTest(client=what):
                    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                        self.refused_handshake(port, client, maximum_version=version)
        self.still_answers(client=known())

    def test_openssl_is_told_what_is_wanted(self):
        for port in self.ports():
            printed = s_client(port, "-tls1_3", "-ign_eof", given="GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertIn("certificate required", printed)
            self.assertIn("CN = tinyFaaS test clients", printed)

    def test_a_certificate_without_its_key_is_worth_nothing(self):
        stolen = known()
        for port in self.ports():
            printed = s_client(port, "-tls1_2", "-cert", stolen.certificate, "-key", Certificates.of_client().key)
            self.assertIsNone(tls.agreed(printed), printed)

    def test_plain_http_is_answered_as_ever(self):
        name = self.python(SHOW_HEADERS)
        self.unforged(self.call(name, "x", headers=FORGED))
        self.assertTrue(http.raw(f"http://127.0.0.1:{self.server.ports['https']}", b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 400 "))


if __name__ == "__main__":
    unittest.main()
