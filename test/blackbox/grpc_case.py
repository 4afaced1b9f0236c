"""Cases of the gRPC endpoint: a server that has one, functions on it, clients of it.

Owns how a case finds the endpoint and what a call's failure is. Must not know what is
asked of it.
"""

import threading

from . import grpc_wire
from .case import Case, OwnServerCase
from .grpc_clients import OPTIONS, WAIT_S, need_grpcio, need_package, stubs
from .metrics import Page

V1 = "openfogstack.tinyfaas.tinyfaas.TinyFaaS"
V2 = "tinyfaas.v2.TinyFaaS"
V1_REQUEST = f"/{V1}/Request"
V2_INVOKE = f"/{V2}/Invoke"
# What the functions of several cases share, to be had by `behaving`: it does what its
# input tells.
BEHAVES = """
import json, os, time
def fn(input, headers, context):
    what, _, more = (input or '').partition(' ')
    if what == 'echo': return context.body[5:]
    if what == 'show':
        seen = {'headers': headers, 'method': context.method, 'path': context.path, 'query': context.query}
        return json.dumps({**seen, 'call_id': context.call_id, 'left': context.remaining()})
    if what == 'raise': raise ValueError(more or 'no such luck')
    if what == 'die': os._exit(7)
    if what == 'exit': raise SystemExit(more)
    if what == 'sleep':
        print('begun', more, flush=True)
        time.sleep(float(more))
        return 'slept'
    if what == 'status':
        status, _, body = more.partition(' ')
        return body, int(status), {'X-Lab': ['one', 'two'], 'Content-Type': 'text/x-lab'}
    if what == 'bytes': return bytes.fromhex(more)
    if what == 'many': return 'x' * int(more)
    if what == 'length': return str(len(input))
    if what == 'pid': return str(os.getpid())
    return context.body
"""


class Clients:
    """How a case calls over gRPC. Goes before a kind of case in a class's bases."""

    @property
    def address(self):
        return self.server.grpc

    # By grpcio and this repository's stubs

    def channel(self, address=None, **options):
        """A connection that goes with the case. Options as grpcio names them, with
        underscores for dots."""
        grpc = need_grpcio(self)
        given = {"grpc." + name: value for name, value in options.items()}
        channel = grpc.insecure_channel(address or self.address, list({**OPTIONS, **given}.items()))
        self.addCleanup(channel.close)
        return channel

    _kept = None

    def kept(self):
        """The connection that a case's calls share."""
        if self._kept is None:
            self._kept = self.channel()
        return self._kept

    @property
    def v1(self):
        """A client of version 1."""
        return stubs(self)[1].TinyFaaSStub(self.kept())

    @property
    def v2(self):
        """A client of version 2."""
        return stubs(self)[3].TinyFaaSStub(self.kept())

    def ask(self, name, data="", timeout=WAIT_S, metadata=None, client=None):
        """A call over version 1; its reply."""
        message = stubs(self)[0].Data(functionIdentifier=name, data=data)
        return (client or self.v1).Request(message, timeout=timeout, metadata=metadata).response

    def invoke(self, name, body=b"", timeout=WAIT_S, metadata=None, headers=(), client=None, **more):
        """A call over version 2; its whole answer."""
        request = self.request(name, body, headers, **more)
        return (client or self.v2).Invoke(request, timeout=timeout, metadata=metadata)

    def request(self, name, body=b"", headers=(), **more):
        """A request of version 2."""
        messages = stubs(self)[2]
        body = body.encode() if isinstance(body, str) else body
        headers = [messages.Header(name=key, value=_bytes(value)) for key, value in headers]
        return messages.InvokeRequest(function=name, body=body, headers=headers, **more)

    def failing(self, code, call, *arguments, words=(), **more):
        """Checks that a call fails with this code and says these; the error."""
        grpc = need_grpcio(self)
        with self.assertRaises(grpc.RpcError) as caught:
            call(*arguments, **more)
        return self.is_error(caught.exception, code, *words)

    def is_error(self, error, code, *words):
        """Checks an error's code, and that it says these, and anything at all."""
        self.assertEqual(error.code().name, code, error.details())
        self.assertTrue(error.details().strip(), "the error says nothing")
        for word in words:
            self.assertIn(word.lower(), error.details().lower())
        return error

    # By hand

    def wire(self):
        """A bare connection that goes with the case."""
        need_package(self, "h2", "h2")
        host, port = self.address.rsplit(":", 1)
        connection = grpc_wire.Connection(int(port), host)
        self.addCleanup(connection.close)
        return connection

    def told(self, answer, code, *words):
        """Checks how a bare call was answered: over HTTP, and with this code and these
        words; the answer."""
        self.assertEqual((answer.http, answer.code), (200, code), answer)
        self.assertTrue(answer.headers["content-type"].startswith("application/grpc"), answer)
        for word in words:
            self.assertIn(word.lower(), answer.message.lower())
        return answer

    # Of several at a time

    def beside(self, call, *arguments, **more):
        """A call in a thread of its own, which ends with the case; what is to be had of
        it: `result()` once it has ended."""
        return Beside(self, call, arguments, more)

    # What is counted

    def page(self):
        answer = self.manage("/metrics")
        self.assertEqual(answer.status, 200, answer.text)
        return Page(answer.text)

    def running(self, name):
        """How many places of a function are taken."""
        return self.page().value("tinyfaas_calls_running", function=name)

    def wait_running(self, name, count):
        return self.eventually(lambda: self.running(name), lambda n: n == count, f"{count} running")

    def counts(self, name, **expected):
        """Waits until exactly these outcomes were counted: a call is counted when it
        has ended, which its caller may see a moment earlier."""
        def outcomes():
            values = self.page().values.items()
            mine = {dict(labels).get("outcome"): n for (key, labels), n in values
                    if key == "tinyfaas_calls_total" and dict(labels)["function"] == name}
            return {outcome: n for outcome, n in mine.items() if n}

        return self.eventually(outcomes, lambda seen: seen == expected, f"counted as {expected}")


class Beside:
    def __init__(self, case, call, arguments, more):
        self._outcome = self._error = None
        self._thread = threading.Thread(target=self._run, args=(call, arguments, more), daemon=True)
        self._thread.start()
        case.addCleanup(self._thread.join, WAIT_S)

    def _run(self, call, arguments, more):
        try:
            self._outcome = call(*arguments, **more)
        except BaseException as error:  # pylint: disable=broad-except
            self._error = error

    def result(self, timeout=WAIT_S):
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError("the call has not ended")
        if self._error:
            raise self._error
        return self._outcome


class SharedGrpcCase(Clients, Case):
    """Cases on the server that all share, or on a running one."""

    def setUp(self):
        super().setUp()
        if self.server.grpc is None:
            self.skipTest("this run is not told where the server's gRPC endpoint is (--grpc)")


class GrpcCase(Clients, OwnServerCase):
    """Cases on a server of their class's own, with gRPC on a port of the kernel's.
    Functions of `function` are deployed once for all cases of the class."""

    settings = {"GRPC_PORT": "0"}
    _functions = None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls._functions = {}

    def function(self, code=BEHAVES, environment="python3", **more):
        """The name of a function with this code, which may have been called before."""
        key = repr((code, environment, sorted(more.items())))
        made = type(self)._functions
        if key not in made:
            entries = {"fn.py": code} if environment == "python3" else code
            name = f"fn{len(made)}"
            answer = self.upload(name, environment, entries, **more)
            self.assertEqual(answer.status, 200, answer.text)
            made[key] = name
        return made[key]


def _bytes(value):
    return value.encode() if isinstance(value, str) else value
