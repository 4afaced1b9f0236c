//! One call and its outcome, in no protocol's words.
//!
//! Owns what every gateway protocol parses a call into and every backend
//! answers with. Must not know HTTP status lines, CoAP codes or worker frames:
//! each protocol maps [`InvokeError`] in its own file, by a full match.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};

use crate::body::{Body, BodyError};
use crate::random;

/// The id of a call: 128 random bits. Who knows it may ask for its result.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId([u8; 16]);

impl CallId {
    /// A new id from the system's random source.
    ///
    /// # Panics
    /// Where the system has no random source at all, which Linux has from boot.
    #[must_use]
    pub fn random() -> Self {
        Self(random::draw())
    }

    /// The id that these 32 hexadecimal digits write, in either case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(bytes))
    }

    /// The id as 32 lower-case hexadecimal digits, without an allocation.
    #[must_use]
    pub fn to_hex(self) -> CallIdHex {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        CallIdHex(hex)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_hex().as_str())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A [`CallId`] written out.
#[derive(Clone, Copy)]
pub struct CallIdHex([u8; 32]);

impl CallIdHex {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made of ASCII digits only")
    }
}

/// What a call asks its function for: the path below the function's name, and
/// the query.
#[derive(Debug, Clone)]
pub struct CallTarget {
    whole: PathAndQuery,
    /// Where the path below the name starts within `whole`'s path.
    below: usize,
}

impl CallTarget {
    /// Splits `/NAME/sub/path?query` into the function's name and the rest.
    /// The name is not checked: an unknown one finds no route.
    #[must_use]
    pub fn split(whole: &PathAndQuery) -> (&str, Self) {
        let path = whole.path();
        let start = usize::from(path.starts_with('/'));
        let end = path[start..].find('/').map_or(path.len(), |at| start + at);
        (&path[start..end], Self { whole: whole.clone(), below: end })
    }

    /// The path below the function's name, percent-encoded as it came; `/` at
    /// least.
    #[must_use]
    pub fn path(&self) -> &str {
        match &self.whole.path()[self.below..] {
            "" => "/",
            path => path,
        }
    }

    /// The query without its question mark; empty where there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        self.whole.query().unwrap_or_default()
    }
}

/// A call: what a protocol has read and a handler runs.
#[derive(Debug)]
pub struct Invocation {
    /// Its id, told to the caller and to the function.
    pub id: CallId,
    /// The method; protocols without methods use POST.
    pub method: Method,
    /// The path below the function's name, and the query.
    pub target: CallTarget,
    /// The caller's headers, less those that concern the connection only.
    pub headers: HeaderMap,
    /// The input.
    pub body: Body,
    /// When it must have ended, on the monotonic clock.
    pub deadline: Instant,
}

/// What a function answered.
#[derive(Debug)]
pub struct Reply {
    /// The status, where the function set one.
    pub status: Option<StatusCode>,
    /// The function raised an error, or its script exited with one: the body is
    /// what the caller is told, the status 500.
    pub failed: bool,
    /// The function's headers.
    pub headers: HeaderMap,
    /// The output. Dropping it before its end cancels the call.
    pub body: Body,
}

impl Reply {
    /// A whole reply without status and headers.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self {
            status: None,
            failed: false,
            headers: HeaderMap::new(),
            body: Body::from_bytes(bytes),
        }
    }
}

/// Why a call has no reply. Each protocol maps it to its own codes, once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvokeError {
    /// No function has that name.
    #[error("there is no function {name:?}; list shows those that there are")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// As many calls wait for this function as may wait.
    #[error("function {name} is busy: {limit} calls are waiting already; try again later")]
    FunctionBusy {
        /// The function.
        name: String,
        /// The limit that is reached.
        limit: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// As many calls wait in the whole server, or hold as much memory, as may.
    #[error("the server is busy: {what}; try again later")]
    ServerBusy {
        /// The limit that is reached.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The function has no handler that could run a call: they die again and
    /// again. The call did not start.
    #[error("the function is unavailable: {reason}")]
    Unavailable {
        /// What is the matter.
        reason: String,
        /// When its next handler is started.
        retry_after: Duration,
    },
    /// The server is stopping, or the function has just been deleted.
    #[error("the server is stopping; the call was not run")]
    Stopping,
    /// The call's time is over.
    #[error("the call took longer than the {after:?} it may take")]
    DeadlineExceeded {
        /// The time it had.
        after: Duration,
    },
    /// The handler died while it ran the call.
    #[error("the function's handler ended while it ran the call: {how}")]
    Crashed {
        /// How it ended.
        how: String,
    },
    /// The worker could run the call but not answer it.
    #[error("the function's reply broke: {how}")]
    ReplyBroken {
        /// What the worker said.
        how: String,
    },
    /// The caller's body did not come whole.
    #[error(transparent)]
    Request(#[from] BodyError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(whole: &'static str, name: &str, path: &str, query: &str) {
        let whole = PathAndQuery::from_static(whole);
        let (found, target) = CallTarget::split(&whole);
        assert_eq!((found, target.path(), target.query()), (name, path, query), "{whole}");
    }

    #[test]
    fn a_target_splits_after_the_name() {
        check("/echo", "echo", "/", "");
        check("/echo/", "echo", "/", "");
        check("/echo/a/b?c=d&e", "echo", "/a/b", "c=d&e");
        check("/echo?x", "echo", "/", "x");
        check("/", "", "/", "");
        check("//x", "", "/x", "");
        check("/a%2Fb/%20", "a%2Fb", "/%20", "");
    }

    #[test]
    fn an_id_is_32_digits_and_new_each_time() {
        let (one, other) = (CallId::random(), CallId::random());
        assert_eq!(one.to_string().len(), 32);
        assert_ne!(one, other);
        assert_eq!(CallId([0xa5; 16]).to_string(), "a5".repeat(16));
        for text in [one.to_string(), one.to_string().to_uppercase()] {
            assert_eq!(CallId::parse(&text), Some(one));
        }
        for wrong in ["", "a5", &"g".repeat(32), &"a5".repeat(17), &"é".repeat(16)] {
            assert_eq!(CallId::parse(wrong), None, "{wrong}");
        }
    }
}
