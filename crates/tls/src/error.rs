//! What can be wrong with the files that TLS needs.
//!
//! Owns the words. Must not know how it was found out.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::acme::AcmeConfigError;

/// Why there is no certificate to serve, or why it cannot be replaced.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is not what it should be.
    #[error("{}: {problem}", file.display())]
    File {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        problem: FileProblem,
    },
    /// None can be asked for.
    #[error(transparent)]
    Acme(#[from] AcmeConfigError),
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileProblem {
    /// There is none.
    #[error("there is no such file")]
    NotThere,
    /// This user may not read it.
    #[error("this server's user may not read it")]
    NoPermission,
    /// A directory or a device.
    #[error("it is not a file")]
    NotAFile,
    /// Reading broke.
    #[error("it cannot be read: {0}")]
    Read(io::Error),
    /// Writing broke.
    #[error("it cannot be written: {0}")]
    Write(io::Error),
    /// Larger than any file of its kind.
    #[error("it is larger than {limit} bytes, which no file of certificates or keys is")]
    TooLarge {
        /// What is read at most.
        limit: u64,
    },
    /// Nothing in it, as while it is being written.
    #[error("it is empty")]
    Empty,
    /// No PEM.
    #[error(
        "it is not PEM, which has a line \"-----BEGIN {wanted}-----\" \
         (of DER, \"openssl {command} -inform der\" makes PEM)"
    )]
    NoPem {
        /// What was looked for.
        wanted: &'static str,
        /// What of openssl reads it.
        command: &'static str,
    },
    /// It breaks off, as while it is being written.
    #[error("it is half-written: it ends within its {label}, without \"-----END {label}-----\"")]
    HalfWritten {
        /// What it breaks off in.
        label: String,
    },
    /// Damaged PEM.
    #[error("its {label} is damaged: {reason}")]
    Damaged {
        /// What of it.
        label: String,
        /// What does not fit.
        reason: String,
    },
    /// PEM, but of other things.
    #[error("it has no {wanted}, only {found}")]
    Lacks {
        /// What was looked for.
        wanted: &'static str,
        /// What there is.
        found: String,
    },
    /// A key that needs a password.
    #[error(
        "its key is encrypted, and nobody is there to type a password; \
         \"openssl pkey -in FILE -out PLAIN\" decrypts it"
    )]
    EncryptedKey,
    /// A key that cannot be used.
    #[error(
        "its key is of a kind that is not supported: take ECDSA (P-256 or P-384), Ed25519 or \
         RSA of 2048 to 8192 bits"
    )]
    UnsupportedKey,
    /// The key is another certificate's.
    #[error("its key does not belong to the certificate in {}", certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The key's certificate is there, but not in its place.
    #[error(
        "the server's own certificate must be the first; that of the key in {} is number {at}",
        key.display()
    )]
    WrongOrder {
        /// The key's file.
        key: PathBuf,
        /// Which one is the key's, counted from 1.
        at: usize,
    },
    /// It was valid once.
    #[error("its certificate has expired: it was valid until {until}")]
    Expired {
        /// Until when.
        until: Timestamp,
    },
    /// It will be valid.
    #[error(
        "its certificate is not valid yet: it is from {from} on, and this machine's clock says {now}"
    )]
    NotYetValid {
        /// From when.
        from: Timestamp,
        /// What the clock said.
        now: Timestamp,
    },
    /// What was kept has become unusable.
    #[error(
        "{0}; it is the key of the self-signed certificate, which clients may have pinned: put \
         it back, or remove it to have another made"
    )]
    KeptKey(Box<FileProblem>),
    /// A certificate that cannot certify anybody.
    #[error("certificate {at} in it cannot be a root: {reason}")]
    NoRoot {
        /// Which one, counted from 1.
        at: usize,
        /// Why.
        reason: String,
    },
}

impl FileProblem {
    /// What a failed system call says about a file.
    pub(crate) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotThere,
            io::ErrorKind::PermissionDenied => Self::NoPermission,
            _ => Self::Read(error),
        }
    }

    pub(crate) fn in_file(self, file: &Path) -> TlsError {
        TlsError::File { file: file.to_owned(), problem: self }
    }
}
