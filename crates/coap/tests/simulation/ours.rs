//! The client of this crate in the place of the one that was written from the RFCs
//! for these tests: it does the same operations, on the same network.

use std::time::Instant;

use bytes::Bytes;
use tinyfaas_coap::client::{self, Call, CallError, ClientLimits, Output};
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, Kind, OptionNumber, OptionsBuilder};

use crate::client::{Client, Operation, Outcome, body};
use crate::random::Random;

/// Whatever blocks this one prefers.
pub(crate) fn new(seed: u64) -> client::Client {
    let exponent = 2 + Random::new(seed).below(5) as u8;
    let limits = ClientLimits { exponent, ..ClientLimits::default() };
    client::Client::new(limits, u128::from(seed))
}

impl Client {
    pub(crate) fn our_timer(&mut self, now: Instant, mut ours: client::Client) {
        let before = ours.deadline();
        match (before, self.operations.get(self.at)) {
            (Some(due), _) if due <= now => ours.expire(now),
            (None, Some(operation)) => ours.call(now, call(operation)),
            _ => {}
        }
        self.drain(now, ours, before);
    }

    pub(crate) fn our_receive(&mut self, now: Instant, datagram: &Bytes, mut ours: client::Client) {
        let before = ours.deadline();
        ours.receive(now, datagram);
        self.drain(now, ours, before);
    }

    fn drain(&mut self, now: Instant, mut ours: client::Client, before: Option<Instant>) {
        let mut ended = None;
        while let Some(output) = ours.poll() {
            match output {
                Output::Send(datagram) => self.outbox.push_back(datagram),
                Output::Ended(outcome) => {
                    assert!(ended.is_none(), "an operation ended twice");
                    ended = Some(judge(outcome, &self.operations[self.at]));
                }
            }
        }
        if ours.deadline() != before {
            self.wake = ours.deadline();
        }
        self.ours = Some(ours);
        if let Some(outcome) = ended {
            self.end(now, outcome);
        }
    }
}

fn call(operation: &Operation) -> Call {
    let mut options = OptionsBuilder::new();
    options.push(OptionNumber::URI_PATH, b"fn").unwrap();
    options.push_uint(OptionNumber::URI_QUERY, operation.id);
    Call {
        code: operation.method,
        confirmable: operation.kind == Kind::Confirmable,
        wants_reply: true,
        options: options.build(),
        payload: body(operation.id, operation.upload_bytes).into(),
    }
}

fn judge(outcome: Result<Option<Response>, CallError>, operation: &Operation) -> Outcome {
    match outcome {
        Ok(Some(reply)) if reply.code == Code::CONTENT => {
            let expected = body(!operation.id, operation.reply_bytes);
            assert!(reply.payload == expected, "another's reply");
            Outcome::Done
        }
        // The server has restarted, or a non-confirmable block got lost.
        Ok(Some(reply)) if reply.code == Code::REQUEST_ENTITY_INCOMPLETE => Outcome::GivenUp,
        Err(CallError::Unanswered { .. } | CallError::NoReply(_) | CallError::Changed) => {
            Outcome::GivenUp
        }
        outcome => panic!("{outcome:?} was not to be expected"),
    }
}
