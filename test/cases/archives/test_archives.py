"""Wicked zips: refused before anything is written outside."""

import gzip
import io
import os
import shutil
import stat
import struct
import tempfile
import unittest
import zipfile
import zlib
from pathlib import Path

from blackbox import folders
from blackbox.bad_input import BadInput
from blackbox.case import Case, OwnServerCase, new_name
from blackbox.confined import processor_seconds, quick_place
from blackbox.folders import File, Link

FN = {"fn.sh": "#!/bin/sh\ncat\n"}

UP = "its name leads out of the folder by '..'"
ROOT = "its name starts at the root; zip with names relative to the folder"
BACKSLASH = "its name holds a backslash; zip with '/' between folders"
TWICE = "the archive holds this name twice, or as a file and as a folder"
CUT_OFF = "the zip archive is cut off or damaged: the directory at its end cannot be read"
NO_ZIP = "this is no zip archive"


def renamed(name, content="x"):
    """A zip with an entry whose name is these bytes, which zipfile would mend."""
    stand_in = "N" * len(name)
    return folders.zip_of({**FN, stand_in: content}).replace(stand_in.encode(), name)


def changed(packed, local_offset, central_offset, form, value, last=False):
    """A zip with one field of an entry changed where it stands twice."""
    packed = bytearray(packed)
    for signature, offset in ((b"PK\x03\x04", local_offset), (b"PK\x01\x02", central_offset)):
        at = packed.rindex(signature) if last else packed.index(signature)
        struct.pack_into(form, packed, at + offset, value)
    return bytes(packed)


class Wicked(BadInput, Case):
    def rejected(self, entries, status, sentence):
        code = entries if isinstance(entries, bytes) else folders.zip_of(entries)
        self.refused_upload(status, sentence, "binary", code)

    def test_paths_that_leave_the_folder(self):
        witness = Path(tempfile.gettempdir()) / new_name("tinyfaas-witness")
        up = "../" * 30
        for path, sentence in (
            (f"{up}{str(witness).lstrip('/')}", UP), (str(witness), ROOT), ("//x", ROOT), ("/", ROOT),
            ("../escaped", UP), ("a/../../escaped", UP), ("a/b/../../../escaped", UP), ("..", UP), ("a/..", UP),
            ("a/../fn2", UP), ("..\\escaped", BACKSLASH), ("C:\\x", BACKSLASH), ("\\\\host\\x", BACKSLASH),
        ):
            with self.subTest(path=path):
                self.rejected({**FN, path: "out"}, 422, sentence)
                self.assertFalse(witness.exists())

    def test_names_that_no_file_may_have(self):
        for path, sentence in (
            ("a\x00b", 'entry "a\\0b" is refused: its name holds a zero byte'),
            ("a" * 5000, "its name has 5000 bytes; at most 4096 are allowed"),
            ("a" * 256, "a part of its name has more than 255 bytes"),
            ("d/" * 150 + "x", "it lies 151 folders deep; at most 100 are allowed"),
            ("", "it has no name"),
        ):
            with self.subTest(path=path[:40]):
                self.rejected({**FN, path: "x"}, 422, sentence)

    def test_names_that_are_not_utf_8(self):
        for name in (b"gr\xfcn.txt", b"\x81\x82\xff", b"\xed\xa0\x80", b"\xc0\xaf"):
            with self.subTest(name=name):
                self.rejected(renamed(name), 422, "its name is not UTF-8; make the archive with UTF-8 names")

    def test_a_name_that_would_steer_a_terminal_is_shown_harmless(self):
        self.rejected(renamed(b"\x1b[2J/../x"), 422, 'entry "\\u{1b}[2J/../x" is refused: ' + UP)

    def test_links_that_leave_the_folder(self):
        absolute = "it is a link to an absolute path, which leads out of the folder"
        out = "it is a link that leads out of the folder"
        for target, sentence in (
            ("/etc/passwd", absolute), ("/", absolute), ("../x", out), ("a/../../x", out),
            ("../../../../etc/passwd", out), ("", "it is a link to nowhere"),
            ("link", "it is a link that leads around in a circle"),
            ("./" * 2500, "its target is longer than any path may be"),
        ):
            with self.subTest(target=target[:40]):
                self.rejected({**FN, "link": Link(target)}, 422, f'entry "link" is refused: {sentence}')

    def test_writing_through_a_link(self):
        outside = Path(tempfile.mkdtemp(prefix="tinyfaas-outside-"))
        self.addCleanup(outside.rmdir)
        self.rejected([*FN.items(), ("way", Link(str(outside))), ("way/in", "x")], 422, "absolute path")
        self.rejected([*FN.items(), ("sub/", ""), ("way", Link("sub")), ("way/in", "x")], 422, TWICE)
        self.assertEqual(list(outside.iterdir()), [])

    def test_a_chain_of_links_that_leaves(self):
        chain = [("a/b/", ""), ("a/b/c", Link("..")), ("out", Link("a/b/c/../../.."))]
        self.rejected([*FN.items(), *chain], 422, "it is a link that leads out of the folder")
        self.rejected([*FN.items(), ("a", Link("b")), ("b", Link("a/../../x"))], 422, "leads around in a circle")

    def test_a_link_within_the_folder_works(self):
        name = self.deploy("binary", {"fn.sh": "#!/bin/sh\ncat deep/link\n", "data": "seen", "deep/link": Link("../data")})
        self.answers(name, "seen")

    def test_names_that_stand_twice(self):
        for entries in (
            [("a", "1"), ("a", "2")], [("fn.sh", "other")], [("./fn.sh", "other")], [("a", ""), ("a/", "")],
            [("a/", ""), ("a", "")], [("a/b", ""), ("a", "")], [("a", "file"), ("a/b", "below a file")],
            [("a", Link("fn.sh")), ("a", "x")], [("a", "x"), ("a", Link("fn.sh"))],
        ):
            with self.subTest(entries=entries):
                self.rejected([*FN.items(), *entries], 422, TWICE)
        self.rejected([*FN.items(), ("a", Link("fn.sh")), ("a", Link("fn.sh"))], 422, "holds this name twice")

    def test_a_folder_may_stand_twice(self):
        name = self.deploy("binary", [("fn.sh", "#!/bin/sh\nls\n"), ("a/", ""), ("a/", "")])
        self.answers(name, "a\nfn.sh\n")

    def test_device_entries(self):
        for kind, what in (
            (stat.S_IFIFO, "a named pipe"), (stat.S_IFSOCK, "a socket"),
            (stat.S_IFCHR, "a device"), (stat.S_IFBLK, "a device"),
        ):
            with self.subTest(what=what):
                packed = io.BytesIO()
                with zipfile.ZipFile(packed, "w") as archive:
                    archive.writestr("fn.sh", FN["fn.sh"])
                    info = zipfile.ZipInfo("special")
                    info.external_attr = (kind | 0o644) << 16
                    archive.writestr(info, "")
                sentence = f'entry "special" is refused: it is {what}; only files, folders and links are unpacked'
                self.rejected(packed.getvalue(), 422, sentence)

    def test_set_user_id_bits_are_dropped(self):
        name = self.deploy("binary", {
            "fn.sh": "#!/bin/sh\nstat -c %a tool\n", "tool": File("x", 0o6755),
        })
        self.assertRegex(self.call(name).text, r"^7\d\d\n$")

    def test_a_bomb_by_ratio(self):
        sentence = "more than 200 times as large as the archive; it looks like a zip bomb"
        self.rejected({**FN, "zeros": b"\0" * 60_000_000}, 413, sentence)

    def test_a_bomb_of_entries_that_share_their_bytes(self):
        """One compressed stream, named by a thousand entries."""
        plain = b"\0" * 1_000_000
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        stream = deflate.compress(plain) + deflate.flush()
        common = struct.pack("<HHHHHIII", 20, 0, 8, 0, 0x21, zlib.crc32(plain), len(stream), len(plain))
        local = b"PK\x03\x04" + common + struct.pack("<HH", 5, 0) + b"f0000" + stream
        directory = b"".join(
            b"PK\x01\x02\x14\x03" + common + struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0o100644 << 16, 0) + b"f%04d" % n
            for n in range(1000)
        )
        end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1000, 1000, len(directory), len(local), 0)
        self.rejected(local + directory + end, 413, "it looks like a zip bomb")

    def test_a_sum_that_does_not_match(self):
        packed = folders.zip_of({**FN, "data": "correct horse battery staple"}, compress=False)
        self.rejected(packed.replace(b"battery", b"BATTERY"), 400, "the zip archive is damaged: Invalid checksum")

    def test_a_size_that_lies(self):
        """The entry says that it is small and unpacks to more."""
        packed = changed(folders.zip_of({**FN, "data": b"\0" * 3_000_000}), 22, 24, "<I", 10, last=True)
        self.rejected(packed, 400, "the zip archive is damaged: ")

    def test_an_encrypted_entry(self):
        packed = changed(folders.zip_of(FN), 6, 8, "<H", 1)
        sentence = 'entry "fn.sh" is refused: it is encrypted; make the archive without a password'
        self.rejected(packed, 422, sentence)

    def test_compression_that_is_not_unpacked(self):
        for number, name in ((9, "Deflate64 (method 9)"), (12, "bzip2 (method 12)"), (14, "LZMA (method 14)"), (77, "method 77")):
            with self.subTest(number=number):
                packed = changed(folders.zip_of(FN), 8, 10, "<H", number)
                self.rejected(packed, 422, f"it is compressed by {name}; make the archive with deflate, the usual one")

    def test_what_is_no_zip(self):
        whole = folders.zip_of(FN)
        for packed, sentence in (
            (b"", "the zip has no bytes; zip the function's folder and send that"),
            (b"this is no zip file at all", NO_ZIP + "; zip the function's folder and send that"),
            (b"\0" * 100_000, NO_ZIP),
            (gzip.compress(whole), NO_ZIP + ", it looks like a gzip file, such as a .tar.gz"),
            (b"<!doctype html><title>Log in</title>", NO_ZIP + ", it looks like a web page"),
            (b"#!/bin/sh\n" + whole, NO_ZIP),
        ):
            with self.subTest(packed=packed[:20]):
                self.rejected(packed, 400, sentence)

    def test_a_truncated_zip(self):
        whole = folders.zip_of({**FN, "data": os.urandom(2000)})
        for length in (2, 10, 30, 100, len(whole) // 2, len(whole) - 100, len(whole) - 22, len(whole) - 21, len(whole) - 1):
            with self.subTest(length=length):
                self.rejected(whole[:length], 400, CUT_OFF)
        self.rejected(whole[100:], 400, NO_ZIP)

    def test_an_empty_archive(self):
        sentence = "the archive is empty; zip the function's folder so that its files are at the top"
        self.rejected(folders.zip_of({}), 422, sentence)
        self.rejected(folders.zip_of({"./": ""}), 422, sentence)

    def test_zip64_works(self):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in FN.items():
                with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                    file.write(content.encode())
        self.answers(self.deploy("binary", packed.getvalue()), "x", "x")

    def test_zip64_that_promises_what_it_has_not(self):
        whole = folders.zip_of(FN)
        at = whole.index(b"PK\x01\x02")
        directory = whole[at:-22]
        for count, offset in ((2**63, at), (5, at), (1, 2**62)):
            with self.subTest(count=count, offset=offset):
                size = len(directory)
                end64 = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, offset)
                locator = b"PK\x06\x07" + struct.pack("<IQI", 0, at + len(directory), 1)
                end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
                self.rejected(whole[:at] + directory + end64 + locator + end, 400, CUT_OFF)

    def test_no_directory_entries(self):
        name = self.deploy("binary", {"deep/er/data": "found", "fn.sh": "#!/bin/sh\ncat deep/er/data\n"})
        self.answers(name, "found")


class Bounds(BadInput, OwnServerCase):
    settings = {
        "TF_ZIP_UNPACKED_MAX": "1MiB",
        "TF_ZIP_ENTRIES_MAX": "50",
        "TF_ZIP_NAME_MAX": "20",
    }

    def test_a_bomb_by_size(self):
        sentence = "what comes out of the archive is larger than the 1048576 bytes allowed"
        entries = {**FN, **{f"blob{n}": os.urandom(100_000) for n in range(12)}}
        self.refused_upload(413, sentence, "binary", entries)
        # It says that it fits.
        lying = changed(folders.zip_of({**FN, "blob": b"\0" * 2_000_000}), 22, 24, "<I", 10, last=True)
        self.refused_upload(400, "the zip archive is damaged: ", "binary", lying)

    def test_more_entries_than_allowed(self):
        sentence = "the archive holds more than the 50 files and folders that are allowed"
        self.refused_upload(413, sentence, "binary", {**FN, **{f"f{n}": "" for n in range(50)}})
        # Folders that only stand in names count too.
        self.refused_upload(413, sentence, "binary", {**FN, **{f"{n}/f": "" for n in range(25)}})

    def test_a_name_longer_than_allowed(self):
        sentence = "its name has 21 bytes; at most 20 are allowed"
        self.refused_upload(422, sentence, "binary", {**FN, "n" * 21: ""})

    def test_within_the_bounds(self):
        entries = {**FN, **{f"f{n}": os.urandom(10_000) for n in range(49)}}
        self.answers(self.deploy("binary", entries), "x", "x")


class ManyEntries(BadInput, OwnServerCase):
    def setUp(self):
        place = quick_place()
        self.addCleanup(shutil.rmtree, place, ignore_errors=True)
        self.start(place / "data")
        super().setUp()

    def test_an_allowed_100_000_entries(self):
        packed = many_entries(100_000)
        memory, used = self.server.memory_peak(), processor_seconds(self.server)
        name = self.deploy("binary", packed)
        # It takes four, in a build that is not optimised.
        self.assertLess(processor_seconds(self.server) - used, 20)
        self.assertLess(self.server.memory_peak() - memory, 32 << 20)
        self.answers(name, "100000\n")


def many_entries(count):
    """A zip of so many files in a hundred folders; its directory must be zip64.
    zipfile would take seconds for it."""
    script = b"#!/bin/sh\nfind . -type f | wc -l\n"
    names = [b"fn.sh", *(b"d%d/f%d" % (n // 1000, n) for n in range(count - 1))]
    out, directory = io.BytesIO(), io.BytesIO()
    for name in names:
        content = script if name == b"fn.sh" else b""
        offset = out.tell()
        common = struct.pack(
            "<HHHHHIIIHH", 20, 0, 0, 0, 0x21, zlib.crc32(content), len(content), len(content), len(name), 0
        )
        out.write(b"PK\x03\x04" + common + name + content)
        directory.write(b"PK\x01\x02\x14\x03" + common + struct.pack("<HHHII", 0, 0, 0, 0o100644 << 16, offset) + name)
    at, size = out.tell(), directory.tell()
    out.write(directory.getvalue())
    out.write(b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, at))
    out.write(b"PK\x06\x07" + struct.pack("<IQI", 0, at + size, 1))
    out.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, size, at, 0))
    return out.getvalue()


if __name__ == "__main__":
    unittest.main()
