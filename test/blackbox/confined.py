"""Servers on a disk of their own, or with few files open; what they use of the machine.

Owns how a server gets a small file system that nobody else sees (in a mount
namespace of its own), how that is filled and freed, and how a limit is set. Must
not know what is asked of the server.
"""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from .server import Server, scratch

# $1: the mount's options, $2: where; what follows is run there. 97: it may not mount.
_MOUNT = 'mount -t tmpfs -o "$1" tinyfaas-test "$2" || exit 97; shift 2; exec "$@"'
_MOUNT_FOR_READING = (
    'mount -t tmpfs -o "$1" tinyfaas-test "$2" && mount -o remount,ro "$2" || exit 97; shift 2; exec "$@"'
)


def need_mounts():
    """Skips a case where this process may not mount."""
    for tool in ("unshare", "mount"):
        if shutil.which(tool) is None:
            raise unittest.SkipTest(f"{tool} is not installed")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", _MOUNT, "sh", "size=1m", "/mnt", "true"], capture_output=True, check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise unittest.SkipTest(f"a file system of one's own cannot be mounted here: {said}")


class OnSmallDisk(Server):
    """A server whose data directory is a file system of its own, with these mount
    options."""

    def __init__(self, options, for_reading=False, **environment):
        super().__init__(**environment)
        self.place = self.data
        self.place.mkdir()
        mount = _MOUNT_FOR_READING if for_reading else _MOUNT
        self.arguments = ["--mount", "sh", "-c", mount, "sh", options, str(self.place), self.program, *self.arguments]
        self.program = "unshare"
        self._disk = None

    def launch(self):
        super().launch()
        # The disk is seen through the server only.
        self.data = Path(f"/proc/{self.pid}/root") / self.place.relative_to("/")
        return self

    def start(self):
        super().start()
        # Keeps what is on the disk in sight when the server has gone.
        self._disk = os.open(self.data, os.O_RDONLY | os.O_DIRECTORY)
        return self

    def fill(self, leave=0):
        """Fills the disk but for so many bytes."""
        seen = os.fstatvfs(self._disk)
        with open(self.data / "filler", "wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, max(1, seen.f_bavail * seen.f_frsize - leave))

    def free(self):
        """Takes away what filled the disk."""
        (self.data / "filler").unlink(missing_ok=True)

    def left_on_disk(self):
        """What the disk holds; when the server has gone, too."""
        return set(os.listdir(self._disk))

    def close(self):
        if self._disk is not None:
            os.close(self._disk)
            self._disk = None


class WithFewFiles(Server):
    """A server that may have only so many files open, and may not raise that."""

    def __init__(self, files_max, **environment):
        super().__init__(**environment)
        limit = 'ulimit -S -n "$1" && ulimit -H -n "$1" && shift && exec "$@"'
        self.arguments = ["-c", limit, "sh", str(files_max), self.program, *self.arguments]
        self.program = "sh"

    def open_files(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def processor_seconds(server):
    """The processor time that a server has used."""
    fields = Path(f"/proc/{server.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quick_place():
    """A new folder in memory where there is room for it, else on disk: what makes
    thousands of files waits for nobody else's."""
    shared = Path("/dev/shm")
    try:
        seen = os.statvfs(shared)
        if seen.f_favail > 1_000_000 and seen.f_bavail * seen.f_frsize > 1 << 30:
            return Path(tempfile.mkdtemp(prefix="tinyfaas-test-", dir=shared))
    except OSError:
        pass
    return scratch()
