//! From a request to its answer, above all transports.
//!
//! Owns who answers a request, and a function's call from its start to its
//! response. Must not know whether it came by UDP, DTLS or TCP.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, Message, OptionNumber, OptionsBuilder};
use tinyfaas_model::{
    Body, CallId, CallOutcome, CallTarget, FunctionName, Invocation, InvokeError, Route,
};

use super::error::{self, CallError, Refused};
use super::observing;
use super::request::{self, Asked, Terms};
use super::watch::{Source, Watch};
use super::{Coap, discovery, response, results};
use crate::dispatch::{deadline, now};
use crate::held::Share;
use crate::tally::Tally;

/// What malloc hands out from a thread's own list; of more it looks for neighbours
/// to join each time, which for one future of 2 kB was an eighth of a call's
/// processor time.
const QUICKLY_ALLOCATED_BYTES: usize = 1024;

/// What a request is answered by.
pub(super) enum Answer {
    /// This, at once.
    Now(Reply),
    /// What comes of a call. Dropping it cancels the call.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// A response, and what it means to who observes.
pub(super) struct Reply {
    /// To be sent.
    pub(super) response: Response,
    /// What its asker observes from now on, as far as the transport has room.
    pub(super) watch: Option<Watch>,
    /// What it takes of the budget for bodies, until a transport has taken it.
    pub(super) held: Option<Share>,
}

impl Reply {
    pub(super) fn new(response: Response) -> Self {
        Self { response, watch: None, held: None }
    }
}

/// Answers a whole request.
pub(super) fn answer(coap: &Arc<Coap>, message: Message) -> Answer {
    let arrived = now();
    let mut path = message.options.all(OptionNumber::URI_PATH);
    let (first, second) = (path.next().unwrap_or_default(), path.next());
    let answered = match (first, second, path.next()) {
        // No function's name starts with a dot.
        ([b'.', ..], ..) if first == results::ROOM.as_bytes() => {
            return results::answer(coap, &message);
        }
        (b".well-known", Some(b"core"), None) => discovery::answer(coap, &message),
        ([b'.', ..], ..) => Err(Refused::NothingThere.into()),
        _ => {
            return call(coap, first, &message, arrived)
                .unwrap_or_else(|error| now_error(coap, &error));
        }
    };
    match answered {
        Ok(response) => Answer::Now(Reply::new(response)),
        Err(error) => now_error(coap, &error),
    }
}

/// Answers a request and waits for it.
pub(super) fn ask(
    coap: &Arc<Coap>,
    message: &Message,
) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
    match answer(coap, message.clone()) {
        Answer::Now(reply) => Box::pin(std::future::ready(reply)),
        Answer::Later(call) => call,
    }
}

/// Tells an error at once.
pub(super) fn now_error(coap: &Coap, error: &CallError) -> Answer {
    Answer::Now(Reply::new(error::respond(error, coap.retry_after)))
}

/// Calls a function, or accepts a call of it.
fn call(
    coap: &Arc<Coap>,
    name: &[u8],
    message: &Message,
    arrived: Instant,
) -> Result<Answer, CallError> {
    let route = find(coap, name)?;
    let Asked { method, whole, headers, later } = request::read(message)?;
    if !later
        && route.function.coap.observable
        && let Some(resource) = observing::of(message)
        && let Some(watch) = coap.watches.watch(coap, resource, Source::Function(whole.clone()))
    {
        return Ok(Answer::Later(Box::pin(watch.first())));
    }
    let after = route.function.limits.call_deadline;
    let (_, target) = CallTarget::split(&whole);
    let invocation = Invocation {
        id: CallId::random(),
        method,
        target,
        headers,
        body: Body::from_bytes(message.payload.clone()),
        deadline: deadline(arrived, after),
    };
    let tally = Tally::new(route, arrived);
    let held = coap.held.share();
    if !held.grow(message.payload.len()) {
        let what = "bodies take as much memory as they may";
        let error = InvokeError::ServerBusy { what, retry_after: coap.retry_after };
        tally.end(CallOutcome::of_error(&error), now());
        return Err(error.into());
    }
    if later {
        let id = invocation.id;
        coap.accepted.accept(tally, invocation, held)?;
        return Ok(Answer::Now(Reply::new(accepted(id))));
    }
    let terms = Terms::new(message, whole);
    let run = run(Arc::clone(coap), tally, invocation, held, terms);
    debug_assert!(size_of_val(&run) <= QUICKLY_ALLOCATED_BYTES, "{}", size_of_val(&run));
    Ok(Answer::Later(Box::pin(run)))
}

/// The route of the function with this name.
fn find(coap: &Coap, name: &[u8]) -> Result<Arc<Route>, CallError> {
    if name.is_empty() {
        return Err(Refused::NoName.into());
    }
    let name = String::from_utf8_lossy(name);
    coap.dispatch.find(&name).map_err(|error| {
        coap.dispatch.note_unknown();
        match FunctionName::parse(&name) {
            Err(problem) => Refused::BadName(problem).into(),
            Ok(_) => error.into(),
        }
    })
}

/// Runs a call to its response. Kept in two parts, each below
/// [`QUICKLY_ALLOCATED_BYTES`].
#[expect(clippy::manual_async_fn, reason = "an async function holds its arguments twice")]
fn run(
    coap: Arc<Coap>,
    mut tally: Tally,
    invocation: Invocation,
    held: Share,
    terms: Terms,
) -> impl Future<Output = Reply> + Send {
    async move {
        let bytes_max = coap.config.blocks.reply_bytes_max;
        let ran = Box::pin(coap.dispatch.run(&mut tally, invocation)).await;
        let (answered, outcome) = match ran {
            Err(error) => (Err(error.into()), None),
            Ok(reply) => {
                let outcome = CallOutcome::of_reply(reply.failed);
                (response::respond(reply, &terms, &held, bytes_max).await, Some(outcome))
            }
        };
        let ended = now();
        let answered = answered.map_err(|error| late(&tally, error, ended));
        let outcome = match (&answered, outcome) {
            (Ok(_), Some(outcome)) => outcome,
            (Err(error), _) => error.outcome(),
            (Ok(_), None) => CallOutcome::Succeeded,
        };
        tally.end(outcome, ended);
        match answered {
            Ok(response) => Reply { response, watch: None, held: Some(held) },
            Err(error) => Reply::new(error::respond(&error, coap.retry_after)),
        }
    }
}

/// What breaks off at its deadline broke off for that reason.
fn late(tally: &Tally, error: CallError, ended: Instant) -> CallError {
    match error {
        CallError::Invoke(InvokeError::ReplyBroken { .. }) if tally.is_late(ended) => {
            let after = tally.route.function.limits.call_deadline;
            InvokeError::DeadlineExceeded { after }.into()
        }
        other => other,
    }
}

/// 2.01 with where to ask for the call (RFC 7252 section 5.8.2).
fn accepted(id: CallId) -> Response {
    let mut options = OptionsBuilder::new();
    for segment in [results::ROOM, "calls", id.to_hex().as_str()] {
        options.push(OptionNumber::LOCATION_PATH, segment.as_bytes()).expect("it is short");
    }
    Response { options: options.build(), ..Response::new(Code::CREATED) }
}

#[cfg(test)]
mod tests;
