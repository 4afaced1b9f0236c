//! How the authority is spoken to.
//!
//! Owns whom to trust, how long an answer may take and be, and what of an answer
//! the ACME library leaves out. The environment's proxy settings count. Must not
//! know what is asked.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::header::{RETRY_AFTER, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Collected};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use parking_lot::Mutex;
use reqwest::Client;
use reqwest::redirect::Policy;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use super::config::AcmeConfig;
use crate::client::read_roots;
use crate::error::TlsError;

/// An authority has no reason for more.
const REDIRECTS_MAX: usize = 3;
const OUR_NAME: &str = concat!("tinyfaas/", env!("CARGO_PKG_VERSION"));

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The file of the authority's own roots.
    #[error("the ACME CA file {0}")]
    CaFile(#[from] TlsError),
    /// No file was given, and the system has nothing.
    #[error(
        "this system has no certificates of authorities ({0}): install them \
         (ca-certificates), or set TF_ACME_CA_FILE"
    )]
    NoRoots(String),
    /// Of rustls or the client's own.
    #[error("cannot make a client for ACME: {0}")]
    Client(String),
}

/// Why there is no answer, or none that can be an authority's.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("it cannot be reached: {why}{}", advice(why))]
    Unreachable { why: String },
    #[error("it has not answered within {} s", .0.as_secs())]
    TimedOut(Duration),
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("it answers {status} where an ACME authority would say more")]
    NotAcme { status: StatusCode },
}

/// For the length of one order.
pub(super) struct Http {
    client: Client,
    timeout: Duration,
    bytes_max: usize,
    heard: Arc<Heard>,
}

/// What the authority's answers said beside their bodies.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// It has answered an order or a part of it, which may count against its limits.
    counted: AtomicBool,
    /// Not to be asked before this.
    retry_after: Mutex<Option<SystemTime>>,
}

impl Heard {
    pub(super) fn counted(&self) -> bool {
        self.counted.load(Ordering::Relaxed)
    }

    pub(super) fn retry_after(&self) -> Option<SystemTime> {
        *self.retry_after.lock()
    }

    fn note(&self, method: &Method, status: StatusCode, retry_after: Option<&HeaderValue>) {
        if *method == Method::POST && !status.is_server_error() {
            self.counted.store(true, Ordering::Relaxed);
        }
        // On success it is for the library, which polls by it.
        if status.is_client_error() || status.is_server_error() {
            let until =
                retry_after.and_then(|value| until(value.to_str().ok()?, SystemTime::now()));
            *self.retry_after.lock() = until;
        }
    }
}

impl Http {
    /// Reads the roots anew: they may have been replaced, and are not needed
    /// between two orders.
    pub(super) fn new(config: &AcmeConfig, heard: Arc<Heard>) -> Result<Self, ClientError> {
        let roots = match &config.ca_file {
            Some(file) => read_roots(file)?,
            None => system_roots()?,
        };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| ClientError::Client(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(Policy::limited(REDIRECTS_MAX))
            .build()
            .map_err(|error| ClientError::Client(deepest(&error)))?;
        let (timeout, bytes_max) = (config.request_timeout, config.response_bytes_max);
        Ok(Self { client, timeout, bytes_max, heard })
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let (client, timeout, bytes_max) = (self.client.clone(), self.timeout, self.bytes_max);
        let heard = Arc::clone(&self.heard);
        Box::pin(async move {
            let answer = tokio::time::timeout(timeout, ask(&client, request, bytes_max, &heard));
            match answer.await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Other(Box::new(AnswerError::TimedOut(timeout)))),
            }
        })
    }
}

async fn ask(
    client: &Client,
    request: Request<BodyWrapper<Bytes>>,
    bytes_max: usize,
    heard: &Heard,
) -> Result<BytesResponse, Error> {
    let (mut parts, body) = request.into_parts();
    parts.headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
    let Ok(body) = body.collect().await.map(Collected::to_bytes);
    let broken = |error: reqwest::Error| {
        Error::Other(Box::new(AnswerError::Unreachable { why: deepest(&error) }))
    };
    let mut answer = client
        .request(parts.method.clone(), parts.uri.to_string())
        .headers(parts.headers)
        .body(body)
        .send()
        .await
        .map_err(broken)?;
    let status = answer.status();
    heard.note(&parts.method, status, answer.headers().get(RETRY_AFTER));
    let mut whole = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        if whole.len() + chunk.len() > bytes_max {
            return Err(Error::Other(Box::new(AnswerError::TooLong(bytes_max))));
        }
        whole.extend_from_slice(&chunk);
    }
    // The library would only say that this is no JSON.
    let failed = status.is_client_error() || status.is_server_error();
    if failed && serde_json::from_slice::<instant_acme::Problem>(&whole).is_err() {
        return Err(Error::Other(Box::new(AnswerError::NotAcme { status })));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    let (parts, ()) = response.into_parts();
    Ok(BytesResponse { parts, body: Box::new(whole.freeze()) })
}

/// What the system trusts; single ones that make no sense are left out, as others do.
fn system_roots() -> Result<RootCertStore, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(ClientError::NoRoots(why));
    }
    Ok(roots)
}

/// Seconds, or a date (RFC 9110, section 10.2.3).
fn until(retry_after: &str, now: SystemTime) -> Option<SystemTime> {
    let text = retry_after.trim();
    match text.parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(text).ok()?;
            Some(date.timestamp().into())
        }
    }
}

/// What really happened lies below what a client was doing then.
fn deepest(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn advice(why: &str) -> &'static str {
    if why.contains("UnknownIssuer") {
        "; if the authority is a private one, set TF_ACME_CA_FILE to the file of its CA"
    } else if why.contains("NotValidYet") || why.contains("Expired") {
        "; is this machine's clock right?"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_says_when_to_come_again() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let said = |text| until(text, now)?.duration_since(SystemTime::UNIX_EPOCH).ok();
        assert_eq!(said("120"), Some(Duration::from_secs(1_120)));
        assert_eq!(said("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::from_secs(946_684_799)));
        assert_eq!(said("soon"), None);
        assert_eq!(said("18446744073709551615"), None);
        let heard = Heard::default();
        let later = HeaderValue::from_static("60");
        heard.note(&Method::GET, StatusCode::OK, Some(&later));
        assert!(heard.retry_after().is_none() && !heard.counted());
        heard.note(&Method::POST, StatusCode::SERVICE_UNAVAILABLE, Some(&later));
        assert!(heard.retry_after().is_some() && !heard.counted());
        heard.note(&Method::POST, StatusCode::TOO_MANY_REQUESTS, Some(&later));
        assert!(heard.counted());
    }

    #[test]
    fn a_ca_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("ca.pem");
        let error = read_roots(&file).expect_err("none").to_string();
        assert!(error.contains("ca.pem: there is no such file"), "{error}");
        std::fs::write(&file, "hello").expect("writable");
        let error = read_roots(&file).expect_err("no PEM").to_string();
        assert!(error.contains("ca.pem: it is not PEM"), "{error}");
    }
}
