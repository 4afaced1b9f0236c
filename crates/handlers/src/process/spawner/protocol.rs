//! What the server and its spawner say to each other over their socket.
//!
//! Owns the messages, their frames (a length of four bytes, little-endian, then
//! JSON) and the descriptors that travel with them. Must not know who acts on a
//! message, nor wait for anything.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Exit;
use super::steps::Step;

/// The longest message, in bytes: a program's arguments and environment are in
/// it, and the system takes no more than about 2 MiB of those.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Descriptors that come with one message: standard output, standard error, a
/// socket.
pub(super) const MESSAGE_FDS_MAX: usize = 3;

/// Bytes taken from the socket at a time.
const READ_BYTES: usize = 16 << 10;

/// Descriptors that may have come for messages that are not complete yet.
const WAITING_FDS_MAX: usize = 64;

/// From the server.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The first message, once.
    Hello {
        /// The value of the variable that marks processes.
        mark: Text,
        /// The soft limit of open files that workers get.
        open_files: u64,
    },
    /// Start a program. Its descriptors come with the message: standard output,
    /// standard error, and the socket if there is one.
    Spawn {
        /// The server's number for the child.
        id: u64,
        /// What to execute: an absolute path.
        program: Text,
        /// Its arguments, without its own name.
        args: Vec<Text>,
        /// Its whole environment, less the mark.
        env: Vec<(Text, Text)>,
        /// Its working directory.
        folder: Text,
        /// Whether a third descriptor comes along.
        socket: bool,
    },
    /// End a child and all its descendants.
    Kill {
        /// The server's number for the child.
        id: u64,
    },
}

/// From the spawner.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Report {
    /// The program has been executed.
    Started {
        /// The server's number for the child.
        id: u64,
        /// Its process.
        pid: u32,
        /// Its guard's process, the root of all that it starts.
        guard: u32,
    },
    /// The program could not be executed; nothing is left of it.
    Failed {
        /// The server's number for the child.
        id: u64,
        /// Where it failed.
        step: Step,
        /// The system's error number.
        errno: i32,
    },
    /// The child and all its descendants are gone.
    Ended {
        /// The server's number for the child.
        id: u64,
        /// How.
        exit: Exit,
        /// Processor time of all of them and the guard, in microseconds; none
        /// where it is not known.
        cpu_us: u64,
    },
}

/// Bytes that are mostly text. JSON carries them as ISO 8859-1, so any survive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text(pub(super) Vec<u8>);

impl<T: Into<OsString>> From<T> for Text {
    fn from(text: T) -> Self {
        Self(text.into().into_vec())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) if text.is_ascii() => serializer.serialize_str(text),
            _ => {
                serializer.collect_str(&self.0.iter().copied().map(char::from).collect::<String>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_ascii() {
            return Ok(Self(text.into_bytes()));
        }
        text.chars()
            .map(|c| u8::try_from(u32::from(c)))
            .collect::<Result<_, _>>()
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a text holds a character that is no byte"))
    }
}

/// Why the other side cannot be understood.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtocolError {
    /// The system's word.
    #[error("the socket broke: {0}")]
    Io(#[from] io::Error),
    /// A length past the limit.
    #[error("a message of {0} bytes came; at most {MESSAGE_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// No message.
    #[error("a message does not parse: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Descriptors were lost on the way.
    #[error("descriptors were lost on the way: too many files are open")]
    DescriptorsLost,
    /// Descriptors do not belong to any message.
    #[error("more than {WAITING_FDS_MAX} descriptors came that belong to no message")]
    DescriptorFlood,
    /// A message came without the descriptors it speaks of, or out of turn.
    #[error("{0}")]
    OutOfTurn(&'static str),
}

/// A message as it goes over the socket; `None` if it is too long.
pub(super) fn encode<M: Serialize>(message: &M) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).expect("our messages serialize into memory");
    let length = bytes.len() - 4;
    if length > MESSAGE_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(length).ok()?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Some(bytes)
}

/// Sends the start of these bytes, the descriptors with the first of them, and
/// says how many went.
pub(super) fn send_some(
    socket: impl AsFd,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// What has come and is not a whole message yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    /// Where the next message starts in `bytes`.
    start: usize,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Takes what is there, without waiting; says no at the stream's end.
    pub(super) fn receive(&mut self, socket: impl AsFd) -> Result<bool, ProtocolError> {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > READ_BYTES {
            self.bytes = Vec::new();
        }
        let filled = self.bytes.len();
        self.bytes.resize(filled + READ_BYTES, 0);
        let received = self.receive_into(socket, filled);
        let count = received.as_ref().map_or(0, |count| *count);
        self.bytes.truncate(filled + count);
        Ok(received? > 0)
    }

    fn receive_into(&mut self, socket: impl AsFd, at: usize) -> Result<usize, ProtocolError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_FDS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let into = &mut [IoSliceMut::new(&mut self.bytes[at..])];
        let message = rustix::io::retry_on_intr(|| recvmsg(&socket, into, &mut control, flags))
            .map_err(io::Error::from)?;
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = part {
                self.fds.extend(fds);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            return Err(ProtocolError::DescriptorsLost);
        }
        if self.fds.len() > WAITING_FDS_MAX {
            return Err(ProtocolError::DescriptorFlood);
        }
        Ok(message.bytes)
    }

    /// The next whole message.
    pub(super) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, ProtocolError> {
        let rest = &self.bytes[self.start..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MESSAGE_BYTES_MAX {
            return Err(ProtocolError::TooLong(length));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(message)?;
        self.start += 4 + length;
        Ok(Some(message))
    }

    /// The next of the descriptors that came.
    pub(super) fn next_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}
