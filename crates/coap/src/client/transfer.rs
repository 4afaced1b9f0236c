//! What a call sends next, and what a response means to it: its body block by block
//! (RFC 7959 section 2.5), then its reply block by block (section 2.4), and the
//! value that a server wants to see again (RFC 9175 section 2.3). Pure.

use bytes::Bytes;

use super::transmission::Request;
use super::{Call, CallError, ClientLimits, Progress};
use crate::block::{BODY_BYTES_MAX, Block};
use crate::exchange::Response;
use crate::message::{Code, Message, OptionNumber, OptionsBuilder};

/// Asks for no response at all (RFC 7967 section 2.1).
const NO_RESPONSE_AT_ALL: u32 = 26;

/// What is to be done about a response.
pub(super) enum Next {
    /// Send what is to be sent now.
    Send,
    /// The same, with this Echo value.
    Challenged(Bytes),
    /// This is the reply.
    Ended(Response),
    /// There will be none.
    Failed(CallError),
}

/// What one message carries of a body, either way.
#[derive(Clone, Copy)]
pub(super) struct Portion {
    /// SZX of blocks.
    pub(super) exponent: u8,
    /// What is sent at a time, in bytes: the size of a block, or of several on a
    /// stream. What is no longer goes in no block.
    pub(super) bytes: usize,
}

impl Portion {
    /// A block of this SZX.
    pub(super) fn block(exponent: u8) -> Portion {
        let exponent = exponent.min(Block::EXPONENT_MAX);
        Portion { exponent, bytes: 16 << exponent }
    }

    /// Makes it no larger than a block of this SZX.
    fn shrink(&mut self, exponent: u8) {
        if exponent < self.exponent {
            *self = Portion::block(exponent);
        }
    }
}

/// A reply that is being put together.
struct Reply {
    /// The first block's; its payload is left out.
    first: Response,
    etag: Option<Bytes>,
    /// Of its blocks.
    exponent: u8,
    body: Vec<u8>,
    announced: Option<usize>,
}

/// A call's way. See the module.
pub(super) struct Transfer {
    call: Call,
    /// Tells its blocks from those of a call before it (RFC 9175 section 3).
    tag: [u8; 2],
    /// What is sent of the body at a time.
    portion: Portion,
    /// SZX that the reply's blocks must not pass.
    reply_exponent: u8,
    reply_bytes_max: usize,
    changes_left: u32,
    uploaded: usize,
    /// Whether the body is being sent for the second time.
    begun_anew: bool,
    /// Whether the last message was sent again with an Echo value.
    challenged: bool,
    reply: Option<Reply>,
}

impl Transfer {
    pub(super) fn new(limits: &ClientLimits, call: Call, portion: Portion, tag: u64) -> Transfer {
        let [.., high, low] = tag.to_be_bytes();
        Transfer {
            call,
            tag: [high, low],
            reply_exponent: portion.exponent,
            portion,
            reply_bytes_max: limits.reply_bytes_max.min(BODY_BYTES_MAX),
            changes_left: limits.changes_max,
            uploaded: 0,
            begun_anew: false,
            challenged: false,
            reply: None,
        }
    }

    /// Lets the reply's blocks have sizes up to this SZX.
    pub(super) fn takes_blocks_of(&mut self, exponent: u8) {
        self.reply_exponent = exponent;
    }

    /// What is to be sent now.
    pub(super) fn request(&self, echo: Option<&[u8]>) -> Request {
        let Call { code, confirmable, wants_reply, .. } = self.call;
        let part = self.part();
        let in_blocks = self.call.payload.len() > self.portion.bytes;
        let mut options = self.call.options.edit();
        let mut has_response = true;
        let mut payload = Bytes::new();
        if let Some(reply) = &self.reply {
            let block = Block::at(reply.body.len(), false, reply.exponent);
            options.push_uint(OptionNumber::BLOCK2, block.to_uint());
        } else {
            let last = part.end == self.call.payload.len();
            if last && self.reply_exponent < Block::EXPONENT_MAX && wants_reply {
                let block = Block { number: 0, more: false, exponent: self.reply_exponent };
                options.push_uint(OptionNumber::BLOCK2, block.to_uint());
            }
            if in_blocks {
                let block = Block::at(part.start, !last, self.portion.exponent);
                options.push_uint(OptionNumber::BLOCK1, block.to_uint());
                if part.start == 0 {
                    options.push_uint(OptionNumber::SIZE1, self.call.payload.len() as u32);
                }
            }
            payload = self.call.payload.slice(part);
            // What comes between is needed.
            has_response = wants_reply || !last;
        }
        if let Some(echo) = echo {
            push(&mut options, OptionNumber::ECHO, echo);
        }
        if !has_response {
            options.push_uint(OptionNumber::NO_RESPONSE, NO_RESPONSE_AT_ALL);
        }
        if in_blocks {
            push(&mut options, OptionNumber::REQUEST_TAG, &self.tag);
        }
        Request { code, confirmable, has_response, options: options.build(), payload }
    }

    /// Takes the response to what was sent last.
    pub(super) fn response(&mut self, message: Message) -> Next {
        let was_challenged = std::mem::take(&mut self.challenged);
        if message.code == Code::UNAUTHORIZED
            && !was_challenged
            && let Some(echo) = message.options.get(OptionNumber::ECHO)
        {
            self.challenged = true;
            return Next::Challenged(Bytes::copy_from_slice(echo));
        }
        if self.reply.is_some() {
            return self.later_block(message);
        }
        let block = match self.block(&message, OptionNumber::BLOCK1) {
            Ok(block) => block,
            Err(error) => return Next::Failed(error),
        };
        let last = self.part().end == self.call.payload.len();
        match (message.code, block) {
            (Code::CONTINUE, Some(_)) if last => {
                Next::Failed(CallError::Block("it waits for more than there is"))
            }
            (Code::CONTINUE, Some(block)) => self.taken(block),
            (Code::CONTINUE, None) => {
                Next::Failed(CallError::Block("it took a block and does not say which"))
            }
            (Code::REQUEST_ENTITY_INCOMPLETE, _) if self.uploaded > 0 && !self.begun_anew => {
                self.begun_anew = true;
                self.begin_anew();
                Next::Send
            }
            // It wants smaller blocks (RFC 7959 section 2.9.3).
            (Code::REQUEST_ENTITY_TOO_LARGE, Some(block))
                if block.exponent < self.portion.exponent =>
            {
                self.portion.shrink(block.exponent);
                self.begin_anew();
                Next::Send
            }
            // It acts on every block for itself (RFC 7959 section 2.3).
            (code, Some(block)) if code.is_success() && !last => self.taken(block),
            (code, None) if code.is_success() && !last => {
                Next::Failed(CallError::FirstBlockOnly(code))
            }
            _ => self.first_block(message),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        let sent = if self.reply.is_some() { self.call.payload.len() } else { self.uploaded };
        Progress {
            sent,
            to_send: self.call.payload.len(),
            received: self.reply.as_ref().map_or(0, |reply| reply.body.len()),
            to_receive: self.reply.as_ref().and_then(|reply| reply.announced),
        }
    }

    /// A block option; the size of streams is for them alone.
    fn block(&self, message: &Message, number: OptionNumber) -> Result<Option<Block>, CallError> {
        let Some(value) = message.options.get(number) else {
            return Ok(None);
        };
        let largest = self.reply_exponent.max(Block::EXPONENT_MAX);
        let block = Block::read(value).filter(|block| block.exponent <= largest);
        block.map(Some).ok_or(CallError::Block("a block option cannot be read"))
    }

    /// The part of the body that is sent now.
    fn part(&self) -> std::ops::Range<usize> {
        let end = self.call.payload.len().min(self.uploaded + self.portion.bytes);
        self.uploaded..end
    }

    /// The server has taken a part, and may want the next ones smaller.
    fn taken(&mut self, block: Block) -> Next {
        self.uploaded = self.part().end;
        self.portion.shrink(block.exponent);
        Next::Send
    }

    fn begin_anew(&mut self) {
        self.uploaded = 0;
        self.reply = None;
        // Blocks of before that are still on their way are another body's.
        self.tag = u16::from_be_bytes(self.tag).wrapping_add(1).to_be_bytes();
    }

    /// A response to the whole request: the reply, or its first block.
    fn first_block(&mut self, message: Message) -> Next {
        let block = match self.block(&message, OptionNumber::BLOCK2) {
            Ok(Some(block)) => block,
            Ok(None) => return Next::Ended(response(message)),
            Err(error) => return Next::Failed(error),
        };
        if block.number != 0 {
            return Next::Failed(CallError::Block("its first block is none"));
        }
        let announced = message.options.uint(OptionNumber::SIZE2).map(|size| size as usize);
        if announced.is_some_and(|bytes| bytes > self.reply_bytes_max) {
            return Next::Failed(CallError::ReplyTooLong(self.reply_bytes_max));
        }
        let (etag, payload) = (etag(&message), message.payload.clone());
        let first = Response { payload: Bytes::new(), ..response(message) };
        let exponent = block.exponent.min(self.reply_exponent);
        self.reply = Some(Reply { first, etag, exponent, body: Vec::new(), announced });
        self.append(block, &payload)
    }

    fn later_block(&mut self, message: Message) -> Next {
        let block = match self.block(&message, OptionNumber::BLOCK2) {
            Ok(block) => block,
            Err(error) => return Next::Failed(error),
        };
        let Some(reply) = &self.reply else {
            return Next::Failed(CallError::Changed);
        };
        let is_next = block.is_some_and(|block| block.offset() == reply.body.len());
        let same = message.code == reply.first.code && etag(&message) == reply.etag;
        match block {
            Some(block) if same && is_next => {
                // A smaller size goes on; a larger one was not asked for.
                if block.exponent > reply.exponent {
                    return Next::Failed(CallError::Block("its blocks grow"));
                }
                self.append(block, &message.payload)
            }
            Some(_) if same => Next::Failed(CallError::Block("it is another than asked for")),
            _ if message.code.is_success() || message.code == Code::REQUEST_ENTITY_INCOMPLETE => {
                self.changed()
            }
            _ => Next::Ended(response(message)),
        }
    }

    /// The blocks that are left are another reply's. Only what changes nothing may
    /// be asked again (RFC 7252 section 5.1).
    fn changed(&mut self) -> Next {
        let safe = self.call.code == Code::GET || self.call.code == Code::FETCH;
        if !safe || self.changes_left == 0 {
            return Next::Failed(CallError::Changed);
        }
        self.changes_left -= 1;
        self.begin_anew();
        Next::Send
    }

    fn append(&mut self, block: Block, payload: &[u8]) -> Next {
        let Some(reply) = &mut self.reply else {
            return Next::Failed(CallError::Changed);
        };
        if !block.fits(payload.len()) {
            return Next::Failed(CallError::Block("its payload has another size than its block"));
        }
        let bytes = reply.body.len() + payload.len();
        if bytes > self.reply_bytes_max || (block.more && bytes == self.reply_bytes_max) {
            return Next::Failed(CallError::ReplyTooLong(self.reply_bytes_max));
        }
        reply.body.extend_from_slice(payload);
        reply.exponent = reply.exponent.min(block.exponent);
        if block.more {
            return Next::Send;
        }
        let body = std::mem::take(&mut reply.body);
        Next::Ended(Response { payload: body.into(), ..reply.first.clone() })
    }
}

/// The response, without what has served the transfer.
fn response(message: Message) -> Response {
    let mut options = message.options.edit();
    for number in [OptionNumber::BLOCK1, OptionNumber::BLOCK2, OptionNumber::SIZE2] {
        options.remove(number);
    }
    Response { code: message.code, options: options.build(), payload: message.payload }
}

fn etag(message: &Message) -> Option<Bytes> {
    message.options.get(OptionNumber::ETAG).map(Bytes::copy_from_slice)
}

fn push(options: &mut OptionsBuilder, number: OptionNumber, value: &[u8]) {
    options.push(number, value).expect("it came out of a datagram, or is short");
}
