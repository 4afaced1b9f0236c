"""make install and make uninstall: what they put where, that it works there, and
that nothing of it stays."""

import os
import pwd
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from blackbox.case import OwnServerCase, need_tool
from blackbox.server import NOBODY, REPOSITORY, alive, binary

PREFIX = "usr/local"


def run(*command, timeout=60, **variables):
    return subprocess.run(
        [str(part) for part in command], cwd=REPOSITORY, env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout, check=False,
    )


class Installation(OwnServerCase):
    """Installs below a folder that goes with the case."""

    def setUp(self):
        super().setUp()
        # Not in the suite's own folder: others than root have to reach it.
        self.root = Path(tempfile.mkdtemp(prefix="tinyfaas-install-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.root, ignore_errors=True)
        os.chmod(self.root, 0o755)

    def make(self, target, expected=0, **variables):
        done = run("make", target, **{"DESTDIR": str(self.root), "BINARY": str(Path(binary()).resolve()), **variables})
        self.assertEqual(done.returncode == 0, expected == 0, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def everything(self):
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}

    def installed(self, path):
        return self.root / PREFIX / path


class Installing(Installation):
    def test_everything_is_there_and_all_of_it_goes(self):
        self.make("install")
        modes = {path: os.stat(self.root / path).st_mode & 0o777 for path in self.everything()}
        for path in (
            "share/man/man1/tinyfaas.1", "share/man/man1/tinyfaas-serve.1", "share/bash-completion/completions/tinyfaas",
            "share/zsh/site-functions/_tinyfaas", "share/fish/vendor_completions.d/tinyfaas.fish",
            "lib/systemd/system/tinyfaas.service", "lib/sysusers.d/tinyfaas.conf", "share/doc/tinyfaas/config.toml",
        ):
            self.assertEqual(modes.pop(f"{PREFIX}/{path}"), 0o644, path)
        self.assertEqual(modes[f"{PREFIX}/bin/tinyfaas"], 0o755)
        self.assertEqual({path for path, mode in modes.items() if mode & 0o022}, set(), "others may write")
        self.make("uninstall")
        self.assertEqual(self.everything(), set())

    def test_another_prefix(self):
        self.make("install", PREFIX="/opt/tiny", SYSTEMD_UNIT_DIR="/etc/systemd/system")
        unit = (self.root / "etc/systemd/system/tinyfaas.service").read_text()
        self.assertIn("ExecStart=/opt/tiny/bin/tinyfaas serve\n", unit)
        self.assertIn("file:/opt/tiny/share/doc/tinyfaas/README.md", unit)
        self.assertIn("nothing is installed", self.make("uninstall", expected=2))
        self.make("uninstall", PREFIX="/opt/tiny")
        self.assertEqual(self.everything(), set())
        self.assertIn("absolute", self.make("install", expected=2, PREFIX="here"))
        self.assertEqual(self.everything(), set())

    def test_what_others_have_put_there_stays(self):
        theirs = self.installed("share/man/man1/theirs.1")
        theirs.parent.mkdir(parents=True)
        theirs.write_text("theirs")
        before = self.everything()
        self.make("install")
        self.make("uninstall")
        self.assertEqual(self.everything(), before)

    def test_a_second_installation_replaces_the_first(self):
        self.make("install")
        first = self.everything()
        # A page of a command that is no more, as an older version may have had.
        old = self.installed("share/man/man1/tinyfaas-old.1")
        old.write_text("old")
        manifest = self.installed("share/tinyfaas/manifest")
        manifest.write_text(f"/{PREFIX}/share/man/man1/tinyfaas-old.1\n" + manifest.read_text())
        self.installed("bin/tinyfaas").write_text("old")
        self.make("install")
        self.assertEqual(self.everything(), first)
        self.assertGreater(self.installed("bin/tinyfaas").stat().st_size, 1000)
        self.make("uninstall")
        self.assertEqual(self.everything(), set())

    def test_the_installed_binary_serves(self):
        self.make("install")
        server = self.prepare()
        server.program = str(self.installed("bin/tinyfaas"))
        self._current = server.start()
        self.deploy("python3", "echo", name="echo")
        self.answers("echo", "x", "x")
        # The binary environment executes the program itself: it may be replaced
        # and removed while it runs.
        self.make("install")
        self.make("uninstall")
        self.deploy("binary", "echo-binary", name="later")
        self.answers("later", "y", "y")
        self.ends_clean(server)

    def test_the_manual_can_be_read(self):
        need_tool(self, "groff")
        self.make("install")
        for page in sorted(self.installed("share/man/man1").iterdir()):
            done = run("groff", "-man", "-Tutf8", "-ww", page)
            self.assertEqual(done.returncode, 0, done.stderr)
            # The system's own file of additions may be missing; all else is ours.
            said = [line for line in done.stderr.splitlines() if "man.local" not in line]
            self.assertEqual(said, [], page.name)
            text = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
            self.assertIn("NAME", text)
            self.assertIn(page.stem.removeprefix("tinyfaas-"), text)

    def test_bash_completes(self):
        need_tool(self, "bash")
        self.make("install")
        file = self.installed("share/bash-completion/completions/tinyfaas")
        self.assertEqual(run("bash", "-n", file).stderr, "")
        script = '. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _tinyfaas tinyfaas "${!#}" x; echo "${COMPREPLY[@]}"'
        for words, expected in ((("tinyfaas", "serv"), "serve"), (("tinyfaas", "serve", "--http-p"), "--http-port"), (("tinyfaas", "completions", "fi"), "fish")):
            done = run("bash", "--norc", "-c", script, "-", file, *words)
            self.assertEqual((done.stdout.split(), done.stderr), ([expected], ""), words)

    def test_zsh_takes_its_completions(self):
        need_tool(self, "zsh")
        self.make("install")
        done = run("zsh", "--no-rcs", "-n", self.installed("share/zsh/site-functions/_tinyfaas"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_fish_takes_its_completions(self):
        need_tool(self, "fish")
        self.make("install")
        done = run("fish", "--no-execute", self.installed("share/fish/vendor_completions.d/tinyfaas.fish"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_example_file_is_valid(self):
        self.make("install")
        text = self.installed("share/doc/tinyfaas/config.toml").read_text()
        self.assertIn("\n#http-port = 8000\n", text)
        file = self.root / "config.toml"
        file.write_text(text.replace("\n#drain-stop = ", "\ndrain-stop = "))
        self.start(arguments=["--config", str(file)])


class Service(Installation):
    """The unit for systemd, as far as it can be tried without systemd running."""

    def unit(self):
        self.make("install")
        return self.installed("lib/systemd/system/tinyfaas.service").read_text()

    def need_systemd_analyze(self):
        need_tool(self, "systemd-analyze")
        version = int(run("systemd-analyze", "--version").stdout.split()[1])
        if version < 250:
            self.skipTest(f"systemd {version} cannot judge a unit that is not loaded; 250 can")

    def setting(self, name):
        return re.search(rf"^{name}=(.*)$", self.unit(), re.MULTILINE).group(1)

    def unit_for_here(self):
        """A copy whose program is where DESTDIR has put it."""
        copy = self.root / "tinyfaas.service"
        copy.write_text(self.unit().replace(f"ExecStart=/{PREFIX}", f"ExecStart={self.root}/{PREFIX}"))
        return copy

    def test_systemd_understands_it(self):
        self.need_systemd_analyze()
        need_tool(self, "man")
        done = run("systemd-analyze", "verify", "--recursive-errors=no", self.unit_for_here(), MANPATH=str(self.installed("share/man")))
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_systemd_finds_it_hardened(self):
        self.need_systemd_analyze()
        # In tenths; what confines functions costs most of what is left.
        done = run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=47", self.unit_for_here())
        self.assertEqual(done.returncode, 0, done.stdout[-200:] + done.stderr)

    def test_it_allows_the_drain(self):
        self.assertGreater(int(self.setting("TimeoutStopSec").removesuffix("s")), 10)

    def test_its_user_can_be_made(self):
        need_tool(self, "systemd-sysusers")
        self.make("install")
        (self.root / "etc").mkdir()
        done = run("systemd-sysusers", f"--root={self.root}", self.installed("lib/sysusers.d/tinyfaas.conf"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex((self.root / "etc/passwd").read_text(), r"(?m)^tinyfaas:x:\d+:\d+:.*:/nonexistent:/usr/sbin/nologin$")

    def test_its_capabilities_are_enough(self):
        if os.geteuid() != 0:
            self.skipTest("only root can give up capabilities")
        need_tool(self, "setpriv")
        capabilities = self.setting("CapabilityBoundingSet").lower().replace("cap_", "+").split()
        bounds = ["--nnp", "--bounding-set=-all," + ",".join(capabilities)]
        name = pwd.getpwuid(NOBODY).pw_name
        data = self.root / "data"

        def start():
            server = self.prepare(data, TF_USER=name)
            server.program, server.arguments = "setpriv", [*bounds, str(self.installed("bin/tinyfaas")), "serve"]
            self._current = server.start()
            return server

        server = start()
        daemon = "#!/bin/sh\nsetsid sleep 3006 </dev/null >/dev/null 2>&1 &\necho $!\n"
        pid = int(self.call(self.script(daemon)).text)
        self.deploy("python3", "echo", name="echo")
        self.answers("echo", "x", "x")
        # It may end its functions, and those that a killed run has left.
        orphan = subprocess.Popen(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "sleep", "3007"],
            env={"PATH": os.environ["PATH"], "TINYFAAS_INSTANCE": f"{(data / 'id').read_text().strip()}@{data}"}, start_new_session=True,
        )
        self.addCleanup(orphan.wait)
        self.addCleanup(orphan.kill)
        self.eventually(lambda: Path(f"/proc/{orphan.pid}/comm").read_text(), lambda comm: comm == "sleep\n", "asleep")
        server.process.kill()
        server.exit()
        self.eventually(lambda: alive(pid), lambda there: not there, "without its daemon")
        again = start()
        self.assertIn("processes that an earlier run had left", again.output())
        self.assertFalse(alive(orphan.pid))
        self.ends_clean(again)


if __name__ == "__main__":
    unittest.main()
