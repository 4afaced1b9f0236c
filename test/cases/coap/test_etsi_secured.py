"""ETSI's interoperability tests of CoAP over DTLS with pre-shared keys, by libcoap's
clients, on examples/coap-interop/secure. docs/coap-interop.md has the table."""

import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.coap_case import CoapCase, Gateway
from blackbox.coap_clients import libcoap, need_libcoap

VARIANTS = ("gnutls", "openssl")
# Datagrams of a handshake and the request, in each direction.
FLIGHTS = 4


class Secured(CoapCase):
    """TD_COAP_DTLS: identity "password", key "sesame", as ETSI has them."""

    settings = {"COAP_PORT": "0", "COAPS_PORT": "0", "TF_COAP_KEYS": "password:sesame"}

    def setUp(self):
        super().setUp()
        need_libcoap(self, "gnutls")
        self.interop("secure")

    def get(self, variant, key="sesame", port=None, timeout=30):
        url = self.url("secure", "coaps", port=port or self.server.ports["coaps"])
        return libcoap(self, "GET", url, "-u", "password", "-k", key, variant=variant, timeout=timeout)

    def is_told(self, answer):
        self.assertEqual((answer.code, answer.text), ("2.05", "this may be told in confidence"), answer.printed)

    def test_dtls_01_the_right_key(self):
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                self.is_told(self.get(variant))

    def test_dtls_02_a_wrong_key(self):
        for variant in VARIANTS:
            with self.subTest(variant=variant):
                answer = self.get(variant, "wrong", timeout=10)
                self.assertEqual((answer.code, answer.body), ("", b""), answer.printed)
                self.assertLess(answer.seconds, 8, "it was not told, and waited")
                # Nobody else is the worse for it.
                self.is_told(self.get(variant))

    def test_dtls_03_lossy(self):
        """Each datagram of the handshake is lost once, in each direction."""

        def lost(variant, direction, number):
            seen = []

            def loses(which, data):
                if which == direction:
                    seen.append(data)
                return which == direction and len(seen) == number + 1

            gateway = Gateway(("127.0.0.1", self.server.ports["coaps"]), loses)
            try:
                return self.get(variant, port=gateway.port), len(gateway.lost)
            finally:
                gateway.close()

        cases = [
            (variant, direction, number)
            for variant in VARIANTS for direction in ("request", "response") for number in range(FLIGHTS)
        ]
        with ThreadPoolExecutor(len(cases)) as pool:
            for case, (answer, count) in zip(cases, pool.map(lost, *zip(*cases))):
                with self.subTest(case=case):
                    self.is_told(answer)
                    self.assertEqual(count, 1, "nothing was lost")


if __name__ == "__main__":
    unittest.main()
