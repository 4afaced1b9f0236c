//! On what and how it was measured: without it a figure says nothing.
//!
//! Owns what is asked of the machine about itself. Must not know the figures.

use std::fmt::{self, Display};

use serde_json::{Value, json};

use crate::cli::Options;

/// A processor is busy with other things above this share of the load.
const BUSY: f64 = 0.5;

/// The machine and the plan of one report.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The server's program.
    pub(crate) server: String,
    /// Rounds of everything.
    pub(crate) rounds: usize,
    /// Seconds that a round measures each load.
    pub(crate) seconds: u64,
    /// Handlers of each function under load.
    pub(crate) threads: usize,
    /// Processors that this program may use.
    pub(crate) cores: usize,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// Runnable processes in the minute before, on average; `None` where `/proc`
    /// does not say.
    pub(crate) load_before: Option<f64>,
}

impl Setting {
    /// Asks the machine.
    pub(crate) fn read(options: &Options) -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").ok();
        Self {
            server: options.server.display().to_string(),
            rounds: options.rounds,
            seconds: options.measured.as_secs(),
            threads: options.threads,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            load_before: load.and_then(|text| text.split_whitespace().next()?.parse().ok()),
        }
    }

    /// For machines.
    pub(crate) fn json(&self) -> Value {
        json!({
            "server": self.server, "rounds": self.rounds, "seconds": self.seconds,
            "threads": self.threads, "cores": self.cores, "kernel": self.kernel,
            "load_before": self.load_before,
        })
    }
}

impl Display for Setting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, rounds, seconds, threads, cores, kernel, load_before } = self;
        write!(to, "{server}: {rounds} rounds of {seconds} s, {threads} handlers a function, ")?;
        write!(to, "{cores} cores, Linux {kernel}")?;
        match load_before {
            Some(load) if *load > BUSY => {
                write!(to, "\nthe machine was busy before (load {load}): expect lower figures")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_is_said_to_be_busy() {
        let mut setting = Setting {
            server: "./tinyfaas".to_owned(),
            rounds: 5,
            seconds: 2,
            threads: 2,
            cores: 4,
            kernel: "6.1".to_owned(),
            load_before: Some(0.2),
        };
        assert_eq!(
            setting.to_string(),
            "./tinyfaas: 5 rounds of 2 s, 2 handlers a function, 4 cores, Linux 6.1"
        );
        setting.load_before = Some(3.5);
        assert!(setting.to_string().contains("load 3.5"), "{setting}");
        assert_eq!(setting.json()["load_before"], json!(3.5));
    }
}
