//! `make bench`: the server's speed, beside what this machine can do without it.
//!
//! Owns the wiring and the exit code. Targets stand in `measure.rs`, beside what
//! is measured.

mod bare_hyper;
mod bare_script;
mod cli;
mod client;
mod function;
mod latency;
mod load;
mod measure;
mod memory;
mod reply;
mod report;
mod series;
mod server;
mod setting;

use std::process::ExitCode;

use anyhow::Context;

/// Something did not run or replied wrongly.
const FAILED: u8 = 1;
/// `--strict`, and a target is missed.
const MISSED: u8 = 3;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let result = match matches.subcommand_name() {
        Some(_) => bare_hyper::serve_until_orphaned().map(|()| ExitCode::SUCCESS),
        None => measure_and_report(&cli::options(&matches)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tinyfaas-bench: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn measure_and_report(options: &cli::Options) -> anyhow::Result<ExitCode> {
    let report = measure::everything(options)?;
    println!("{report}");
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report.json());
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let (_, missed) = report.targets();
    Ok(match (report.failed(), options.strict && missed > 0) {
        (true, _) => ExitCode::from(FAILED),
        (false, true) => ExitCode::from(MISSED),
        (false, false) => ExitCode::SUCCESS,
    })
}
