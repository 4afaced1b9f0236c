"""Functions' folders, and the archives that they travel in.

Owns how an archive is made, an honest one and a wicked one. Must not know who takes
it.
"""

import io
import os
import stat
import tarfile
import zipfile
from pathlib import Path

from .server import REPOSITORY

SAMPLES = REPOSITORY / "test" / "fns"


class File:
    """A file whose mode matters."""

    def __init__(self, content, mode=0o644):
        self.content = content
        self.mode = mode


class Link:
    """A symbolic link."""

    def __init__(self, target):
        self.target = target


def zip_of(entries, compress=True):
    """A zip of these entries: name to text, bytes, `File` or `Link`. Names are
    taken as they are; one that ends with a slash is a folder. Pairs instead of a
    dict may repeat a name."""
    pairs = entries.items() if isinstance(entries, dict) else entries
    packed = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for name, entry in pairs:
            info = zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6))
            # zipfile would mend the name.
            info.filename = name
            info.compress_type = kind
            mode, content = stat.S_IFREG | 0o644, entry
            if isinstance(entry, File):
                mode, content = stat.S_IFREG | entry.mode, entry.content
            elif isinstance(entry, Link):
                mode, content = stat.S_IFLNK | 0o777, entry.target
            elif name.endswith("/"):
                mode = stat.S_IFDIR | 0o755
            info.external_attr = mode << 16
            archive.writestr(info, content)
    return packed.getvalue()


def tar_gz_of(entries):
    """A tar.gz of entries as `zip_of` takes them."""
    pairs = entries.items() if isinstance(entries, dict) else entries
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, entry in pairs:
            info = tarfile.TarInfo(name)
            info.mode, content = 0o644, entry
            if isinstance(entry, File):
                info.mode, content = entry.mode, entry.content
            elif isinstance(entry, Link):
                info.type, info.linkname, content = tarfile.SYMTYPE, entry.target, b""
            elif name.endswith("/"):
                info.type, info.mode, content = tarfile.DIRTYPE, 0o755, b""
            content = content.encode() if isinstance(content, str) else content
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zip_of_folder(folder):
    """A zip of a folder on disk, links as links."""
    folder = Path(folder)
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            entries[name] = Link(os.readlink(path))
        elif path.is_file():
            entries[name] = File(path.read_bytes(), stat.S_IMODE(path.stat().st_mode))
    return zip_of(entries)


def sample(name):
    """The zip of one of the sample functions."""
    return zip_of_folder(SAMPLES / name)


def node_module(code, **package):
    """The entries of a Node function with this code."""
    import json

    return {
        "package.json": json.dumps({"name": "fn", "version": "1.0.0", "main": "index.js", **package}),
        "index.js": code,
    }


def write(folder, entries):
    """Writes entries as `zip_of` takes them into a folder on disk."""
    folder = Path(folder)
    for name, entry in entries.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, Link):
            path.symlink_to(entry.target)
            continue
        content = entry.content if isinstance(entry, File) else entry
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if isinstance(entry, File):
            path.chmod(entry.mode)
    return folder


def endless_build(mark):
    """A Python function with a source package whose build says the mark and never
    ends. The package is its own build backend, so pip needs no index."""
    return {
        "fn.py": "def fn(input, headers):\n    return input\n",
        "requirements.txt": "--no-index\n./endless\n",
        "endless/pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "endless/backend.py": f"import os, sys\nos.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(600)', '{mark}'])\n",
    }
