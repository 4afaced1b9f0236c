//! The server's configuration file, and the texts of its settings.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

use self::config::Config;
use self::config::settings::{CONFIG, Setting};

// The program is no library: its own module is compiled into this target.
#[allow(dead_code, reason = "only reading is wanted here")]
#[path = "../../crates/tinyfaas/src/config/mod.rs"]
mod config;

fuzz_target!(|text: &str| {
    // One text for every setting: each must take it or say why not.
    check(|setting| (setting.name != CONFIG).then(|| text.to_owned()));
    let file = std::env::temp_dir().join(format!("tinyfaas-fuzz-{}.toml", std::process::id()));
    fs::write(&file, text).expect("the folder of temporary files can be written");
    let path = file.to_str().map(str::to_owned);
    check(|setting| path.clone().filter(|_| setting.name == CONFIG));
});

fn check(flag: impl Fn(&Setting) -> Option<String>) {
    if let Err(mistakes) = Config::read(flag, |_| None, None) {
        assert!(!mistakes.is_empty() && mistakes.iter().all(|mistake| !mistake.is_empty()));
    }
}
