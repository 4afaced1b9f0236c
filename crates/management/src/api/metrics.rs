//! `GET /metrics`: what was counted, as Prometheus reads it.
//!
//! Owns gathering the numbers and the answer's head. Must not know what they are
//! called.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use tinyfaas_model::GatewayLoad;

use crate::manager::{DeleteError, Manager};
use crate::metrics::{Format, OwnProcess, Sample, render};

use super::answer::{self, AnswerBody};
use super::refusal::Refusal;

/// Answers a scraper.
///
/// # Errors
/// Where the server has a fault.
pub(super) async fn answer(
    manager: &Manager,
    gateway: GatewayLoad,
    headers: &HeaderMap,
) -> Result<Response<AnswerBody>, Refusal> {
    let format = Format::asked(headers.get_all(ACCEPT).iter().map(HeaderValue::as_bytes));
    let functions = manager.samples().await;
    // Files are read, and a text of some size is written.
    let rendered = tokio::task::spawn_blocking(move || {
        render(Sample { functions, gateway, process: OwnProcess::look() }, format)
    });
    let text = rendered.await.map_err(|error| DeleteError::Fault(error.to_string()))?;
    let mut response = answer::text(text);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
