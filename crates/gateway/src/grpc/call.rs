//! One call over gRPC, whichever method it is of.
//!
//! Owns its deadline, its share of the budget for bodies, and its way through
//! dispatch. Must not know messages: each version has its own, and its own words
//! for what comes of a call.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::http::{HeaderMap, Method, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body::Body as HttpBody;
use tinyfaas_grpc::Message;
use tinyfaas_model::{
    Body, CallId, CallOutcome, CallTarget, FunctionName, Invocation, InvokeError, Reply, Route,
};
use tonic::Status;

use super::Grpc;
use super::error::{CallError, Refused, ReplyError};
use crate::client;
use crate::config::GatewayConfig;
use crate::connections::watch::Activity;
use crate::dispatch::{deadline, now};
use crate::held::Share;
use crate::tally::Tally;

/// What all parts of a request share, from its head to its reply's last byte.
pub(super) struct Call {
    pub(super) grpc: Arc<Grpc>,
    pub(super) activity: Arc<Activity>,
    pub(super) id: CallId,
    pub(super) arrived: Instant,
    /// The time that the caller gives it.
    pub(super) timeout: Option<Duration>,
    /// What its messages take of the budget, and its reply.
    pub(super) held: Share,
    /// How long it waited for a place and how long it had it, once it has ended.
    pub(super) times: OnceLock<(Duration, Option<Duration>)>,
    /// Why its messages broke off.
    pub(super) broke: OnceLock<Status>,
}

/// What a function is asked.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) target: CallTarget,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// A function's reply, whole.
pub(super) struct Replied {
    pub(super) status: Option<StatusCode>,
    pub(super) failed: bool,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    pub(super) fn config(&self) -> &GatewayConfig {
        &self.grpc.config
    }

    /// The status that tells this error.
    pub(super) fn status(&self, error: &CallError) -> Status {
        error.status(self.config().retry_after)
    }

    /// When the time is over that the caller gives it.
    pub(super) fn ends_by(&self) -> Option<Instant> {
        self.timeout.map(|after| deadline(self.arrived, after))
    }

    /// That this time is over, where it is.
    pub(super) fn is_late(&self, now: Instant) -> Option<InvokeError> {
        let after = self.timeout.filter(|_| self.ends_by().is_some_and(|at| now >= at))?;
        Some(InvokeError::DeadlineExceeded { after })
    }

    /// The time that a call of this function has, the caller's or its own.
    pub(super) fn patience(&self, route: &Route) -> Duration {
        let own = route.function.limits.call_deadline;
        self.timeout.map_or(own, |after| after.min(own))
    }

    /// The route of the function with this name.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Route>, CallError> {
        self.grpc.dispatch.find(name).map_err(|error| {
            if name.is_empty() {
                return Refused::NoName.into();
            }
            self.grpc.dispatch.note_unknown();
            match FunctionName::parse(name) {
                Err(problem) => Refused::BadName(problem).into(),
                Ok(_) => error.into(),
            }
        })
    }

    /// The call as dispatch takes it, with its tally; it has asked for its place now.
    pub(super) fn begin(&self, route: Arc<Route>, asked: Asked) -> (Tally, Invocation, Duration) {
        let Asked { method, target, mut headers, body } = asked;
        // Whether they came as metadata or within a message.
        let forged = headers.keys().any(|name| client::is_reserved(name.as_str()));
        client::hand_on(&mut headers, forged, self.activity.client());
        let after = self.patience(&route);
        let at = deadline(self.arrived, after);
        let mut tally = Tally::new(route, self.arrived);
        tally.queued(now());
        let id = self.id;
        (tally, Invocation { id, method, target, headers, body, deadline: at }, after)
    }

    /// Leaves a call to be run; its messages are held until it has ended.
    ///
    /// # Errors
    /// Where no call is accepted now; it is counted then.
    pub(super) fn accept(&self, route: Arc<Route>, asked: Asked) -> Result<(), CallError> {
        let (tally, invocation, _) = self.begin(route, asked);
        Ok(self.grpc.accepted.accept(tally, invocation, self.held.take())?)
    }

    /// Runs a call to its reply's end.
    ///
    /// # Errors
    /// Says why there is no whole reply; it is counted then.
    pub(super) async fn run(
        &self,
        route: Arc<Route>,
        asked: Asked,
    ) -> Result<(Replied, Tally), CallError> {
        let (mut tally, invocation, after) = self.begin(route, asked);
        let answered = self.reply(&mut tally, invocation, after).await;
        match answered {
            Ok(replied) => Ok((replied, tally)),
            Err(error) => {
                self.end(tally, error.outcome());
                Err(error)
            }
        }
    }

    async fn reply(
        &self,
        tally: &mut Tally,
        invocation: Invocation,
        after: Duration,
    ) -> Result<Replied, CallError> {
        let reply = self.dispatch(tally, invocation, after).await?;
        let Reply { status, failed, headers, body } = reply;
        match self.collect(body, &self.held).await {
            Ok(body) => Ok(Replied { status, failed, headers, body }),
            // What breaks off at its deadline broke off for that reason.
            Err(CallError::Invoke(InvokeError::ReplyBroken { .. })) if tally.is_late(now()) => {
                Err(InvokeError::DeadlineExceeded { after }.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Runs a call to its reply's head.
    ///
    /// # Errors
    /// Says why there is no reply.
    pub(super) async fn dispatch(
        &self,
        tally: &mut Tally,
        invocation: Invocation,
        after: Duration,
    ) -> Result<Reply, CallError> {
        // A message that took longer than the call may take is not worth a place.
        if let Some(late) = self.is_late(now()) {
            return Err(late.into());
        }
        let ran = self.grpc.dispatch.run(tally, invocation).await;
        Ok(ran.map_err(|error| match error {
            InvokeError::DeadlineExceeded { .. } => InvokeError::DeadlineExceeded { after },
            other => other,
        })?)
    }

    /// Reads a reply to its end, on this share of the budget.
    ///
    /// # Errors
    /// Where it breaks off, or is too large.
    pub(super) async fn collect(&self, mut body: Body, held: &Share) -> Result<Bytes, CallError> {
        let mut whole = BytesMut::new();
        let mut only = Bytes::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            let frame =
                frame.map_err(|error| InvokeError::ReplyBroken { how: error.to_string() })?;
            // A function's trailers are dropped, as they are over HTTP.
            let Ok(data) = frame.into_data() else { continue };
            let limit_bytes = self.config().grpc.message_bytes_max;
            if whole.len() + only.len() + data.len() > limit_bytes {
                return Err(ReplyError::TooLarge { limit_bytes }.into());
            }
            if !held.grow(data.len()) {
                let retry_after = self.config().retry_after;
                return Err(ReplyError::NoRoom { retry_after }.into());
            }
            // The only part, as it mostly is, need not be copied.
            if whole.is_empty() && only.is_empty() {
                only = data;
                continue;
            }
            whole.extend_from_slice(&std::mem::take(&mut only));
            whole.extend_from_slice(&data);
        }
        Ok(if whole.is_empty() { only } else { whole.freeze() })
    }

    /// Notes how long it took so far, for its caller.
    pub(super) fn note(&self, tally: &Tally) {
        self.note_at(tally, now());
    }

    /// The message, where it is no longer than a message may be.
    ///
    /// # Errors
    /// Where it is: the reply in it fits by itself, but not with what goes beside it.
    pub(super) fn fits<M: Message>(&self, message: M) -> Result<M, ReplyError> {
        let limit_bytes = self.config().grpc.message_bytes_max;
        if message.encoded_len() > limit_bytes {
            return Err(ReplyError::TooLarge { limit_bytes });
        }
        Ok(message)
    }

    /// Counts the call's end.
    pub(super) fn end(&self, tally: Tally, outcome: CallOutcome) {
        let at = now();
        self.note_at(&tally, at);
        tally.end(outcome, at);
    }

    fn note_at(&self, tally: &Tally, at: Instant) {
        if let Some(times) = tally.times(at) {
            // Told once, with the head of what answers it.
            let _ = self.times.set(times);
        }
    }
}

/// That the function of this route raised an error, in its own words.
pub(super) fn raised(words: &[u8], route: &Route) -> ReplyError {
    ReplyError::Raised { text: raised_text(words, route.function.name.as_str()) }
}

/// The words of an error that a function raised.
pub(super) fn raised_text(words: &[u8], function: &str) -> String {
    if words.is_empty() {
        return format!("function {function} raised an error");
    }
    String::from_utf8_lossy(words.trim_ascii_end()).into_owned()
}
