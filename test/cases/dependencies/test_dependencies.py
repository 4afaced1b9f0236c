"""Dependencies are installed at deploy time."""

import base64
import hashlib
import os
import subprocess
import unittest

from blackbox import folders
from blackbox.case import Case, OwnServerCase, need_environment, need_pip, need_tool, new_name
from blackbox.misbehaving import running


def wheel(name, version, modules):
    """A wheel with these modules, as pip takes it."""
    information = f"{name}-{version}.dist-info"
    files = {
        **modules,
        f"{information}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: suite\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(text.encode())}")
    files[f"{information}/RECORD"] = "\n".join([*rows, f"{information}/RECORD,,", ""])
    return folders.zip_of(files)


def reachable(*command):
    """Whether an installer reaches its index from here."""
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False, stdin=subprocess.DEVNULL).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Python(Case):
    def test_a_wheel_in_the_folder_works_offline(self):
        need_pip(self)
        name = self.deploy("python3", {
            "fn.py": "import lab_of_suite\ndef fn(input, headers):\n    return lab_of_suite.word\n",
            "requirements.txt": "--no-index\n--find-links wheels\n# a comment\nlab-of-suite==1.0  # vendored\n",
            "wheels/lab_of_suite-1.0-py3-none-any.whl": wheel("lab_of_suite", "1.0", {"lab_of_suite.py": "word = 'vendored'\n"}),
        }, threads=2)
        self.answers(name, "vendored")

    def test_a_wheel_named_by_its_path(self):
        need_pip(self)
        name = self.deploy("python3", {
            "fn.py": "import lab_of_path\ndef fn(input, headers):\n    return lab_of_path.word\n",
            "requirements.txt": "./lab_of_path-2.0-py3-none-any.whl\n",
            "lab_of_path-2.0-py3-none-any.whl": wheel("lab_of_path", "2.0", {"lab_of_path.py": "word = 'by path'\n"}),
        })
        self.answers(name, "by path")

    def test_a_failing_install_gives_its_output(self):
        need_pip(self)
        name = new_name("failing")
        answer = self.upload(name, "python3", {
            "fn.py": "def fn(input, headers):\n    return input\n",
            "requirements.txt": "--no-index\nno-such-package-of-this-suite==9.9\n",
        })
        self.refused(answer, 422, "no-such-package-of-this-suite")
        self.assertNotIn(name, self.names())

    def test_a_failing_install_changes_nothing_that_runs(self):
        need_pip(self)
        name = self.deploy("python3", "echo")
        answer = self.upload(name, "python3", {
            "fn.py": "def fn(input, headers):\n    return 'new'\n",
            "requirements.txt": "--no-index\nno-such-package-of-this-suite\n",
        })
        self.refused(answer, 422)
        self.answers(name, "old", "old")

    def test_none_declared_needs_no_installer(self):
        for text in ("", "\n", "# nothing\n   \n  # at all\n"):
            with self.subTest(text=text):
                name = self.deploy("python3", {"fn.py": "def fn(input, headers):\n    return input\n", "requirements.txt": text})
                self.answers(name, "x", "x")

    def test_from_the_package_index(self):
        need_pip(self)
        if not reachable("python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(self.folder()), "six==1.16.0"):
            self.skipTest("the Python package index cannot be reached from here")
        name = self.deploy("python3", {
            "fn.py": "import six\ndef fn(input, headers):\n    return six.__version__\n",
            "requirements.txt": "six==1.16.0\n",
        })
        self.answers(name, "1.16.0")


class Node(Case):
    def setUp(self):
        super().setUp()
        need_environment(self, "nodejs")

    def test_vendored_modules_work_offline(self):
        entries = {
            **folders.node_module(
                "const lab = require('lab-of-suite'); module.exports = (q, r) => r.send(lab)",
                dependencies={"lab-of-suite": "1.0.0"},
            ),
            "node_modules/lab-of-suite/package.json": '{"name": "lab-of-suite", "version": "1.0.0", "main": "m.js"}',
            "node_modules/lab-of-suite/m.js": "module.exports = 'vendored'",
        }
        self.answers(self.deploy("nodejs", entries), "vendored")

    def test_none_declared_needs_no_installer(self):
        entries = folders.node_module("module.exports = (q, r) => r.send('plain')", dependencies={}, devDependencies={"x": "1"})
        self.answers(self.deploy("nodejs", entries), "plain")

    def test_a_failing_install_gives_its_output(self):
        need_tool(self, "npm")
        name = new_name("failing")
        entries = folders.node_module("module.exports = (q, r) => r.send('')", dependencies={"lab": "file:./no-such-folder-here"})
        # A file: dependency that is missing fails without a network.
        entries["package.json"] = entries["package.json"].replace("file:./no-such-folder-here", "file:./no-such-archive-here.tgz")
        answer = self.upload(name, "nodejs", entries)
        self.refused(answer, 422, "no-such-archive-here")
        self.assertNotIn(name, self.names())

    def test_from_the_package_index(self):
        need_tool(self, "npm")
        if not reachable("npm", "view", "is-odd@3.0.1", "version"):
            self.skipTest("the npm registry cannot be reached from here")
        entries = folders.node_module("const odd = require('is-odd'); module.exports = (q, r) => r.send(String(odd(3)))", dependencies={"is-odd": "3.0.1"})
        self.answers(self.deploy("nodejs", entries), "true")


class Bounded(OwnServerCase):
    settings = {"TF_BUILD_TIMEOUT": "2s"}

    def test_an_install_that_takes_too_long_is_ended(self):
        """A source package whose build never ends."""
        need_pip(self)
        mark = f"endless-{os.getpid()}-bounded"
        answer = self.upload("endless", "python3", folders.endless_build(mark))
        self.refused(answer, 422, "installing the dependencies failed", "2s")
        self.assertEqual(self.names(), [])
        self.eventually(lambda: running(mark), lambda seen: not seen, "the build gone")


if __name__ == "__main__":
    unittest.main()
