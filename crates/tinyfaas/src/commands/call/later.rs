//! An asynchronous call: accepted, waited for, its result fetched.
//!
//! Owns the way from a 202 to what the function replied.

use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use super::Gateway;
use crate::client::{self, refusal};
use crate::failure::Failure;
use crate::terminal::{print, print_json, say};

/// How long one request may wait for the call's end; the server may wait less.
const WAIT_SECONDS: u32 = 30;
/// How often the call is asked for at most, whatever the server does.
const PAUSE: Duration = Duration::from_millis(200);
/// Where a call's state lies, below the gateway.
const CALLS: &str = "/.tinyfaas/calls/";

/// A call that the gateway has taken.
pub(super) struct Accepted {
    /// An original tinyFaaS gives none.
    id: Option<String>,
}

/// What the answer to an asynchronous call says.
pub(super) async fn accepted(response: Response) -> Result<Accepted, Failure> {
    if response.status() != StatusCode::ACCEPTED {
        if response.status().is_success() {
            return Err(Failure::failed(
                "the server has not taken the call as an asynchronous one",
            ));
        }
        return Err(refusal(response).await);
    }
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    Ok(Accepted::at(location))
}

impl Accepted {
    /// The call whose state lies there.
    pub(super) fn at(location: Option<&str>) -> Self {
        let id = location.and_then(|location| location.rsplit_once(CALLS)).map(|(_, id)| id);
        Self::with_id(id.unwrap_or_default())
    }

    /// The call with this id.
    pub(super) fn with_id(id: &str) -> Self {
        let is_id = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Self { id: is_id.then(|| id.to_owned()) }
    }

    /// The call's id; empty where there is none.
    pub(super) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// Prints the id.
    pub(super) fn tell(&self, as_json: bool) -> Result<(), Failure> {
        if as_json {
            let location = self.id.as_ref().map(|id| format!("{CALLS}{id}"));
            return print_json(&json!({"id": self.id, "location": location}));
        }
        match &self.id {
            Some(id) => print(format!("{id}\n")),
            None => {
                say("accepted; this server is an older tinyFaaS and gives calls no id");
                Ok(())
            }
        }
    }

    /// Waits for the call's end; the answer is what who waits for the call gets.
    pub(super) async fn result(&self, gateway: &Gateway) -> Result<Response, Failure> {
        let id = self.id.as_ref().ok_or_else(|| {
            Failure::failed(
                "the call was accepted, but this server is an older tinyFaaS: it keeps no results",
            )
        })?;
        loop {
            let asked = Instant::now();
            let path = format!("{CALLS}{id}/result?wait={WAIT_SECONDS}s");
            let response =
                gateway.send(gateway.request(Method::GET, &path, HeaderMap::new())).await?;
            // A function's own 409 is no problem of the gateway's, which says when to
            // ask again.
            let not_ended = response.status() == StatusCode::CONFLICT
                && client::is_problem(&response)
                && response.headers().contains_key(RETRY_AFTER);
            if !not_ended {
                return Ok(response);
            }
            tokio::time::sleep(PAUSE.saturating_sub(asked.elapsed())).await;
        }
    }
}
