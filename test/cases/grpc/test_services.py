"""Health and reflection, as the packages of others ask for them."""

import json
import unittest

from blackbox.go_tools import need_go_tool
from blackbox.grpc_case import V1, V2, GrpcCase
from blackbox.grpc_clients import buf_curl, need_package
from blackbox.grpc_wire import field, fields, framed

HEALTH = "grpc.health.v1.Health"
REFLECTIONS = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class Health(GrpcCase):
    def setUp(self):
        super().setUp()
        self.messages = need_package(self, "grpc_health.v1.health_pb2", "grpcio-health-checking")
        services = need_package(self, "grpc_health.v1.health_pb2_grpc", "grpcio-health-checking")
        self.health = services.HealthStub(self.channel())

    def status(self, answer):
        return self.messages.HealthCheckResponse.ServingStatus.Name(answer.status)

    def test_the_server_and_both_services_serve(self):
        for service in ("", V1, V2):
            with self.subTest(service=service):
                answer = self.health.Check(self.messages.HealthCheckRequest(service=service), timeout=20)
                self.assertEqual(self.status(answer), "SERVING")

    def test_a_service_that_is_not_there(self):
        request = self.messages.HealthCheckRequest(service="nobody")
        self.failing("NOT_FOUND", self.health.Check, request, timeout=20)

    def test_watching(self):
        for service in ("", V1, V2):
            with self.subTest(service=service):
                watching = self.health.Watch(self.messages.HealthCheckRequest(service=service), timeout=20)
                self.assertEqual(self.status(next(watching)), "SERVING")
                watching.cancel()

    def test_watching_a_service_that_is_not_there(self):
        watching = self.health.Watch(self.messages.HealthCheckRequest(service="nobody"), timeout=20)
        # No error, says the protocol: there may be one later.
        self.assertEqual(self.status(next(watching)), "SERVICE_UNKNOWN")
        watching.cancel()

    def test_those_who_watch_do_not_keep_the_server_from_stopping(self):
        server = self.start(**self.settings)
        services = need_package(self, "grpc_health.v1.health_pb2_grpc", "grpcio-health-checking")
        grpc = need_package(self, "grpc", "grpcio")
        health = services.HealthStub(self.channel())
        watching = health.Watch(self.messages.HealthCheckRequest(service=""), timeout=30)
        self.assertEqual(self.status(next(watching)), "SERVING")
        self.ends_clean(server)
        try:
            left = [self.status(one) for one in watching]
            self.assertEqual(left, ["NOT_SERVING"])
        except grpc.RpcError as error:
            self.assertIn(error.code().name, ("UNAVAILABLE", "CANCELLED"))


class Reflection(GrpcCase):
    def test_grpcios_own_client_finds_everything(self):
        database = need_package(self, "grpc_reflection.v1alpha.proto_reflection_descriptor_database", "grpcio-reflection")
        from google.protobuf.descriptor_pool import DescriptorPool

        found = database.ProtoReflectionDescriptorDatabase(self.channel())
        self.assertEqual(set(found.get_services()), {V1, V2, HEALTH, *REFLECTIONS})
        pool = DescriptorPool(found)
        methods = lambda service: [method.name for method in pool.FindServiceByName(service).methods]  # noqa: E731
        self.assertEqual(methods(V1), ["Request"])
        self.assertEqual(methods(V2), ["Invoke", "InvokeStream", "InvokeAsync", "GetResult"])
        self.assertIn("Check", methods(HEALTH))
        request = pool.FindMessageTypeByName("openfogstack.tinyfaas.tinyfaas.Data")
        kinds = {one.name: (one.number, one.type) for one in request.fields}
        # Text to those who ask, though the server takes bytes: as the original's.
        self.assertEqual(kinds, {"functionIdentifier": (1, 9), "data": (2, 9)})
        wait = pool.FindMessageTypeByName("tinyfaas.v2.GetResultRequest").fields_by_name["wait"]
        self.assertEqual(wait.message_type.full_name, "google.protobuf.Duration")

    def asks(self, service, request):
        """One question to a reflection service; the answer's fields."""
        connection = self.wire()
        stream = connection.open(f"/{service}/ServerReflectionInfo")
        connection.send(stream, framed(request), end=True)
        answer = self.told(connection.wait(stream), "OK")
        return dict(fields(answer.replies[0]))

    def test_both_versions_list_the_services_and_files(self):
        for service in REFLECTIONS:
            with self.subTest(service=service):
                listed = fields(self.asks(service, field(7, ""))[6])
                names = {dict(fields(one))[1].decode() for _, one in listed}
                self.assertEqual(names, {V1, V2, HEALTH, *REFLECTIONS})
                for request in (field(4, V1), field(4, f"{V1}.Request"), field(4, "tinyfaas.v2.InvokeRequest"), field(3, "tinyfaas_v2.proto")):
                    self.assertIn(4, self.asks(service, request), request)

    def test_what_is_not_there_is_an_answer_too(self):
        for service in REFLECTIONS:
            for request in (field(4, "nobody.Nothing"), field(3, "no/such.proto")):
                with self.subTest(service=service, request=request):
                    connection = self.wire()
                    stream = connection.open(f"/{service}/ServerReflectionInfo")
                    connection.send(stream, framed(request), end=True)
                    answer = connection.wait(stream)
                    if answer.code == "OK":
                        error = dict(fields(dict(fields(answer.replies[0]))[7]))
                        self.assertEqual(error[1], 5)
                    else:
                        self.told(answer, "NOT_FOUND")


class Buf(GrpcCase):
    """buf curl knows nothing but what reflection tells it."""

    def setUp(self):
        need_go_tool(self, "buf")
        super().setUp()

    def url(self, service, method):
        return f"http://{self.address}/{service}/{method}"

    def test_version_1(self):
        name = self.function()
        ran = buf_curl(self, self.url(V1, "Request"), {"functionIdentifier": name, "data": "echo hello ☃"})
        self.assertEqual((ran.exit_code, ran.replies), (0, [{"response": "hello ☃"}]), ran.printed)

    def test_version_2(self):
        # "echo " and the bytes ff 00.
        body = {"function": self.function(), "body": "ZWNobyD/AA==", "headers": [{"name": "X-Lab", "value": "eA=="}]}
        ran = buf_curl(self, self.url(V2, "Invoke"), body)
        self.assertEqual(ran.exit_code, 0, ran.printed)
        self.assertEqual((ran.replies[0]["status"], ran.replies[0]["body"]), (200, "/wA="))

    def test_a_stream(self):
        head = {"head": {"function": self.function("def fn(input, headers, context):\n    return context.body\n")}}
        ran = buf_curl(self, self.url(V2, "InvokeStream"), [head, {"body": "eA=="}, {"body": "eQ=="}])
        self.assertEqual(ran.exit_code, 0, ran.printed)
        self.assertEqual((ran.replies[0]["head"]["status"], ran.replies[1:]), (200, [{"body": "eHk="}]))

    def test_metadata_and_each_version_of_reflection(self):
        name = self.function()
        for version in ("grpc-v1", "grpc-v1alpha"):
            with self.subTest(version=version):
                ran = buf_curl(self, self.url(V1, "Request"), {"functionIdentifier": name, "data": "show"}, "--header", "lab: edge", "--reflect-protocol", version)
                self.assertEqual(ran.exit_code, 0, ran.printed)
                self.assertEqual(json.loads(ran.replies[0]["response"])["headers"]["Lab"], "edge")

    def test_health_and_errors(self):
        ran = buf_curl(self, self.url(HEALTH, "Check"), {"service": V2})
        self.assertEqual((ran.exit_code, ran.replies), (0, [{"status": "SERVING"}]), ran.printed)
        ran = buf_curl(self, self.url(V1, "Request"), {"functionIdentifier": "nobody"})
        self.assertNotEqual(ran.exit_code, 0)
        self.assertEqual(ran.error["code"], "not_found", ran.printed)

    def test_over_grpc_web(self):
        name = self.function()
        ran = buf_curl(self, self.url(V1, "Request"), {"functionIdentifier": name, "data": "echo web"}, "--protocol", "grpcweb")
        self.assertEqual((ran.exit_code, ran.replies), (0, [{"response": "web"}]), ran.printed)


if __name__ == "__main__":
    unittest.main()
