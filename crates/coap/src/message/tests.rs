use super::*;
use proptest::prelude::*;

fn any_message() -> impl Strategy<Value = Message> {
    let kind = prop::sample::select(vec![
        Kind::Confirmable,
        Kind::NonConfirmable,
        Kind::Acknowledgement,
        Kind::Reset,
    ]);
    let code = (prop::sample::select(vec![0u8, 2, 4, 5]), 0u8..32)
        .prop_map(|(class, detail)| Code::new(class, detail))
        .prop_filter("not empty", |code| !code.is_empty());
    let token = prop::collection::vec(any::<u8>(), 0..=8);
    let options =
        prop::collection::vec((any::<u16>(), prop::collection::vec(any::<u8>(), 0..400)), 0..8);
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    (kind, code, any::<u16>(), token, options, payload).prop_map(
        |(kind, code, id, token, pushed, payload)| {
            let mut options = OptionsBuilder::new();
            for (number, value) in &pushed {
                options.push(OptionNumber(*number), value).unwrap();
            }
            Message {
                kind,
                code,
                id: MessageId(id),
                token: Token::new(&token).unwrap(),
                options: options.build(),
                payload: payload.into(),
            }
        },
    )
}

proptest! {
    #[test]
    fn a_message_comes_back(message in any_message()) {
        let datagram = message.encode();
        prop_assert_eq!(datagram.len(), message.encoded_bytes());
        prop_assert_eq!(Message::decode(&datagram), Ok(message));
    }

    /// What is read is written the same, unless a number was written longer than
    /// it need be; reading that again finds the same message.
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..80), version_one: bool,
    ) {
        if let (Some(first), true) = (bytes.first_mut(), version_one) {
            *first = *first & 0x3f | 0x40;
        }
        let datagram = Bytes::from(bytes);
        if let Ok(message) = Message::decode(&datagram) {
            prop_assert_eq!(message.encode(), &datagram);
            let rebuilt = Message { options: rebuilt(&message.options), ..message.clone() };
            prop_assert_eq!(Message::decode(&rebuilt.encode()), Ok(rebuilt.clone()));
            prop_assert!(rebuilt.options.iter().eq(message.options.iter()));
        }
    }
}

fn rebuilt(options: &Options) -> Options {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options.iter() {
        builder.push(number, value).unwrap();
    }
    builder.build()
}

fn due(datagram: &[u8]) -> Due {
    Message::decode(&Bytes::copy_from_slice(datagram)).unwrap_err().due()
}

#[test]
fn malformed_datagrams_get_what_is_due() {
    let reset = Due::Reset(MessageId(0x1234));
    let check = |datagram: &[u8], fault, expected| {
        let error = Message::decode(&Bytes::copy_from_slice(datagram)).unwrap_err();
        assert_eq!((error.fault, error.due()), (fault, expected));
    };
    check(&[0x49, 1, 0x12, 0x34, 1, 2, 3, 4, 5, 6, 7, 8, 9], Malformed::TokenLength(9), reset);
    check(&[0x40, 1, 0x12, 0x34, 0xff], Malformed::Payload, reset);
    check(&[0x40, 1, 0x12, 0x34, 0xf1, 0], Malformed::OptionHeader, reset);
    check(&[0x40, 1, 0x12, 0x34, 0x1f, 0], Malformed::OptionHeader, reset);
    check(&[0x40, 0x20, 0x12, 0x34], Malformed::ReservedClass(Code::new(1, 0)), reset);
    check(&[0x40, 0, 0x12, 0x34, 0xff], Malformed::NotEmpty, reset);
    check(&[0x41, 0, 0x12, 0x34, 7], Malformed::NotEmpty, reset);
    check(&[0x42, 1, 0x12, 0x34, 7], Malformed::Token, reset);
    check(&[0x40, 1, 0x12, 0x34, 0xb3, 1], Malformed::Option, reset);
    check(&[0x40, 1, 0x12, 0x34, 0xe0, 1], Malformed::Option, reset);
    check(&[0x40, 1, 0x12, 0x34, 0xe0, 0xff, 0xff], Malformed::OptionNumber, reset);
    check(&[0x50, 1, 0x12, 0x34, 0xff], Malformed::Payload, reset);
    check(&[0x40, 1, 0x12], Malformed::Header, Due::Silence);
    check(&[], Malformed::Header, Due::Silence);
    check(&[0x80, 1, 0x12, 0x34], Malformed::Version(2), Due::Silence);
    // What could be an answer is never answered.
    assert_eq!(due(&[0x60, 1, 0x12, 0x34, 0xff]), Due::Silence);
    assert_eq!(due(&[0x70, 0, 0x12, 0x34, 0xff]), Due::Silence);
    assert_eq!(due(&[0x69, 0x45, 0x12, 0x34]), Due::Silence);
}

#[test]
fn requests_that_none_can_serve() {
    let check = |kind, code, options: &[(u16, &[u8])], expected| {
        let mut builder = OptionsBuilder::new();
        for (number, value) in options {
            builder.push(OptionNumber(*number), value).unwrap();
        }
        let request =
            Message { code, options: builder.build(), ..Message::empty(kind, MessageId(9)) };
        let due = request.check_request().err().map(|e| e.due(kind, request.id));
        assert_eq!(due, expected, "{request:?}");
    };
    let (con, non) = (Kind::Confirmable, Kind::NonConfirmable);
    let bad = Some(Due::Response(Code::BAD_OPTION));
    let reset = Some(Due::Reset(MessageId(9)));
    check(con, Code::GET, &[], None);
    check(con, Code::new(0, 31), &[], Some(Due::Response(Code::METHOD_NOT_ALLOWED)));
    check(con, Code::GET, &[(9, b"")], bad);
    check(non, Code::GET, &[(9, b"")], reset);
    // Elective ones are no matter, however odd.
    check(con, Code::GET, &[(10, b"x"), (65_534, b"y"), (12, b"12345")], None);
    // Twice, where once is allowed; too long.
    check(con, Code::GET, &[(3, b"a"), (3, b"b")], bad);
    check(con, Code::GET, &[(11, b"a"), (11, b"b")], None);
    check(con, Code::GET, &[(17, b"123")], bad);
    check(non, Code::PUT, &[(5, b"1")], reset);
    check(con, Code::GET, &[(27, b"1234")], bad);
    check(
        con,
        Code::GET,
        &[(35, b"coap://else/")],
        Some(Due::Response(Code::PROXYING_NOT_SUPPORTED)),
    );
}

#[test]
fn options_and_payload_share_the_datagram() {
    let datagram = Bytes::from_static(&[0x41, 1, 0, 1, 7, 0xb1, b'a', 0xff, b'x', b'y']);
    let message = Message::decode(&datagram).unwrap();
    assert_eq!(message.payload.as_ptr(), datagram[8..].as_ptr());
    let path = message.options.get(OptionNumber::URI_PATH).unwrap();
    assert_eq!(path.as_ptr(), datagram[6..].as_ptr());
}
