//! The parsers of small texts that the rooms share: names, targets, ids, times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tinyfaas_model::{CallId, FunctionName, parse_duration};

fuzz_target!(|text: &str| {
    if let Ok(name) = FunctionName::parse(text) {
        assert_eq!(name.as_str(), text);
        assert!(!text.contains(['/', '.', '\0']), "no safe file name: {text:?}");
    }
    if let Some(id) = CallId::parse(text) {
        assert_eq!(id.to_string(), text.to_lowercase());
    }
    // Whatever it says, it must say it and not break.
    let _ = parse_duration(text);
});
