//! `make bench`: the server's speed, beside what this machine can do without it.
//!
//! Owns the wiring and the exit code. Targets stand in `measure.rs`, beside what
//! is measured.

mod against;
mod bare;
mod bare_hyper;
mod bare_script;
mod bare_tonic;
mod cli;
mod client;
mod figure;
mod fixed;
mod function;
mod health;
mod latency;
mod libcoap;
mod load;
mod measure;
mod memory;
mod peer;
mod plot;
mod processes;
mod reply;
mod report;
mod selection;
mod series;
mod server;
mod setting;
mod table;

use std::process::ExitCode;

use anyhow::Context;

use against::Comparison;
use bare::Baseline;
use report::Report;

/// Something did not run or replied wrongly.
const FAILED: u8 = 1;
/// `--strict`, and a target is missed.
const MISSED: u8 = 3;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    let baseline = Baseline::ALL
        .into_iter()
        .find(|baseline| matches.subcommand_name() == Some(baseline.subcommand()));
    let result = match baseline {
        Some(baseline) => bare::serve_until_orphaned(baseline).map(|()| ExitCode::SUCCESS),
        None => measure_and_report(&cli::options(&matches)),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tinyfaas-bench: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn measure_and_report(options: &cli::Options) -> anyhow::Result<ExitCode> {
    // Before minutes of measuring, not after.
    let earlier = options.against.as_deref().map(Report::read).transpose()?;
    let report = measure::everything(options)?;
    println!("{}", table::Table(&report));
    if let (Some(earlier), Some(path)) = (&earlier, &options.against) {
        println!("\n{}", Comparison::new(earlier, &report, &path.display().to_string()));
    }
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    if let Some(path) = &options.plot {
        let picture = plot::svg(&report);
        std::fs::write(path, picture)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(match (report.failed, options.strict && report.missed > 0) {
        (true, _) => ExitCode::from(FAILED),
        (false, true) => ExitCode::from(MISSED),
        (false, false) => ExitCode::SUCCESS,
    })
}
