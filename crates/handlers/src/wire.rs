//! The frames that a handler and its worker exchange (docs/worker-protocol.md).
//!
//! Owns the bytes of the protocol, for both sides: the server and a worker
//! written in Rust. Must not know sockets, calls in flight or processes: what
//! goes in and comes out are buffers.

mod head;

use std::path::PathBuf;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

pub use head::{CallHead, ReplyHead, encode_call, encode_reply, parse_call, parse_reply};

/// The version of the protocol, as LOAD and READY carry it.
pub const PROTOCOL: u32 = 1;
/// The file descriptor at which a worker finds its socket.
pub const SOCKET_FD: i32 = 3;
/// The exit code of a worker whose server broke the protocol.
pub const PROTOCOL_EXIT_CODE: i32 = 70;
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 12;
/// The longest payload of a frame, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 2 << 20;
/// The longest head of a CALL or a REPLY, in bytes.
pub const HEAD_BYTES_MAX: usize = 512 << 10;
/// Body bytes that may be sent unasked, per call and direction.
pub const CREDIT_BYTES: usize = 256 << 10;
/// Credit is granted in steps of this many bytes or more.
pub const CREDIT_STEP_BYTES: usize = 64 << 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Server: which function to load; the first frame on a socket.
    Load = 1,
    /// Server: a call begins.
    Call = 2,
    /// Both: a part of a body.
    Body = 3,
    /// Server: nobody waits for this call any more.
    Cancel = 4,
    /// Both: so many more body bytes of this call may be sent.
    Credit = 5,
    /// Server: are you there?
    Ping = 6,
    /// Worker: the function is loaded.
    Ready = 65,
    /// Worker: the function could not be loaded.
    Failed = 66,
    /// Worker: a reply begins.
    Reply = 67,
    /// Worker: the call broke; ends it.
    Error = 68,
    /// Worker: a cancelled call has ended.
    Ended = 69,
    /// Worker: I am.
    Pong = 70,
    /// Worker: I can run no new calls; replace me.
    Leaving = 71,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Load,
            2 => Self::Call,
            3 => Self::Body,
            4 => Self::Cancel,
            5 => Self::Credit,
            6 => Self::Ping,
            65 => Self::Ready,
            66 => Self::Failed,
            67 => Self::Reply,
            68 => Self::Error,
            69 => Self::Ended,
            70 => Self::Pong,
            71 => Self::Leaving,
            _ => return None,
        })
    }

    /// Whether frames of this kind belong to a call.
    #[must_use]
    pub const fn of_a_call(self) -> bool {
        !matches!(
            self,
            Self::Load | Self::Ping | Self::Ready | Self::Failed | Self::Pong | Self::Leaving
        )
    }

    const fn flags_allowed(self) -> u8 {
        match self {
            Self::Call | Self::Body => Flags::END.0,
            Self::Reply => Flags::END.0 | Flags::FAILURE.0,
            _ => 0,
        }
    }
}

/// The flags of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(u8);

impl Flags {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// The body ends with this frame.
    pub const END: Self = Self(1);
    /// On a REPLY: the function failed, the body is what the caller is told.
    pub const FAILURE: Self = Self(2);

    /// END, if so.
    #[must_use]
    pub const fn end_if(end: bool) -> Self {
        if end { Self::END } else { Self::NONE }
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One frame that has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Its flags: none but those that its kind may carry.
    pub flags: Flags,
    /// Its call; 0 exactly where its kind belongs to none.
    pub call: u32,
    /// The payload: a part of the buffer that was read into, not a copy.
    pub payload: Bytes,
}

/// How the other side broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No frame is of this kind.
    #[error("a frame of the unknown kind {0}")]
    UnknownKind(u8),
    /// A payload is longer than [`PAYLOAD_BYTES_MAX`].
    #[error("a frame of {0} bytes, more than the {PAYLOAD_BYTES_MAX} that are allowed")]
    PayloadTooLong(usize),
    /// A flag that frames of this kind do not have, or the two bytes that must
    /// be zero are not.
    #[error("a {0:?} frame with flags that it must not carry")]
    BadFlags(Kind),
    /// A frame of a call without its number, or one of no call that has one.
    #[error("a {0:?} frame with the call number {1}")]
    BadCall(Kind, u32),
    /// A payload that does not have the shape that its kind says.
    #[error("a {0:?} frame that cannot be read: {1}")]
    BadPayload(Kind, &'static str),
    /// A header that HTTP does not allow: the frame can be read but not be used.
    #[error("a header that cannot be passed on: {0}")]
    BadHeader(&'static str),
}

/// Takes the next whole frame out of what has been read; `None` where there is
/// none yet. Room for the rest of a begun frame is then reserved, so that the
/// buffer holds at most one frame that is not whole.
///
/// # Errors
/// Says how the bytes break the protocol; nothing after them can be read.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
    let (kind, flags) = (header[4], Flags(header[5]));
    let call = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let reserved = [header[6], header[7]];
    let kind = Kind::from_byte(kind).ok_or(WireError::UnknownKind(kind))?;
    if length > PAYLOAD_BYTES_MAX {
        return Err(WireError::PayloadTooLong(length));
    }
    if flags.0 & !kind.flags_allowed() != 0 || reserved != [0, 0] {
        return Err(WireError::BadFlags(kind));
    }
    if kind.of_a_call() == (call == 0) {
        return Err(WireError::BadCall(kind, call));
    }
    let whole = HEADER_BYTES + length;
    if buffer.len() < whole {
        buffer.reserve(whole - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let payload = buffer.split_to(length).freeze();
    Ok(Some(Frame { kind, flags, call, payload }))
}

/// The header of a frame whose payload is `length` bytes; for writing a payload
/// without copying it behind its header.
///
/// # Panics
/// If the payload is longer than [`PAYLOAD_BYTES_MAX`]: the caller cuts bodies.
#[must_use]
pub fn header(kind: Kind, flags: Flags, call: u32, length: usize) -> [u8; HEADER_BYTES] {
    assert!(length <= PAYLOAD_BYTES_MAX, "a payload of {length} bytes was not cut");
    let mut header = [0; HEADER_BYTES];
    let length = u32::try_from(length).expect("at most PAYLOAD_BYTES_MAX");
    header[..4].copy_from_slice(&length.to_le_bytes());
    header[4] = kind as u8;
    header[5] = flags.0;
    header[8..].copy_from_slice(&call.to_le_bytes());
    header
}

/// Writes a whole frame behind what the buffer holds.
///
/// # Panics
/// If the payload is longer than [`PAYLOAD_BYTES_MAX`]: the caller cuts bodies.
pub fn encode(out: &mut BytesMut, kind: Kind, flags: Flags, call: u32, payload: &[u8]) {
    out.reserve(HEADER_BYTES + payload.len());
    out.put_slice(&header(kind, flags, call, payload.len()));
    out.put_slice(payload);
}

/// Writes a CREDIT of so many bytes.
pub fn encode_credit(out: &mut BytesMut, call: u32, bytes: u32) {
    encode(out, Kind::Credit, Flags::NONE, call, &bytes.to_le_bytes());
}

/// The bytes that a CREDIT's payload grants.
///
/// # Errors
/// If the payload is no `u32`.
pub fn parse_credit(payload: &[u8]) -> Result<u32, WireError> {
    let bytes = payload.try_into().map_err(|_| WireError::BadPayload(Kind::Credit, "not a u32"))?;
    Ok(u32::from_le_bytes(bytes))
}

/// Why nobody waits for a call any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum CancelReason {
    /// Its caller went away.
    CallerLeft = 1,
    /// Its deadline has passed.
    DeadlinePassed = 2,
}

/// Writes a CANCEL.
pub fn encode_cancel(out: &mut BytesMut, call: u32, reason: CancelReason) {
    encode(out, Kind::Cancel, Flags::NONE, call, &[reason as u8]);
}

/// The reason that a CANCEL's payload gives.
///
/// # Errors
/// If the payload is none of the reasons.
pub fn parse_cancel(payload: &[u8]) -> Result<CancelReason, WireError> {
    match payload {
        [1] => Ok(CancelReason::CallerLeft),
        [2] => Ok(CancelReason::DeadlinePassed),
        _ => Err(WireError::BadPayload(Kind::Cancel, "no known reason")),
    }
}

/// What LOAD says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The function's name.
    pub function: String,
    /// The handler's name, as it stands in the log.
    pub handler: String,
    /// The handler's own copy of the function's folder: its working directory.
    pub folder: PathBuf,
    /// Where the build has put packages.
    pub dependencies: Option<PathBuf>,
    /// Calls at a time.
    pub concurrency: usize,
    /// Whether the function's output begins with CGI's header lines; binary only.
    #[serde(default)]
    pub cgi: bool,
}

/// What READY says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// What runs the function, with its version.
    pub runtime: String,
}

/// Reads the JSON of a LOAD or a READY.
///
/// # Errors
/// If it is not what that kind of frame holds.
pub fn parse_json<'a, T: Deserialize<'a>>(kind: Kind, payload: &'a [u8]) -> Result<T, WireError> {
    serde_json::from_slice(payload).map_err(|_| WireError::BadPayload(kind, "not the JSON it is"))
}

/// Writes a LOAD or a READY.
///
/// # Panics
/// If a path in it is not UTF-8: whoever makes such a value checks its paths.
pub fn encode_json(out: &mut BytesMut, kind: Kind, value: &impl Serialize) {
    let json = serde_json::to_vec(value).expect("its paths are UTF-8, and nothing else can fail");
    encode(out, kind, Flags::NONE, 0, &json);
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        (0_u8..=255).prop_filter_map("a kind", Kind::from_byte)
    }

    prop_compose! {
        fn frames()(kind in kinds(), end: bool, failure: bool, call in 1_u32.., payload in vec(any::<u8>(), 0..300))
            -> Frame {
            let flags = (u8::from(end) | u8::from(failure) << 1) & kind.flags_allowed();
            let call = if kind.of_a_call() { call } else { 0 };
            Frame { kind, flags: Flags(flags), call, payload: payload.into() }
        }
    }

    fn encoded(frames: &[Frame]) -> BytesMut {
        let mut out = BytesMut::new();
        for frame in frames {
            encode(&mut out, frame.kind, frame.flags, frame.call, &frame.payload);
        }
        out
    }

    proptest! {
        #[test]
        fn frames_come_back_however_the_stream_is_split(
            sent in vec(frames(), 0..12),
            cuts in vec(1_usize..40, 1..40),
        ) {
            let mut bytes = encoded(&sent);
            let (mut buffer, mut got, mut cuts) = (BytesMut::new(), Vec::new(), cuts.iter().cycle());
            while !bytes.is_empty() {
                let cut = bytes.len().min(*cuts.next().unwrap());
                buffer.extend_from_slice(&bytes.split_to(cut));
                while let Some(frame) = decode(&mut buffer).unwrap() {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn garbage_never_panics(garbage in vec(any::<u8>(), 0..200), kind in kinds()) {
            let mut buffer = BytesMut::from(&garbage[..]);
            while let Ok(Some(_)) = decode(&mut buffer) {}
            let payload = Bytes::from(garbage);
            let _ = (parse_credit(&payload), parse_cancel(&payload), parse_call(&payload));
            let _ = (parse_reply(&payload), parse_json::<Load>(kind, &payload));
        }
    }

    fn check_refused(bytes: [u8; HEADER_BYTES], expected: &WireError) {
        assert_eq!(decode(&mut BytesMut::from(&bytes[..])).as_ref(), Err(expected), "{bytes:?}");
    }

    #[test]
    fn what_breaks_the_protocol_is_refused_before_it_is_held() {
        check_refused([0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0], &WireError::UnknownKind(7));
        let too_long = WireError::PayloadTooLong(PAYLOAD_BYTES_MAX + 1);
        check_refused([1, 0, 32, 0, 3, 0, 0, 0, 1, 0, 0, 0], &too_long);
        check_refused([0, 0, 0, 0, 3, 2, 0, 0, 1, 0, 0, 0], &WireError::BadFlags(Kind::Body));
        check_refused([0, 0, 0, 0, 3, 0, 1, 0, 1, 0, 0, 0], &WireError::BadFlags(Kind::Body));
        check_refused([0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0], &WireError::BadCall(Kind::Body, 0));
        check_refused([0, 0, 0, 0, 65, 0, 0, 0, 9, 0, 0, 0], &WireError::BadCall(Kind::Ready, 9));
    }

    #[test]
    fn load_is_the_json_of_the_document() {
        let text = r#"{"protocol": 1, "function": "echo", "handler": "echo-1a2b-0",
            "folder": "/x/fn", "dependencies": null, "concurrency": 64}"#;
        let load: Load = parse_json(Kind::Load, text.as_bytes()).unwrap();
        let mut out = BytesMut::new();
        encode_json(&mut out, Kind::Load, &load);
        let frame = decode(&mut out).unwrap().unwrap();
        assert_eq!(parse_json::<Load>(Kind::Load, &frame.payload), Ok(load));
    }
}
