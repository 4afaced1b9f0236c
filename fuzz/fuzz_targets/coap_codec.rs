//! A datagram of a stranger's making, read here and by coap-lite's `Packet`. Where
//! the two differ on purpose is said at each place.
#![no_main]

use bytes::Bytes;
use coap_lite::{MessageType, Packet};
use libfuzzer_sys::fuzz_target;
use tinyfaas_coap::message::{Kind, Malformed, Message};

fuzz_target!(|data: &[u8]| {
    let datagram = Bytes::copy_from_slice(data);
    let ours = Message::decode(&datagram);
    let theirs = Packet::from_bytes(data);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => same(&ours, &theirs, &datagram),
        (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => assert!(
            // coap-lite leaves all of these to its user.
            matches!(
                error.fault,
                Malformed::Version(_)
                    | Malformed::NotEmpty
                    | Malformed::ReservedClass(_)
                    | Malformed::Payload
            ),
            "only coap-lite reads it: {error}"
        ),
        // (It also refuses values of more than 65,535 bytes; no datagram has so many.)
        (Ok(ours), Err(error)) => panic!("only coap-lite refuses {ours:?}: {error:?}"),
    }
});

fn same(ours: &Message, theirs: &Packet, datagram: &Bytes) {
    let kind = match theirs.header.get_type() {
        MessageType::Confirmable => Kind::Confirmable,
        MessageType::NonConfirmable => Kind::NonConfirmable,
        MessageType::Acknowledgement => Kind::Acknowledgement,
        MessageType::Reset => Kind::Reset,
    };
    assert_eq!(ours.kind, kind);
    assert_eq!(ours.id.0, theirs.header.message_id);
    assert_eq!(ours.token.as_slice(), theirs.get_token());
    assert_eq!(&ours.payload[..], &theirs.payload[..]);
    // coap-lite groups values by number; in order both are the same.
    let values = theirs
        .options()
        .flat_map(|(number, values)| values.iter().map(move |value| (*number, value.as_slice())));
    assert!(ours.options.iter().map(|(n, v)| (n.0, v)).eq(values));
    assert_eq!(&ours.encode(), datagram);
    // Written by each with its own options, it reads the same.
    let mut builder = tinyfaas_coap::message::OptionsBuilder::new();
    for (number, value) in ours.options.iter() {
        builder.push(number, value).expect("it was read");
    }
    let rebuilt = Message { options: builder.build(), ..ours.clone() };
    assert_eq!(theirs.to_bytes_unlimited().ok().as_deref(), Some(&rebuilt.encode()[..]));
}
