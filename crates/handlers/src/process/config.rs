//! Where the embedded backend keeps things, and its bounds.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// The settings of a [`super::ProcessBackend`]. Every bound has a default; the
/// paths must be absolute and UTF-8.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    /// Deployments lie here, and nothing else: it is emptied at start.
    pub dir: PathBuf,
    /// The workers' code is written here at start.
    pub runtimes_dir: PathBuf,
    /// What installers have downloaded, kept from start to start.
    pub cache_dir: PathBuf,
    /// The program that is the binary worker when started with
    /// [`BINARY_WORKER`]. Default: this program, whatever its file has become
    /// since it was started.
    pub program: PathBuf,
    /// Where interpreters and installers are looked for, as `PATH` has it.
    /// Default: the server's own `PATH`.
    pub search_path: OsString,
    /// What a call has, after its deadline, to end before its handler is
    /// replaced. Default: 500 ms.
    pub deadline_grace: Duration,
    /// Handlers of all deployments together, those included that are on their way
    /// out; each takes three files of the server's. Default: 10,000.
    pub workers_max: usize,
    /// Handlers of one deployment that are being started at a time. Default: 8.
    pub starts_at_a_time: usize,
    /// Replaced handlers that may still finish their calls, per thread of a
    /// deployment; the oldest is killed for the next. Default: 2.
    pub retired_max: usize,
    /// A handler that has lived so long has proven that it can: its death counts
    /// as the first. Default: 10 s.
    pub proven_after: Duration,
    /// The wait before a handler is started that died twice in a row; doubled
    /// for each further death. Default: 100 ms.
    pub backoff_min: Duration,
    /// The longest such wait. Default: 30 s.
    pub backoff_max: Duration,
    /// How long a worker that closed its socket may take to exit before it is
    /// killed, and how long its last lines are waited for. Default: 2 s.
    pub exit_wait: Duration,
    /// Bytes of a log line; a longer one becomes several. Default: 16 KiB.
    pub log_line_bytes_max: usize,
    /// Bytes of a starting handler's output that are kept for the error.
    /// Default: 16 KiB.
    pub start_output_bytes_max: usize,
    /// Bytes of an installer's output that are kept for the error. Default:
    /// 64 KiB.
    pub build_output_bytes_max: usize,
    /// How long asking an interpreter for its version may take. Default: 10 s.
    pub probe_timeout: Duration,
    /// How long what functions take of the machine is told without another look;
    /// longer where looking takes long. Default: 1 s.
    pub usage_age_max: Duration,
    /// Processes of one deployment whose memory is told as their share of it
    /// (proportional set size), which takes a look at each page; that of more is
    /// what they have resident. Default: 256.
    pub usage_measured_max: usize,
    /// How long making an environment that has pip may take, where the system's
    /// Python has none. Default 2 min.
    pub pip_setup_timeout: Duration,
}

/// The hidden subcommand by which the program becomes the binary worker.
pub const BINARY_WORKER: &str = "binary-worker";

impl ProcessConfig {
    /// The defaults, with these places.
    #[must_use]
    pub fn new(dir: PathBuf, runtimes_dir: PathBuf, cache_dir: PathBuf) -> Self {
        Self {
            dir,
            runtimes_dir,
            cache_dir,
            program: PathBuf::from("/proc/self/exe"),
            search_path: env::var_os("PATH").unwrap_or_else(|| SYSTEM_PATH.into()),
            deadline_grace: Duration::from_millis(500),
            workers_max: 10_000,
            starts_at_a_time: 8,
            retired_max: 2,
            proven_after: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            exit_wait: Duration::from_secs(2),
            log_line_bytes_max: 16 << 10,
            start_output_bytes_max: 16 << 10,
            build_output_bytes_max: 64 << 10,
            probe_timeout: Duration::from_secs(10),
            usage_age_max: Duration::from_secs(1),
            usage_measured_max: 256,
            pip_setup_timeout: Duration::from_secs(120),
        }
    }
}

/// The `PATH` of functions, which never see the server's.
pub(super) const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
