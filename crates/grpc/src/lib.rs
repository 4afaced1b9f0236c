//! The gRPC interface in Rust, generated from `pkg/grpc/tinyfaas`.
//!
//! Owns what is generated, and nothing else: `UPDATE=1 cargo test -p tinyfaas-grpc`
//! makes it anew, and without `UPDATE` that test fails where it is stale. Must not
//! know how a call is run.

/// How messages are written and read.
pub use prost::Message;

/// Version 1: the interface of the original. On the wire `string` and `bytes` are
/// the same; here `data` and `response` are bytes, so that text which is none is
/// seen before it is damaged.
pub mod v1 {
    #![expect(
        unused_qualifications,
        missing_docs,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]

    include!("generated/openfogstack.tinyfaas.tinyfaas.rs");
}

/// Version 2: bytes, headers, status, streams, asynchronous calls.
pub mod v2 {
    #![expect(
        unused_qualifications,
        missing_docs,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated"
    )]

    include!("generated/tinyfaas.v2.rs");
}

/// Both versions as they are published, for reflection: an encoded
/// `google.protobuf.FileDescriptorSet` without comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptors.bin");
