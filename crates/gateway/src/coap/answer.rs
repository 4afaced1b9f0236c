//! From a request to its answer, above all transports.
//!
//! Must not know whether it came by UDP, DTLS or TCP.

use std::pin::Pin;
use std::sync::Arc;

use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, Message};

use super::Coap;

/// What a request is answered by.
pub(super) enum Answer {
    /// This, at once.
    Now(Response),
    /// What a function replies. Dropping it cancels the call.
    Later(Pin<Box<dyn Future<Output = Response> + Send>>),
}

/// Answers a whole request.
pub(super) fn answer(coap: &Arc<Coap>, _message: Message) -> Answer {
    coap.dispatch.note_unknown();
    Answer::Now(Response::new(Code::NOT_FOUND))
}
