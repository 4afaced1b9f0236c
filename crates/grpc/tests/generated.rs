//! Holds the generated code against the interface that it is generated from.

use std::path::{Path, PathBuf};
use std::{env, fs};

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;

/// The fields of version 1 that are text on paper and whatever they are on the wire.
const BYTES: [(&str, &str); 2] = [("Data", "data"), ("Response", "response")];

fn interface() -> FileDescriptorSet {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../pkg/grpc/tinyfaas");
    let mut compiler = protox::Compiler::new([folder]).expect("the folder is there");
    compiler.include_imports(true).include_source_info(true);
    compiler
        .open_files(["tinyfaas.proto", "tinyfaas_v2.proto"])
        .expect("the interface is valid")
        .file_descriptor_set()
}

/// As it is published, without its comments.
fn descriptors(mut interface: FileDescriptorSet) -> Vec<u8> {
    for file in &mut interface.file {
        file.source_code_info = None;
    }
    interface.encode_to_vec()
}

fn with_bytes(mut interface: FileDescriptorSet) -> FileDescriptorSet {
    let v1 = interface.file.iter_mut().find(|file| file.name() == "tinyfaas.proto");
    let messages = &mut v1.expect("version 1 is compiled").message_type;
    for (message, field) in BYTES {
        let message = messages.iter_mut().find(|found| found.name() == message);
        let fields = &mut message.expect("the message is there").field;
        let field = fields.iter_mut().find(|found| found.name() == field);
        field.expect("the field is there").set_type(Type::Bytes);
    }
    interface
}

fn generate(out: &Path) {
    let interface = interface();
    fs::write(out.join("descriptors.bin"), descriptors(interface.clone())).expect("writable");
    tonic_prost_build::configure()
        .out_dir(out)
        .bytes(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(with_bytes(interface))
        .expect("it can be generated");
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("it is there");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("readable").file_name().into()).collect();
    names.sort();
    names
}

#[test]
fn the_generated_code_is_that_of_the_interface() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated");
    if env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&kept).expect("writable");
        return generate(&kept);
    }
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("generated");
    drop(fs::remove_dir_all(&fresh));
    fs::create_dir_all(&fresh).expect("writable");
    generate(&fresh);
    assert_eq!(names(&kept), names(&fresh), "UPDATE=1 cargo test -p tinyfaas-grpc");
    for name in names(&fresh) {
        let same = fs::read(kept.join(&name)).ok() == fs::read(fresh.join(&name)).ok();
        assert!(same, "{} is stale: UPDATE=1 cargo test -p tinyfaas-grpc", name.display());
    }
}
