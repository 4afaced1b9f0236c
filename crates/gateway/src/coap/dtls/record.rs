//! DTLS on the wire, as far as it is in the clear: records, the ClientHello, and
//! what is answered without any state (RFC 6347 sections 4.1 and 4.2).
//!
//! Pure. Must not know sessions, keys or cookies' meaning.

use bytes::Bytes;

/// Records of one datagram that are looked at; the rest is dropped. The largest
/// flight of a client has three.
const RECORDS_MAX: usize = 16;

/// Bytes of a record in the clear at most. A client's hello has a few hundred.
const CLEAR_BYTES_MAX: usize = 2048;

/// Bytes of a protected record's payload at most (RFC 6347 section 4.1: 2^14 and
/// what protects them).
const PROTECTED_BYTES_MAX: usize = (1 << 14) + 256;

/// Bytes of plaintext in a record at most (RFC 6347 section 4.1.1).
pub(super) const PLAINTEXT_BYTES_MAX: usize = 1 << 14;

const HEADER_BYTES: usize = 13;
const HANDSHAKE_HEADER_BYTES: usize = 12;
const DTLS_1_0: [u8; 2] = [0xfe, 0xff];
const DTLS_1_2: [u8; 2] = [0xfe, 0xfd];

/// Of TLS_PSK_WITH_AES_128_CCM_8, which alone is spoken here (RFC 6655).
const SUITE: [u8; 2] = [0xc0, 0xa8];

/// Bits of a record's number.
const NUMBER_MASK: u64 = (1 << 48) - 1;

/// Bytes of a hello's random value.
pub(super) const RANDOM_BYTES: usize = 32;

/// Bytes of our cookies.
pub(super) const COOKIE_BYTES: usize = 32;

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    ChangeCipherSpec,
    Alert,
    Handshake,
    Data,
}

/// A record of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    /// Whether it is encrypted, or says so.
    pub(super) protected: bool,
    pub(super) number: u64,
    /// All of it, header included.
    pub(super) bytes: &'a [u8],
}

impl<'a> Record<'a> {
    fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The type of the first handshake message in the clear.
    pub(super) fn message(&self) -> Option<Message> {
        if self.protected || self.kind != Kind::Handshake {
            return None;
        }
        match self.payload().first()? {
            1 => Some(Message::ClientHello),
            16 => Some(Message::ClientKeyExchange),
            _ => Some(Message::Other),
        }
    }
}

/// Types of handshake messages that matter here (RFC 5246 section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    ClientHello,
    ClientKeyExchange,
    Other,
}

/// The records of a datagram, up to what is none.
pub(super) fn records(mut datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    std::iter::from_fn(move || {
        let (record, rest) = split(datagram)?;
        datagram = rest;
        Some(record)
    })
    .take(RECORDS_MAX)
}

fn split(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let header = datagram.get(..HEADER_BYTES)?;
    let kind = match header[0] {
        20 => Kind::ChangeCipherSpec,
        21 => Kind::Alert,
        22 => Kind::Handshake,
        23 => Kind::Data,
        _ => return None,
    };
    // A first hello may call itself DTLS 1.0.
    let protected = match header[3..5] {
        [0, 0] => false,
        [0, 1] => true,
        _ => return None,
    };
    if header[1] != DTLS_1_2[0] {
        return None;
    }
    let number = header[5..11].iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let length = usize::from(u16::from_be_bytes([header[11], header[12]]));
    let length_max = if protected { PROTECTED_BYTES_MAX } else { CLEAR_BYTES_MAX };
    if length == 0 || length > length_max {
        return None;
    }
    let (bytes, rest) = datagram.split_at_checked(HEADER_BYTES + length)?;
    Some((Record { kind, protected, number, bytes }, rest))
}

/// A ClientHello, whole in one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientHello<'a> {
    /// How many messages of this handshake its sender had sent before.
    pub(super) sequence: u16,
    pub(super) random: [u8; RANDOM_BYTES],
    pub(super) cookie: &'a [u8],
    /// What stands before and after the cookie and must be the same when it is
    /// said again (RFC 6347 section 4.2.1).
    pub(super) before: &'a [u8],
    pub(super) after: &'a [u8],
}

impl<'a> ClientHello<'a> {
    /// The hello of a record. None of one that is spread over several: what a
    /// client with a key has to say fits.
    pub(super) fn parse(record: &Record<'a>) -> Option<ClientHello<'a>> {
        let payload = record.payload();
        let (header, body) = payload.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
        let (length, offset, part) =
            (number(&header[1..4]), number(&header[6..9]), number(&header[9..12]));
        if header[0] != 1 || offset != 0 || part != length || length != body.len() {
            return None;
        }
        let sequence = u16::from_be_bytes([header[4], header[5]]);
        let random = body.get(2..2 + RANDOM_BYTES)?.try_into().ok()?;
        let session = 2 + RANDOM_BYTES;
        let cookie = session + 1 + usize::from(*body.get(session)?);
        let suites = cookie + 1 + usize::from(*body.get(cookie)?);
        let methods = suites + 2 + number(body.get(suites..suites + 2)?);
        let end = methods + 1 + usize::from(*body.get(methods)?);
        Some(ClientHello {
            sequence,
            random,
            cookie: &body[cookie + 1..suites],
            before: &body[..cookie],
            after: body.get(suites..end)?,
        })
    }
}

/// The record of a HelloVerifyRequest that asks for this cookie. It is shorter than
/// any hello, and has its numbers, as nothing is kept (RFC 6347 section 4.2.1).
pub(super) fn hello_verify_request(
    record_number: u64,
    sequence: u16,
    cookie: &[u8; COOKIE_BYTES],
) -> Bytes {
    let mut body = Vec::with_capacity(3 + COOKIE_BYTES);
    // The version is 1.0 whatever will be negotiated (RFC 6347 section 4.2.1).
    body.extend(DTLS_1_0);
    body.push(COOKIE_BYTES as u8);
    body.extend(cookie);
    record(22, record_number, &handshake(3, sequence, &body))
}

/// The record of a hello without a cookie, with the least that one must have.
pub(super) fn bare_hello(sequence: u16, random: &[u8; RANDOM_BYTES]) -> Bytes {
    let mut body = Vec::with_capacity(44);
    body.extend(DTLS_1_2);
    body.extend(random);
    body.extend([0, 0]);
    body.extend([0, 2]);
    body.extend(SUITE);
    body.extend([1, 0]);
    record(22, u64::from(sequence), &handshake(1, sequence, &body))
}

/// The record of a fatal alert in the clear.
pub(super) fn fatal_alert(record_number: u64, alert: Alert) -> Bytes {
    record(21, record_number, &[2, alert as u8])
}

/// Why a handshake is ended (RFC 5246 section 7.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alert {
    UnexpectedMessage = 10,
    HandshakeFailure = 40,
    DecryptError = 51,
    ProtocolVersion = 70,
}

fn handshake(message: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let length = &(body.len() as u32).to_be_bytes()[1..];
    let mut bytes = Vec::with_capacity(HANDSHAKE_HEADER_BYTES + body.len());
    bytes.push(message);
    bytes.extend(length);
    bytes.extend(sequence.to_be_bytes());
    bytes.extend([0; 3]);
    bytes.extend(length);
    bytes.extend(body);
    bytes
}

fn record(kind: u8, number: u64, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.push(kind);
    bytes.extend(DTLS_1_2);
    bytes.extend([0, 0]);
    bytes.extend(&number.to_be_bytes()[2..]);
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend(payload);
    bytes.into()
}

/// Adds to the numbers of all records in the clear of a datagram, and returns the
/// highest that one has then.
pub(super) fn shift_clear_numbers(datagram: &mut [u8], shift: u64) -> Option<u64> {
    let (mut at, mut highest) = (0, None);
    while let Some(header) = datagram.get_mut(at..at + HEADER_BYTES) {
        if header[3..5] == [0, 0] {
            let number = header[5..11].iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
            let number = number.wrapping_add(shift) & NUMBER_MASK;
            header[5..11].copy_from_slice(&number.to_be_bytes()[2..]);
            highest = highest.max(Some(number));
        }
        at += HEADER_BYTES + usize::from(u16::from_be_bytes([header[11], header[12]]));
    }
    highest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bare_hello_is_read_as_it_is_written() {
        let bytes = bare_hello(3, &[7; 32]);
        let record = records(&bytes).next().unwrap();
        assert_eq!((record.kind, record.protected, record.number), (Kind::Handshake, false, 3));
        assert_eq!(record.message(), Some(Message::ClientHello));
        let hello = ClientHello::parse(&record).unwrap();
        assert_eq!((hello.sequence, hello.random, hello.cookie), (3, [7; 32], &[][..]));
        assert_eq!(hello.before.len(), 35);
        assert_eq!(hello.after, [0, 2, 0xc0, 0xa8, 1, 0]);
    }

    #[test]
    fn what_is_answered_without_state_is_shorter_than_any_hello() {
        let hello = bare_hello(0, &[0; 32]);
        assert!(hello_verify_request(0, 0, &[0; 32]).len() < hello.len());
    }

    #[test]
    fn what_is_no_record_ends_the_datagram() {
        let good = bare_hello(0, &[0; 32]);
        let count = |datagram: &[u8]| records(datagram).count();
        assert_eq!(count(&good), 1);
        assert_eq!(count(&[&good[..], &good[..]].concat()), 2);
        assert_eq!(count(&good.repeat(100)), RECORDS_MAX);
        assert_eq!(count(&[&good[..], b"garbage"].concat()), 1);
        assert_eq!(count(&good[..good.len() - 1]), 0);
        for (at, value) in [(0, 24), (0, 19), (0, 0x40), (1, 3), (4, 2), (3, 1), (11, 8)] {
            let mut bad = good.to_vec();
            bad[at] = value;
            assert_eq!(count(&bad), 0, "byte {at} is {value}");
        }
    }

    #[test]
    fn numbers_in_the_clear_are_shifted() {
        let mut datagram = [&bare_hello(1, &[0; 32])[..], &bare_hello(2, &[0; 32])].concat();
        let mut protected = bare_hello(9, &[0; 32]).to_vec();
        protected[4] = 1;
        datagram.extend(&protected);
        assert_eq!(shift_clear_numbers(&mut datagram, 4), Some(6));
        let numbers: Vec<_> = records(&datagram).map(|record| record.number).collect();
        assert_eq!(numbers, [5, 6, 9]);
        assert_eq!(shift_clear_numbers(&mut datagram, 5u64.wrapping_neg()), Some(1));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for record in records(&bytes) {
                let _ = ClientHello::parse(&record);
            }
            shift_clear_numbers(&mut bytes, 5);
        }

        #[test]
        fn a_damaged_hello_is_read(at in 0usize..67, value in any::<u8>(), cut in 0usize..70) {
            let mut bytes = bare_hello(0, &[1; 32]).to_vec();
            bytes[at] = value;
            bytes.truncate(cut.max(1));
            for record in records(&bytes) {
                let _ = ClientHello::parse(&record);
            }
        }
    }
}
