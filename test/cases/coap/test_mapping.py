"""What a function sees of a CoAP request, and what becomes of its reply."""

import hashlib
import json
import time
import unittest

from blackbox import coap, folders
from blackbox.coap import ACK, CON, NON
from blackbox.coap_case import CoapCase

SHOWS = """
import json
def fn(input, headers, context):
    return json.dumps({"method": context.method, "path": context.path, "query": context.query,
                       "body": input, "headers": {k.lower(): v for k, v in headers.items()}})
"""
SHOWS_JS = """
module.exports = (req, res) => res.send({
  method: req.method, path: req.path, query: req.url.split("?")[1] || "",
  body: req.body === "" ? null : req.body, headers: req.headers,
});
"""
# Replies as its body says: status, headers and body, in JSON.
REPLIES = """
import json
def fn(input, headers):
    told = json.loads(input)
    body = bytes.fromhex(told.get("hex", "")) or told.get("body", "").encode()
    return body, told.get("status"), told.get("headers", {})
"""
REPLIES_JS = """
module.exports = (req, res) => {
  const told = JSON.parse(req.body);
  if (told.status) res.status(told.status);
  for (const name in told.headers || {}) res.set(name, told.headers[name]);
  res.end(told.hex ? Buffer.from(told.hex, "hex") : told.body || "");
};
"""
# What a status becomes, by the method where that matters.
STATUSES = {
    200: {"POST": "2.04", "FETCH": "2.05", "PUT": "2.04", "PATCH": "2.04", "iPATCH": "2.04"},
    201: {"POST": "2.01", "PUT": "2.01"},
    204: {"POST": "2.04", "PUT": "2.04"},
    400: "4.00", 401: "4.01", 403: "4.03", 404: "4.04", 405: "4.05", 406: "4.06", 409: "4.09",
    412: "4.12", 413: "4.13", 415: "4.15", 422: "4.22", 429: "4.29", 418: "4.00", 451: "4.00",
    500: "5.00", 501: "5.01", 502: "5.02", 503: "5.03", 504: "5.04", 599: "5.00",
}


class Requests(CoapCase):
    """Method, path, query, options and body, as a function has them."""

    def shown(self, name, *arguments, **more):
        answer = self.client().ask(*[arguments[0], name + (arguments[1:] or [""])[0], *arguments[2:]], **more)
        self.assertEqual(answer.code >> 5, 2, answer)
        return json.loads(answer.payload)

    def each(self):
        """The same function in both languages."""
        return self.python(SHOWS), self.node(SHOWS_JS)

    def test_method_path_query_and_body(self):
        for name in self.each():
            with self.subTest(name=name):
                for method in coap.METHODS:
                    self.assertEqual(self.shown(name, method)["method"], method)
                shown = self.shown(name, "POST", "/sub/path?first=1&second=2", b"body")
                self.assertEqual((shown["path"], shown["query"], shown["body"]), ("/sub/path", "first=1&second=2", "body"))
                shown = self.shown(name, "GET")
                self.assertEqual((shown["path"], shown["query"], shown["body"]), ("/", "", None))

    def test_what_urls_escape_is_escaped(self):
        for name in self.each():
            with self.subTest(name=name):
                options = [
                    (coap.URI_PATH, b"two words"), (coap.URI_PATH, b"a/b?c%"), (coap.URI_PATH, "\u00fc".encode()),
                    (coap.URI_QUERY, b"a=1&2"), (coap.URI_QUERY, b"b=\xc3\xbc +"),
                ]
                shown = self.shown(name, "GET", options=options)
                self.assertEqual(shown["path"], "/two%20words/a%2Fb%3Fc%25/%C3%BC")
                self.assertEqual(shown["query"], "a=1%262&b=%C3%BC%20+")

    def test_formats_become_media_types(self):
        for name in self.each():
            with self.subTest(name=name):
                for number, kind in ((50, "application/json"), (60, "application/cbor"), (0, "text/plain; charset=utf-8"), (42, "application/octet-stream")):
                    headers = self.shown(name, "POST", "", b"x", [(coap.CONTENT_FORMAT, number)])["headers"]
                    self.assertEqual(headers["content-type"], kind)
                answer = self.client().ask("GET", name, options=[(coap.ACCEPT, 50)])
                # Python's says no type: it cannot be told whether it is JSON.
                headers = json.loads(answer.payload)["headers"]
                self.assertEqual(headers["accept"], "application/json")

    def test_conditions_become_headers(self):
        for name in self.each():
            with self.subTest(name=name):
                headers = self.shown(name, "PUT", "", b"x", [(coap.IF_MATCH, b"v1"), (coap.IF_MATCH, b"\x00\xff")])["headers"]
                self.assertEqual(headers["if-match"], '"v1", "00ff"')
                self.assertEqual(self.shown(name, "PUT", "", b"x", [(coap.IF_MATCH, b"")])["headers"]["if-match"], "*")
                self.assertEqual(self.shown(name, "PUT", "", b"x", [(coap.IF_NONE_MATCH, b"")])["headers"]["if-none-match"], "*")
                self.assertEqual(self.shown(name, "GET", options=[(coap.ETAG, b"v1")])["headers"]["if-none-match"], '"v1"')

    def test_the_host_that_was_asked(self):
        for name in self.each():
            with self.subTest(name=name):
                options = [(coap.URI_HOST, b"farm.example"), (coap.URI_PORT, 5683)]
                self.assertEqual(self.shown(name, "GET", options=options)["headers"]["host"], "farm.example:5683")

    def test_bytes_arrive_as_they_are(self):
        name = self.python("import hashlib\ndef fn(input, headers, context):\n    return hashlib.sha256(context.body).hexdigest()")
        data = bytes(range(256))
        self.assertEqual(self.client().ask("POST", name, data).text, hashlib.sha256(data).hexdigest())


class Replies(CoapCase):
    """Statuses, headers and bodies as codes, options and payloads."""

    def each(self):
        return self.python(REPLIES), self.node(REPLIES_JS)

    def reply(self, name, method="POST", options=(), **told):
        return self.client().ask(method, name, json.dumps(told), options)

    def test_statuses_become_codes(self):
        for name in self.each():
            with self.subTest(name=name):
                for status, codes in STATUSES.items():
                    if isinstance(codes, str):
                        codes = {"POST": codes}
                    for method, code in codes.items():
                        answer = self.reply(name, method, status=status, body="x")
                        self.assertEqual(answer.status, code, f"{method} {status}: {answer}")

    def test_headers_alone_leave_the_code_to_the_method(self):
        for name in self.each():
            for method, code in (("POST", "2.05"), ("FETCH", "2.05"), ("PUT", "2.04"), ("PATCH", "2.04")):
                answer = self.reply(name, method, body="{}", headers={"Content-Type": "application/json"})
                self.assertEqual((answer.status, answer.uint(coap.CONTENT_FORMAT)), (code, 50), f"{name} {method}")

    def test_a_status_that_is_none_of_coap(self):
        name = self.python(REPLIES)
        answer = self.reply(name, status=302, headers={"Location": "/elsewhere"})
        self.is_code(answer, "5.02", "redirect", "/elsewhere")

    def test_media_types_become_formats(self):
        for name in self.each():
            with self.subTest(name=name):
                for kind, number in (
                    ("application/json", 50), ("application/cbor", 60), ("text/plain", 0), ("text/plain; charset=UTF-8", 0),
                    ("application/link-format", 40), ("application/senml+json", 110), ("application/xml", 41),
                    ("application/x-nobody-knows", 42),
                ):
                    answer = self.reply(name, headers={"Content-Type": kind}, body="x")
                    self.assertEqual(answer.uint(coap.CONTENT_FORMAT), number, kind)

    def test_what_has_no_type_is_judged_by_its_bytes(self):
        name = self.python(REPLIES)
        self.assertEqual(self.reply(name, body="gr\u00fc\u00df").uint(coap.CONTENT_FORMAT), 0)
        answer = self.reply(name, hex="ff00ff")
        self.assertEqual((answer.uint(coap.CONTENT_FORMAT), answer.payload), (42, b"\xff\0\xff"))
        self.assertEqual(self.reply(name).all(coap.CONTENT_FORMAT), [])

    def test_entity_tags_ages_and_locations(self):
        for name in self.each():
            with self.subTest(name=name):
                answer = self.reply(name, body="x", headers={"ETag": '"v1"', "Cache-Control": "max-age=7"})
                self.assertEqual((answer.first(coap.ETAG), answer.uint(coap.MAX_AGE)), (b"v1", 7))
                answer = self.reply(name, status=201, headers={"Location": "/made/here%20now?first=1&second=2"})
                self.assertEqual(answer.status, "2.01")
                self.assertEqual(answer.all(coap.LOCATION_PATH), [b"made", b"here now"])
                self.assertEqual(answer.all(coap.LOCATION_QUERY), [b"first=1", b"second=2"])

    def test_who_has_the_tag_gets_no_body(self):
        for name in self.each():
            with self.subTest(name=name):
                told = {"body": "x", "headers": {"ETag": '"00ff"'}}
                answer = self.reply(name, "FETCH", [(coap.ETAG, b"\x00\xff")], **told)
                self.assertEqual((answer.status, answer.payload, answer.first(coap.ETAG)), ("2.03", b"", b"\x00\xff"))
                self.assertEqual(self.reply(name, "FETCH", [(coap.ETAG, b"other")], **told).status, "2.05")
                answer = self.reply(name, "FETCH", [(coap.ETAG, b"v1")], status=304, headers={"ETag": '"v1"'})
                self.assertEqual((answer.status, answer.payload), ("2.03", b""))

    def test_another_format_than_accepted_does_not_come(self):
        for name in self.each():
            with self.subTest(name=name):
                told = {"body": "x", "headers": {"Content-Type": "application/xml"}}
                self.is_code(self.reply(name, "FETCH", [(coap.ACCEPT, 41)], **told), "2.05")
                self.is_code(self.reply(name, "FETCH", [(coap.ACCEPT, 50)], **told), "4.06", "41", "50")


class Failures(CoapCase):
    """What comes of calls that have no reply."""

    def test_who_is_unknown(self):
        client = self.client()
        for path in ("nobody", "nobody/below", "", "%2Eother", "no%20name", "x" * 64):
            with self.subTest(path=path):
                answer = self.is_code(client.ask("GET", path), "4.04")
                self.assertTrue(answer.payload, "it says nothing")
        self.is_code(client.ask("GET", "nobody", kind=NON), "4.04")

    def test_an_exception_is_told(self):
        for name in (self.python("def fn(input, headers):\n    raise ValueError('the barn is empty')"), self.node("module.exports = () => { throw new Error('the barn is empty'); };")):
            with self.subTest(name=name):
                answer = self.is_code(self.client().ask("GET", name), "5.00", "the barn is empty")
                self.assertEqual(answer.all(coap.CONTENT_FORMAT), [])

    def test_a_crash(self):
        name = self.python("import os\ndef fn(input, headers):\n    os._exit(7)")
        answer = self.is_code(self.client().ask("GET", name), "5.00")
        self.assertTrue(answer.payload)

    def test_a_deadline(self):
        code = {"fn.py": "import time\ndef fn(input, headers):\n    time.sleep(30)", "tinyfaas.toml": 'call_deadline = "500ms"'}
        name = self.deploy("python3", code)
        answer = self.is_code(self.client().ask("GET", name), "5.04", "500ms")
        self.assertEqual(answer.kind, ACK)

    def test_a_full_function(self):
        code = {
            "fn.py": "import time\ndef fn(input, headers):\n    time.sleep(2)\n    return 'done'",
            "tinyfaas.toml": "threads = 1\ncalls_per_handler = 1\nwaiting = 1",
        }
        name = self.deploy("python3", code)
        client = self.client()
        requests = [client.request("GET", name) for _ in range(5)]
        for request in requests:
            client.send(request)
        refused = [client.receive() for _ in range(3)]
        for answer in refused:
            self.is_code(answer, "5.03")
            self.assertGreaterEqual(answer.uint(coap.MAX_AGE), 1)
        done = [client.exchange(request) for request in requests if request.token not in {answer.token for answer in refused}]
        self.assertEqual([answer.text for answer in done], ["done", "done"])

    def test_a_body_that_is_too_large(self):
        name = self.python("def fn(input, headers):\n    return 'ran'")
        client = self.client()
        first = [(coap.BLOCK1, coap.block(0, True)), (coap.SIZE1, 5 << 20)]
        answer = self.is_code(client.ask("POST", name, bytes(1024), first), "4.13")
        self.assertEqual(answer.uint(coap.SIZE1), 4 << 20)

    def test_blocks_that_do_not_follow_each_other(self):
        name = self.python("def fn(input, headers):\n    return str(len(input))")
        client = self.client()

        def put(number, more):
            return client.ask("POST", name, b"x" * 64, [(coap.BLOCK1, coap.block(number, more, 64))])

        self.is_code(put(1, True), "4.08")
        self.is_code(put(0, True), "2.31")
        self.is_code(put(2, True), "4.08")
        # The beginning begins again.
        for number in range(3):
            self.is_code(put(number, True), "2.31")
        self.assertEqual(put(3, False).text, "256")

    def test_a_block_of_no_reply(self):
        name = self.python("def fn(input, headers):\n    return 'ran'")
        self.is_code(self.client().ask("GET", name, options=[(coap.BLOCK2, coap.block(3))]), "4.08")


class Asynchronous(CoapCase):
    """The query tinyfaas-async, and what is at the location that it is answered by."""

    SLOW = """
import asyncio
async def fn(input, headers, context):
    print("ran", input, context.query, flush=True)
    await asyncio.sleep(float(input))
    return "done", None, {"Content-Type": "application/json", "ETag": '"v1"'}
"""

    def accepted(self, name, text):
        answer = self.is_code(self.client().ask("POST", f"{name}?first=1&tinyfaas-async", text), "2.01")
        path = answer.all(coap.LOCATION_PATH)
        self.assertEqual(path[:2], [b".tinyfaas", b"calls"])
        return "/".join(part.decode() for part in path)

    def test_a_result_is_fetched(self):
        name = self.python(self.SLOW)
        began = time.monotonic()
        location = self.accepted(name, "1.5")
        self.assertLess(time.monotonic() - began, 1)
        client = self.client()
        answer = self.is_code(client.ask("GET", location), "5.03")
        self.assertGreaterEqual(answer.uint(coap.MAX_AGE), 1)
        answer = self.eventually(lambda: client.ask("GET", location), lambda answer: answer.status != "5.03", "done")
        self.assertEqual((answer.status, answer.text, answer.uint(coap.CONTENT_FORMAT)), ("2.05", "done", 50))
        self.is_code(client.ask("DELETE", location), "4.09", "succeeded")
        # The function does not see what is meant for the server.
        self.assertIn("ran 1.5 first=1\n", self.logs(name))

    def test_a_call_is_cancelled(self):
        location = self.accepted(self.python(self.SLOW), "30")
        client = self.client()
        self.assertEqual(client.ask("DELETE", location).code >> 5, 2)
        self.assertNotIn(client.ask("GET", location).status, ("2.05", "5.03"))

    def test_fire_and_forget(self):
        name = self.python(self.SLOW)
        client = self.client()
        client.send(client.request("POST", f"{name}?tinyfaas-async", "0", [(coap.NO_RESPONSE, 26)], kind=NON))
        self.assertTrue(client.hears_nothing())
        self.wait_for_log(name, "ran 0")
        self.assertTrue(client.hears_nothing())

    def test_who_is_unknown_is_not_accepted(self):
        client = self.client()
        self.is_code(client.ask("POST", "nobody?tinyfaas-async", "x"), "4.04")
        self.is_code(client.ask("GET", ".tinyfaas/calls/" + "0" * 32), "4.04")
        self.is_code(client.ask("GET", ".tinyfaas/calls/no-id"), "4.04")
        self.is_code(client.ask("PUT", ".tinyfaas/calls/" + "0" * 32, "x"), "4.05")


if __name__ == "__main__":
    unittest.main()
