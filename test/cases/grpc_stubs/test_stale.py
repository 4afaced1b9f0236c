"""The committed stubs of pkg/grpc/tinyfaas are those of the protos beside them, and
version 1 is the original's. (The server's own code in Rust is held against the protos
by cargo test -p tinyfaas-grpc.)"""

import json
import subprocess
import sys
import unittest

from blackbox.case import Case
from blackbox.go_tools import need_go_tool
from blackbox.server import REPOSITORY
from blackbox.stubs import FOLDER, need_libraries, need_oldest


def stubs(folder):
    """The generated files in a folder, by their paths."""
    paths = [path for pattern in ("*.py", "*.pyi", "*.go") for path in folder.rglob(pattern)]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


# Prints how version 1 would be written in a proto.
SHOW = """
import json, tinyfaas_v2_pb2, tinyfaas_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.descriptor_pb2 import FileDescriptorProto
print(json.dumps(MessageToDict(FileDescriptorProto.FromString(tinyfaas_pb2.DESCRIPTOR.serialized_pb))))
"""


def text_field(name, number):
    return {"name": name, "number": number, "label": "LABEL_OPTIONAL", "type": "TYPE_STRING", "jsonName": name}


PACKAGE = "openfogstack.tinyfaas.tinyfaas"
ORIGINAL = {
    "name": "tinyfaas.proto",
    "package": PACKAGE,
    "syntax": "proto3",
    "options": {"goPackage": ".;tinyfaas"},
    "messageType": [
        {"name": "Data", "field": [text_field("functionIdentifier", 1), text_field("data", 2)]},
        {"name": "Response", "field": [text_field("response", 1)]},
    ],
    "service": [{
        "name": "TinyFaaS",
        "method": [{"name": "Request", "inputType": f".{PACKAGE}.Data", "outputType": f".{PACKAGE}.Response"}],
    }],
}


class Original(Case):
    def test_version_1_is_the_originals(self):
        need_libraries(self, sys.executable)
        done = subprocess.run(
            [sys.executable, "-c", SHOW], cwd=FOLDER, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        shown = json.loads(done.stdout)
        for field in (field for message in shown["messageType"] for field in message["field"]):
            field.setdefault("jsonName", field["name"])
        self.assertEqual(shown, ORIGINAL)


class Stale(Case):
    def test_the_stubs_are_those_of_the_protos(self):
        need_go_tool(self, "protoc-gen-go")
        need_go_tool(self, "protoc-gen-go-grpc")
        need_oldest(self)
        fresh = self.folder()
        done = subprocess.run(
            ["sh", "scripts/make/grpc.sh", "--stubs", str(fresh)], cwd=REPOSITORY,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        kept, fresh = stubs(FOLDER), stubs(fresh)
        self.assertEqual(sorted(kept), sorted(fresh), "make grpc generates the stubs anew")
        for name, text in fresh.items():
            self.assertTrue(kept[name] == text, f"{name} is stale; make grpc generates it anew")


if __name__ == "__main__":
    unittest.main()
