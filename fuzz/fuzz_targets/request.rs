//! The JSON of the six calls.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tinyfaas_management::fuzzing::request(data));
