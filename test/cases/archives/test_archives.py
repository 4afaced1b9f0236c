"""Wicked zips: refused before anything is written outside."""

import io
import os
import struct
import tempfile
import unittest
import zipfile
from pathlib import Path

from blackbox import folders
from blackbox.case import Case, OwnServerCase, new_name
from blackbox.folders import File, Link

FN = {"fn.sh": "#!/bin/sh\ncat\n"}


class Wicked(Case):
    def rejected(self, entries, *words, status=(400, 413, 422)):
        name = new_name("wicked")
        self.addCleanup(self.remove, name)
        code = entries if isinstance(entries, bytes) else folders.zip_of(entries)
        self.refused(self.upload(name, "binary", code), status, *words)
        self.assertNotIn(name, self.names())
        self.assertEqual(self.call(name, "x").status, 404)

    def test_paths_that_leave_the_folder(self):
        witness = Path(tempfile.gettempdir()) / new_name("tinyfaas-witness")
        up = "../" * 30
        for path in (
            f"{up}{str(witness).lstrip('/')}", str(witness),
            "../escaped", "a/../../escaped", "a/b/../../../escaped", "..", "a/..", "a/../fn2", "..\\escaped", "C:\\x", "\\\\host\\x",
        ):
            with self.subTest(path=path):
                self.rejected({**FN, path: "out"})
                self.assertFalse(witness.exists())

    def test_names_that_no_file_may_have(self):
        for path in ("a\x00b", "a" * 5000, "/".join(["d" * 100] * 60), "", "/"):
            with self.subTest(path=path[:40]):
                self.rejected({**FN, path: "x"})

    def test_links_that_leave_the_folder(self):
        for target in ("/etc/passwd", "../x", "a/../../x", "../../../../etc/passwd", "/", "", "."  * 5000):
            with self.subTest(target=target[:40]):
                self.rejected({**FN, "link": Link(target)})

    def test_writing_through_a_link(self):
        outside = Path(tempfile.mkdtemp(prefix="tinyfaas-outside-"))
        self.addCleanup(outside.rmdir)
        self.rejected([*FN.items(), ("way", Link(str(outside))), ("way/in", "x")])
        self.rejected([*FN.items(), ("sub/", ""), ("way", Link("sub")), ("way/in", "x")])
        self.assertEqual(list(outside.iterdir()), [])

    def test_a_chain_of_links_that_leaves(self):
        self.rejected([*FN.items(), ("a/b/", ""), ("a/b/c", Link("..")), ("out", Link("a/b/c/../../.."))])
        self.rejected([*FN.items(), ("a", Link("b")), ("b", Link("a/../../x"))])

    def test_a_link_within_the_folder_works(self):
        name = self.deploy("binary", {"fn.sh": "#!/bin/sh\ncat deep/link\n", "data": "seen", "deep/link": Link("../data")})
        self.answers(name, "seen")

    def test_a_file_below_a_file(self):
        self.rejected([*FN.items(), ("a", "file"), ("a/b", "below a file")])

    def test_special_files(self):
        import stat

        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("fn.sh", FN["fn.sh"])
            for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK):
                info = zipfile.ZipInfo(f"special-{kind}")
                info.external_attr = (kind | 0o644) << 16
                archive.writestr(info, "")
        self.rejected(packed.getvalue())

    def test_set_user_id_bits_are_dropped(self):
        name = self.deploy("binary", {
            "fn.sh": "#!/bin/sh\nstat -c %a tool\n", "tool": File("x", 0o6755),
        })
        self.assertRegex(self.call(name).text, r"^7\d\d\n$")

    def test_a_bomb_by_ratio(self):
        self.rejected({**FN, "zeros": b"\0" * 60_000_000}, status=(413, 422))

    def test_a_sum_that_does_not_match(self):
        packed = bytearray(folders.zip_of({**FN, "data": "correct horse battery staple"}, compress=False))
        at = packed.index(b"battery")
        packed[at : at + 7] = b"BATTERY"
        self.rejected(bytes(packed))

    def test_a_size_that_lies(self):
        """The entry says that it is small and unpacks to more."""
        packed = bytearray(folders.zip_of({**FN, "data": b"\0" * 3_000_000}))
        for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
            at = packed.rindex(signature)
            packed[at + offset : at + offset + 4] = struct.pack("<I", 10)
        self.rejected(bytes(packed))

    def test_an_encrypted_entry(self):
        packed = bytearray(folders.zip_of(FN))
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = packed.index(signature)
            packed[at + offset] |= 1
        self.rejected(bytes(packed))

    def test_an_empty_archive(self):
        self.rejected(folders.zip_of({}))
        self.rejected(b"")

    def test_a_server_goes_on_after_all_that(self):
        self.answers(self.deploy("binary", "echo-binary"), "x", "x")


class Bounds(OwnServerCase):
    settings = {
        "TF_ZIP_UNPACKED_MAX": "1MiB",
        "TF_ZIP_ENTRIES_MAX": "50",
    }

    def test_a_bomb_by_size(self):
        entries = {**FN, **{f"blob{n}": os.urandom(100_000) for n in range(12)}}
        self.refused(self.upload("big", "binary", entries), (413, 422))
        self.assertEqual(self.names(), [])
        self.left_nothing()

    def test_a_bomb_by_number(self):
        self.refused(self.upload("many", "binary", {**FN, **{f"f{n}": "" for n in range(60)}}), (413, 422))
        self.left_nothing()

    def test_within_the_bounds(self):
        entries = {**FN, **{f"f{n}": os.urandom(10_000) for n in range(40)}}
        self.assertEqual(self.upload("fits", "binary", entries).status, 200)
        self.manage("/delete", {"name": "fits"})

    def left_nothing(self):
        for part in ("spool", "functions"):
            folder = self.server.data / part
            self.eventually(
                lambda: [p for p in folder.rglob("*") if p.is_file()] if folder.exists() else [],
                lambda seen: not seen, f"an empty {part}",
            )


if __name__ == "__main__":
    unittest.main()
