use std::fs;
use std::io::Write;
use std::sync::atomic::AtomicBool;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{EntryType, Header};

use crate::archive::tests::{Unpacked, run_as, spooled};
use crate::archive::{Formats, Subfolder, UnpackError, unpack};
use crate::config::ArchiveLimits;

/// An entry as a stranger may write it.
struct Raw<'a> {
    name: &'a [u8],
    of_type: EntryType,
    mode: u32,
    link: &'a [u8],
    content: &'a [u8],
}

impl<'a> Raw<'a> {
    fn file(name: &'a str, content: &'a [u8]) -> Self {
        let (of_type, name) = (EntryType::Regular, name.as_bytes());
        Self { name, of_type, mode: 0o644, link: b"", content }
    }

    fn link(name: &'a str, of_type: EntryType, link: &'a str) -> Self {
        Self { of_type, link: link.as_bytes(), ..Self::file(name, b"") }
    }

    fn of_type(name: &'a str, of_type: EntryType) -> Self {
        Self { of_type, ..Self::file(name, b"") }
    }
}

/// The tar, without what ends it.
fn tar(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        let mut header = Header::new_gnu();
        let old = header.as_old_mut();
        old.name[..entry.name.len()].copy_from_slice(entry.name);
        old.linkname[..entry.link.len()].copy_from_slice(entry.link);
        header.set_entry_type(entry.of_type);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(entry.content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar
}

fn gz(tar: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(tar).unwrap();
    packed.finish().unwrap()
}

fn tar_gz(entries: &[Raw<'_>]) -> Vec<u8> {
    let mut tar = tar(entries);
    tar.extend_from_slice(&[0; 1024]);
    gz(&tar)
}

fn run(bytes: &[u8], subfolder: &str, limits: &ArchiveLimits) -> Result<Unpacked, UnpackError> {
    run_as(Formats::ZipOrTarGz, bytes, subfolder, limits)
}

fn good(bytes: &[u8]) -> Unpacked {
    run(bytes, "", &ArchiveLimits::default()).unwrap()
}

#[track_caller]
fn check_refused(bytes: &[u8], limits: &ArchiveLimits, expected: &str) {
    let error = run(bytes, "", limits).map(|_| "unpacked").unwrap_err();
    assert!(error.to_string().contains(expected), "{expected:?} expected, but {error}");
}

#[track_caller]
fn check_entry_refused(entry: Raw<'_>, expected: &str) {
    let bytes = tar_gz(&[Raw::file("fn.py", b"fine"), entry]);
    check_refused(&bytes, &ArchiveLimits::default(), expected);
}

#[test]
fn a_folder_comes_out_as_it_went_in() {
    let unpacked = good(&tar_gz(&[
        Raw { mode: 0o755, ..Raw::of_type("./", EntryType::Directory) },
        Raw::file("./fn.py", b"def fn(): pass"),
        Raw { mode: 0o4755, ..Raw::file("./bin/run", b"#!/bin/sh") },
        Raw { mode: 0o500, ..Raw::of_type("./empty", EntryType::Directory) },
        Raw::file("old-folder/", b""),
        Raw::link("./deep/link", EntryType::Symlink, "../fn.py"),
        Raw::link("./twin.py", EntryType::Link, "./fn.py"),
    ]));
    assert_eq!(unpacked.text("deep/link"), "def fn(): pass");
    assert_eq!(unpacked.text("twin.py"), "def fn(): pass");
    assert_eq!(unpacked.mode("bin/run"), 0o755);
    assert_eq!((unpacked.mode("empty"), unpacked.mode("fn.py")), (0o700, 0o644));
    assert!(unpacked.at("old-folder").is_dir());
}

#[test]
fn what_other_tools_make_is_taken() {
    // Nothing that ends the tar, and two gzip members.
    let halves = tar(&[Raw::file("a", b"1"), Raw::file("b", b"2")]);
    let (one, other) = halves.split_at(700);
    let unpacked = good(&[gz(one), gz(other)].concat());
    assert_eq!((unpacked.text("a"), unpacked.text("b")), ("1".to_owned(), "2".to_owned()));
    // Names longer than the header holds, as GNU and as POSIX write them.
    let long = format!("{}/fn.py", "d".repeat(150));
    let gnu =
        Raw { of_type: EntryType::GNULongName, ..Raw::file("././@LongLink", long.as_bytes()) };
    let unpacked = good(&tar_gz(&[gnu, Raw::file("cut", b"long")]));
    assert_eq!(unpacked.text(&long), "long");
    let record = format!("path={long}\n");
    // The length counts itself: three digits and a space.
    let record = format!("{} {record}", record.len() + 4);
    let pax = Raw { of_type: EntryType::XHeader, ..Raw::file("pax", record.as_bytes()) };
    let global =
        Raw { of_type: EntryType::XGlobalHeader, ..Raw::file("pax_global", b"12 comment=1") };
    let unpacked =
        good(&tar_gz(&[global, pax, Raw::file("cut", b"long"), Raw::file("fn.py", b"")]));
    assert_eq!((unpacked.text(&long), unpacked.text("fn.py")), ("long".into(), String::new()));
}

#[test]
fn what_leads_elsewhere_is_refused() {
    check_entry_refused(Raw::file("../evil", b""), "'..'");
    check_entry_refused(Raw::file("a/../../evil", b""), "'..'");
    check_entry_refused(Raw::file("/etc/evil", b""), "starts at the root");
    check_entry_refused(Raw { name: b"\xff", ..Raw::file("", b"") }, "not UTF-8");
    check_entry_refused(Raw::file("", b""), "no name");
    check_entry_refused(Raw::link("x", EntryType::Symlink, "/etc/passwd"), "absolute");
    check_entry_refused(Raw::link("x", EntryType::Symlink, "../x"), "leads out");
    check_entry_refused(Raw::link("x", EntryType::Symlink, ""), "nowhere");
    check_entry_refused(Raw::link("x", EntryType::Link, "/etc/passwd"), "starts at the root");
    check_entry_refused(Raw::link("x", EntryType::Link, "later"), "no file that comes before it");
    let through = [
        Raw::file("real/fn.py", b""),
        Raw::link("link", EntryType::Symlink, "real"),
        Raw::file("link/evil", b""),
    ];
    check_refused(&tar_gz(&through), &ArchiveLimits::default(), "twice");
    let through = [
        Raw::link("passwd", EntryType::Symlink, "fn.py"),
        Raw::link("x", EntryType::Link, "passwd"),
    ];
    check_refused(&tar_gz(&through), &ArchiveLimits::default(), "no file that comes before it");
}

#[test]
fn special_files_and_clashes_are_refused() {
    check_entry_refused(Raw::of_type("x", EntryType::Fifo), "named pipe");
    check_entry_refused(Raw::of_type("x", EntryType::Char), "device");
    check_entry_refused(Raw::of_type("x", EntryType::Block), "device");
    check_entry_refused(Raw::of_type("x", EntryType::GNUSparse), "sparse");
    check_entry_refused(Raw::of_type("x", EntryType::new(b'V')), "not known");
    check_entry_refused(Raw::file("fn.py", b""), "twice");
    check_entry_refused(Raw::file("fn.py/x", b""), "twice");
    check_entry_refused(Raw::of_type("fn.py", EntryType::Directory), "twice");
}

#[test]
fn headers_of_two_minds_are_refused() {
    let pax =
        |record: &'static [u8]| Raw { of_type: EntryType::XHeader, ..Raw::file("pax", record) };
    let refused = |record, expected| {
        let bytes = tar_gz(&[pax(record), Raw::file("x", b"12345")]);
        check_refused(&bytes, &ArchiveLimits::default(), expected);
    };
    refused(b"9 size=4\n", "two sizes");
    refused(b"27 GNU.sparse.realsize=123\n", "sparse");
    refused(b"16 path=../evil\n", "'..'");
    refused(b"99 path=x\n", "pax headers is none");
    refused(b"path=x\n", "pax headers is none");
    good(&tar_gz(&[pax(b"9 size=5\n"), Raw::file("x", b"12345")]));
}

#[test]
fn bounds_hold() {
    let zeros = vec![0; 2 << 20];
    let bomb = tar_gz(&[Raw::file("zeros", &zeros)]);
    let limits = ArchiveLimits { ratio_free_bytes: 1 << 20, ..Default::default() };
    check_refused(&bomb, &limits, "zip bomb");
    good(&bomb);
    let small = ArchiveLimits { unpacked_bytes_max: 1000, entries_max: 10, ..Default::default() };
    check_refused(&tar_gz(&[Raw::file("x", &zeros[..1001])]), &small, "1000 bytes");
    run(&tar_gz(&[Raw::file("x", &zeros[..1000])]), "", &small).unwrap();
    // What lies elsewhere is passed over, but not without end.
    let elsewhere = tar_gz(&[Raw::file("b/fn.py", b""), Raw::file("a/zeros", &zeros)]);
    let error = run(&elsewhere, "b", &small).map(|_| "unpacked").unwrap_err();
    assert!(matches!(error, UnpackError::TooLarge(_)), "{error}");
    // A header that promises a name without end.
    let name = Raw { of_type: EntryType::GNULongName, ..Raw::file("x", &zeros[..100_000]) };
    check_refused(&tar_gz(&[name]), &ArchiveLimits::default(), "absurdly long");
    let names: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let files: Vec<Raw<'_>> = names.iter().map(|name| Raw::file(name, b"")).collect();
    check_refused(&tar_gz(&files), &small, "more than the 10 files");
    let twins = [Raw::file("a", &zeros[..600]), Raw::link("b", EntryType::Link, "a")];
    check_refused(&tar_gz(&twins), &small, "1000 bytes");
}

#[test]
fn damaged_archives_are_refused() {
    let limits = ArchiveLimits::default();
    let noise: Vec<u8> =
        (0..60_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let entries = [Raw::file("fn.py", &noise), Raw::file("last", &noise)];
    let whole = tar_gz(&entries);
    for length in [2, 10, whole.len() / 2, whole.len() - 1] {
        check_refused(&whole[..length], &limits, "cut off or damaged");
    }
    let mut flipped = whole.clone();
    let checksum = flipped.len() - 6;
    flipped[checksum] ^= 0xff;
    check_refused(&flipped, &limits, "cut off or damaged");
    // Whole as gzip, cut off as tar: within a content, within a header.
    let tar = tar(&entries);
    check_refused(&gz(&tar[..tar.len() - 5000]), &limits, "cut short");
    check_refused(&gz(&tar[..700]), &limits, "cut short");
    check_refused(&gz(&tar[..200]), &limits, "cut off or damaged");
    check_refused(
        &gz(b"hello, this is no tar but long enough to be one".repeat(20).as_slice()),
        &limits,
        "damaged",
    );
    check_refused(&gz(b""), &limits, "empty");
    check_refused(&tar_gz(&[]), &limits, "empty");
    check_refused(&[whole.as_slice(), b"rubbish"].concat(), &limits, "damaged");
}

#[test]
fn only_the_subfolder_is_unpacked() {
    let bytes = tar_gz(&[
        Raw::file("repo/README", b"x"),
        Raw::file("repo/fns/echo/fn.py", b"echo"),
        Raw::link("repo/fns/echo/twin", EntryType::Link, "repo/fns/echo/fn.py"),
        Raw::file("repo/fns/echo2/fn.py", b""),
    ]);
    let limits = ArchiveLimits::default();
    let unpacked = run(&bytes, "/repo/fns/echo/", &limits).unwrap();
    assert_eq!((unpacked.text("fn.py"), unpacked.text("twin")), ("echo".into(), "echo".into()));
    assert_eq!(fs::read_dir(unpacked.folder.path()).unwrap().count(), 2);
    let error = run(&bytes, "fns", &limits).map(|_| "unpacked").unwrap_err().to_string();
    assert!(error.contains("at its top it has \"repo\""), "{error}");
    let outside = tar_gz(&[Raw::file("a", b""), Raw::link("b/fn.py", EntryType::Link, "a")]);
    let error = run(&outside, "b", &limits).map(|_| "unpacked").unwrap_err().to_string();
    assert!(error.contains("outside of the folder"), "{error}");
}

#[test]
fn it_can_be_cancelled() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = tar_gz(&[Raw::file("fn.py", b"")]);
    let (top, limits) = (Subfolder::default(), ArchiveLimits::default());
    let (into, cancelled) = (dir.path().join("fn"), AtomicBool::new(true));
    let formats = Formats::ZipOrTarGz;
    let error = unpack(spooled(&bytes), formats, into, &top, &limits, &cancelled).unwrap_err();
    assert!(matches!(error, UnpackError::Cancelled), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

proptest! {
    /// Whatever is done to an archive: it comes out inside or not at all.
    #[test]
    fn a_tampered_archive_hurts_nobody(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        mend: bool,
    ) {
        let mut tar = tar(&[
            Raw::file("fn.py", b"some text"),
            Raw::link("lib/link", EntryType::Symlink, "../fn.py"),
            Raw::link("lib/twin", EntryType::Link, "fn.py"),
        ]);
        for (at, value) in changes {
            let at = at.index(tar.len());
            tar[at] = value;
        }
        if mend {
            // With sums that fit, what was changed is looked at.
            for at in [0, 1024, 1536] {
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&tar[at..at + 512]);
                header.set_cksum();
                tar[at..at + 512].copy_from_slice(header.as_bytes());
            }
        }
        // It checks itself that nothing is left behind.
        if let Ok(unpacked) = run(&gz(&tar), "", &ArchiveLimits::default()) {
            let root = fs::canonicalize(unpacked.folder.path()).unwrap();
            let link = fs::canonicalize(unpacked.at("lib/link"));
            prop_assert!(link.is_err() || link.unwrap().starts_with(root));
        }
    }
}
