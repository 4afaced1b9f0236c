"""What no gRPC client should send: refused in its code, and others are served on."""

import socket
import time
import unittest

from blackbox import http
from blackbox.bad_input import BadInput
from blackbox.grpc_case import V1, V1_REQUEST, V2, V2_INVOKE, GrpcCase
from blackbox.grpc_wire import CODES, data, field, framed

FOUR_GIB = b"\x00\xff\xff\xff\xff"


class Bad(BadInput, GrpcCase):
    def sends(self, sent, *headers, path=V1_REQUEST, end=True, **more):
        """What bytes in the place of a message are answered with."""
        connection = self.wire()
        stream = connection.open(path, headers, end=end and not sent, **more)
        if sent:
            connection.send(stream, sent, end=end)
        return connection.wait(stream)


class Messages(Bad):
    def test_bytes_that_are_no_protobuf(self):
        for path in (V1_REQUEST, V2_INVOKE, f"/{V2}/InvokeAsync", f"/{V2}/GetResult"):
            for wrong in (b"\xff", b"\x0a\x05ab", b"\x0f\x00", b"\x0a" + b"\xff" * 11, b"\x0b\x0b\x0b"):
                with self.subTest(path=path, message=wrong):
                    self.told(self.sends(framed(wrong), path=path), "INTERNAL", "decode", "protobuf")

    def test_a_field_of_another_type(self):
        self.told(self.sends(framed(field(1, 7))), "INTERNAL", "function_identifier")

    def test_a_name_that_is_not_utf_8(self):
        for path in (V1_REQUEST, V2_INVOKE):
            self.told(self.sends(framed(field(1, b"ech\xff")), path=path), "INTERNAL", "utf-8")

    def test_headers_that_http_would_not_take(self):
        def header(name, value):
            return field(3, field(1, name) + field(2, value))

        for name, value in (("", b"x"), ("a b", b"x"), (":path", b"/x"), ("x\r\ny", b"x"), ("grüße", b"x"), ("x", b"a\r\nb: c"), ("x", b"a\0b")):
            with self.subTest(name=name[:20], value=value):
                message = data(self.bystander) + header(name, value)
                self.told(self.sends(framed(message), path=V2_INVOKE), "INVALID_ARGUMENT", "header")

    def test_a_head_larger_than_allowed(self):
        for more in (field(3, field(1, "x-lab") + field(2, b"x" * 70_000)), field(3, field(1, "x" * 70_000)), field(5, "/" + "x" * 70_000)):
            with self.subTest(more=more[:20]):
                answer = self.sends(framed(data(self.bystander) + more), path=V2_INVOKE)
                self.assertIn(answer.code, ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"), answer)
                self.assertLess(len(answer.message), 4096)

    def test_more_headers_than_allowed(self):
        lines = field(3, field(1, "x-lab") + field(2, b"1")) * 150
        answer = self.told(self.sends(framed(data(self.bystander) + lines), path=V2_INVOKE), "RESOURCE_EXHAUSTED", "headers; at most 100")
        self.assertIn("header", answer.message)

    def test_a_method_or_path_that_http_would_not_take(self):
        for number, wrong in ((4, "A B"), (4, "GET\r\n"), (4, "GRÜSSE"), (5, "/a b"), (5, "/a#b"), (5, "a\r\nb")):
            with self.subTest(wrong=wrong[:20]):
                message = data(self.bystander) + field(number, wrong)
                self.told(self.sends(framed(message), path=V2_INVOKE), "INVALID_ARGUMENT")

    def test_a_path_that_does_not_begin_with_a_slash_stays_below_the_function(self):
        # Never another function's name.
        message = data(self.bystander) + field(5, "x/../y")
        answer = self.sends(framed(message), path=V2_INVOKE)
        self.assertIn(answer.code, ("OK", "INVALID_ARGUMENT"))


class Framing(Bad):
    def test_no_message_at_all(self):
        for path in (V1_REQUEST, V2_INVOKE):
            self.told(self.sends(b"", path=path), "INVALID_ARGUMENT", "message")

    def test_a_message_that_is_cut_off(self):
        whole = framed(data(self.bystander))
        for cut in (1, 4, 5, len(whole) - 1):
            with self.subTest(bytes=cut):
                self.told(self.sends(whole[:cut]), "INVALID_ARGUMENT", "cut off")

    def test_more_messages_than_one(self):
        whole = framed(data(self.bystander))
        answer = self.sends(whole + whole)
        self.told(answer, "UNIMPLEMENTED", "one message")
        self.assertEqual(answer.body, b"")

    def test_a_flag_that_means_nothing(self):
        for flag in (2, 128, 255):
            with self.subTest(flag=flag):
                self.told(self.sends(framed(data(self.bystander), flag)), "INTERNAL")

    def test_compressed_without_an_encoding(self):
        self.told(self.sends(framed(data(self.bystander), 1)), "INTERNAL", "compress")
        self.told(self.sends(framed(data(self.bystander), 1), ("grpc-encoding", "identity")), "INTERNAL", "compress")

    def test_an_encoding_that_is_not_spoken(self):
        for name in ("gzip", "snappy", "x" * 1000):
            with self.subTest(encoding=name[:10]):
                answer = self.sends(framed(data(self.bystander), 1), ("grpc-encoding", name))
                self.told(answer, "UNIMPLEMENTED", "compressed", name[:10])
                # A client learns what to use instead.
                self.assertIn("identity", answer.headers.get("grpc-accept-encoding", "") or answer.trailers.get("grpc-accept-encoding", ""))

    def test_a_length_of_four_gibibytes(self):
        connection = self.wire()
        stream = connection.open(V1_REQUEST)
        # What is announced is refused; nothing of it has to come.
        connection.send(stream, FOUR_GIB + b"x")
        self.told(connection.wait(stream), "RESOURCE_EXHAUSTED", "larger")
        self.told(connection.call(V1_REQUEST, data(self.bystander)), "OK")


class Heads(Bad):
    def test_services_and_methods_that_are_not_there(self):
        for path in (
            f"/{V1}/Nothing", f"/{V1}", f"/{V1}/", "/no.such.Service/Method", "/", "/x", f"/{V2}/Request", f"//{V1}/Request",
            f"{V1_REQUEST}/more", f"/{V1.lower()}/Request", "/" + "x" * 30_000,
        ):
            with self.subTest(path=path[:80]):
                answer = self.told(self.sends(framed(b""), path=path), "UNIMPLEMENTED")
                self.assertLess(len(answer.message), 4096)

    def test_another_content_type(self):
        for kind in ("text/plain", "application/json", "application/grpcfoo", "application/grp", None):
            with self.subTest(kind=kind):
                answer = self.sends(framed(data(self.bystander)), content_type=kind)
                self.assertEqual(answer.http, 415)
        for kind in ("application/grpc", "application/grpc+proto", "application/grpc;charset=utf-8"):
            with self.subTest(kind=kind):
                self.told(self.sends(framed(data(self.bystander)), content_type=kind), "OK")

    def test_a_message_in_another_language(self):
        answer = self.sends(framed(b"{}"), content_type="application/grpc+json")
        self.assertTrue(answer.http == 415 or answer.code in ("UNIMPLEMENTED", "INVALID_ARGUMENT"), answer)

    def test_another_method(self):
        for method in ("GET", "PUT", "DELETE"):
            with self.subTest(method=method):
                answer = self.sends(b"", method=method)
                self.assertIn(answer.http, (405,))
        answer = http.request(f"http://{self.address}/")
        self.assertGreaterEqual(answer.status, 400)
        self.assertIn("grpc", answer.text.lower())

    def test_no_te(self):
        self.told(self.sends(framed(data(self.bystander)), te=None), "OK")

    def test_a_timeout_that_is_none(self):
        for wrong in ("", "1", "m", "-1m", "1.5S", "123456789m", "1x", "1 S", "١S"):
            with self.subTest(timeout=wrong):
                self.told(self.sends(framed(data(self.bystander)), ("grpc-timeout", wrong)), "INVALID_ARGUMENT", "grpc-timeout")

    def test_more_metadata_than_allowed(self):
        answer = self.sends(framed(data(self.bystander)), *[("x-lab", "1")] * 150)
        self.assertTrue(answer.http == 431 or answer.code in ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"), answer)

    def test_metadata_larger_than_allowed(self):
        answer = self.sends(framed(data(self.bystander)), *[(f"x-{n}", "x" * 8000) for n in range(12)])
        self.assertTrue(answer.reset is not None or answer.http == 431 or answer.code in ("RESOURCE_EXHAUSTED", "INVALID_ARGUMENT"), answer)

    def test_metadata_that_is_not_text(self):
        answer = self.sends(framed(data(self.bystander)), ("x-lab", b"\xff\xfe"), ("x-bin", "no base64!"))
        self.told(answer, "OK")

    def test_headers_of_a_connection(self):
        # HTTP/2 forbids them (RFC 9113 section 8.2.2).
        answer = self.sends(framed(data(self.bystander)), ("connection", "close"))
        self.assertTrue(answer.reset is not None or answer.http == 400, answer)


class Connections(Bad):
    def test_http_1_1_that_is_no_grpc_web(self):
        url = f"http://{self.address}{V1_REQUEST}"
        answer = http.request(url, "POST", framed(data(self.bystander)), [("Content-Type", "application/grpc")])
        self.assertTrue(answer.status >= 400 or CODES[int(answer.header("grpc-status"))] != "OK", answer)
        answer = http.request(f"http://{self.address}/{self.bystander}", "POST", "x")
        self.assertGreaterEqual(answer.status, 400)
        self.assertIn("grpc", answer.text.lower())

    def test_garbage(self):
        for sent in (b"\0" * 100, b"garbage\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100):
            with self.subTest(sent=sent[:24]):
                with http.open_socket(f"http://{self.address}") as connection:
                    connection.sendall(sent)
                    connection.shutdown(socket.SHUT_WR)
                    received = http.read_all(connection)
                self.assertLess(len(received), 4096)

    def test_garbage_on_many_connections(self):
        for number in range(200):
            with http.open_socket(f"http://{self.address}") as connection:
                connection.sendall(bytes([number]) * 500)
        self.assertEqual(self.ask(self.bystander), "here")

    def test_streams_reset_as_fast_as_they_open(self):
        connection = self.wire()
        try:
            for _ in range(2000):
                connection.reset(connection.open(V1_REQUEST))
            connection.wait_closed(timeout=5)
        except (OSError, TimeoutError, ConnectionError):
            pass  # the connection may be ended for it
        self.assertEqual(self.ask(self.bystander), "here")

    def test_a_message_that_never_ends(self):
        began = time.monotonic()
        connection = self.wire()
        stream = connection.open(V1_REQUEST, [("grpc-timeout", "500m")])
        connection.send(stream, framed(data(self.bystander))[:-1])
        self.told(connection.wait(stream), "DEADLINE_EXCEEDED")
        self.assertLess(time.monotonic() - began, 5)


class Stalls(Bad):
    settings = {"GRPC_PORT": "0", "TF_BODY_TIMEOUT": "500ms"}

    def test_a_sender_that_stalls(self):
        for path in (V1_REQUEST, V2_INVOKE):
            with self.subTest(path=path):
                connection = self.wire()
                stream = connection.open(path)
                connection.send(stream, framed(data(self.bystander))[:-1])
                answer = connection.wait(stream)
                self.told(answer, answer.code, "too long")
                self.assertIn(answer.code, ("INVALID_ARGUMENT", "DEADLINE_EXCEEDED"))


if __name__ == "__main__":
    unittest.main()
