//! TLS for every endpoint that takes connections: certificates and handshakes.
//!
//! A leaf: it knows no room and no protocol above TLS, but for the words in which
//! plain HTTP on its port is answered. [`Tls`] has the server's certificate and
//! keeps it fresh, an [`Acceptor`] makes a [`TlsStream`] of a connection.
//!
//! What differs from one endpoint to another is told to [`Tls::acceptor`]: which
//! protocols (ALPN), and who must show a certificate. Certificates of clients are
//! judged by [`Roots`], which are read before an acceptor is made, so that
//! everything that can be wrong with a file is told by [`Tls::open`] and
//! [`Roots::open`].

mod acceptor;
mod acme;
mod certificate;
mod client;
mod clock;
mod error;
mod expiry;
mod files;
mod from_files;
mod hello;
mod pem;
mod plain_text;
mod resolver;
mod self_signed;
mod stream;
mod subject;
#[cfg(test)]
mod testing;
mod tls;

pub use acceptor::{Acceptor, HandshakeError};
pub use acme::{AcmeConfig, AcmeConfigError, Challenge};
pub use client::{Client, ClientCertificates, ClientError, Roots};
pub use error::{FileProblem, TlsError};
pub use stream::TlsStream;
pub use tls::{Description, Source, Tls, TlsConfig};
