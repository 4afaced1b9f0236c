"""Certificates by ACME, from an authority that others wrote: pebble."""

import socket
import ssl

from blackbox.acme import Passage, Pebble
from blackbox.case import OwnServerCase
from blackbox.certificates import Authority, trusting
from blackbox.go_tools import need_go_tool

DOMAINS = ("gate.example", "pump.example")
WAIT_S = 40


class AcmeCase(OwnServerCase):
    def setUp(self):
        super().setUp()
        self.program = need_go_tool(self, "pebble")
        self.own = Authority(self.folder())
        self.passage = Passage()
        self.addCleanup(self.passage.close)

    def authority(self, **options):
        """Pebble, started; it looks at names through the passage."""
        pebble = Pebble(self.program, self.folder(), self.own, self.passage.port, **options)
        self.addCleanup(pebble.close)
        return pebble.start()

    def asking(self, directory, **more):
        return {
            "HTTPS_PORT": "0",
            "TF_ACME_DOMAINS": ",".join(DOMAINS),
            "TF_ACME_DIRECTORY": directory,
            "TF_ACME_CA_FILE": str(self.own.root),
            "TF_ACME_AGREE": "yes",
            "TF_ACME_RETRY": "1s",
            "NO_PROXY": "127.0.0.1",
            **more,
        }

    def serve(self, pebble, through="https", **more):
        """A server that may be reached by that authority."""
        server = self.start(**self.asking(pebble.directory, **more))
        self.passage.to = server.ports[through]
        return server

    def shown(self, server=None):
        """What is served, whoever vouches for it: DER."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        port = (server or self.server).ports["https"]
        with socket.create_connection(("127.0.0.1", port), 10) as plain:
            with context.wrap_socket(plain, server_hostname=DOMAINS[0]) as secured:
                return secured.getpeercert(binary_form=True)

    def vouched(self, pebble, name=DOMAINS[0]):
        """What is served, as a client that trusts the authority sees it; None where it
        does not."""
        context = trusting(pebble.roots())
        try:
            with socket.create_connection(("127.0.0.1", self.server.ports["https"]), 10) as plain:
                with context.wrap_socket(plain, server_hostname=name) as secured:
                    return secured.getpeercert()
        except ssl.SSLCertVerificationError:
            return None

    def comes(self, pebble):
        """Waits for a certificate of the authority's."""
        certificate = self.eventually(lambda: self.vouched(pebble), what="certified", timeout=WAIT_S)
        names = {value for kind, value in certificate["subjectAltName"] if kind == "DNS"}
        self.assertEqual(names, set(DOMAINS))
        return certificate

    def says(self, *words, server=None):
        """Waits for a line with all of these; the line."""
        server = server or self.server

        def line():
            lines = server.output().splitlines()
            return next((line for line in lines if all(word in line for word in words)), None)

        return self.eventually(line, what=f"a line with {words}", timeout=WAIT_S)

    def kept(self, name, server=None):
        """The one file of this name that the server has kept."""
        return next((server or self.server).data.rglob(name), None)


class Obtained(AcmeCase):
    def test_by_a_handshake(self):
        pebble = self.authority()
        server = self.serve(pebble)
        self.comes(pebble)
        self.assertIsNotNone(self.vouched(pebble, DOMAINS[1]))
        self.says("a certificate for gate.example, pump.example has come from 127.0.0.1", "valid until")
        self.assertEqual(pebble.orders(), 1)
        for name in ("account.json", "certificate.pem", "attempts.json"):
            self.assertEqual(self.kept(name).stat().st_mode & 0o777, 0o600, name)
        self.ends_clean(server)

    def test_by_a_file_over_plain_http(self):
        pebble = self.authority()
        self.serve(pebble, through="http", TF_ACME_CHALLENGE="http-01")
        self.comes(pebble)
        # What was shown to the authority is shown no more.
        self.assertEqual(self.call(".well-known/acme-challenge/token").status, 404)

    def test_where_clients_must_show_certificates(self):
        pebble = self.authority()
        self.serve(
            pebble, TF_TLS_CLIENTS="required", TF_TLS_CLIENT_CA=str(self.own.root), HTTP_PORT="-1"
        )
        self.says("has come from")

    def test_from_an_authority_that_forgets_its_nonces(self):
        pebble = self.authority(PEBBLE_WFE_NONCEREJECT="25")
        self.serve(pebble)
        self.comes(pebble)

    def test_a_start_waits_for_no_authority(self):
        pebble = self.authority()
        pebble.stop()
        server = self.start(**self.asking(pebble.directory))
        stand_in = self.shown()
        line = self.says("no new certificate for gate.example, pump.example", "cannot be reached")
        self.assertIn("a self-signed stand-in", line)
        self.assertRegex(line, "the next attempt in [0-9]+ s")
        self.assertEqual(self.shown(), stand_in)
        self.passage.to = server.ports["https"]
        pebble.start()
        self.comes(pebble)


class Kept(AcmeCase):
    def test_a_restart_asks_for_nothing(self):
        pebble = self.authority()
        server = self.serve(pebble)
        self.comes(pebble)
        before = self.shown()
        self.ends_clean(server)
        pebble.stop()
        again = self.start(server.data, **self.asking(pebble.directory))
        self.assertEqual(self.shown(again), before)
        self.assertEqual(pebble.orders(), 1)
        self.assertNotIn("certificate for", again.output())

    def test_what_is_damaged_is_set_aside_and_made_anew(self):
        pebble = self.authority()
        server = self.serve(pebble)
        self.comes(pebble)
        before = self.shown()
        self.ends_clean(server)
        for name in ("certificate.pem", "account.json"):
            path = self.kept(name)
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        secret = self.kept("account.json").read_text()[-40:]
        again = self.start(server.data, **self.asking(pebble.directory))
        self.passage.to = again.ports["https"]
        self.comes(pebble)
        self.assertNotEqual(self.shown(), before)
        for name in ("certificate.pem", "account.json"):
            self.assertTrue(self.kept(f"{name}.damaged").exists())
            self.says(name, "the file is now", f"{name}.damaged")
        self.assertNotIn(secret, again.output())

    def test_other_domains_are_another_certificate(self):
        pebble = self.authority()
        server = self.serve(pebble)
        self.comes(pebble)
        self.ends_clean(server)
        more = self.asking(pebble.directory, TF_ACME_DOMAINS="gate.example,valve.example")
        again = self.start(server.data, **more)
        self.passage.to = again.ports["https"]
        self.eventually(lambda: self.vouched(pebble, "valve.example"), what="certified", timeout=WAIT_S)
        self.assertIsNone(self.vouched(pebble, DOMAINS[1]))

    def test_nothing_is_ordered_that_cannot_be_kept(self):
        pebble = self.authority()
        server = self.prepare(**self.asking(pebble.directory))
        server.data.mkdir(parents=True)
        (server.data / "acme").write_text("a file where a folder should be")
        server.start()
        self._current = server
        self.says("no new certificate", "cannot be kept", str(server.data / "acme"), server=server)
        self.assertEqual(pebble.orders(), 0)

    def test_a_restart_does_not_hurry_an_authority_that_refused(self):
        pebble = self.authority(blocked=DOMAINS)
        server = self.serve(pebble, TF_ACME_RETRY="10min")
        self.says("no new certificate", "forbidden by policy", "the next attempt in")
        orders = pebble.orders()
        self.ends_clean(server)
        again = self.start(server.data, **self.asking(pebble.directory, TF_ACME_RETRY="10min"))
        self.says("have failed (1 in a row)", "the next is in", server=again)
        self.assertEqual(pebble.orders(), orders)


class Renewed(AcmeCase):
    def test_before_it_ends(self):
        pebble = self.authority(life_s=9)
        server = self.serve(pebble)
        self.comes(pebble)
        first = self.shown()
        with socket.create_connection(("127.0.0.1", server.ports["https"]), 10) as plain:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain) as held:
                second = self.eventually(self.shown, lambda one: one != first, "renewed", WAIT_S)
                # Who is connected stays so.
                held.sendall(b"GET /nobody HTTP/1.1\r\nHost: gate.example\r\n\r\n")
                self.assertIn(b"404", held.recv(4096))
        self.assertNotEqual(first, second)
        # One after the other, and no more.
        self.assertLessEqual(pebble.orders(), 8, "a short life is no reason to hurry")

    def test_while_the_authority_is_away_the_old_one_serves(self):
        pebble = self.authority(life_s=30)
        self.serve(pebble)
        self.comes(pebble)
        first = self.shown()
        pebble.stop()
        line = self.says("no new certificate", "cannot be reached", "the old one serves, valid until")
        self.assertIn("the next attempt in", line)
        self.assertEqual(self.shown(), first)
        # Started again it has forgotten the account, and has other roots.
        pebble.start()
        self.says("does not know the kept ACME account")
        self.eventually(lambda: self.vouched(pebble), what="certified anew", timeout=WAIT_S)


class Refused(AcmeCase):
    def test_a_domain_by_its_rules(self):
        pebble = self.authority(blocked=[DOMAINS[1]])
        self.serve(pebble)
        line = self.says("no new certificate for gate.example, pump.example: 127.0.0.1 was asked for an order")
        self.assertIn("issuance is forbidden by policy", line)
        self.assertIn("pump.example", line)
        self.assertIn("(rejectedIdentifier)", line)

    def test_a_domain_that_it_does_not_reach_until_it_does(self):
        for challenge, through, port in (("tls-alpn-01", "https", 443), ("http-01", "http", 80)):
            with self.subTest(challenge=challenge):
                self.passage.to = None
                pebble = self.authority()
                server = self.start(**self.asking(pebble.directory, TF_ACME_CHALLENGE=challenge))
                line = self.says("does not see that", "is this server's")
                self.assertRegex(line, "(gate|pump).example is this server's: ")
                self.assertIn(f"port {port} of that domain", line)
                self.passage.to = server.ports[through]
                self.comes(pebble)

    def test_an_authority_that_is_none(self):
        pebble = self.authority()
        wrong = pebble.directory.removesuffix("dir") + "elsewhere"
        self.start(**self.asking(wrong))
        self.says("127.0.0.1 was asked for an account: it answers 404 Not Found")

    def test_an_authority_that_nobody_vouches_for(self):
        pebble = self.authority()
        other = Authority(self.folder(), name="another root")
        self.start(**self.asking(pebble.directory, TF_ACME_CA_FILE=str(other.root)))
        self.says("cannot be reached: invalid peer certificate: UnknownIssuer", "set TF_ACME_CA_FILE")
        self.assertEqual(pebble.orders(), 0)

    def test_mistakes_are_told_at_start(self):
        right = self.asking("https://127.0.0.1:1/dir")
        not_pem = self.folder({"ca.pem": "hello"}) / "ca.pem"
        for setting, value, words in (
            ("TF_ACME_DIRECTORY", "http://127.0.0.1/dir", "not the address of a server with tls"),
            ("TF_ACME_DIRECTORY", "127.0.0.1", "not the address of a server with tls"),
            ("TF_ACME_AGREE", "no", "tf_acme_agree=yes"),
            ("TF_ACME_DOMAINS", "*.example", "tf_acme_domains"),
            ("TF_ACME_CONTACT", "nobody", "no e-mail address"),
            ("TF_ACME_CA_FILE", str(not_pem), "ca.pem: it is not pem"),
            ("TF_ACME_CHALLENGE", "dns-01", "tls-alpn-01, http-01"),
        ):
            with self.subTest(setting=setting, value=value):
                self.fails_to_start(words, **{**right, setting: value})
