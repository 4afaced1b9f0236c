//! The keys of CoAP over DTLS, and its sessions on a network that belongs to somebody
//! else.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tinyfaas_gateway::dtls_fuzzing::sessions(data));
