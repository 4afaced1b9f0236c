//! What a script prints before its reply's body.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tinyfaas_binary_worker::fuzzing::cgi_head(data));
