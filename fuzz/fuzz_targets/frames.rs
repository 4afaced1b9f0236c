//! What a worker, which a stranger's function may have taken over, can send; and
//! what the server sends, which the binary worker reads.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tinyfaas_handlers::wire::{
    Kind, decode, encode, parse_call, parse_cancel, parse_credit, parse_reply,
};

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = decode(&mut buffer) {
        let mut again = BytesMut::new();
        encode(&mut again, frame.kind, frame.flags, frame.call, &frame.payload);
        assert_eq!(decode(&mut again).as_ref(), Ok(&Some(frame.clone())));
        match frame.kind {
            Kind::Call => {
                if let Ok((head, _, _)) = parse_call(&frame.payload) {
                    let fields = [head.id, head.method, head.path, head.query];
                    assert!(fields.concat().iter().all(|byte| *byte != b'\n'));
                }
            }
            Kind::Reply => drop(parse_reply(&frame.payload)),
            Kind::Credit => drop(parse_credit(&frame.payload)),
            Kind::Cancel => drop(parse_cancel(&frame.payload)),
            _ => {}
        }
    }
});
