"""The limits of CoAP are settings, and hold."""

import unittest

from blackbox.coap_case import CoapCase
from blackbox.coap_stream import ABORT, CSM, Stream
from blackbox.metrics import Page

ECHO = "def fn(input, headers, context):\n    return context.body\n"
SENDS = "def fn(input):\n    return 'x' * int(input)\n"
WAITS = "import time\ndef fn(input):\n    print('begun', flush=True)\n    time.sleep(60)\n"


class Limits(CoapCase):
    def metric(self, name):
        return Page(self.manage("/metrics").text).value(f"tinyfaas_coap_{name}")

    def test_of_bodies_and_replies(self):
        self.start(TF_COAP_BODY_MAX="2KiB", TF_COAP_REPLY_MAX="2KiB")
        echo, sends = self.python(ECHO), self.python(SENDS)
        client = self.client()
        body = bytes(range(256)) * 8
        self.assertEqual(self.is_code(client.fetch("POST", echo, body), "2.05").payload, body)
        self.is_code(client.fetch("POST", echo, body + b"x"), "4.13")
        self.assertEqual(len(client.fetch("POST", sends, "2048").payload), 2048)
        self.is_code(client.fetch("POST", sends, "2049"), "5.00")

    def test_of_requests_that_run(self):
        self.start(TF_COAP_CALLS="1")
        name = self.python(WAITS)
        client = self.client()
        client.send(client.request("POST", name))
        self.wait_for_log(name, "begun")
        self.assertEqual((self.metric("running_requests"), self.metric("running_requests_limit")), (1, 1))
        self.is_code(self.client().ask("POST", name), "5.03")

    def test_of_requests_that_run_for_one_source(self):
        self.start(TF_COAP_CALLS_PER_SOURCE="1")
        name, echo = self.python(WAITS), self.python(ECHO)
        client = self.client()
        client.send(client.request("POST", name))
        self.wait_for_log(name, "begun")
        self.is_code(self.client().ask("POST", echo), "4.29")
        self.is_code(self.client(source=("127.0.0.2", 0)).ask("POST", echo, b"x"), "2.05")

    def test_of_connections_which_are_counted(self):
        self.start(COAP_TCP_PORT="0", TF_COAP_TCP_CONNECTIONS="1")
        address = ("127.0.0.1", self.server.ports["coap_tcp"])
        one = Stream(address)
        self.addCleanup(one.close)
        self.assertEqual(one.receive().code, CSM)
        self.assertEqual((self.metric("connections"), self.metric("connections_limit")), (1, 1))
        two = Stream(address)
        self.addCleanup(two.close)
        self.assertEqual([two.receive().code for _ in range(2)], [CSM, ABORT])
        self.assertEqual(self.metric("connections_refused_total"), 1)
        one.close()
        self.eventually(lambda: self.metric("connections"), lambda seen: seen == 0, "none is left")


if __name__ == "__main__":
    unittest.main()
