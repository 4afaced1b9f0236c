//! Fetches an archive by URL into a spool file.
//!
//! Owns what may be fetched: http and https, a bounded number of redirects to the
//! same, a bounded time and size. The system's certificates and the environment's
//! proxy settings count. Must not know what the archive is for. A URL may hold
//! credentials, so errors name its host only.

use std::io;
use std::time::Duration;

use reqwest::header::LOCATION;
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Response, StatusCode, Url};
use rustls::crypto::ring;

use crate::config::ManagementConfig;
use crate::shown::shown;
use crate::spool::{SpoolError, SpoolFile, Spooled};

/// Why nothing was downloaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DownloadError {
    /// The URL is none, or one that is not fetched.
    #[error("\"url\" {0}; send one that starts with http:// or https://")]
    BadUrl(String),
    /// The server cannot be reached, or broke off.
    #[error("the download from {host} failed: {why}")]
    Failed {
        /// Whose.
        host: String,
        /// The deepest cause.
        why: String,
    },
    /// The server has answered, but not with the archive.
    #[error("the download from {host} failed: it answers {status}{}", advice(*status))]
    Status {
        /// Whose.
        host: String,
        /// Its answer.
        status: StatusCode,
    },
    /// It took too long.
    #[error("the download from {host} took longer than the {after:?} it may take")]
    TimedOut {
        /// Whose.
        host: String,
        /// The time it had.
        after: Duration,
    },
    /// What came is no archive.
    #[error("what {host} sent cannot be unpacked: {why}")]
    NoArchive {
        /// Whose.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is too large, or cannot be spooled.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

/// What was downloaded, and from where.
pub(crate) struct Downloaded {
    /// What came, not looked at.
    pub(crate) archive: Spooled,
    /// Who sent it, after redirects.
    pub(crate) host: String,
}

/// Downloads the archive at `url`.
///
/// # Errors
/// Says whose fault it is that there is no archive.
pub(crate) async fn download(
    url: &str,
    config: &ManagementConfig,
) -> Result<Downloaded, DownloadError> {
    let url = parse(url)?;
    let host = host_of(&url);
    let after = config.download_timeout;
    match tokio::time::timeout(after, fetch(url, config)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(DownloadError::TimedOut { host, after }),
    }
}

fn parse(text: &str) -> Result<Url, DownloadError> {
    let url = Url::parse(text)
        .map_err(|error| DownloadError::BadUrl(format!("is not a URL ({error})")))?;
    if !is_web(&url) {
        let scheme = shown(url.scheme().as_bytes());
        return Err(DownloadError::BadUrl(format!("has the scheme {scheme}")));
    }
    Ok(url)
}

async fn fetch(url: Url, config: &ManagementConfig) -> Result<Downloaded, DownloadError> {
    let first_host = host_of(&url);
    let client = client(config, &url).await.map_err(|why| failed(&first_host, why))?;
    let response = client.get(url).send().await;
    let mut response = response.map_err(|error| failed(&first_host, cause(error)))?;
    let host = host_of(response.url());
    check_answer(&response, &host, config.archive.packed_bytes_max)?;
    let mut spool = SpoolFile::create(&config.spool_dir, config.archive.packed_bytes_max).await?;
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(&host, cause(error)))? {
        spool.write(&chunk).await?;
    }
    Ok(Downloaded { archive: spool.finish().await?, host })
}

fn check_answer(response: &Response, host: &str, bytes_max: u64) -> Result<(), DownloadError> {
    let status = response.status();
    if let Some(scheme) = refused_redirect(response) {
        let why = format!("it redirects to {}:, and only http: and https: are followed", scheme);
        return Err(failed(host, why));
    }
    if !status.is_success() {
        return Err(DownloadError::Status { host: host.to_owned(), status });
    }
    if response.content_length().is_some_and(|bytes| bytes > bytes_max) {
        return Err(SpoolError::TooLarge { limit_bytes: bytes_max }.into());
    }
    Ok(())
}

/// A redirect to anything but the web is not followed: it arrives as the answer.
fn refused_redirect(response: &Response) -> Option<String> {
    let to = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    let to = response.url().join(to.to_str().ok()?).ok()?;
    (!is_web(&to)).then(|| to.scheme().to_owned())
}

/// A client for one download: the next may find other proxies and certificates,
/// and no connection is kept in memory.
async fn client(config: &ManagementConfig, url: &Url) -> Result<Client, String> {
    let redirects_max = config.download_redirects_max;
    let connect_timeout = config.download_connect_timeout;
    let builder = move || {
        Client::builder()
            .user_agent(concat!("tinyFaaS/", env!("CARGO_PKG_VERSION")))
            .referer(false)
            .connect_timeout(connect_timeout)
            .redirect(Policy::custom(move |attempt| redirect(attempt, redirects_max)))
    };
    let needs_roots = url.scheme() == "https";
    // Building it reads the system's certificates from disk.
    let built = tokio::task::spawn_blocking(move || {
        // reqwest needs the process to have chosen; where it has, its choice stays.
        drop(ring::default_provider().install_default());
        match builder().build() {
            // A small system may have none at all.
            Err(error) if needs_roots => {
                Err(format!("{}; is the package ca-certificates installed?", cause(error)))
            }
            Err(_) => builder().tls_certs_only([]).build().map_err(cause),
            Ok(client) => Ok(client),
        }
    })
    .await;
    built.map_err(|error| error.to_string())?
}

fn redirect(attempt: Attempt<'_>, redirects_max: usize) -> reqwest::redirect::Action {
    if attempt.previous().len() > redirects_max {
        return attempt.error(format!("it redirects more than {redirects_max} times"));
    }
    if !is_web(attempt.url()) {
        return attempt.stop();
    }
    attempt.follow()
}

fn is_web(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.host_str().is_some()
}

fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn failed(host: &str, why: String) -> DownloadError {
    DownloadError::Failed { host: host.to_owned(), why }
}

/// The deepest cause says what is wrong; what stands above it repeats the URL.
fn cause(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut deepest: &dyn std::error::Error = &error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    // An I/O error that holds another one passes it over as its source.
    let mut held = deepest;
    while let Some(inner) = held.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        held = inner;
    }
    if let Some(rustls::Error::InvalidMessage(_)) = held.downcast_ref() {
        return "it does not speak TLS there; is http:// meant?".to_owned();
    }
    deepest.to_string()
}

/// What may help against an answer.
fn advice(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; the archive must be there for everybody, without a login"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => "; does the URL lead to the archive itself?",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
