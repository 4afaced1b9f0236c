"""Observing functions and results with clients that no one here wrote."""

import asyncio
import importlib.util
import re
import subprocess
import threading

from blackbox.coap import OBSERVE
from blackbox.coap_case import CoapCase
from blackbox.coap_clients import need_libcoap

# What was put there last; each GET is told in the log.
KEEPS = """
import threading
kept = {"text": "first"}
def fn(input, headers, context):
    if context.method == "GET":
        print("asked for", context.path)
        return kept["text"]
    kept["text"] = input
    return None
"""
OBSERVABLE = "[coap]\nobservable = true\n"
WAIT_S = 30


class Printed:
    """A program that prints, read line by line until it is ended."""

    def __init__(self, case, arguments):
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._text, self._more = "", threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        case.addCleanup(self.close)

    def _read(self):
        while data := self.process.stdout.read1():
            with self._more:
                self._text += data.decode(errors="replace")
                self._more.notify_all()

    def wait_for(self, *words):
        """Waits until these were printed, in this order; returns all that was."""
        pattern = re.compile(".*?".join(map(re.escape, words)), re.DOTALL)
        with self._more:
            found = self._more.wait_for(lambda: pattern.search(self._text), WAIT_S)
            assert found, f"it never printed {words}: {self._text}"
            return self._text

    def close(self):
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()


class Observing(CoapCase):
    def observable(self):
        return self.deploy("python3", {"fn.py": KEEPS, "tinyfaas.toml": OBSERVABLE})

    def asked(self, name):
        """How often the function was asked to show what it keeps."""
        return self.logs(name).count("asked for")

    def observe(self, path, *more):
        """libcoap's client, observing."""
        program = need_libcoap(self)
        return Printed(self, [program, "-v", "6", "-s", "25", *more, self.url(path)])

    def test_coap_client_is_told_of_changes_over_any_protocol(self):
        name = self.observable()
        one, other = self.observe(name), self.observe(name, "-N")
        for client in (one, other):
            client.wait_for("2.05", "first")
        with self.client() as client:
            self.is_code(client.ask("PUT", name, "second, over CoAP"), "2.04")
        for client in (one, other):
            client.wait_for("first", "second, over CoAP")
        self.assertEqual(self.call(name, "third, over HTTP").status, 200)
        for client in (one, other):
            client.wait_for("second, over CoAP", "third, over HTTP")
        # Once for both clients each time.
        self.assertEqual(self.asked(name), 3)

    def test_coap_client_is_told_that_a_function_was_deleted(self):
        name = self.observable()
        client = self.observe(name)
        client.wait_for("2.05", "first")
        self.assertEqual(self.manage("/delete", {"name": name}).status, 200)
        client.wait_for("first", "4.04")

    def test_coap_client_has_the_newest_state_though_messages_get_lost(self):
        name = self.observable()
        client = self.observe(name, "-l", "10%")
        client.wait_for("2.05", "first")
        with self.client() as putting:
            for number in range(5):
                self.is_code(putting.ask("PUT", name, f"state {number}"), "2.04")
        client.wait_for("first", "state 4")

    def test_the_end_of_an_asynchronous_call_is_pushed(self):
        name = self.python("import time\ndef fn(input):\n    time.sleep(2)\n    return 'done: ' + input")
        with self.client() as client:
            accepted = client.ask("POST", f"{name}?tinyfaas-async", "work")
        path = "/".join(part.decode() for part in accepted.all(8))
        self.observe(path).wait_for("2.05", "done: work")

    def test_aiocoap_is_told_of_changes(self):
        if importlib.util.find_spec("aiocoap") is None:
            self.skipTest("aiocoap is not installed (pip: test/requirements.txt)")
        name = self.observable()
        self.assertEqual(asyncio.run(self.watch(name)), ["first", "second", "third"])

    async def watch(self, name):
        """What aiocoap is told while the function is told this and that."""
        import aiocoap

        context = await aiocoap.Context.create_client_context()
        try:
            request = context.request(aiocoap.Message(code=aiocoap.GET, uri=self.url(name), observe=0))
            first = await asyncio.wait_for(request.response, WAIT_S)
            self.assertIsNotNone(first.opt.observe)
            told, changes = [first.payload.decode()], aiter(request.observation)
            for text in ("second", "third"):
                put = aiocoap.Message(code=aiocoap.PUT, uri=self.url(name), payload=text.encode())
                await context.request(put).response
                told.append((await asyncio.wait_for(anext(changes), WAIT_S)).payload.decode())
            request.observation.cancel()
            return told
        finally:
            await context.shutdown()

    def test_what_is_not_declared_is_not_observed(self):
        name = self.python(KEEPS)
        with self.client() as client:
            answer = client.ask("GET", name, options=[(OBSERVE, 0)])
        self.is_code(answer, "2.05", "first")
        self.assertIsNone(answer.first(OBSERVE))
