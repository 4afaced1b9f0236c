use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

type Writer = ZipWriter<Cursor<Vec<u8>>>;

/// A zip made by the real writer.
fn zip(build: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    build(&mut writer);
    writer.finish().unwrap().into_inner()
}

fn options() -> SimpleFileOptions {
    SimpleFileOptions::default()
}

fn file(writer: &mut Writer, name: &str, content: &[u8]) {
    writer.start_file(name, options()).unwrap();
    writer.write_all(content).unwrap();
}

/// An entry as no decent writer makes it.
struct Raw<'a> {
    name: &'a [u8],
    content: &'a [u8],
    mode: u32,
    flags: u16,
    method: u16,
    declared_bytes: u32,
}

impl<'a> Raw<'a> {
    fn new(name: &'a [u8], content: &'a [u8]) -> Self {
        let declared_bytes = u32::try_from(content.len()).unwrap();
        Self { name, content, mode: 0o100_644, flags: 0, method: 0, declared_bytes }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 }
        })
    })
}

/// A zip written by hand, APPNOTE 6.3.10 section 4.3.
fn raw_zip(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for entry in entries {
        let offset = u32::try_from(out.len()).unwrap();
        let mut common = Vec::new();
        for short in [20, entry.flags, entry.method, 0, 0] {
            common.extend_from_slice(&u16::to_le_bytes(short));
        }
        let packed = u32::try_from(entry.content.len()).unwrap();
        for long in [crc32(entry.content), packed, entry.declared_bytes] {
            common.extend_from_slice(&long.to_le_bytes());
        }
        common.extend_from_slice(&u16::try_from(entry.name.len()).unwrap().to_le_bytes());
        common.extend_from_slice(&[0, 0]);
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(entry.name);
        out.extend_from_slice(entry.content);
        directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&(entry.mode << 16).to_le_bytes());
        directory.extend_from_slice(&offset.to_le_bytes());
        directory.extend_from_slice(entry.name);
    }
    let count = u16::try_from(entries.len()).unwrap();
    let (start, size) =
        (u32::try_from(out.len()).unwrap(), u32::try_from(directory.len()).unwrap());
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&start.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

pub(super) struct Unpacked {
    _dir: TempDir,
    pub(super) folder: Folder,
}

impl Unpacked {
    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).unwrap()
    }

    pub(super) fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.at(name)).unwrap().permissions().mode() & 0o7777
    }

    /// All there is, in order; folders with a slash.
    fn names(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut ahead = vec![self.folder.path().to_owned()];
        while let Some(folder) = ahead.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_dir = fs::symlink_metadata(&path).unwrap().is_dir();
                let name = path.strip_prefix(self.folder.path()).unwrap().to_str().unwrap();
                found.push(format!("{name}{}", if is_dir { "/" } else { "" }));
                if is_dir {
                    ahead.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

/// A file as it is when it has been written.
pub(super) fn spooled(bytes: &[u8]) -> File {
    let mut archive = tempfile::tempfile().unwrap();
    archive.write_all(bytes).unwrap();
    archive
}

pub(super) fn run_as(
    formats: Formats,
    bytes: &[u8],
    subfolder: &str,
    limits: &ArchiveLimits,
) -> Result<Unpacked, UnpackError> {
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("fn");
    let subfolder = Subfolder::parse(subfolder).unwrap();
    let cancelled = AtomicBool::new(false);
    let outcome = unpack(spooled(bytes), formats, into, &subfolder, limits, &cancelled);
    if outcome.is_err() {
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "something is left behind");
    }
    outcome.map(|folder| Unpacked { _dir: dir, folder })
}

fn run(bytes: &[u8], subfolder: &str, limits: &ArchiveLimits) -> Result<Unpacked, UnpackError> {
    run_as(Formats::Zip, bytes, subfolder, limits)
}

fn good(bytes: &[u8]) -> Unpacked {
    run(bytes, "", &ArchiveLimits::default()).unwrap()
}

#[track_caller]
fn check_refused(bytes: &[u8], limits: &ArchiveLimits, expected: &str) {
    let error = run(bytes, "", limits).map(|unpacked| unpacked.names()).unwrap_err();
    assert!(error.to_string().contains(expected), "{expected:?} expected, but {error}");
}

#[track_caller]
fn check_entry_refused(name: &[u8], mode: u32, content: &[u8], expected: &str) {
    let fine = Raw::new(b"fn.py", b"fine");
    let entry = Raw { mode, ..Raw::new(name, content) };
    check_refused(&raw_zip(&[fine, entry]), &ArchiveLimits::default(), expected);
}

#[test]
fn a_folder_comes_out_as_it_went_in() {
    let unpacked = good(&zip(|zip| {
        file(zip, "fn.py", b"def fn(): pass");
        zip.add_directory("empty/", options().unix_permissions(0o500)).unwrap();
        zip.start_file("bin/run", options().unix_permissions(0o755)).unwrap();
        zip.write_all(b"#!/bin/sh").unwrap();
        file(zip, "deep/down/.hidden", &vec![b'x'; 200_000]);
        zip.add_symlink("deep/link", "../fn.py", options()).unwrap();
        zip.start_file("setuid", options().unix_permissions(0o4111)).unwrap();
        zip.start_file("secret", options().unix_permissions(0o040)).unwrap();
    }));
    assert_eq!(
        unpacked.names(),
        [
            "bin/",
            "bin/run",
            "deep/",
            "deep/down/",
            "deep/down/.hidden",
            "deep/link",
            "empty/",
            "fn.py",
            "secret",
            "setuid"
        ]
    );
    assert_eq!(unpacked.text("deep/link"), "def fn(): pass");
    assert_eq!(fs::metadata(unpacked.at("deep/down/.hidden")).unwrap().len(), 200_000);
    assert_eq!(unpacked.mode("bin/run"), 0o755);
    assert_eq!(unpacked.mode("setuid"), 0o711);
    assert_eq!(unpacked.mode("secret"), 0o640);
    assert_eq!(unpacked.mode("empty"), 0o700);
}

#[test]
fn what_other_tools_make_is_taken() {
    let zip64 = good(&zip(|zip| {
        zip.start_file("fn.py", options().large_file(true)).unwrap();
        zip.write_all(b"big").unwrap();
    }));
    assert_eq!(zip64.text("fn.py"), "big");
    let mut with_comment = zip(|zip| {
        zip.set_comment("PK\x05\x06 is no end").unwrap();
        file(zip, "./a//fn.py", b"dots");
    });
    assert_eq!(good(&with_comment).text("a/fn.py"), "dots");
    // Something behind the end, as some scripts leave it.
    with_comment.push(b'\n');
    assert_eq!(good(&with_comment).text("a/fn.py"), "dots");
    let names = [Raw::new("ümlaut.py".as_bytes(), b"1"), Raw { mode: 0, ..Raw::new(b"b", b"2") }];
    let unpacked = good(&raw_zip(&names));
    assert_eq!((unpacked.text("ümlaut.py"), unpacked.mode("b")), ("1".into(), 0o644));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for (name, expected) in [
        (&b"../evil"[..], "'..'"),
        (b"a/../../evil", "'..'"),
        (b"/etc/evil", "starts at the root"),
        (b"..\\evil", "backslash"),
        (b"C:\\evil", "backslash"),
        (b"evil\0.py", "zero byte"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "no name"),
    ] {
        check_entry_refused(name, 0o100_644, b"evil", expected);
    }
    check_entry_refused(&[b'a'; 5000], 0o100_644, b"", "5000 bytes; at most 4096");
    check_entry_refused(&[b'a'; 300], 0o100_644, b"", "more than 255 bytes");
    check_entry_refused("a/".repeat(200).as_bytes(), 0o040_755, b"", "200 folders deep");
}

#[test]
fn special_files_are_refused() {
    check_entry_refused(b"x", 0o010_644, b"", "named pipe");
    check_entry_refused(b"x", 0o020_644, b"", "device");
    check_entry_refused(b"x", 0o060_644, b"", "device");
    check_entry_refused(b"x", 0o140_644, b"", "socket");
    check_entry_refused(b"x/", 0o120_777, b"fn.py", "ends like that of a folder");
}

#[test]
fn links_that_leave_are_refused() {
    check_entry_refused(b"x", 0o120_777, b"/etc/passwd", "absolute");
    check_entry_refused(b"x", 0o120_777, b"../x", "leads out");
    check_entry_refused(b"x", 0o120_777, b"", "nowhere");
    check_entry_refused(b"x", 0o120_777, &[b'a'; 5000], "longer than any path");
    check_entry_refused(b"x", 0o120_777, b"\xff", "not UTF-8");
    let chain = zip(|zip| {
        zip.add_symlink("a/up", "..", options()).unwrap();
        zip.add_symlink("a/out", "up/../x", options()).unwrap();
    });
    check_refused(&chain, &ArchiveLimits::default(), "leads out");
}

/// A link cannot be used to write elsewhere: what lies "in" it is refused.
#[test]
fn nothing_is_written_through_a_link() {
    let through = zip(|zip| {
        file(zip, "real/fn.py", b"");
        zip.add_symlink("link", "real", options()).unwrap();
        file(zip, "link/evil", b"");
    });
    check_refused(&through, &ArchiveLimits::default(), "twice");
}

#[test]
fn names_that_clash_are_refused() {
    let limits = ArchiveLimits::default();
    let twice = |one: &[u8], other: &[u8]| raw_zip(&[Raw::new(one, b"1"), Raw::new(other, b"2")]);
    check_refused(&twice(b"a", b"a"), &limits, "twice");
    check_refused(&twice(b"a", b"./a"), &limits, "twice");
    check_refused(&twice(b"a", b"a/b"), &limits, "twice");
    check_refused(&twice(b"a/b", b"a"), &limits, "twice");
    check_refused(&twice(b"a", b"a/"), &limits, "twice");
}

#[test]
fn what_cannot_be_read_is_named() {
    let encrypted = Raw { flags: 1, ..Raw::new(b"fn.py", b"????????????") };
    check_refused(&raw_zip(&[encrypted]), &ArchiveLimits::default(), "without a password");
    for (method, name) in [(9, "Deflate64"), (12, "bzip2"), (14, "LZMA"), (93, "Zstandard")] {
        let packed = Raw { method, ..Raw::new(b"fn.py", b"?") };
        check_refused(&raw_zip(&[packed]), &ArchiveLimits::default(), name);
    }
}

#[test]
fn damaged_archives_are_refused() {
    let limits = ArchiveLimits::default();
    let whole = zip(|zip| file(zip, "fn.py", &b"some text ".repeat(1000)));
    for length in [2, 10, whole.len() / 2, whole.len() - 5] {
        check_refused(&whole[..length], &limits, "cut off or damaged: the directory at its end");
    }
    for (bytes, expected) in [
        (&b""[..], "the zip has no bytes; zip"),
        (b"hello, this is text", "this is no zip archive; zip"),
        (b"\x1f\x8b\x08", "this is no zip archive, it looks like a gzip file"),
        (b"<!doctype html>", "this is no zip archive, it looks like a web page"),
    ] {
        check_refused(bytes, &limits, expected);
    }
    let prefixed = [b"#!/bin/sh\n", whole.as_slice()].concat();
    check_refused(&prefixed, &limits, "this is no zip archive; zip");
    let mut flipped = whole.clone();
    flipped[60] ^= 0xff;
    check_refused(&flipped, &limits, "the zip archive is damaged: ");
    check_refused(&zip(|_| {}), &limits, "empty");
    // Its end promises more entries than there is room for.
    let mut promising = whole;
    let end = promising.len() - 22;
    promising[end + 8..end + 12].copy_from_slice(&[0xff, 0xfe, 0xff, 0xfe]);
    check_refused(&promising, &limits, "cut off or damaged: ");
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; 2 << 20];
    let bomb = zip(|zip| file(zip, "zeros", &zeros));
    let limits = ArchiveLimits { ratio_free_bytes: 1 << 20, ..Default::default() };
    check_refused(&bomb, &limits, "zip bomb");
    // Under the free size the ratio does not matter.
    good(&bomb);
    let small = ArchiveLimits { unpacked_bytes_max: 1000, ..Default::default() };
    check_refused(&zip(|zip| file(zip, "x", &zeros[..1001])), &small, "1000 bytes");
    run(&zip(|zip| file(zip, "x", &zeros[..1000])), "", &small).unwrap();
}

/// What an archive says of its sizes is not believed.
#[test]
fn bombs_that_lie_are_refused() {
    let mut deflated = zip(|zip| file(zip, "zeros", &vec![0; 2 << 20]));
    let limits = ArchiveLimits { ratio_free_bytes: 1 << 20, ..Default::default() };
    let declared = u32::try_from(2 << 20).unwrap().to_le_bytes();
    while let Some(at) = deflated.windows(4).position(|window| window == declared) {
        deflated[at..at + 4].copy_from_slice(&10u32.to_le_bytes());
    }
    check_refused(&deflated, &limits, "larger than its declared");
    // Even if the zip crate did believe it, bytes are counted as they come.
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("fn");
    let mut tree = Tree::create(&into, &limits, 1 << 20).unwrap_or_else(|error| panic!("{error}"));
    let endless = &mut io::repeat(0);
    let outcome = tree.file(&["zeros"], None, endless, &AtomicBool::new(false));
    let error = outcome.map_err(|error| error.of_entry(b"zeros", |e| panic!("{e}"))).unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge(_)), "{error}");
}

#[test]
fn entries_are_bounded() {
    let limits = ArchiveLimits { entries_max: 4, links_max: 1, ..Default::default() };
    let files = |names: &[&str]| zip(|zip| names.iter().for_each(|name| file(zip, name, b"")));
    run(&files(&["a", "b", "c", "d"]), "", &limits).unwrap();
    check_refused(&files(&["a", "b", "c", "d", "e"]), &limits, "more than the 4 files");
    // Folders that only stand in names count.
    check_refused(&files(&["1/2/3/4/5"]), &limits, "more than the 4 files");
    let links = zip(|zip| {
        zip.add_symlink("a", "b", options()).unwrap();
        zip.add_symlink("c", "d", options()).unwrap();
    });
    check_refused(&links, &limits, "more than 1 links");
}

#[test]
fn only_the_subfolder_is_unpacked() {
    let bytes = zip(|zip| {
        file(zip, "repo/README", b"");
        file(zip, "repo/fns/echo/fn.py", b"echo");
        file(zip, "repo/fns/echo/lib/x.py", b"");
        file(zip, "repo/fns/echo2/fn.py", b"");
        zip.add_directory("repo/none/", options()).unwrap();
    });
    let limits = ArchiveLimits::default();
    let unpacked = run(&bytes, "/repo/fns/echo/", &limits).unwrap();
    assert_eq!(unpacked.names(), ["fn.py", "lib/", "lib/x.py"]);
    assert!(run(&bytes, "repo/none", &limits).unwrap().names().is_empty());
    for missing in ["fns", "repo/fns/ech", "repo/README"] {
        let error = run(&bytes, missing, &limits).map(|u| u.names()).unwrap_err().to_string();
        assert!(error.contains("at its top it has \"repo\""), "{missing}: {error}");
    }
    // Of what lies elsewhere nothing is unpacked, but it must be decent.
    let indecent = raw_zip(&[Raw::new(b"a/fn.py", b""), Raw::new(b"../b", b"")]);
    run(&indecent, "a", &limits).map(|u| u.names()).unwrap_err();
}

#[test]
fn it_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let mut archive = tempfile::tempfile().unwrap();
    archive.write_all(&zip(|zip| file(zip, "fn.py", b""))).unwrap();
    let (into, limits) = (dir.path().join("fn"), ArchiveLimits::default());
    let cancelled = AtomicBool::new(true);
    let error = unpack(archive, Formats::Zip, into, &Subfolder::default(), &limits, &cancelled)
        .unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    /// Whatever is done to an archive: it comes out inside or not at all.
    #[test]
    fn a_tampered_archive_hurts_nobody(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = zip(|zip| {
            file(zip, "fn.py", b"some text, some text, some text");
            zip.add_directory("lib/", options()).unwrap();
            file(zip, "lib/x.py", b"x");
            zip.add_symlink("lib/link", "../fn.py", options()).unwrap();
        });
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        // It checks itself that nothing is left behind.
        if let Ok(unpacked) = run(&bytes, "", &ArchiveLimits::default()) {
            for name in unpacked.names() {
                let path = fs::canonicalize(unpacked.at(&name));
                let root = fs::canonicalize(unpacked.folder.path()).unwrap();
                // A link to nothing has no real path.
                prop_assert!(path.is_err() || path.unwrap().starts_with(root), "{}", name);
            }
        }
    }
}
