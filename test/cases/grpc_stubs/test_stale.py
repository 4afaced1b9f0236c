"""The committed stubs of pkg/grpc/tinyfaas are those of the protos beside them.
(The server's own code in Rust is held against them by cargo test -p tinyfaas-grpc.)"""

import subprocess
import unittest

from blackbox.case import Case
from blackbox.go_tools import lacking, need_go_tool
from blackbox.server import REPOSITORY

KEPT = REPOSITORY / "pkg" / "grpc" / "tinyfaas"


def stubs(folder):
    """The generated files in a folder, by their paths."""
    paths = [path for pattern in ("*.py", "*.pyi", "*.go") for path in folder.rglob(pattern)]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


class Stale(Case):
    def test_the_stubs_are_those_of_the_protos(self):
        need_go_tool(self, "protoc-gen-go")
        need_go_tool(self, "protoc-gen-go-grpc")
        if not (REPOSITORY / ".tools" / "grpc" / "installed").exists():
            lacking(self, "grpcio-tools 1.64.0 is not installed (sh scripts/make/grpc.sh --tools)")
        fresh = self.folder()
        done = subprocess.run(
            ["sh", "scripts/make/grpc.sh", "--stubs", str(fresh)], cwd=REPOSITORY,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=300, check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr.decode(errors="replace"))
        kept, fresh = stubs(KEPT), stubs(fresh)
        self.assertEqual(sorted(kept), sorted(fresh), "make grpc generates the stubs anew")
        for name, text in fresh.items():
            self.assertTrue(kept[name] == text, f"{name} is stale; make grpc generates it anew")


if __name__ == "__main__":
    unittest.main()
