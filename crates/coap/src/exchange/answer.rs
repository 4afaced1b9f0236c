//! How replies leave: with the acknowledgement, apart, once, or not at all.

use std::time::Instant;

use bytes::Bytes;

use super::confirm::Purpose;
use super::seen::Answer;
use super::sources::Sources;
use super::{Call, DATAGRAM_BYTES_MAX, Exchange, Output, Response};
use crate::message::{Code, Kind, Message, MessageId, OptionNumber, OptionsBuilder, Token};
use crate::peer::Peer;

impl Exchange {
    /// 4.01 with an Echo value to send back (RFC 9175 section 2.3).
    pub(super) fn challenge(&self, now: Instant, peer: &Peer) -> Response {
        let echo = self.sources.echo(now, peer.remote.ip());
        let mut options = OptionsBuilder::new();
        options.push(OptionNumber::ECHO, &echo).expect("it is short");
        Response { options: options.build(), ..Response::new(Code::UNAUTHORIZED) }
    }

    /// Answers a request that does not run. A copy of it is answered anew.
    pub(super) fn refuse(&mut self, peer: Peer, message: &Message, response: Response) {
        let confirmable = message.kind == Kind::Confirmable;
        let no_response = message.options.uint(OptionNumber::NO_RESPONSE);
        if suppressed(no_response.unwrap_or(0), response.code) {
            if confirmable {
                self.send_empty(Kind::Acknowledgement, peer, message.id);
            }
            return;
        }
        let (kind, id) = if confirmable {
            (Kind::Acknowledgement, message.id)
        } else {
            (Kind::NonConfirmable, self.identifiers.next(&peer))
        };
        let datagram = encode(kind, id, message.token, response);
        self.outputs.push_back(Output::Send(peer, datagram));
    }

    pub(super) fn answer_nothing(&mut self, call: &Call, acknowledged: bool) -> Answer {
        if !call.confirmable {
            return Answer::None;
        }
        if !acknowledged {
            self.send_empty(Kind::Acknowledgement, call.peer, call.id);
        }
        Answer::Separate(None)
    }

    /// Sends a reply: with the acknowledgement if that is still to come and the
    /// source is proven or the reply small, else apart.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        call: &Call,
        acknowledged: bool,
        response: Response,
    ) -> Answer {
        let (peer, ip) = (call.peer, call.peer.remote.ip());
        let response = fitting(call.token, response);
        let excess = Sources::excess(call.request_bytes, encoded_bytes(call.token, &response));
        let mut probe = false;
        if excess > 0 && !self.is_proven(now, &peer) {
            // However much is spent by now: a function that ran for it would run
            // again for who is told to ask again. What is owed stops new requests.
            self.sources.charge(now, ip, excess);
            probe = call.confirmable && {
                let lasts = self.confirmables.longest_wait();
                self.sources.begin_probe(now, ip, lasts)
            };
        }
        if call.confirmable && !acknowledged && !probe {
            let datagram = encode(Kind::Acknowledgement, call.id, call.token, response);
            // Sharing would allocate too, and for as long as it is remembered.
            let remembered = Answer::Whole(Bytes::copy_from_slice(&datagram));
            self.outputs.push_back(Output::Send(peer, datagram));
            return remembered;
        }
        if !call.confirmable {
            let id = self.identifiers.next(&peer);
            let datagram = encode(Kind::NonConfirmable, id, call.token, response);
            if let Some(observer) = call.observer {
                self.notifications.remember(now, peer, id, observer);
            }
            let remembered = Answer::Whole(Bytes::copy_from_slice(&datagram));
            self.outputs.push_back(Output::Send(peer, datagram));
            return remembered;
        }
        if !acknowledged {
            self.send_empty(Kind::Acknowledgement, peer, call.id);
        }
        Answer::Separate(Some(self.send_apart(now, call, response)))
    }

    fn send_apart(&mut self, now: Instant, call: &Call, response: Response) -> Bytes {
        let peer = call.peer;
        let has_room = self.confirmables.len() < self.limits.confirmables_max;
        let id = self.fresh_id(&peer);
        let kind = if has_room { Kind::Confirmable } else { Kind::NonConfirmable };
        let datagram = encode(kind, id, call.token, response);
        if has_room {
            let purpose = Purpose { print: Some(call.print), observer: call.observer };
            self.confirmables.begin(now, peer, id, datagram.clone(), purpose);
        }
        match call.observer {
            Some(observer) if has_room => self.notifications.begin(observer, peer, id),
            Some(observer) => self.notifications.remember(now, peer, id, observer),
            None => {}
        }
        self.outputs.push_back(Output::Send(peer, datagram.clone()));
        datagram
    }

    /// A message ID that no confirmable message to this peer has.
    pub(super) fn fresh_id(&mut self, peer: &Peer) -> MessageId {
        let mut id = self.identifiers.next(peer);
        while self.confirmables.has(peer, id) {
            // Ends: far fewer wait than there are IDs.
            id = self.identifiers.next(peer);
        }
        id
    }

    pub(super) fn send_empty(&mut self, kind: Kind, peer: Peer, id: MessageId) {
        let datagram = Message::empty(kind, id).encode();
        self.outputs.push_back(Output::Send(peer, datagram));
    }
}

/// Whether a request with this No-Response does not want this response: bit 1
/// stands for class 2, bit 3 for class 4, bit 4 for class 5 (RFC 7967 section 2.1).
pub(crate) fn suppressed(no_response: u32, code: Code) -> bool {
    code.class() > 0 && no_response >> (code.class() - 1) & 1 != 0
}

/// This response, or an error in its place if no datagram carries it.
pub(super) fn fitting(token: Token, response: Response) -> Response {
    if encoded_bytes(token, &response) > DATAGRAM_BYTES_MAX {
        return Response::new(Code::INTERNAL_SERVER_ERROR);
    }
    response
}

pub(super) fn encode(kind: Kind, id: MessageId, token: Token, response: Response) -> Bytes {
    let message = Message {
        kind,
        code: response.code,
        id,
        token,
        options: response.options,
        payload: response.payload,
    };
    message.encode()
}

fn encoded_bytes(token: Token, response: &Response) -> usize {
    let payload = response.payload.len() + usize::from(!response.payload.is_empty());
    4 + token.as_slice().len() + response.options.as_encoded().len() + payload
}
