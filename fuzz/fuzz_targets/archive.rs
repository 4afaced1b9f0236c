//! An archive of a stranger's making.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| tinyfaas_management::fuzzing::archive(data));
