//! On what and how it was measured: without it a figure says nothing.
//!
//! Owns what is asked of the machine about itself. Must not know the figures.

use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::cli::Options;

/// A processor is busy with other things above this share of the load.
const BUSY: f64 = 0.5;

/// What makes figures of two runs comparable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// As `/proc/cpuinfo` names it; `None` where it does not.
    pub(crate) processor: Option<String>,
    /// As Rust names it.
    pub(crate) architecture: String,
    /// Processors that this program may use.
    pub(crate) cores: usize,
    /// Of the whole machine, in MiB.
    pub(crate) memory_mib: Option<u64>,
    /// The kernel's release.
    pub(crate) kernel: String,
}

/// The machine and the plan of one report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// The server's program; `None` where only running ones were measured.
    pub(crate) server: Option<String>,
    /// What that program says of itself.
    pub(crate) version: Option<String>,
    /// Of the folder in which this was started, `-dirty` where files were changed.
    pub(crate) commit: Option<String>,
    /// Rounds of everything.
    pub(crate) rounds: usize,
    /// Seconds that a round measures each load.
    pub(crate) seconds: u64,
    /// Handlers of each function under load.
    pub(crate) threads: usize,
    /// The environments whose echoes were to be deployed.
    pub(crate) environments: Vec<String>,
    /// On what.
    pub(crate) machine: Machine,
    /// Runnable processes in the minute before, on average; `None` where `/proc`
    /// does not say.
    pub(crate) load_before: Option<f64>,
}

impl Setting {
    /// Asks the machine.
    pub(crate) fn read(options: &Options) -> Self {
        let load = fs::read_to_string("/proc/loadavg").ok();
        Self {
            server: options.server.as_ref().map(|server| server.display().to_string()),
            version: options.server.as_deref().and_then(version),
            commit: commit(),
            rounds: options.rounds,
            seconds: options.measured.as_secs(),
            threads: options.threads,
            environments: match options.server {
                Some(_) => options.environments.iter().map(|each| each.name().to_owned()).collect(),
                None => Vec::new(),
            },
            machine: Machine::read(),
            load_before: load.and_then(|text| text.split_whitespace().next()?.parse().ok()),
        }
    }
}

impl Machine {
    fn read() -> Self {
        let file = |path| fs::read_to_string(path).unwrap_or_default();
        let memory = value(&file("/proc/meminfo"), &["MemTotal"]);
        Self {
            processor: value(&file("/proc/cpuinfo"), &["model name", "Model", "Hardware"]),
            architecture: std::env::consts::ARCH.to_owned(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: memory.and_then(|text| {
                Some(text.strip_suffix(" kB")?.trim().parse::<u64>().ok()? / 1024)
            }),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        }
    }

    /// What differs, in which figures are not comparable: `what: this, was that`.
    pub(crate) fn differences(&self, before: &Self) -> Vec<String> {
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        let memory = |memory: Option<u64>| memory.map(|mib| format!("{mib} MiB"));
        let facts = [
            ("processor", known(&self.processor), known(&before.processor)),
            ("architecture", self.architecture.clone(), before.architecture.clone()),
            ("cores", self.cores.to_string(), before.cores.to_string()),
            ("memory", known(&memory(self.memory_mib)), known(&memory(before.memory_mib))),
            ("kernel", self.kernel.clone(), before.kernel.clone()),
        ];
        let different = facts.into_iter().filter(|(_, now, before)| now != before);
        different.map(|(what, now, before)| format!("{what}: {now}, was {before}")).collect()
    }
}

/// The value of the first of these keys that a file of `key : value` lines has.
fn value(text: &str, keys: &[&str]) -> Option<String> {
    let pairs = || text.lines().filter_map(|line| line.split_once(':'));
    keys.iter().find_map(|key| {
        let (_, value) = pairs().find(|(name, _)| name.trim() == *key)?;
        Some(value.trim().to_owned())
    })
}

fn version(server: &Path) -> Option<String> {
    // A relative path without a folder would be looked for in PATH.
    let server = fs::canonicalize(server).ok()?;
    first_line(Command::new(server).arg("--version"))
}

fn commit() -> Option<String> {
    first_line(Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]))
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|done| done.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

impl Display for Setting {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, version, commit, rounds, seconds, threads, .. } = self;
        let Self { machine, load_before, .. } = self;
        match server {
            Some(server) => write!(to, "{server}")?,
            None => write!(to, "running servers only")?,
        }
        for fact in [version, commit].into_iter().flatten() {
            write!(to, ", {fact}")?;
        }
        writeln!(to, ": {rounds} rounds of {seconds} s, {threads} handlers a function")?;
        if let Some(processor) = &machine.processor {
            write!(to, "{processor}, ")?;
        }
        write!(to, "{} cores, Linux {}", machine.cores, machine.kernel)?;
        match load_before {
            Some(load) if *load > BUSY => {
                write!(to, "\nthe machine was busy before (load {load}): expect lower figures")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A setting that other modules' tests show, too.
    pub(crate) fn setting() -> Setting {
        Setting {
            server: Some("./tinyfaas".to_owned()),
            version: Some("tinyfaas 0.1.0".to_owned()),
            commit: Some("0a1b2c3".to_owned()),
            rounds: 5,
            seconds: 2,
            threads: 2,
            environments: vec!["python3".to_owned()],
            machine: Machine {
                processor: None,
                architecture: "aarch64".to_owned(),
                cores: 4,
                memory_mib: Some(900),
                kernel: "6.1".to_owned(),
            },
            load_before: Some(0.2),
        }
    }

    #[test]
    fn a_busy_machine_is_said_to_be_busy() {
        let mut setting = setting();
        assert_eq!(
            setting.to_string(),
            "./tinyfaas, tinyfaas 0.1.0, 0a1b2c3: 5 rounds of 2 s, 2 handlers a function\n\
             4 cores, Linux 6.1"
        );
        setting.load_before = Some(3.5);
        assert!(setting.to_string().contains("load 3.5"), "{setting}");
    }

    #[test]
    fn the_machine_tells_of_itself() {
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_mib > Some(0), "{machine:?}");
        assert_eq!(machine.differences(&machine), Vec::<String>::new());
        let other = Machine { cores: machine.cores + 1, ..machine.clone() };
        let cores = machine.cores;
        let said = format!("cores: {cores}, was {}", cores + 1);
        assert_eq!(machine.differences(&other), [said]);
    }

    #[test]
    fn facts_are_read_by_their_names() {
        let pi =
            "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.4\n";
        let found = value(pi, &["model name", "Model"]);
        assert_eq!(found.as_deref(), Some("Raspberry Pi 4 Model B Rev 1.4"));
        assert_eq!(value("MemTotal:    948304 kB\n", &["MemTotal"]).as_deref(), Some("948304 kB"));
        assert_eq!(value(pi, &["Hardware"]), None);
        assert_eq!(first_line(Command::new("false").arg("x")), None);
        assert_eq!(first_line(Command::new("echo").arg("a\nb")).as_deref(), Some("a"));
    }
}
