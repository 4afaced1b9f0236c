"""The endpoints over TLS: where they are, who is let in, what a function is told."""

import base64
import json
import re
import shutil
import socket
import ssl
import time

from blackbox import folders, http
from blackbox.case import OwnServerCase
from blackbox.certificates import Authority, pin, trusting
from blackbox.coap_stream import CSM, Stream
from blackbox.grpc_clients import need_grpcio, stubs
from blackbox.server import scratch

SUBJECT = "X-Tinyfaas-Client-Subject"
FINGERPRINT = "X-Tinyfaas-Client-Fingerprint"
# What a caller may try in the place of a certificate.
FORGED = {
    "X-tinyFaaS-Client-Subject": "CN=admin",
    "x-tinyfaas-client-fingerprint": "00",
    "X_tinyFaaS_Client_Subject": "CN=admin",
    "X-tinyFaaS-Client_Subject": "CN=admin",
    "X.tinyFaaS.Client.Subject": "CN=admin",
}
SHOW = "import json\ndef fn(input, headers):\n    return json.dumps(headers)\n"


class TlsCase(OwnServerCase):
    """Cases with an authority that both sides trust."""

    def setUp(self):
        super().setUp()
        folder = scratch()
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.authority = Authority(folder / "servers")
        self.clients = Authority(folder / "clients", "clients' root")
        self.certificate = self.authority.issue()

    def start_tls(self, **environment):
        """A server with a certificate of the authority's."""
        wanted = {"HTTPS_PORT": "0", **self.certificate.environment(), **environment}
        return self.start(**wanted)

    def trusting(self, client=None, **more):
        return trusting(self.authority.root, client, **more)

    def call(self, url, body=None, context=None, **more):
        """A call over TLS."""
        method = "GET" if body is None else "POST"
        return http.request(url, method, body, context=context or self.trusting(), **more)

    def shown(self, url, context=None, headers=()):
        """The headers that the function show gets."""
        answer = self.call(f"{url}/show", context=context, headers=headers)
        self.assertEqual(answer.status, 200, answer.text)
        return json.loads(answer.text)

    def refused(self, url, context):
        """Checks that no answer is had. TLS 1.3 tells of a certificate that is refused
        or missing only after the client thinks itself connected."""
        with self.assertRaises((ssl.SSLError, ConnectionError)):
            self.call(url, context=context)


class Ports(TlsCase):
    def test_they_are_told_everywhere(self):
        server = self.start_tls(MANAGEMENT_TLS_PORT="0")
        https, managed = server.ports["https"], server.ports["management_tls"]
        self.assertRegex(server.output(), rf"\n  https +port {https} on all addresses\n")
        self.assertRegex(server.output(), rf"\n  management-tls +port {managed} on 127\.0\.0\.1, ::1\n")
        self.assertIn(f"--pinnedpubkey {self.certificate.pin}\n", server.output())
        self.assertRegex(server.output(), r"\n  certificate .*, for localhost, 127\.0\.0\.1, ::1, until ")
        about = json.loads(self.manage("/v1/server").text)["endpoints"]
        self.assertEqual((about["https"], about["management_tls"]), (https, managed))
        self.python(SHOW, name="show")
        about = json.loads(self.manage("/v1/functions/show").text)
        self.assertEqual(about["urls"]["https"], f"https://127.0.0.1:{https}/show")

    def test_they_are_off_unless_asked_for(self):
        server = self.start()
        self.assertIsNone(server.ports["https"])
        self.assertIsNone(server.ports["management_tls"])
        self.assertRegex(server.output(), r"\n  https +off\n")

    def test_there_is_no_tls_without_a_certificate(self):
        self.fails_to_start("HTTPS_PORT=\"0\": no certificate", HTTPS_PORT="0")

    def test_a_certificate_that_is_not_there_is_named(self):
        key = self.certificate.environment() | {"TF_TLS_CERTIFICATE": "/no/such.pem"}
        self.fails_to_start("TF_TLS_CERTIFICATE=\"/no/such.pem\": there is no such", HTTPS_PORT="0", **key)

    def test_an_expired_certificate_is_named(self):
        old = self.authority.issue(begins_in=-7200, ends_in=-3600)
        self.fails_to_start(str(old.certificate), "expired", HTTPS_PORT="0", **old.environment())

    def test_all_others_may_be_off(self):
        off = {name: "-1" for name in ("HTTP_PORT", "COAP_PORT", "MANAGEMENT_PORT")}
        server = self.start_tls(MANAGEMENT_TLS_PORT="0", **off)
        self.assertIsNone(server.ports["management"])
        answer = self.call(server.management_tls + "/list")
        self.assertEqual(answer.status, 200)

    def test_a_port_in_use_is_named(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.fails_to_start(
                f"127.0.0.1:{port} for https", "HTTPS_PORT=0 takes any free one",
                HTTPS_PORT=port, HTTPS_ADDRESS="127.0.0.1", **self.certificate.environment(),
            )


class SelfSigned(TlsCase):
    def test_one_is_made_for_a_trial_and_kept(self):
        settings = {"HTTPS_PORT": "0", "TF_TLS_SELF_SIGNED": "yes"}
        server = self.start(**settings)
        pinned = re.search(r"--pinnedpubkey (sha256//\S+)\n", server.output())[1]
        shown = ssl.get_server_certificate(http.host_and_port(server.https))
        self.assertEqual(pin(ssl.PEM_cert_to_DER_cert(shown)), pinned)
        kept = server.data / "tls"
        self.assertEqual(kept.stat().st_mode & 0o777, 0o700)
        self.assertEqual((kept / "self-signed-key.pem").stat().st_mode & 0o777, 0o600)
        context = trusting(kept / "self-signed.pem")
        self.assertEqual(self.call(f"{server.https}/no-such", context=context).status, 404)
        self.ends_clean(server)
        again = self.start(data=server.data, **settings)
        self.assertIn(pinned, again.output())

    def test_one_that_is_to_be_fetched_is_no_other(self):
        with self.subTest("both"):
            self.fails_to_start(
                "a server has one certificate",
                HTTPS_PORT="0", TF_TLS_SELF_SIGNED="yes", TF_ACME_DOMAINS="gw.example",
                TF_ACME_AGREE="yes",
            )


class Reloading(TlsCase):
    def test_a_new_certificate_is_served_and_connections_stay(self):
        files = scratch()
        self.addCleanup(shutil.rmtree, files, ignore_errors=True)
        served = self.certificate.copy_to(files)
        server = self.start_tls(**served.environment())
        self.deploy("python3", "echo", name="echo")
        connection = http.connect(server.https, context=self.trusting())
        self.addCleanup(connection.close)
        http.exchange(connection, f"{server.https}/echo", "POST", "before")
        new = self.authority.issue()
        served.replace_by(new)
        where = http.host_and_port(server.https)
        self.eventually(
            lambda: pin(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(where))),
            lambda found: found == new.pin,
            "the new certificate",
        )
        answer = http.exchange(connection, f"{server.https}/echo", "POST", "after")
        self.assertEqual(answer.text, "after")


class Calls(TlsCase):
    def test_http_1_and_2_are_agreed_on(self):
        server = self.start_tls()
        for offered, agreed in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
            with socket.create_connection(http.host_and_port(server.https), 10) as bare:
                with self.trusting(alpn=offered).wrap_socket(bare, server_hostname="127.0.0.1") as one:
                    self.assertEqual(one.selected_alpn_protocol(), agreed)

    def test_bodies_come_and_go_whole(self):
        server = self.start_tls()
        self.deploy("python3", "echo", name="echo")
        body = bytes(range(256)) * 20_000
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.trusting(maximum_version=version)
            answer = self.call(f"{server.https}/echo", body, context)
            self.assertEqual((answer.status, answer.body == body), (200, True))

    def test_a_connection_is_kept(self):
        server = self.start_tls()
        self.deploy("python3", "echo", name="echo")
        connection = http.connect(server.https, context=self.trusting())
        self.addCleanup(connection.close)
        for body in ("one", "two", "three"):
            answer = http.exchange(connection, f"{server.https}/echo", "POST", body)
            self.assertEqual(answer.text, body)

    def test_one_that_says_nothing_holds_no_stop_up(self):
        server = self.start_tls(MANAGEMENT_TLS_PORT="0")
        for url in (server.https, server.management_tls):
            self.addCleanup(http.open_socket(url).close)
        begun = time.monotonic()
        self.ends_clean(server)
        self.assertLess(time.monotonic() - begun, 3)

    def test_one_beyond_the_most_is_told_so(self):
        server = self.start_tls(TF_CONNECTIONS_MAX="1")
        first = http.connect(server.https, context=self.trusting())
        self.addCleanup(first.close)
        http.exchange(first, f"{server.https}/no-such")
        answer = self.call(f"{server.https}/no-such")
        self.assertEqual(answer.status, 503)
        self.assertIn("as many connections", answer.text)

    def test_who_takes_nothing_is_cut_off(self):
        server = self.start_tls(TF_WRITE_TIMEOUT="1s")
        self.python("def fn(input, headers):\n    return 'x' * 50_000_000\n", name="much")
        with socket.create_connection(http.host_and_port(server.https), 30) as bare:
            with self.trusting().wrap_socket(bare, server_hostname="127.0.0.1") as one:
                one.sendall(b"GET /much HTTP/1.1\r\nhost: localhost\r\n\r\n")
                # It ends while nothing is read: then what is left is no whole reply.
                self.eventually(
                    lambda: json.loads(self.manage("/v1/server").text)["load"]["connections"]["taken"],
                    lambda taken: taken == 0,
                    "no connection",
                )


class Clients(TlsCase):
    def start_with_clients(self, clients, **environment):
        server = self.start_tls(
            TF_TLS_CLIENTS=clients, TF_TLS_CLIENT_CA=self.clients.root, **environment
        )
        self.python(SHOW, name="show")
        return server

    def test_the_function_is_told_whose_certificate_was_shown(self):
        server = self.start_with_clients("optional")
        client = self.clients.client("/O=Water & Works/CN=pump, 3")
        headers = self.shown(server.https, self.trusting(client))
        self.assertEqual(headers[SUBJECT], "CN=pump\\, 3,O=Water & Works")
        self.assertEqual(headers[FINGERPRINT], client.fingerprint)

    def test_nobody_can_forge_it(self):
        server = self.start_with_clients("optional")
        client = self.clients.client("/CN=sensor-1")
        told = self.shown(server.https, self.trusting(client), FORGED)
        self.assertEqual(told[SUBJECT], "CN=sensor-1")
        self.assertNotIn("admin", json.dumps(told))
        for url, context in ((server.https, self.trusting()), (server.http, None)):
            answer = http.request(f"{url}/show", headers=FORGED, context=context)
            self.assertEqual(answer.status, 200)
            self.assertNotIn("admin", answer.text)
            self.assertNotIn("client", answer.text.lower())

    def test_a_script_cannot_be_told_otherwise(self):
        server = self.start_with_clients("optional")
        self.script("env | grep -i client || echo none\n", name="env")
        client = self.clients.client("/CN=sensor-1")
        for context, expected in ((self.trusting(client), ["CN=sensor-1"]), (self.trusting(), [])):
            answer = self.call(f"{server.https}/env", context=context, headers=FORGED)
            self.assertNotIn("admin", answer.text)
            told = [line.split("=", 1)[1] for line in answer.text.splitlines() if "SUBJECT" in line]
            self.assertEqual(told, expected, answer.text)

    def test_who_must_show_one_and_has_none_is_refused(self):
        server = self.start_with_clients("required")
        self.refused(f"{server.https}/show", self.trusting())
        strangers = Authority(scratch(), "strangers")
        self.addCleanup(shutil.rmtree, strangers.folder, ignore_errors=True)
        self.refused(f"{server.https}/show", self.trusting(strangers.client()))
        self.refused(f"{server.https}/show", self.trusting(self.clients.issue()))
        expired = self.clients.client(begins_in=-7200, ends_in=-3600)
        self.refused(f"{server.https}/show", self.trusting(expired))
        headers = self.shown(server.https, self.trusting(self.clients.client("/CN=a")))
        self.assertEqual(headers[SUBJECT], "CN=a")
        self.assertIn("may be called by anybody", server.output())

    def test_management_may_ask_for_certificates_too(self):
        server = self.start_tls(
            MANAGEMENT_TLS_PORT="0",
            TF_MANAGEMENT_CLIENTS="required",
            TF_MANAGEMENT_CLIENT_CA=self.clients.root,
        )
        self.refused(server.management_tls + "/list", self.trusting())
        answer = self.call(
            server.management_tls + "/list", context=self.trusting(self.clients.client())
        )
        self.assertEqual(answer.status, 200)
        # Callers are asked for none.
        self.assertEqual(self.call(f"{server.https}/no-such").status, 404)


class Management(TlsCase):
    def test_a_function_is_uploaded_and_called(self):
        server = self.start_tls(MANAGEMENT_TLS_PORT="0")
        zipped = base64.b64encode(folders.sample("echo")).decode()
        body = json.dumps({"name": "echo", "env": "python3", "threads": 1, "zip": zipped})
        answer = self.call(server.management_tls + "/upload", body)
        self.assertEqual(answer.status, 200, answer.text)
        self.addCleanup(self.remove, "echo")
        self.assertIn(f"http://127.0.0.1:{server.ports['http']}/echo", answer.text)
        self.assertEqual(self.call(f"{server.https}/echo", "hi").text, "hi")

    def test_pages_from_elsewhere_may_not(self):
        server = self.start_tls(MANAGEMENT_TLS_PORT="0")
        url, own = server.management_tls + "/list", server.management_tls
        for origin, status in ((own, 200), (own.replace("https", "http"), 403),
                               ("https://evil.example", 403), ("https://127.0.0.1", 403)):
            answer = self.call(url, headers={"Origin": origin})
            self.assertEqual(answer.status, status, origin)
        answer = self.call(url, headers={"Host": "evil.example"})
        self.assertEqual(answer.status, 403)

    def test_an_open_one_is_warned_of(self):
        server = self.start_tls(MANAGEMENT_ADDRESS="all")
        self.assertIn("open to the network without TLS", server.output())
        server = self.start_tls(MANAGEMENT_TLS_PORT="0", MANAGEMENT_TLS_ADDRESS="all")
        self.assertIn("management over TLS is open to the network", server.output())
        server = self.start_tls(
            MANAGEMENT_TLS_PORT="0",
            MANAGEMENT_TLS_ADDRESS="all",
            TF_MANAGEMENT_CLIENTS="required",
            TF_MANAGEMENT_CLIENT_CA=self.clients.root,
        )
        self.assertNotIn("open to the network", server.output())


class Grpc(TlsCase):
    def channel(self, client=None):
        """A connection of grpcio's to the endpoint over TLS."""
        grpc = need_grpcio(self)
        shown = (client.key.read_bytes(), client.certificate.read_bytes()) if client else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.root.read_bytes(), *shown)
        channel = grpc.secure_channel(f"127.0.0.1:{self.server.ports['grpc_tls']}", credentials)
        self.addCleanup(channel.close)
        return channel

    def show(self, channel, version=1, metadata=()):
        """The headers that the function show gets."""
        v1, v1_grpc, v2, v2_grpc = stubs(self)
        if version == 1:
            asked = v1.Data(functionIdentifier="show", data="")
            answer = v1_grpc.TinyFaaSStub(channel).Request(asked, metadata=metadata, timeout=20)
            return json.loads(answer.response)
        forged = [v2.Header(name=name, value=b"CN=admin") for name in FORGED]
        asked = v2.InvokeRequest(function="show", headers=forged)
        answer = v2_grpc.TinyFaaSStub(channel).Invoke(asked, metadata=metadata, timeout=20)
        return json.loads(answer.body)

    def test_functions_are_called_and_told_of_certificates(self):
        server = self.start_tls(
            GRPC_TLS_PORT="0", TF_TLS_CLIENTS="optional", TF_TLS_CLIENT_CA=self.clients.root
        )
        self.assertRegex(server.output(), r"\n  grpc-tls +port \d+ on all addresses, clients may show")
        self.python(SHOW, name="show")
        forged = [(name.lower(), value) for name, value in FORGED.items()]
        client = self.clients.client("/CN=sensor-1")
        for version in (1, 2):
            for shown in (None, client):
                with self.subTest(version=version, shown=bool(shown)):
                    headers = self.show(self.channel(shown), version, forged)
                    self.assertNotIn("admin", json.dumps(headers))
                    self.assertEqual(headers.get(SUBJECT), shown and "CN=sensor-1")
                    self.assertEqual(headers.get(FINGERPRINT), shown and client.fingerprint)

    def test_who_must_show_one_and_has_none_is_refused(self):
        self.start_tls(
            GRPC_TLS_PORT="0", TF_TLS_CLIENTS="required", TF_TLS_CLIENT_CA=self.clients.root
        )
        self.python(SHOW, name="show")
        grpc = need_grpcio(self)
        with self.assertRaises(grpc.RpcError) as failed:
            self.show(self.channel())
        self.assertEqual(failed.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.assertIn(SUBJECT, self.show(self.channel(self.clients.client())))


class Coap(TlsCase):
    def stream(self, context):
        """A connection to CoAP over TCP with TLS."""
        stream = Stream(("127.0.0.1", self.server.ports["coaps_tcp"]), context=context)
        self.addCleanup(stream.close)
        self.assertEqual(stream.receive().code, CSM)
        return stream

    def test_functions_are_called(self):
        server = self.start_tls(HTTPS_PORT="-1", COAPS_TCP_PORT="0")
        port = server.ports["coaps_tcp"]
        self.assertRegex(server.output(), rf"\n  coaps-tcp +port {port} on all addresses\n")
        self.deploy("python3", "echo", name="echo")
        stream = self.stream(self.trusting(alpn=["coap"]))
        self.assertEqual(stream.socket.selected_alpn_protocol(), "coap")
        body = bytes(range(256)) * 4
        answer = stream.ask("POST", "echo", body)
        self.assertEqual((answer.status, answer.payload == body), ("2.05", True))
        about = json.loads(self.manage("/v1/functions/echo").text)
        self.assertEqual(about["urls"]["coaps+tcp"], f"coaps+tcp://127.0.0.1:{port}/echo")
        # One that has not begun its handshake holds no stop up.
        silent = socket.create_connection(("127.0.0.1", port), 10)
        self.addCleanup(silent.close)
        self.ends_clean(server)

    def test_another_protocol_is_not_agreed_on(self):
        self.start_tls(COAPS_TCP_PORT="0")
        with self.assertRaisesRegex(ssl.SSLError, "(?i)no.application.protocol"):
            self.stream(self.trusting(alpn=["h2"]))

    def test_who_must_show_a_certificate_and_has_none_is_refused(self):
        self.start_tls(
            COAPS_TCP_PORT="0", TF_TLS_CLIENTS="required", TF_TLS_CLIENT_CA=self.clients.root
        )
        self.deploy("python3", "echo", name="echo")
        with self.assertRaises((ssl.SSLError, ConnectionError, EOFError)):
            self.stream(self.trusting(alpn=["coap"])).ask("POST", "echo", b"hi")
        answer = self.stream(self.trusting(self.clients.client(), alpn=["coap"])).ask("POST", "echo", b"hi")
        self.assertEqual(answer.payload, b"hi")
