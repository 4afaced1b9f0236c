"""ETSI's interoperability tests of Observe (RFC 7641), as their descriptions ask for
them, on the functions of examples/coap-interop. docs/coap-interop.md has the table."""

import unittest

from blackbox import coap
from blackbox.coap import ACK, CON, EMPTY, NON, TEXT, XML
from blackbox.coap_case import CoapCase, Gateway


class Observing(CoapCase):
    """TD_COAP_OBS: whoever observes is told."""

    def setUp(self):
        super().setUp()
        self.interop("obs", "obs-non", "obs-pumping", "obs-large")

    def tearDown(self):
        # As it was for the next case: there, and with no state of its own.
        if self.server is type(self)._of_class:
            client = self.client()
            client.ask("PUT", "obs", "as it was", [(coap.CONTENT_FORMAT, TEXT)])

    def register(self, path="obs", kind=CON, client=None, token=None):
        """Begins to observe: the client, its token and the first response."""
        client = client or self.client()
        request = client.request("GET", path, options=[(coap.OBSERVE, b"")], kind=kind, token=token)
        answer = client.exchange(request)
        self.assertEqual((answer.kind, answer.status), (ACK if kind == CON else NON, "2.05"))
        self.assertIsNotNone(answer.uint(coap.OBSERVE), "it is no observation")
        return client, request.token, answer

    def notified(self, client, before, kind=CON, acknowledge=True):
        """The next notification, held against the response before it."""
        answer = client.receive()
        self.assertEqual((answer.kind, answer.status, answer.token), (kind, "2.05", before.token), answer)
        self.assertEqual(answer.uint(coap.CONTENT_FORMAT), before.uint(coap.CONTENT_FORMAT))
        ahead = (answer.uint(coap.OBSERVE) - before.uint(coap.OBSERVE)) % (1 << 24)
        self.assertTrue(0 < ahead < 1 << 23, f"{before.options} then {answer.options}")
        if acknowledge:
            client.acknowledge(answer)
        return answer

    def put(self, text, number=TEXT, path="obs"):
        answer = self.client().ask("PUT", path, text, [(coap.CONTENT_FORMAT, number)])
        self.assertEqual(answer.status, "2.04")

    def is_told_no_more(self, client):
        """Checks that a change is told to others, and not to this client."""
        witness, _, before = self.register()
        self.put("for the witness")
        self.assertEqual(self.notified(witness, before).text, "for the witness")
        self.assertTrue(client.hears_nothing())
        witness.ask("GET", "obs", options=[(coap.OBSERVE, 1)], token=before.token)

    def test_obs_01_confirmable(self):
        client, _, answer = self.register("obs-pumping")
        texts = {answer.text}
        for _ in range(3):
            answer = self.notified(client, answer)
            texts.add(answer.text)
        self.assertEqual(len(texts), 4)

    def test_obs_02_non_confirmable(self):
        client, _, answer = self.register("obs-non", NON)
        self.notified(client, answer, NON)

    def test_obs_04_the_server_forgets(self):
        """It is started again, and the client registers again by the same token."""
        first = self.start(COAP_PORT="0")
        self.interop("obs-pumping")
        client, token, answer = self.register("obs-pumping")
        self.notified(client, answer)
        self.ends_clean(first)
        # It says so to who observes, or had more to say: that is passed over.
        client.drain()
        second = self.start(COAP_PORT=first.ports["coap"])
        self.interop("obs-pumping")
        self.assertEqual(second.ports["coap"], first.ports["coap"])
        client, token, answer = self.register("obs-pumping", client=client, token=token)
        self.notified(client, answer)

    def test_obs_05_switched_off(self):
        """A client that acknowledges nothing is sent the notification again and again,
        what is the newest each time. That it ends is proven where time can be made
        up: a_reset_or_silence_ends_it in crates/coap."""
        client, _, answer = self.register()
        self.put("the first")
        first = self.notified(client, answer, acknowledge=False)
        self.put("the newest")
        again = self.notified(client, first, acknowledge=False)
        self.assertEqual(again.text, "the newest")
        once_more = client.receive()
        self.assertEqual((once_more.text, once_more.token), ("the newest", first.token))
        client.reset(once_more)
        self.is_told_no_more(client)

    def test_obs_06_reset(self):
        client, _, answer = self.register()
        self.put("the first")
        answer = self.notified(client, answer)
        self.put("the second")
        client.reset(self.notified(client, answer, acknowledge=False))
        self.is_told_no_more(client)

    def test_obs_07_deleted(self):
        client, token, answer = self.register()
        self.put("the first")
        self.notified(client, answer)
        self.assertEqual(self.client().ask("DELETE", "obs").status, "2.02")
        last = client.receive()
        self.assertEqual((last.kind, last.status, last.token), (CON, "4.04", token))
        self.assertIsNone(last.first(coap.OBSERVE))
        client.acknowledge(last)
        self.put("it is back")
        self.is_told_no_more(client)

    def test_obs_08_another_format(self):
        client, token, answer = self.register()
        self.put("the first")
        self.notified(client, answer)
        self.put("<first/>", XML)
        last = client.receive()
        self.assertEqual((last.kind, last.status, last.token), (CON, "4.06", token))
        self.assertIsNone(last.first(coap.OBSERVE))
        client.acknowledge(last)
        self.put("text again")
        self.is_told_no_more(client)

    def test_obs_09_updated(self):
        client, _, answer = self.register()
        for text in ("the first", "the second", "the third"):
            self.put(text)
            answer = self.notified(client, answer)
            self.assertEqual(answer.text, text)

    def test_obs_10_a_get_does_not_cancel(self):
        client, token, answer = self.register()
        plain = client.ask("GET", "obs", token=b"other")
        self.assertEqual((plain.kind, plain.status, plain.first(coap.OBSERVE)), (ACK, "2.05", None))
        self.put("still told")
        self.assertEqual(self.notified(client, answer).text, "still told")

    def test_obs_11_lossy(self):
        """The first copy of every notification is lost, and of every other one its
        acknowledgement: all the same there is never more than one under way."""
        seen = set()

        def loses(direction, data):
            what = (direction, data)
            notification = direction == "response" and data[0] >> 4 & 3 == CON and data[1] != EMPTY
            new = what not in seen
            seen.add(what)
            return new and notification

        gateway = Gateway(("127.0.0.1", self.port), loses)
        self.addCleanup(gateway.close)
        client, _, answer = self.register(client=self.client(port=gateway.port))
        for text in ("the first", "the second"):
            self.put(text)
            answer = self.notified(client, answer)
            self.assertEqual(answer.text, text)
        self.assertGreaterEqual(len(gateway.lost), 2)

    def test_obs_11_one_at_a_time(self):
        client, _, answer = self.register()
        self.put("the first")
        first = self.notified(client, answer, acknowledge=False)
        for text in ("the second", "the third", "the last"):
            self.put(text)
        self.assertTrue(client.hears_nothing())
        client.acknowledge(first)
        # Of those that came meanwhile only the newest matters.
        self.assertEqual(self.notified(client, first).text, "the last")
        self.assertTrue(client.hears_nothing())

    def test_obs_12_deregistered(self):
        client, token, answer = self.register()
        self.put("the first")
        self.notified(client, answer)
        answer = client.ask("GET", "obs", options=[(coap.OBSERVE, 1)], token=token)
        self.assertEqual((answer.kind, answer.status, answer.first(coap.OBSERVE)), (ACK, "2.05", None))
        self.is_told_no_more(client)

    def rest(self, client, answer, path):
        """The whole body that begins in a response."""
        body = answer.payload
        while (found := answer.block(coap.BLOCK2)) and found[1]:
            answer = client.ask("GET", path, options=[(coap.BLOCK2, coap.block(len(body) // found[2], size=found[2]))])
            self.assertEqual((answer.status, answer.first(coap.OBSERVE)), ("2.05", None))
            body += answer.payload
        return body

    def large(self, *sizes):
        self.put(b"x" * sizes[0], path="obs-large")
        client, _, answer = self.register("obs-large")
        self.assertEqual(self.rest(client, answer, "obs-large"), b"x" * sizes[0])
        for number, size in enumerate(sizes[1:]):
            body = b"%d" % number * size
            self.put(body, path="obs-large")
            answer = self.notified(client, answer)
            self.assertEqual(self.rest(client, answer, "obs-large"), body)

    def test_obs_13_large(self):
        self.large(3000, 3000, 3000)

    def test_obs_14_of_many_sizes(self):
        self.large(1500, 5000, 10, 1024, 1025, 20_000)


if __name__ == "__main__":
    unittest.main()
