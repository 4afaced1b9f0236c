//! Doors for the fuzz targets, there only in their builds.
//!
//! Owns what must hold for whatever a stranger sends to this room. Must not know
//! how the bytes are made up.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::archive::{self, Formats, Subfolder};
use crate::config::ManagementConfig;
use crate::request::Fields;
use crate::settings::Settings;
use crate::upload_body::{UploadFilter, UploadRest};

/// So little that both ways to be too large are found.
const UNPACKED_BYTES_MAX: u64 = 256 << 10;
const REST_BYTES_MAX: usize = 64 << 10;

/// An archive: whatever is in it, nothing is written outside of its folder, no more
/// than is allowed within, and nothing is left of one that is refused.
pub fn archive(data: &[u8]) {
    let place = std::env::temp_dir().join(format!("tinyfaas-fuzz-{}", std::process::id()));
    let _ = fs::remove_dir_all(&place);
    fs::create_dir(&place).expect("the folder of temporary files can be written");
    let mut limits = config().archive;
    limits.unpacked_bytes_max = UNPACKED_BYTES_MAX;
    limits.entries_max = 100;
    let mut packed = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(place.join("packed"))
        .expect("its folder is new");
    packed.write_all(data).and_then(|()| packed.rewind()).expect("a file can be written");
    fs::remove_file(place.join("packed")).expect("it is there");
    let into = place.join("into");
    let top = Subfolder::default();
    let unpacked = archive::unpack(
        packed,
        Formats::ZipOrTarGz,
        into.clone(),
        &top,
        &limits,
        &AtomicBool::new(false),
    );
    let left = names(&place);
    match unpacked {
        Ok(folder) => {
            assert_eq!(left, [into.clone()], "only its folder");
            assert!(bytes_below(&into, &into) <= UNPACKED_BYTES_MAX);
            drop(folder);
            assert!(names(&place).is_empty(), "a folder that nobody takes is removed");
        }
        Err(error) => {
            assert!(left.is_empty(), "left behind: {left:?}");
            assert!(!error.to_string().is_empty());
        }
    }
}

/// The body of an upload: it means the same however it is cut up, and what passes
/// is what a JSON parser makes of the whole.
pub fn upload(data: &[u8]) {
    let Some((cut, body)) = data.split_first() else { return };
    let whole = filter(body, body.len());
    assert_eq!(filter(body, usize::from(*cut)), whole);
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    if let (Ok((rest, _)), Some(object)) = (&whole, value.as_object()) {
        let rest: serde_json::Value =
            serde_json::from_slice(&rest.json).expect("what was JSON stays JSON");
        assert_eq!(rest.as_object().map(serde_json::Map::len), Some(object.len()));
    }
}

/// The JSON of the six calls.
pub fn request(data: &[u8]) {
    if let Ok(fields) = Fields::parse(data) {
        let _ = fields.name();
        let _ = fields.url_source();
        if let Ok(wanted) = fields.wanted(&config()) {
            assert_eq!(Ok(&wanted.name), fields.name().as_ref().map_err(|_| ()));
        }
    }
}

/// A function's own settings.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(error) = Settings::parse(text, &config()) {
        assert!(!error.to_string().is_empty());
    }
}

fn config() -> ManagementConfig {
    ManagementConfig::new(PathBuf::new(), PathBuf::new())
}

fn filter(body: &[u8], part: usize) -> Result<(UploadRest, Vec<u8>), ()> {
    let mut filter = UploadFilter::new(REST_BYTES_MAX);
    let mut zip = Vec::new();
    for part in body.chunks(part.max(1)) {
        filter.feed(part, &mut zip).map_err(drop)?;
    }
    Ok((filter.finish().map_err(drop)?, zip))
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it is there");
    entries.map(|entry| entry.expect("it can be read").path()).collect()
}

/// The bytes of all files; links must lead to something below `top`, or nowhere.
fn bytes_below(folder: &Path, top: &Path) -> u64 {
    let size = |path: PathBuf| {
        let kind = path.symlink_metadata().expect("it is there");
        if kind.is_dir() {
            return bytes_below(&path, top);
        }
        if kind.is_symlink() {
            if let Ok(target) = path.canonicalize() {
                let top = top.canonicalize().expect("it is there");
                assert!(target.starts_with(top), "{} leads out", path.display());
            }
            return 0;
        }
        assert!(kind.is_file(), "{} is no file", path.display());
        kind.len()
    };
    names(folder).into_iter().map(size).sum()
}
