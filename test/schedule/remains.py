"""What there is of a server: processes, descriptors, files, memory.

Owns how they are counted. Must not know what the server was asked to do.
"""

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from blackbox.server import command_line

# A download cache and the like are kept on purpose.
_KEPT_FOLDERS = ("cache",)


@dataclass
class Remains:
    """What there is at one moment; two that are equal have the same."""

    processes: tuple
    server_files: Counter
    spawner_files: Counter
    files: tuple

    def less(self, other):
        """What is there beyond the other, in words."""
        more = []
        if self.processes != other.processes:
            more.append(f"processes: {list(self.processes)} instead of {list(other.processes)}")
        for who, ours, theirs in (
            ("server", self.server_files, other.server_files),
            ("spawner", self.spawner_files, other.spawner_files),
        ):
            if ours != theirs:
                more.append(f"descriptors of the {who}: more {dict(ours - theirs)}, fewer {dict(theirs - ours)}")
        if self.files != other.files:
            more.append(f"files: more {sorted(set(self.files) - set(other.files))[:20]}, fewer {sorted(set(other.files) - set(self.files))[:20]}")
        return "; ".join(more)


def look(server):
    """What there is of a running server."""
    children = _children()
    spawner = _spawner(server, children)
    known = {server.pid, spawner}
    below = _below(server.pid, children) | set(server.processes()) | set(strays(server))
    processes = tuple(sorted(command_line(pid) for pid in below - known))
    return Remains(
        processes,
        _descriptors(server.pid),
        _descriptors(spawner) if spawner else Counter(),
        _files(server.data),
    )


def strays(server):
    """Guards of the server's program that no spawner has any more."""
    program = os.stat(server.program)
    found = []
    for parent, children in _children().items():
        if _name(parent) == "tinyfaas-spawn":
            continue
        for pid in children:
            try:
                own = os.stat(f"/proc/{pid}/exe")
            except OSError:
                continue
            if _name(pid) == "tinyfaas-guard" and (own.st_dev, own.st_ino) == (program.st_dev, program.st_ino):
                found.append(pid)
    return found


def _name(pid):
    try:
        return Path("/proc", str(pid), "comm").read_text().strip()
    except OSError:
        return ""


def memory(server):
    """The anonymous memory that server and spawner have resident, in bytes."""
    return tuple(_anonymous(pid) for pid in (server.pid, spawner(server)))


def spawner(server):
    """The process that starts all handlers; none where the next one is not there
    yet."""
    return _spawner(server, _children())


def _spawner(server, children):
    found = [pid for pid in children.get(server.pid, ()) if "spawner" in command_line(pid)]
    return found[0] if found else None


def _anonymous(pid):
    status = Path("/proc", str(pid), "status").read_text()
    return int(re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE).group(1)) * 1024


def _children():
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry))
    return children


def _below(pid, children):
    found, to_do = set(), [pid]
    while to_do:
        for child in children.get(to_do.pop(), ()):
            found.add(child)
            to_do.append(child)
    return found


def _descriptors(pid):
    """How many descriptors of which kind: a file by its path, others by what they
    are."""
    kinds = Counter()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(entry.path)
        except OSError:
            continue
        kinds[re.sub(r":\[\d+\]$", "", target)] += 1
    return kinds


def _files(folder):
    found = []
    for path, folders, files in os.walk(folder):
        below = os.path.relpath(path, folder)
        if below.split(os.sep)[0] in _KEPT_FOLDERS:
            folders.clear()
            continue
        found += [os.path.normpath(os.path.join(below, name)) for name in (*folders, *files)]
    return tuple(sorted(found))
