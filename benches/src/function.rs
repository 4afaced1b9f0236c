//! The sample functions: found in a folder, packed, uploaded, called, deleted.
//!
//! Owns the upload's body and what a right first call is. Must not know what is
//! measured with them.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::client;
use crate::server::Server;

/// The environments that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Environment {
    Python,
    Node,
    Binary,
}

impl Environment {
    /// In the order in which they are shown.
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::Node, Self::Binary];

    /// As an upload names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Python => "python3",
            Self::Node => "nodejs",
            Self::Binary => "binary",
        }
    }

    /// Its echo among the sample functions.
    fn sample(self) -> &'static str {
        match self {
            Self::Python => "echo",
            Self::Node => "echo-js",
            Self::Binary => "echo-binary",
        }
    }

    /// What it needs on the host; `None` where that is not there.
    pub(crate) fn interpreter(self) -> Option<PathBuf> {
        let program = match self {
            Self::Python => "python3",
            Self::Node => "node",
            Self::Binary => "sh",
        };
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
    }

    /// What to say where it is missing.
    pub(crate) fn missing(self) -> &'static str {
        match self {
            Self::Python => "no python3 on the PATH",
            Self::Node => "no node on the PATH",
            Self::Binary => "no sh on the PATH",
        }
    }
}

/// An echo function, packed and ready to be uploaded under any name.
#[derive(Debug)]
pub(crate) struct Echo {
    /// Where it runs.
    pub(crate) environment: Environment,
    /// Its folder.
    pub(crate) folder: PathBuf,
    archive: String,
}

impl Echo {
    /// Packs the sample out of the folder of all samples.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(crate) fn pack(environment: Environment, samples: &Path) -> anyhow::Result<Self> {
        let folder = samples.join(environment.sample());
        let archive = STANDARD.encode(zip_of(&folder)?);
        Ok(Self { environment, folder, archive })
    }

    /// Uploads it; how long the answer took.
    ///
    /// # Errors
    /// Where the server refuses it.
    pub(crate) fn upload(
        &self,
        server: &Server,
        name: &str,
        threads: usize,
    ) -> anyhow::Result<Duration> {
        let body = json!({
            "name": name, "env": self.environment.name(), "threads": threads, "zip": self.archive,
        })
        .to_string();
        let begun = Instant::now();
        client::ask(server.management, "POST", "/upload", body.as_bytes())?
            .success()
            .with_context(|| format!("uploading {name} ({})", self.environment.name()))?;
        Ok(begun.elapsed())
    }
}

/// Calls an echo once on a new connection; how long it took.
///
/// # Errors
/// Where the reply is not what was sent: an upload's answer says that the
/// function is ready, so the first call must succeed.
pub(crate) fn call(server: &Server, name: &str, body: &[u8]) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let reply = client::ask(server.http, "POST", &format!("/{name}"), body)?
        .success()
        .with_context(|| format!("calling {name}"))?;
    let took = begun.elapsed();
    ensure!(reply == body, "{name} replied with {:?}", String::from_utf8_lossy(&reply));
    Ok(took)
}

/// Deletes a function.
///
/// # Errors
/// Where the server refuses it.
pub(crate) fn delete(server: &Server, name: &str) -> anyhow::Result<()> {
    let body = json!({ "name": name }).to_string();
    client::ask(server.management, "POST", "/delete", body.as_bytes())?
        .success()
        .with_context(|| format!("deleting {name}"))?;
    Ok(())
}

/// The folder's files, stored: a sample has no folders in it.
fn zip_of(folder: &Path) -> anyhow::Result<Vec<u8>> {
    let reading = || format!("cannot read the sample function in {}", folder.display());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for entry in fs::read_dir(folder).with_context(reading)? {
        let entry = entry.with_context(reading)?;
        if !entry.file_type().with_context(reading)?.is_file() {
            continue;
        }
        let name = entry.file_name();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .unix_permissions(0o755);
        zip.start_file(name.to_string_lossy(), options).with_context(reading)?;
        zip.write_all(&fs::read(entry.path()).with_context(reading)?)?;
    }
    Ok(zip.finish()?.into_inner())
}
