//! Asking for an asynchronous call: its result, its end.
//!
//! Owns what is served below `/.tinyfaas/`, where no function can be. Must not
//! know how calls are remembered. Who knows a call's id may ask for it; nothing
//! here lists ids.

use std::sync::Arc;
use std::time::Duration;

use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, Message, OptionNumber};
use tinyfaas_model::{CallId, CallRecord, CallRegistry, Cancelling, parse_duration};
use tokio::time::Instant;

use super::answer::{Answer, Reply, now_error};
use super::error::{self, CallError, Refused};
use super::observing;
use super::request::{self, Terms};
use super::watch::Source;
use super::{Coap, response};
use crate::asynchronous::{AskError, Outcome, no_result};
use crate::dispatch::{deadline, now};
use crate::held::HeldBytes;

/// Where a function's name stands otherwise: none starts with a dot.
pub(super) const ROOM: &str = ".tinyfaas";

/// What is asked of a call.
#[derive(Debug, PartialEq, Eq)]
enum Ask {
    Result(Duration),
    Cancel,
}

/// Answers a request below `/.tinyfaas/`.
pub(super) fn answer(coap: &Arc<Coap>, message: &Message) -> Answer {
    match parse(message) {
        Err(error) => now_error(coap, &error),
        Ok((id, Ask::Cancel)) => match cancel(coap, id) {
            Ok(response) => Answer::Now(Reply::new(response)),
            Err(error) => now_error(coap, &error.into()),
        },
        Ok((id, Ask::Result(wait))) => match request::read(message) {
            Err(error) => now_error(coap, &error.into()),
            Ok(asked) => {
                let terms = Terms::new(message, asked.whole);
                if let Some(resource) = observing::of(message)
                    && coap.accepted.get(id).is_some()
                    && let Some(watch) = coap.watches.watch(coap, resource, Source::Call(id))
                {
                    return Answer::Later(Box::pin(watch.first()));
                }
                let coap = Arc::clone(coap);
                Answer::Later(Box::pin(async move { result(&coap, id, wait, &terms).await }))
            }
        },
    }
}

fn parse(message: &Message) -> Result<(CallId, Ask), CallError> {
    let mut path = message.options.all(OptionNumber::URI_PATH).skip(1);
    let (b"calls", Some(id), None) = (path.next().unwrap_or_default(), path.next(), path.next())
    else {
        return Err(Refused::NothingThere.into());
    };
    let id = std::str::from_utf8(id).ok().and_then(CallId::parse).ok_or(AskError::UnknownCall)?;
    let ask = match message.code {
        Code::GET => Ask::Result(wait(message)?),
        Code::DELETE => Ask::Cancel,
        _ => return Err(Refused::MethodNotAllowed("GET, DELETE").into()),
    };
    Ok((id, ask))
}

/// How long to wait for the call's end; not at all where nothing is said.
fn wait(message: &Message) -> Result<Duration, AskError> {
    let queries = message.options.all(OptionNumber::URI_QUERY);
    let Some(text) = queries.filter_map(|part| part.strip_prefix(b"wait=")).last() else {
        return Ok(Duration::ZERO);
    };
    parse_duration(&String::from_utf8_lossy(text))
        .map_err(|error| AskError::BadWait { problem: error.to_string() })
}

fn cancel(coap: &Coap, id: CallId) -> Result<Response, AskError> {
    match coap.accepted.cancel(id) {
        Cancelling::Cancelled(_) => Ok(Response::new(Code::DELETED)),
        Cancelling::TooLate(record) => Err(AskError::TooLate(record.state)),
        Cancelling::Unknown => Err(AskError::UnknownCall),
    }
}

/// What a caller would have got who had waited.
async fn result(coap: &Coap, id: CallId, wait: Duration, terms: &Terms) -> Reply {
    let wait = wait.min(coap.async_wait_max);
    let record = if wait.is_zero() {
        coap.accepted.get(id)
    } else {
        coap.accepted.ended(id, Instant::from_std(deadline(now(), wait))).await
    };
    let answered = match record {
        None => Err(AskError::UnknownCall.into()),
        Some(record) => ended(coap, &record, terms).await,
    };
    Reply::new(answered.unwrap_or_else(|error| error::respond(&error, coap.retry_after)))
}

async fn ended(coap: &Coap, record: &CallRecord, terms: &Terms) -> Result<Response, CallError> {
    match coap.accepted.outcome(record.id) {
        Some(Outcome::Error(error)) => Err(error.into()),
        Some(Outcome::Reply(kept)) => {
            let bytes_max = coap.config.blocks.reply_bytes_max;
            // It is whole and held already, on the budget for results.
            let held = HeldBytes::new(bytes_max).share();
            response::respond(kept.reply(), terms, &held, bytes_max).await
        }
        None if !record.state.has_ended() => Err(AskError::NotEnded(record.state).into()),
        None => Err(AskError::NoResult(no_result(record)).into()),
    }
}
