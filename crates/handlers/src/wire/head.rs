//! The heads of CALL and REPLY: what stands before a body's first part.
//!
//! Owns the lines of a head and their rules. Header values are slices of the
//! frame that they came in, never copies.

use std::ops::Range;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Flags, HEAD_BYTES_MAX, HEADER_BYTES, Kind, WireError, header};

/// What a CALL says of its call, its headers apart. Bytes, since a head is ISO
/// 8859-1: no field holds CR, LF or NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallHead<'a> {
    /// The call's id: 32 hexadecimal digits.
    pub id: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The path below the function's name, percent-encoded as it came.
    pub path: &'a [u8],
    /// The query without its question mark; empty where there is none.
    pub query: &'a [u8],
    /// The time until the deadline; carried in milliseconds.
    pub remaining: Duration,
}

/// What a REPLY says of its reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status, where the function set one.
    pub status: Option<StatusCode>,
    /// The function's headers.
    pub headers: HeaderMap,
}

/// Writes a CALL with the first part of its body. Where the head is longer than
/// [`HEAD_BYTES_MAX`], nothing is written and its length returned as the error.
///
/// # Errors
/// The bytes of a head that is too long.
///
/// # Panics
/// If head and body part together are longer than a payload may be: the
/// caller cuts bodies.
pub fn encode_call(
    out: &mut BytesMut,
    call: u32,
    head: &CallHead<'_>,
    headers: &HeaderMap,
    body: &[u8],
    flags: Flags,
) -> Result<(), usize> {
    let start = begin(out, body.len() + 256);
    for field in [head.id, head.method, head.path, head.query] {
        out.put_slice(field);
        out.put_u8(b'\n');
    }
    put_decimal(out, u64::try_from(head.remaining.as_millis()).unwrap_or(u64::MAX));
    put_headers(out, headers);
    finish(out, start, Kind::Call, flags, call, body)
}

/// Reads the payload of a CALL: its head, its headers, and the first part of
/// its body.
///
/// # Errors
/// Says what is wrong with the head.
pub fn parse_call(payload: &Bytes) -> Result<(CallHead<'_>, HeaderMap, Bytes), WireError> {
    let bad = |why| WireError::BadPayload(Kind::Call, why);
    let (end, body) = split(payload).map_err(bad)?;
    let mut fields = Fields::new(payload, end);
    let mut field = || fields.next().ok_or(bad("a head without its first five fields"));
    let (id, method, path, query, remaining) = (field()?, field()?, field()?, field()?, field()?);
    let remaining = parse_decimal(&payload[remaining]).ok_or(bad("no number of milliseconds"))?;
    let head = CallHead {
        id: &payload[id],
        method: &payload[method],
        path: &payload[path],
        query: &payload[query],
        remaining: Duration::from_millis(remaining),
    };
    let headers = parse_headers(fields)?;
    Ok((head, headers, body))
}

/// Writes a REPLY with the first part of its body. Where the head is longer than
/// [`HEAD_BYTES_MAX`], nothing is written and its length returned as the error.
///
/// # Errors
/// The bytes of a head that is too long.
///
/// # Panics
/// If head and body part together are longer than a payload may be: the
/// caller cuts bodies.
pub fn encode_reply(
    out: &mut BytesMut,
    call: u32,
    head: &ReplyHead,
    body: &[u8],
    flags: Flags,
) -> Result<(), usize> {
    let start = begin(out, body.len() + 64);
    if let Some(status) = head.status {
        out.put_slice(status.as_str().as_bytes());
    }
    put_headers(out, &head.headers);
    finish(out, start, Kind::Reply, flags, call, body)
}

/// Reads the payload of a REPLY: its head and the first part of its body.
///
/// # Errors
/// Says what is wrong with the head.
pub fn parse_reply(payload: &Bytes) -> Result<(ReplyHead, Bytes), WireError> {
    let bad = |why| WireError::BadPayload(Kind::Reply, why);
    let (end, body) = split(payload).map_err(bad)?;
    let mut fields = Fields::new(payload, end);
    let status = match fields.next().map(|field| &payload[field]).unwrap_or_default() {
        b"" => None,
        digits => Some(StatusCode::from_bytes(digits).map_err(|_| bad("no status"))?),
    };
    let headers = parse_headers(fields)?;
    Ok((ReplyHead { status, headers }, body))
}

/// Leaves room for the header and the head's length; both are known at the end.
fn begin(out: &mut BytesMut, about: usize) -> usize {
    let start = out.len();
    out.reserve(HEADER_BYTES + 4 + about);
    out.put_bytes(0, HEADER_BYTES + 4);
    start
}

fn finish(
    out: &mut BytesMut,
    start: usize,
    kind: Kind,
    flags: Flags,
    call: u32,
    body: &[u8],
) -> Result<(), usize> {
    let head = out.len() - start - HEADER_BYTES - 4;
    if head > HEAD_BYTES_MAX {
        out.truncate(start);
        return Err(head);
    }
    let (header_at, length_at) = (start, start + HEADER_BYTES);
    let frame = header(kind, flags, call, 4 + head + body.len());
    out[header_at..length_at].copy_from_slice(&frame);
    let head = u32::try_from(head).expect("at most HEAD_BYTES_MAX");
    out[length_at..length_at + 4].copy_from_slice(&head.to_le_bytes());
    out.put_slice(body);
    Ok(())
}

fn put_headers(out: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        out.reserve(name.as_str().len() + value.len() + 2);
        out.put_u8(b'\n');
        out.put_slice(name.as_str().as_bytes());
        out.put_u8(b'\n');
        out.put_slice(value.as_bytes());
    }
}

fn put_decimal(out: &mut BytesMut, mut number: u64) {
    let (mut digits, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

fn parse_decimal(digits: &[u8]) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all_digits.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// Where the head ends within the payload, and the body's first part.
fn split(payload: &Bytes) -> Result<(usize, Bytes), &'static str> {
    let length = payload.first_chunk::<4>().ok_or("no length of a head")?;
    let head = u32::from_le_bytes(*length) as usize;
    if head > HEAD_BYTES_MAX {
        return Err("a head longer than allowed");
    }
    let end = 4 + head;
    if payload.len() < end {
        return Err("a head that ends behind its frame");
    }
    Ok((end, payload.slice(end..)))
}

/// The fields of a head, as ranges of the payload: an empty head has one, empty.
struct Fields<'a> {
    payload: &'a Bytes,
    /// Where the next field starts; none after the last.
    at: Option<usize>,
    end: usize,
}

impl<'a> Fields<'a> {
    fn new(payload: &'a Bytes, end: usize) -> Self {
        Self { payload, at: Some(4), end }
    }
}

impl Iterator for Fields<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let start = self.at?;
        let length = self.payload[start..self.end].iter().position(|byte| *byte == b'\n');
        self.at = length.map(|length| start + length + 1);
        Some(start..length.map_or(self.end, |length| start + length))
    }
}

fn parse_headers(mut fields: Fields<'_>) -> Result<HeaderMap, WireError> {
    let mut headers = HeaderMap::new();
    while let Some(name) = fields.next() {
        let value = fields.next().ok_or(WireError::BadHeader("a name without a value"))?;
        let name = HeaderName::from_bytes(&fields.payload[name])
            .map_err(|_| WireError::BadHeader("a name that HTTP does not allow"))?;
        let value = HeaderValue::from_maybe_shared(fields.payload.slice(value))
            .map_err(|_| WireError::BadHeader("a value with control characters"))?;
        headers
            .try_append(name, value)
            .map_err(|_| WireError::BadHeader("more headers than can be held"))?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::decode;

    fn header_maps() -> impl Strategy<Value = HeaderMap> {
        let value = vec(prop_oneof![32_u8..127, 128_u8..=255, Just(b'\t')], 0..20);
        vec(("[a-z][a-z0-9-]{0,12}", value), 0..8).prop_map(|pairs| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
                headers.append(name, HeaderValue::from_bytes(&value).unwrap());
            }
            headers
        })
    }

    proptest! {
        #[test]
        fn a_call_comes_back(
            texts in ("[0-9a-f]{32}", "[A-Z]{1,8}", "/[ -~]{0,30}", "[ -~]{0,30}"),
            headers in header_maps(),
            millis: u32,
            body in vec(any::<u8>(), 0..100),
            end: bool,
        ) {
            let head = CallHead {
                id: texts.0.as_bytes(),
                method: texts.1.as_bytes(),
                path: texts.2.as_bytes(),
                query: texts.3.as_bytes(),
                remaining: Duration::from_millis(millis.into()),
            };
            let mut out = BytesMut::from("before");
            encode_call(&mut out, 7, &head, &headers, &body, Flags::end_if(end)).unwrap();
            let frame = decode(&mut out.split_off(6)).unwrap().unwrap();
            let (got, got_headers, got_body) = parse_call(&frame.payload).unwrap();
            prop_assert_eq!((frame.kind, frame.call, frame.flags.has(Flags::END)), (Kind::Call, 7, end));
            prop_assert_eq!((got, got_headers, &got_body[..]), (head, headers, &body[..]));
        }

        #[test]
        fn a_reply_comes_back(
            status in proptest::option::of(100_u16..1000),
            headers in header_maps(),
            body in vec(any::<u8>(), 0..100),
        ) {
            let status = status.map(|status| StatusCode::from_u16(status).unwrap());
            let head = ReplyHead { status, headers };
            let mut out = BytesMut::new();
            encode_reply(&mut out, 9, &head, &body, Flags::END.and(Flags::FAILURE)).unwrap();
            let frame = decode(&mut out).unwrap().unwrap();
            prop_assert!(frame.flags.has(Flags::END) && frame.flags.has(Flags::FAILURE));
            let (got, got_body) = parse_reply(&frame.payload).unwrap();
            prop_assert_eq!((got, &got_body[..]), (head, &body[..]));
        }
    }

    type Expected = (Option<u16>, &'static [(&'static str, &'static str)]);

    fn check(head: &str, expected: Result<Expected, WireError>) {
        let mut payload = BytesMut::new();
        payload.put_u32_le(head.len().try_into().unwrap());
        payload.put_slice(head.as_bytes());
        let got = parse_reply(&payload.freeze()).map(|(head, _)| head);
        let expected = expected.map(|(status, pairs)| ReplyHead {
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            headers: pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse::<HeaderValue>().unwrap()))
                .collect(),
        });
        assert_eq!(got, expected, "{head:?}");
    }

    #[test]
    fn the_heads_of_replies() {
        check("", Ok((None, &[])));
        check("404", Ok((Some(404), &[])));
        check("\nlab\ntu", Ok((None, &[("lab", "tu")])));
        check("200\nlab\n", Ok((Some(200), &[("lab", "")])));
        check("200\nLab\nb", Ok((Some(200), &[("lab", "b")])));
        check("20", Err(WireError::BadPayload(Kind::Reply, "no status")));
        check("200\nlab", Err(WireError::BadHeader("a name without a value")));
        check("200\n\n", Err(WireError::BadHeader("a name that HTTP does not allow")));
        check("200\na b\nc", Err(WireError::BadHeader("a name that HTTP does not allow")));
        check("200\na\nb\rc", Err(WireError::BadHeader("a value with control characters")));
    }

    #[test]
    fn a_head_that_is_too_long_leaves_the_buffer_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert("long", HeaderValue::from_bytes(&vec![b'x'; HEAD_BYTES_MAX]).unwrap());
        let mut out = BytesMut::from("before");
        let refused =
            encode_reply(&mut out, 1, &ReplyHead { status: None, headers }, b"", Flags::NONE);
        assert_eq!((refused, &out[..]), (Err(HEAD_BYTES_MAX + 6), &b"before"[..]));
    }
}
