"""ETSI's interoperability tests of CoAP, as their descriptions ask for them, on the
functions of examples/coap-interop. docs/coap-interop.md has the table."""

import re
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox import coap
from blackbox.coap import ACK, CON, EMPTY, NON, TEXT, Message
from blackbox.coap_case import CoapCase, Gateway
from blackbox.coap_clients import libcoap, need_libcoap

LOCATION = [b"location1", b"location2", b"location3"]


class Core(CoapCase):
    """TD_COAP_CORE: methods, options and messages."""

    def setUp(self):
        super().setUp()
        self.interop("test", "separate", "seg1", "query", "location-query", "multi-format", "validate", "create1")

    def transaction(self, kind, method, codes, payload=b""):
        """A request with a payload in text, and its response of the same type."""
        client = self.client()
        options = [(coap.CONTENT_FORMAT, TEXT)] if payload else []
        request = client.request(method, "test", payload, options, kind)
        client.send(request)
        answer = client.receive()
        self.assertIn(answer.status, codes)
        self.assertEqual((answer.kind, answer.token), (ACK if kind == CON else NON, request.token))
        if kind == CON:
            self.assertEqual(answer.id, request.id)
        self.assertEqual(answer.uint(coap.CONTENT_FORMAT), TEXT if answer.payload else None)
        self.assertTrue(client.hears_nothing())
        return answer

    def get(self, kind):
        answer = self.transaction(kind, "GET", ["2.05"])
        self.assertTrue(answer.payload)

    def delete(self, kind):
        self.transaction(kind, "DELETE", ["2.02"])

    def put(self, kind):
        self.transaction(kind, "PUT", ["2.01", "2.04"], b"put here")
        self.assertEqual(self.client().ask("GET", "test").text, "put here")
        self.client().ask("DELETE", "test")

    def post(self, kind):
        self.transaction(kind, "POST", ["2.01", "2.04"], b"posted here")

    def test_core_01_get_confirmable(self):
        self.get(CON)

    def test_core_02_delete_confirmable(self):
        self.delete(CON)

    def test_core_03_put_confirmable(self):
        self.put(CON)

    def test_core_04_post_confirmable(self):
        self.post(CON)

    def test_core_05_get_non_confirmable(self):
        self.get(NON)

    def test_core_06_delete_non_confirmable(self):
        self.delete(NON)

    def test_core_07_put_non_confirmable(self):
        self.put(NON)

    def test_core_08_post_non_confirmable(self):
        self.post(NON)

    def separate(self, token):
        client = self.client()
        request = client.request("GET", "separate", token=token)
        client.send(request)
        self.assertEqual(client.receive(), Message(ACK, EMPTY, request.id, b"", [], b""))
        answer = client.receive()
        self.assertEqual((answer.kind, answer.status, answer.token), (CON, "2.05", token))
        self.assertEqual(answer.uint(coap.CONTENT_FORMAT), TEXT)
        self.assertTrue(answer.payload)
        client.acknowledge(answer)
        self.assertTrue(client.hears_nothing())

    def test_core_09_separate_response(self):
        self.separate(b"")

    def test_core_10_token(self):
        for token in (b"t", b"eight by"):
            answer = self.client().ask("GET", "test", token=token)
            self.assertEqual((answer.kind, answer.status, answer.token), (ACK, "2.05", token))

    def test_core_11_token_and_separate_response(self):
        self.separate(b"eight by")

    def test_core_12_empty_token(self):
        answer = self.client().ask("GET", "test", token=b"")
        self.assertEqual((answer.kind, answer.status, answer.token), (ACK, "2.05", b""))
        self.assertTrue(answer.payload)

    def test_core_13_several_uri_paths(self):
        answer = self.is_code(self.client().ask("GET", "seg1/seg2/seg3"), "2.05", "seg1", "seg2", "seg3")
        self.assertEqual(answer.uint(coap.CONTENT_FORMAT), TEXT)

    def test_core_14_several_uri_queries(self):
        self.is_code(self.client().ask("GET", "query?first=1&second=2&third=3"), "2.05", "3 parameters", "first=1\nsecond=2\nthird=3")

    def lossy(self, name, *losses):
        """Asks behind gateways that lose the first copy of one datagram each, which
        `losses` choose: by the raw client and by libcoap's. What they lost."""
        need_libcoap(self)
        clients = (
            lambda port: self.client(port=port).ask("GET", name).status,
            lambda port: libcoap(self, "GET", self.url(name, port=port)).code,
        )

        def ask(client, lose):
            gateway = Gateway(("127.0.0.1", self.port), lambda *seen: not gateway.lost and lose(*seen))
            self.addCleanup(gateway.close)
            return client(gateway.port), gateway

        runs = [(client, lose) for client in clients for lose in losses]
        with ThreadPoolExecutor(len(runs)) as pool:
            done = list(pool.map(ask, *zip(*runs)))
        self.assertEqual([code for code, _ in done], ["2.05"] * len(runs))
        self.assertEqual([len(gateway.lost) for _, gateway in done], [1] * len(runs))
        return [gateway for _, gateway in done]

    def came_again(self, gateway):
        """Checks that what was lost was sent once more."""
        lost = gateway.lost[0][1:]
        self.eventually(lambda: [one[1:] for one in gateway.passed], lambda passed: lost in passed, "sent again")

    def test_core_15_piggybacked_and_lossy(self):
        for gateway in self.lossy("test", lambda which, data: which == "request", lambda which, data: which == "response"):
            self.came_again(gateway)

    def test_core_16_separate_and_lossy(self):
        gateways = self.lossy(
            "separate", lambda which, data: data[1] == coap.GET, lambda which, data: data[1] == coap.code("2.05"),
            lambda which, data: which == "response" and data[1] == EMPTY,
        )
        for number, gateway in enumerate(gateways):
            # The response stands for a lost acknowledgement, if it is there in time.
            if number % 3 < 2:
                self.came_again(gateway)

    def test_core_16_the_acknowledgement_of_a_separate_response_is_lost(self):
        """Then the response comes again, and is acknowledged again."""
        gateway = Gateway(("127.0.0.1", self.port), lambda direction, data: direction == "request" and data[1] == EMPTY and not gateway.lost)
        self.addCleanup(gateway.close)
        client = self.client(port=gateway.port)
        answer = client.ask("GET", "separate")
        self.assertEqual((answer.kind, answer.status), (CON, "2.05"))
        self.assertEqual(client.receive(), answer)
        client.acknowledge(answer)
        self.assertTrue(client.hears_nothing())
        self.assertEqual(len(gateway.lost), 1)

    def test_core_17_separate_and_non_confirmable(self):
        client = self.client()
        request = client.request("GET", "separate", kind=NON)
        client.send(request)
        answer = client.receive()
        self.assertEqual((answer.kind, answer.status, answer.token), (NON, "2.05", request.token))
        self.assertEqual(answer.uint(coap.CONTENT_FORMAT), TEXT)
        self.assertTrue(answer.payload)

    def test_core_18_several_location_paths(self):
        answer = self.is_code(self.client().ask("POST", "test", "made", [(coap.CONTENT_FORMAT, TEXT)]), "2.01")
        self.assertEqual(answer.all(coap.LOCATION_PATH), LOCATION)

    def test_core_19_several_location_queries(self):
        answer = self.is_code(self.client().ask("POST", "location-query", "made", [(coap.CONTENT_FORMAT, TEXT)]), "2.01")
        self.assertEqual(answer.all(coap.LOCATION_QUERY), [b"first=1", b"second=2"])
        self.assertEqual(answer.all(coap.LOCATION_PATH), [b"location-query"])

    def test_core_20_accept(self):
        client = self.client()
        for number, text in ((TEXT, "status: works"), (coap.XML, "<status>"), (coap.JSON, '{"status"'), (coap.LINK_FORMAT, "</multi-format>")):
            answer = self.is_code(client.ask("GET", "multi-format", options=[(coap.ACCEPT, number)]), "2.05", text)
            self.assertEqual(answer.uint(coap.CONTENT_FORMAT), number)
        self.is_code(client.ask("GET", "multi-format", options=[(coap.ACCEPT, coap.CBOR)]), "4.06")

    def test_core_21_etag(self):
        client = self.client()
        first = self.is_code(client.ask("GET", "validate"), "2.05")
        tag = first.first(coap.ETAG)
        self.assertTrue(tag and first.payload)
        again = self.is_code(client.ask("GET", "validate", options=[(coap.ETAG, tag)]), "2.03")
        self.assertEqual((again.first(coap.ETAG), again.payload), (tag, b""))
        self.is_code(client.ask("PUT", "validate", first.payload + b", changed"), "2.04")
        changed = self.is_code(client.ask("GET", "validate", options=[(coap.ETAG, tag)]), "2.05")
        self.assertNotIn(changed.first(coap.ETAG), (None, tag))
        self.assertNotEqual(changed.payload, first.payload)

    def test_core_22_if_match(self):
        client = self.client()
        tag = self.is_code(client.ask("GET", "validate"), "2.05").first(coap.ETAG)
        self.is_code(client.ask("PUT", "validate", "updated once", [(coap.IF_MATCH, tag)]), "2.04")
        second = self.is_code(client.ask("GET", "validate"), "2.05", "updated once").first(coap.ETAG)
        self.assertNotEqual(second, tag)
        self.is_code(client.ask("PUT", "validate", "by another"), "2.04")
        self.is_code(client.ask("PUT", "validate", "too late", [(coap.IF_MATCH, second)]), "4.12")
        self.is_code(client.ask("GET", "validate"), "2.05", "by another")

    def test_core_23_if_none_match(self):
        client = self.client()
        client.ask("DELETE", "create1")
        self.is_code(client.ask("GET", "create1"), "4.04")
        self.is_code(client.ask("PUT", "create1", "made", [(coap.IF_NONE_MATCH, b"")]), "2.01")
        self.is_code(client.ask("PUT", "create1", "made again", [(coap.IF_NONE_MATCH, b"")]), "4.12")
        self.assertEqual(client.ask("GET", "create1").text, "made")

    def test_core_31_ping(self):
        client = self.client()
        client.send(b"\x40\x00\x12\x34")
        self.assertEqual(client.receive_bytes(), b"\x70\x00\x12\x34")


class Block(CoapCase):
    """TD_COAP_BLOCK: long requests and replies."""

    LARGE = "".join(f"large, line {n:4}\n" for n in range(100))

    def setUp(self):
        super().setUp()
        self.interop("large", "large-update", "large-create", "large-post")

    def blocks(self, path, size, first):
        """Fetches block after block; `first` are the options of the first request."""
        client = self.client()
        answer = self.is_code(client.ask("GET", path, options=first), "2.05")
        number, more, actual = answer.block(coap.BLOCK2)
        self.assertEqual((number, more, actual <= size), (0, True, True))
        self.assertEqual(answer.uint(coap.SIZE2), len(self.LARGE))
        tag, body = answer.first(coap.ETAG), answer.payload
        while more:
            self.assertEqual(len(answer.payload), actual)
            number += 1
            answer = self.is_code(client.ask("GET", path, options=[(coap.BLOCK2, coap.block(number, size=actual))]), "2.05")
            self.assertEqual(answer.block(coap.BLOCK2)[::2], (number, actual))
            self.assertEqual((answer.uint(coap.CONTENT_FORMAT), answer.first(coap.ETAG)), (TEXT, tag))
            body, more = body + answer.payload, answer.block(coap.BLOCK2)[1]
        self.assertEqual(body.decode(), self.LARGE)

    def upload(self, method, path, body, code, size=64):
        """Sends block after block; the last response."""
        client = self.client()
        for at in range(0, len(body), size):
            number, more = at // size, at + size < len(body)
            options = [(coap.CONTENT_FORMAT, TEXT), (coap.BLOCK1, coap.block(number, more, size))]
            answer = self.is_code(client.ask(method, path, body[at : at + size], options), "2.31" if more else code)
            self.assertEqual(answer.block(coap.BLOCK1), (number, more, size))
        return client, answer

    def test_block_01_early_negotiation(self):
        self.blocks("large", 64, [(coap.BLOCK2, coap.block(0, size=64))])

    def test_block_02_late_negotiation(self):
        self.blocks("large", 1024, [])
        # The client asks for smaller blocks than the first one was.
        client = self.client()
        body = self.is_code(client.ask("GET", "large"), "2.05").payload
        answer = client.ask("GET", "large", options=[(coap.BLOCK2, coap.block(len(body) // 128, size=128))])
        self.assertEqual(answer.block(coap.BLOCK2), (8, True, 128))
        self.assertEqual(answer.text, self.LARGE[1024:1152])

    def test_block_03_put(self):
        body = b"".join(b"update, line %4d\n" % n for n in range(90))
        self.upload("PUT", "large-update", body, "2.04")
        self.assertEqual(self.client().fetch("GET", "large-update").payload, body)

    def test_block_04_post_creates(self):
        body = b"".join(b"create, line %4d\n" % n for n in range(90))
        client, answer = self.upload("POST", "large-create", body, "2.01", 256)
        path = [part.decode() for part in answer.all(coap.LOCATION_PATH)]
        self.assertEqual((path[0], len(path)), ("large-create", 2))
        self.assertEqual(client.fetch("GET", "/".join(path)).payload, body)

    def test_block_05_post_both_ways(self):
        body = b"".join(b"post, line %4d\n" % n for n in range(90))
        client, answer = self.upload("POST", "large-post", body, "2.04")
        number, more, size = answer.block(coap.BLOCK2)
        self.assertEqual((number, more), (0, True))
        reply = answer.payload
        while more:
            answer = self.is_code(client.ask("POST", "large-post", b"", [(coap.CONTENT_FORMAT, TEXT), (coap.BLOCK2, coap.block(len(reply) // size, size=size))]), "2.04")
            more, reply = answer.block(coap.BLOCK2)[1], reply + answer.payload
        self.assertEqual(reply, body.upper() * 2)

    def test_block_06_sixteen_bytes(self):
        self.blocks("large", 16, [(coap.BLOCK2, coap.block(0, size=16))])


class Links(CoapCase):
    """TD_COAP_LINK: discovery."""

    def setUp(self):
        super().setUp()
        self.interop("test", "validate", "separate", "large", "link1", "link2", "link3", "path", "seg1")

    def found(self, query=""):
        """The links that are told, by their paths."""
        answer = self.client().fetch("GET", f".well-known/core{query}")
        self.assertEqual((answer.status, answer.uint(coap.CONTENT_FORMAT)), ("2.05", coap.LINK_FORMAT))
        found = re.findall(r'<([^>]*)>((?:;[^,;="]+(?:=(?:"[^"]*"|[^,;"]*))?)*)', answer.text)
        # Nothing else is there but these links and the commas between them.
        self.assertEqual(",".join(f"<{path}>{attributes}" for path, attributes in found), answer.text)
        return dict(found)

    def test_link_01_well_known(self):
        found = self.found()
        self.assertEqual(set(found), {f"/{name}" for name in self.names()})
        self.assertIn('rt="Type1 Type2"', found["/link1"])
        self.assertIn('title="Link test resource 1"', found["/link1"])

    def test_link_02_by_type(self):
        self.assertEqual(set(self.found("?rt=block")), {"/large"})

    def test_link_03_empty_prefix(self):
        self.assertEqual(set(self.found("?rt=*")), {"/test", "/validate", "/separate", "/large", "/link1", "/link2", "/link3"})

    def test_link_04_several_types(self):
        self.assertEqual(set(self.found("?rt=Type2")), {"/test", "/link1", "/validate", "/link2"})

    def test_link_05_interface_prefix(self):
        self.assertEqual(set(self.found("?if=If*")), {"/test", "/link1", "/validate", "/link2"})

    def test_link_06_size(self):
        self.assertEqual(set(self.found("?sz=*")), {"/large", "/link1", "/link2", "/link3"})

    def test_link_07_href(self):
        self.assertEqual(set(self.found("?href=/link1")), {"/link1"})

    def test_link_08_href_prefix(self):
        self.assertEqual(set(self.found("?href=/link*")), {"/link1", "/link2", "/link3"})

    def test_link_09_hierarchy(self):
        self.assertEqual(set(self.found("?ct=40")), {"/path"})
        answer = self.is_code(self.client().ask("GET", "path"), "2.05")
        self.assertEqual(answer.uint(coap.CONTENT_FORMAT), coap.LINK_FORMAT)
        below = re.findall(r"<([^>]*)>", answer.text)
        self.assertEqual(below, ["/path/sub1", "/path/sub2", "/path/sub3"])
        for path in below:
            self.is_code(self.client().ask("GET", path.lstrip("/")), "2.05", path)


if __name__ == "__main__":
    unittest.main()
