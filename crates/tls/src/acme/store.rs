//! What is kept between two runs: account, certificate with its key, attempts.
//!
//! Files of this user's alone (0600), which are whole or not there, whenever the
//! power fails. One folder for each authority, so that trying another one costs
//! nothing. Must not know what an authority is asked.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use instant_acme::AccountCredentials;
use ring::digest::{SHA256, digest};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::schedule::Attempts;
use crate::error::FileProblem;
use crate::files;

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
const ATTEMPTS: &str = "attempts.json";

/// The folder of one authority.
#[derive(Debug, Clone)]
pub(super) struct Store {
    folder: PathBuf,
}

/// Why something cannot be kept, or what was kept cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// The system's.
    #[error("{}: {problem}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        problem: FileProblem,
    },
    /// It was read, but makes no sense.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// An account with an authority.
#[derive(Serialize, Deserialize)]
pub(super) struct Account {
    /// As the authority knows them.
    pub(super) contacts: Vec<String>,
    /// Its address and its key.
    pub(super) credentials: AccountCredentials,
}

impl Store {
    /// The folder below `state` for the authority with this directory. Nothing is
    /// read or made.
    pub(super) fn new(state: &Path, host: &str, directory: &str) -> Self {
        let hash = digest(&SHA256, directory.as_bytes());
        let short: String =
            hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        // An IPv6 address's brackets and colons are no use in a file's name.
        let host = host.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "_");
        Self { folder: state.join(format!("{host}-{short}")) }
    }

    /// The account, where there is one.
    pub(super) fn account(&self) -> Result<Option<Account>, StoreError> {
        self.read_json(ACCOUNT)
    }

    /// Keeps the account.
    pub(super) fn keep_account(&self, account: &Account) -> Result<(), StoreError> {
        self.keep_json(ACCOUNT, account)
    }

    /// How it went so far; nothing, where that is not known.
    pub(super) fn attempts(&self) -> Attempts {
        self.read_json(ATTEMPTS).ok().flatten().unwrap_or_default()
    }

    /// Keeps how it went. As this is written before an order and after it, a disk
    /// that is full is seen before the authority is troubled.
    pub(super) fn keep_attempts(&self, attempts: &Attempts) -> Result<(), StoreError> {
        self.keep_json(ATTEMPTS, attempts)
    }

    /// Key and chain of the certificate, in PEM, where there is one.
    pub(super) fn certificate(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(CERTIFICATE)
    }

    /// Keeps key and chain, in one file: never one without the other.
    pub(super) fn keep_certificate(&self, pem: &str) -> Result<(), StoreError> {
        self.keep(CERTIFICATE, pem)
    }

    /// When the certificate was kept.
    pub(super) fn certificate_came(&self) -> Option<SystemTime> {
        fs::metadata(self.certificate_path()).and_then(|file| file.modified()).ok()
    }

    /// For messages.
    pub(super) fn certificate_path(&self) -> PathBuf {
        self.folder.join(CERTIFICATE)
    }

    /// Takes the certificate's file out of the way, for whoever wants to look at it.
    pub(super) fn set_certificate_aside(&self) -> Result<PathBuf, StoreError> {
        self.set_aside(CERTIFICATE)
    }

    /// Takes the account's file out of the way.
    pub(super) fn set_account_aside(&self) -> Result<PathBuf, StoreError> {
        self.set_aside(ACCOUNT)
    }

    fn set_aside(&self, name: &str) -> Result<PathBuf, StoreError> {
        let path = self.folder.join(name);
        let aside = self.folder.join(format!("{name}.damaged"));
        match fs::rename(&path, &aside) {
            Ok(()) => Ok(aside),
            Err(error) => Err(StoreError::File { path, problem: FileProblem::Write(error) }),
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.folder.join(name);
        match files::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(FileProblem::NotThere) => Ok(None),
            Err(problem) => Err(StoreError::File { path, problem }),
        }
    }

    fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| {
            // Where, and never what: the file holds a key.
            let (line, column) = (error.line(), error.column());
            let why = format!("not what was written there (line {line}, column {column})");
            StoreError::Damaged { path: self.folder.join(name), why }
        })
    }

    fn keep_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let json = serde_json::to_string_pretty(value).map_err(|error| StoreError::File {
            path: self.folder.join(name),
            problem: FileProblem::Write(error.into()),
        })?;
        self.keep(name, &json)
    }

    /// Whoever reads the file, also after a power failure, finds the old or the new.
    fn keep(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let path = self.folder.join(name);
        files::make_directory(&self.folder)
            .and_then(|()| files::replace(&path, text))
            .map_err(|problem| StoreError::File { path, problem })
    }
}

/// Off the threads that serve: writing may take a slow card seconds.
pub(super) async fn on_disk<T: Send + 'static>(
    store: &Store,
    act: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (own, path) = (store.clone(), store.folder.clone());
    match tokio::task::spawn_blocking(move || act(&own)).await {
        Ok(outcome) => outcome,
        Err(ended) => {
            Err(StoreError::File { path, problem: FileProblem::of(io::Error::other(ended)) })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::new(&dir.path().join("acme"), "[::1]", "https://[::1]/dir");
        (dir, store)
    }

    #[test]
    fn each_authority_has_a_folder() {
        let folder = |host: &str, url: &str| Store::new(Path::new("/s"), host, url).folder;
        let one = folder("ca.example", "https://ca.example/one");
        assert!(one.to_string_lossy().starts_with("/s/ca.example-"), "{one:?}");
        assert_ne!(one, folder("ca.example", "https://ca.example/two"));
        assert!(folder("[::1]", "x").to_string_lossy().starts_with("/s/___1_-"));
    }

    #[test]
    fn what_is_kept_is_this_users_alone_and_whole() {
        let (_dir, store) = store();
        assert_eq!(store.certificate().expect("none yet"), None);
        assert_eq!(store.attempts(), Attempts::default());
        let attempts =
            Attempts { asked: "a".to_owned(), failures: 2, last: 3, not_before: Some(4) };
        store.keep_attempts(&attempts).expect("kept");
        assert_eq!(store.attempts(), attempts);
        store.keep_certificate("one").expect("kept");
        // What a power failure left of another write is in nobody's way.
        fs::write(store.folder.join("certificate.new"), "half").expect("writable");
        store.keep_certificate("two").expect("kept again");
        assert_eq!(store.certificate().expect("read"), Some(b"two".to_vec()));
        assert!(!store.folder.join("certificate.new").exists());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&store.certificate_path()), 0o600);
        assert_eq!(mode(&store.folder), 0o700);
    }

    #[test]
    fn damage_is_named_but_not_shown() {
        let (_dir, store) = store();
        store.keep(ACCOUNT, "{\"credentials\": \"secret\"}").expect("kept");
        let error = store.account().err().expect("damaged").to_string();
        assert!(error.contains("account.json: not what was written there (line 1"), "{error}");
        assert!(!error.contains("secret"), "{error}");
        let aside = store.set_account_aside().expect("moved");
        assert!(aside.ends_with("account.json.damaged") && aside.exists());
        assert!(store.account().expect("none").is_none());
        store.keep(ATTEMPTS, "\0\0\0").expect("kept");
        assert_eq!(store.attempts(), Attempts::default());
        store.keep(CERTIFICATE, &"x".repeat(1 + (1 << 20))).expect("kept");
        let error = store.certificate().expect_err("too large").to_string();
        assert!(error.contains("is larger than"), "{error}");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let (dir, store) = store();
        fs::write(dir.path().join("acme"), "a file").expect("writable");
        let error = store.keep_certificate("x").expect_err("no folder").to_string();
        assert!(error.contains("certificate.pem: "), "{error}");
    }
}
