//! What a function replied to a call that nobody waited for.
//!
//! Owns reading a reply to its end and keeping it, as far as there is room. Must
//! not know who will ask for it, nor what is given up to make room.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body::Body as HttpBody;
use tinyfaas_model::{Body, InvokeError, Reply};

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::held::Share;

/// What a kept result takes beside its headers' and its body's bytes, about.
pub(super) const OVERHEAD_BYTES: usize = 256;
/// What a header takes beside its bytes, about.
const HEADER_OVERHEAD_BYTES: usize = 32;

/// A whole reply, on a share of the budget for results.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(super) status: Option<StatusCode>,
    pub(super) failed: bool,
    headers: HeaderMap,
    body: Vec<u8>,
    _held: Share,
}

/// Why a reply is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unkept {
    /// It is larger than one that is kept may be.
    TooLarge,
    /// There is no room for it, whatever else is given up.
    NoRoom,
}

/// A reply that has been read to its end.
#[derive(Debug)]
pub(super) struct Replied {
    pub(super) failed: bool,
    pub(super) kept: Result<Arc<Kept>, Unkept>,
}

impl Kept {
    pub(super) fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The reply as it came. Its body keeps its share of the budget until it is
    /// sent, whatever is forgotten meanwhile.
    pub(crate) fn reply(self: &Arc<Self>) -> Reply {
        struct BodyOf(Arc<Kept>);
        impl AsRef<[u8]> for BodyOf {
            fn as_ref(&self) -> &[u8] {
                &self.0.body
            }
        }
        Reply {
            status: self.status,
            failed: self.failed,
            headers: self.headers.clone(),
            body: Body::from_bytes(Bytes::from_owner(BodyOf(Arc::clone(self)))),
        }
    }
}

/// Reads a reply to its end, for leaving earlier would cancel the function, and
/// keeps it if it is no larger than that. `grow` makes the share larger, or says
/// that there is no room.
///
/// # Errors
/// Where the reply breaks off.
pub(super) async fn read(
    reply: Reply,
    held: Share,
    bytes_max: usize,
    grow: impl Fn(&Share, usize) -> bool,
) -> Result<Replied, InvokeError> {
    let Reply { status, failed, headers, mut body } = reply;
    let mut keeping = Keeping::start(&headers, held, bytes_max, &grow);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| InvokeError::ReplyBroken { how: error.to_string() })?;
        // A function's trailers are dropped, as they are for who waits.
        let Ok(data) = frame.into_data() else { continue };
        keeping = keeping.and_then(|keeping| keeping.push(&data, &grow));
    }
    let kept = keeping.map(|keeping| Arc::new(keeping.finish(status, failed)));
    Ok(Replied { failed, kept })
}

/// A reply of which a part has come.
struct Keeping {
    headers: HeaderMap,
    /// What the share holds for all but the body.
    head_bytes: usize,
    /// Bytes that the body may have beside such a head.
    body_bytes_max: usize,
    body: Vec<u8>,
    held: Share,
}

impl Keeping {
    fn start(
        headers: &HeaderMap,
        held: Share,
        bytes_max: usize,
        grow: impl Fn(&Share, usize) -> bool,
    ) -> Result<Self, Unkept> {
        let bytes = |(name, value): (&HeaderName, &HeaderValue)| {
            HEADER_OVERHEAD_BYTES + name.as_str().len() + value.len()
        };
        let head_bytes = OVERHEAD_BYTES + headers.iter().map(bytes).sum::<usize>();
        let Some(body_bytes_max) = (bytes_max + OVERHEAD_BYTES).checked_sub(head_bytes) else {
            return Err(Unkept::TooLarge);
        };
        if !grow(&held, head_bytes) {
            return Err(Unkept::NoRoom);
        }
        Ok(Self { headers: copy(headers), head_bytes, body_bytes_max, body: Vec::new(), held })
    }

    fn push(mut self, data: &[u8], grow: impl Fn(&Share, usize) -> bool) -> Result<Self, Unkept> {
        let length = self.body.len().saturating_add(data.len());
        if length > self.body_bytes_max {
            return Err(Unkept::TooLarge);
        }
        if length > self.body.capacity() {
            // A first part is mostly the only one; others are rarely the last.
            let room = match self.body.capacity() {
                0 => length,
                capacity => length.max(capacity.saturating_mul(2)).min(self.body_bytes_max),
            };
            if !grow(&self.held, room - self.body.capacity()) {
                return Err(Unkept::NoRoom);
            }
            self.body.reserve_exact(room - self.body.len());
        }
        self.body.extend_from_slice(data);
        Ok(self)
    }

    fn finish(mut self, status: Option<StatusCode>, failed: bool) -> Kept {
        self.body.shrink_to_fit();
        self.held.shrink_to(self.head_bytes + self.body.len());
        Kept { status, failed, headers: self.headers, body: self.body, _held: self.held }
    }
}

/// The same headers in memory of their own: as they come, each value holds the
/// whole frame that it came in.
fn copy(headers: &HeaderMap) -> HeaderMap {
    let own = |(name, value): (&HeaderName, &HeaderValue)| {
        let name = HeaderName::from_bytes(name.as_str().as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    };
    let mut copied = HeaderMap::with_capacity(headers.keys_len());
    for (name, value) in headers.iter().filter_map(own) {
        copied.append(name, value);
    }
    copied
}

#[cfg(test)]
mod tests {
    use crate::held::HeldBytes;

    use super::*;

    async fn check(body: &'static str, bytes_max: usize, budget: usize, expected: Option<Unkept>) {
        let held = HeldBytes::new(budget);
        let mut reply = Reply::from_bytes(body);
        reply.headers.insert("lab", HeaderValue::from_static("one"));
        let replied = read(reply, held.share(), bytes_max, Share::grow).await.expect("it is whole");
        match (&replied.kept, expected) {
            (Ok(kept), None) => {
                let again = kept.reply();
                let Body::Full(bytes) = &again.body else { panic!("it has a body") };
                assert_eq!(
                    (&bytes[..], &again.headers["lab"]),
                    (body.as_bytes(), "one".parse().as_ref().expect("valid"))
                );
                let taken = OVERHEAD_BYTES + HEADER_OVERHEAD_BYTES + 6 + body.len();
                assert_eq!(held.taken(), taken);
                drop(replied);
                // Who is being sent it still holds it.
                assert_eq!(held.taken(), taken);
                drop(again);
            }
            (Err(why), Some(expected)) => assert_eq!(*why, expected),
            (other, expected) => panic!("{other:?} instead of {expected:?}"),
        }
        assert_eq!(held.taken(), 0);
    }

    #[tokio::test]
    async fn a_reply_is_kept_within_its_bounds() {
        check("hello", 43, 1000, None).await;
        check("hello", 42, 1000, Some(Unkept::TooLarge)).await;
        check("hello", 20, 1000, Some(Unkept::TooLarge)).await;
        check("hello", 1000, 298, Some(Unkept::NoRoom)).await;
        check("hello", 1000, 200, Some(Unkept::NoRoom)).await;
        check("hello", 1000, 299, None).await;
    }
}
