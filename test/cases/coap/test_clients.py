"""Clients that no one here wrote: what they send arrives, what they are sent is whole."""

import hashlib
import json
import os
import re
import unittest
from concurrent.futures import ThreadPoolExecutor

from blackbox.coap_case import CoapCase
from blackbox.coap_clients import aiocoap, coap_cli, libcoap, need_client, need_libcoap

# What it was sent, told by its size and hash.
TELLS = """
import hashlib, json
def fn(input, headers, context):
    told = {"method": context.method, "bytes": len(context.body), "hash": hashlib.sha256(context.body).hexdigest()}
    return json.dumps(told)
"""
# Replies with as many bytes as are asked for (/NAME/BYTES), the same each time.
SENDS = """
import hashlib
def fn(input, headers, context):
    bytes = int(context.path[1:])
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(bytes // 32 + 1))[:bytes]
"""
# The code of a reply whose function set no status.
CODES = {
    "GET": "2.05", "POST": "2.05", "FETCH": "2.05", "PUT": "2.04", "PATCH": "2.04",
    "iPATCH": "2.04", "DELETE": "2.02",
}
# Sizes and sizes of blocks: around a block's end, and a million bytes.
SIZES = (
    (1, 16), (15, 16), (16, 16), (17, 16), (1000, 32), (2048, 64), (2049, 128), (20_000, 256),
    (100_000, 512), (1024, 1024), (1025, 1024), (1_000_000, 1024),
)


def hash_of(data):
    return hashlib.sha256(data).hexdigest()


def sent_by(count):
    """The reply of SENDS."""
    return b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(count // 32 + 1))[:count]


class Clients(CoapCase):
    def tells(self):
        return self.python(TELLS)

    def is_told(self, answer, method, data):
        """Checks that a function of TELLS got this, and answered with its method's code."""
        self.assertEqual(answer.code, CODES[method], answer.printed)
        told = json.loads(answer.body)
        self.assertEqual(told, {"method": told["method"], "bytes": len(data), "hash": hash_of(data)})
        self.assertEqual(told["method"].upper(), method.upper())

    def is_sent(self, answer, count):
        self.assertEqual(answer.code, "2.05", answer.printed[-2000:])
        self.assertEqual((len(answer.body), hash_of(answer.body)), (count, hash_of(sent_by(count))))


class Libcoap(Clients):
    def setUp(self):
        super().setUp()
        need_libcoap(self)

    def test_every_method_confirmable_and_not(self):
        name = self.tells()
        for method in CODES:
            for more in ([], ["-N"]):
                with self.subTest(method=method, more=more):
                    data = b"" if method in ("GET", "DELETE") else b"some bytes"
                    answer = libcoap(self, method, self.url(name), *more, data=data or None)
                    self.is_told(answer, method, data)

    def test_each_of_its_builds(self):
        name = self.tells()
        for variant in ("notls", "gnutls", "openssl"):
            with self.subTest(variant=variant):
                need_libcoap(self, variant)
                self.is_told(libcoap(self, "POST", self.url(name), data=b"x", variant=variant), "POST", b"x")

    def test_bodies_up_to_a_megabyte_arrive_whole(self):
        name = self.tells()
        for size, block in SIZES:
            for method, more in (("POST", []), ("PUT", ["-N"])) if size < 5000 else (("PUT", []),):
                with self.subTest(size=size, block=block, method=method):
                    data = os.urandom(size)
                    answer = libcoap(self, method, self.url(name), "-b", block, *more, data=data)
                    self.is_told(answer, method, data)

    def test_replies_up_to_a_megabyte_are_fetched_whole(self):
        name = self.python(SENDS)
        for size, block in SIZES:
            for more in ([], ["-N"]) if size < 5000 else ([],):
                with self.subTest(size=size, block=block, more=more):
                    answer = libcoap(self, "GET", self.url(f"{name}/{size}"), "-b", block, *more)
                    self.is_sent(answer, size)
                    if size > block:
                        number = (size - 1) // block
                        self.assertEqual(answer.options["Block2"], [f"{number}/_/{block}"])

    def test_both_ways_with_five_percent_lost(self):
        tells, sends = self.tells(), self.python(SENDS)
        data = os.urandom(20_000)
        lossy = {"timeout": 120}
        with ThreadPoolExecutor(2) as pool:
            up = pool.submit(libcoap, self, "PUT", self.url(tells), "-l", "5%", "-b", 1024, data=data, **lossy)
            down = pool.submit(libcoap, self, "GET", self.url(f"{sends}/{len(data)}"), "-l", "5%", "-b", 1024, **lossy)
        self.is_told(up.result(), "PUT", data)
        self.is_sent(down.result(), len(data))

    def test_no_response_is_heeded(self):
        name = self.python("import sys\ndef fn(input, headers):\n    print('ran', input, flush=True)\n    return 'x'")
        for kind in ("-N", None):
            with self.subTest(kind=kind):
                more = [kind] if kind else []
                answer = libcoap(self, "POST", self.url(name), "-O", "258,0x1a", *more, data=f"{kind}", timeout=1)
                self.assertEqual(answer.responses, [], answer.printed)
                self.wait_for_log(name, f"ran {kind}")
        # Only those classes that it names: of an error this one wants to hear.
        answer = libcoap(self, "POST", self.url("nobody"), "-N", "-O", "258,0x02", data="x")
        self.assertEqual(answer.code, "4.04", answer.printed)

    def test_discovery_and_its_filters(self):
        self.interop("link1", "link2", "link3", "path")

        def found(query):
            answer = libcoap(self, "GET", self.url(f".well-known/core{query}"))
            self.assertEqual((answer.code, answer.options["Content-Format"]), ("2.05", ["application/link-format"]))
            return re.findall(r"<([^>]*)>", answer.text)

        links = {"/link1", "/link2", "/link3"}
        self.assertLessEqual(links | {"/path"}, set(found("")))
        self.assertEqual(found("?rt=Type1"), ["/link1", "/link3"])
        self.assertEqual(found("?rt=Type2%20Type3"), ["/link2"])
        self.assertEqual(found("?if=If*"), ["/link1", "/link2"])
        self.assertEqual(set(found("?sz=*")), links)
        self.assertEqual(found("?sz=20"), ["/link2"])
        self.assertEqual(found("?ct=40"), ["/path"])
        self.assertEqual(found("?href=/link1"), ["/link1"])
        self.assertEqual(set(found("?href=/link*")), links)
        self.assertEqual(found("?title=Link%20test%20resource%203"), ["/link3"])
        self.assertEqual(found("?rt=None"), [])

    def test_a_ping_during_a_slow_call(self):
        # -K pings where nothing has been heard for a second.
        name = self.python("import time\ndef fn(input, headers):\n    time.sleep(2.5)\n    return 'late'")
        answer = libcoap(self, "GET", self.url(name), "-K", 1, "-v", 7)
        self.assertEqual((answer.code, answer.text), ("2.05", "late"), answer.printed)
        self.assertIn("t:RST c:0.00", answer.printed)


class Aiocoap(Clients):
    def setUp(self):
        super().setUp()
        need_client(self, "aiocoap-client")

    def test_every_method_confirmable_and_not(self):
        name = self.tells()
        with ThreadPoolExecutor(4) as pool:
            runs = {
                (method, more): pool.submit(
                    aiocoap, self, method, self.url(name), *more,
                    data=None if method in ("GET", "DELETE") else "some bytes",
                )
                for method in CODES for more in ((), ("--non",))
            }
        for (method, more), run in runs.items():
            with self.subTest(method=method, more=more):
                self.assertEqual(run.result().exit_code, 0, run.result().printed)
                self.is_told(run.result(), method, b"" if method in ("GET", "DELETE") else b"some bytes")

    def test_bodies_up_to_a_megabyte_both_ways(self):
        tells, sends = self.tells(), self.python(SENDS)
        for size, exponent in ((1, 6), (17, 0), (2049, 2), (100_000, 5), (1_000_000, 6)):
            with self.subTest(size=size, exponent=exponent):
                data = os.urandom(size)
                answer = aiocoap(self, "PUT", self.url(tells), "--payload-initial-szx", exponent, data=data, timeout=60)
                self.is_told(answer, "PUT", data)
                self.is_sent(aiocoap(self, "GET", self.url(f"{sends}/{size}"), timeout=60), size)

    def test_discovery(self):
        self.interop("link1", "link2")
        answer = aiocoap(self, "GET", self.url(".well-known/core?rt=Type2"))
        self.assertEqual(answer.code, "2.05", answer.printed)
        self.assertIn("</link1>", answer.text)
        self.assertIn('title="Link test resource 2"', answer.text)

    def test_errors_are_its_errors(self):
        answer = aiocoap(self, "GET", self.url("nobody"))
        self.assertEqual((answer.code, answer.exit_code), ("4.04", 1), answer.printed)


class CoapCli(Clients):
    def setUp(self):
        super().setUp()
        need_client(self, "coap")

    def test_its_methods_confirmable_and_not(self):
        name = self.tells()
        for method in ("GET", "POST", "PUT", "DELETE"):
            for more in ((), ("-c",)):
                with self.subTest(method=method, more=more):
                    data = b"" if method in ("GET", "DELETE") else b"x" * 1000
                    self.is_told(coap_cli(self, method, self.url(name), *more, data=data), method, data)

    def test_replies_in_blocks(self):
        name = self.python(SENDS)
        for size, more in ((1, ()), (1025, ()), (20_000, ("-b", "4"))):
            with self.subTest(size=size, more=more):
                self.is_sent(coap_cli(self, "GET", self.url(f"{name}/{size}"), *more), size)

    def test_errors_are_shown(self):
        self.assertEqual(coap_cli(self, "GET", self.url("nobody")).code, "4.04")


if __name__ == "__main__":
    unittest.main()
