//! The limits and paths of this room, each with its unit and its default.
//!
//! Owns the numbers. Must not know where they are read from: the program fills
//! them in.

use std::path::PathBuf;
use std::time::Duration;

use tinyfaas_model::{Limits, Runtime};

/// One mebibyte, in bytes.
const MIB: u64 = 1 << 20;

/// Everything about management that can be set.
#[derive(Debug, Clone)]
pub struct ManagementConfig {
    /// Where uploads are spooled and unpacked. The folder is this room's own: it
    /// is emptied at start and removed at stop. It should lie in the file system
    /// in which the backend keeps its folders. No default.
    pub spool_dir: PathBuf,
    /// Where the functions' logs lie. The folder is this room's own: it is emptied
    /// at start and removed at stop. No default.
    pub logs_dir: PathBuf,
    /// Names by which this server may be reached besides `localhost`, this
    /// machine's name and IP addresses; without port. Default: none.
    pub allowed_hosts: Vec<String>,
    /// Uploads at a time, from the first byte to the answer; one more gets a 503.
    /// Default 4.
    pub uploads_max: usize,
    /// Connections at a time; one more waits to be accepted. Default 256.
    pub connections_max: usize,
    /// The bytes of a request's body that are not the zip. Default 1 MiB.
    pub request_bytes_max: usize,
    /// How long a client may take for a request's headers, and how long a kept
    /// connection may stay unused. Default 30 s.
    pub header_timeout: Duration,
    /// How long a client may send nothing within a body, or take nothing of an
    /// answer. Default 30 s.
    pub idle_timeout: Duration,
    /// How fast a body must come on average, in bytes a second, once
    /// `idle_timeout` has passed. Default 1024.
    pub body_rate_min: u64,
    /// How much of a body that nobody wants any more is still read, so that its
    /// sender gets to see the answer, in bytes. Default 64 MiB.
    pub unwanted_bytes_max: u64,
    /// How long that is done. Default 5 s.
    pub unwanted_time_max: Duration,
    /// How long requests that are being answered at stop may take. Default 10 s.
    pub stop_grace: Duration,
    /// Handlers of one function. Default 256.
    pub threads_max: usize,
    /// What an archive may hold.
    pub archive: ArchiveLimits,
    /// What is kept of what a deploy printed, in bytes: its end. Default 64 KiB.
    pub build_output_bytes_max: usize,
    /// Lines of a deploy's output that wait for a client who follows it; more are
    /// left out. Default 1024.
    pub progress_lines_max: usize,
    /// How long a download may take as a whole. Default 60 s.
    pub download_timeout: Duration,
    /// How long its connection may take. Default 10 s.
    pub download_connect_timeout: Duration,
    /// Redirects that a download follows. Default 5.
    pub download_redirects_max: usize,
    /// How long a deleted or wiped function's running calls may take. Default 10 s.
    pub drain_delete: Duration,
    /// A function's log on disk, in bytes. Default 8 MiB.
    pub log_bytes_max: u64,
    /// One line of it, in bytes. Default 16 KiB.
    pub log_line_bytes_max: usize,
    /// Lines of one function that wait to be written, in bytes. Default 1 MiB.
    pub log_waiting_bytes_max: usize,
    /// Clients that follow logs at a time; one more gets a 503. Default 32.
    pub log_followers_max: usize,
    /// From a call's arrival to its last byte. Default 300 s.
    pub call_deadline: Duration,
    /// From a handler's start to its readiness. Default 60 s.
    pub start_timeout: Duration,
    /// Calls at a time in one handler. Default 64.
    pub calls_per_handler: usize,
    /// Calls at a time in one handler of the environment binary. Default 16.
    pub calls_per_handler_binary: usize,
    /// Calls that may wait for one function. Default 256.
    pub waiting_max: usize,
    /// How long asking what functions take of the machine may take, all together,
    /// for one look at the metrics; what is not known then is left out. Default 5 s.
    pub usage_timeout: Duration,
    /// How long installing a function's dependencies may take. Default 10 min.
    pub build_timeout: Duration,
    /// The most that a function's own settings may ask for. Default: calls of 1 h,
    /// starts of 10 min, builds of 1 h, 1024 calls at a time in one handler, 4096
    /// that wait.
    pub limits_max: Limits,
}

/// What an archive may hold.
#[derive(Debug, Clone)]
pub struct ArchiveLimits {
    /// The archive itself, in bytes. Default 256 MiB.
    pub packed_bytes_max: u64,
    /// What comes out of it, in bytes. Default 1 GiB.
    pub unpacked_bytes_max: u64,
    /// Files, links and folders in it, those folders too that are only part of a
    /// name. Default 200,000.
    pub entries_max: usize,
    /// How many times its own size what comes out of it may be, once that is more
    /// than `ratio_free_bytes`. Default 200.
    pub ratio_max: u64,
    /// Up to here the ratio does not matter, in bytes. Default 10 MiB.
    pub ratio_free_bytes: u64,
    /// The length of a name, in bytes. Default 4,096.
    pub name_bytes_max: usize,
    /// Folders within each other. Default 100.
    pub depth_max: usize,
    /// Symbolic links. Default 10,000.
    pub links_max: usize,
}

impl ManagementConfig {
    /// The defaults, with these two folders.
    #[must_use]
    pub fn new(spool_dir: PathBuf, logs_dir: PathBuf) -> Self {
        Self {
            spool_dir,
            logs_dir,
            allowed_hosts: Vec::new(),
            uploads_max: 4,
            connections_max: 256,
            request_bytes_max: 1 << 20,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            body_rate_min: 1024,
            unwanted_bytes_max: 64 * MIB,
            unwanted_time_max: Duration::from_secs(5),
            stop_grace: Duration::from_secs(10),
            threads_max: 256,
            archive: ArchiveLimits::default(),
            build_output_bytes_max: 64 << 10,
            progress_lines_max: 1024,
            download_timeout: Duration::from_secs(60),
            download_connect_timeout: Duration::from_secs(10),
            download_redirects_max: 5,
            drain_delete: Duration::from_secs(10),
            log_bytes_max: 8 * MIB,
            log_line_bytes_max: 16 << 10,
            log_waiting_bytes_max: 1 << 20,
            log_followers_max: 32,
            call_deadline: Duration::from_secs(300),
            start_timeout: Duration::from_secs(60),
            calls_per_handler: 64,
            calls_per_handler_binary: 16,
            waiting_max: 256,
            usage_timeout: Duration::from_secs(5),
            build_timeout: Duration::from_secs(600),
            limits_max: Limits {
                call_deadline: Duration::from_secs(3600),
                start_timeout: Duration::from_secs(600),
                calls_per_handler: 1024,
                waiting_max: 4096,
                build_timeout: Duration::from_secs(3600),
            },
        }
    }

    /// The bounds within which a function of this environment runs, unless its
    /// folder says otherwise.
    #[must_use]
    pub fn limits(&self, runtime: Runtime) -> Limits {
        let calls_per_handler = match runtime {
            Runtime::Python3 | Runtime::Nodejs => self.calls_per_handler,
            Runtime::Binary => self.calls_per_handler_binary,
        };
        Limits {
            call_deadline: self.call_deadline,
            start_timeout: self.start_timeout,
            calls_per_handler,
            waiting_max: self.waiting_max,
            build_timeout: self.build_timeout,
        }
    }
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            packed_bytes_max: 256 * MIB,
            unpacked_bytes_max: 1024 * MIB,
            entries_max: 200_000,
            ratio_max: 200,
            ratio_free_bytes: 10 * MIB,
            name_bytes_max: 4096,
            depth_max: 100,
            links_max: 10_000,
        }
    }
}
