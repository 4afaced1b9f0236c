//! A caller's `traceparent`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tinyfaas_gateway::fuzzing::trace(data));
