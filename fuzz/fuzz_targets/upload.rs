//! The body of an upload, taken apart as it comes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tinyfaas_management::fuzzing::upload(data));
