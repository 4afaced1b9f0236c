//! How many files may be open, and what each room gets of them.
//!
//! Owns the limit that the system sets and how it is shared out, so that many
//! callers can neither keep an operator out nor functions from starting. Must not
//! know what the rooms open.

use anyhow::{Context, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_handlers::process::ProcessConfig;
use tinyfaas_management::ManagementConfig;

/// With fewer a server does not start.
const OPEN_FILES_MIN: u64 = 64;
/// What the server itself holds open, and needs to deploy a function.
const OWN_FILES: u64 = 30;
/// What a handler takes: its socket and its two streams.
const FILES_PER_HANDLER: usize = 3;
/// The least that management gets, and callers that are refused.
const SHARE_MIN: usize = 4;

/// The files that this process may have open at a time, raised as far as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFiles(u64);

impl OpenFiles {
    /// What the system allows; none is raised yet.
    ///
    /// # Errors
    /// Where it is too few to start with.
    pub(crate) fn allowed() -> anyhow::Result<Self> {
        let limit = getrlimit(Resource::Nofile);
        let most = limit.maximum.unwrap_or(u64::MAX);
        if most < OPEN_FILES_MIN {
            bail!(
                "this process may have only {most} files open at a time, and a server needs \
                 {OPEN_FILES_MIN}; raise the limit (ulimit -n, or LimitNOFILE= of its systemd unit)"
            );
        }
        Ok(Self(most))
    }

    /// Each connection and each worker takes descriptors; the usual soft limit of
    /// 1024 is for programs that use select(2).
    ///
    /// # Errors
    /// Where the system refuses.
    pub(crate) fn raise(self) -> anyhow::Result<()> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let raised = Rlimit { current: maximum, maximum };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")
    }

    /// Lowers the numbers of connections and handlers to what these files allow:
    /// of what the server does not need itself, 3/8 are for callers, 1/16 each for
    /// those that are refused, for management and for CoAP over TCP if that is on,
    /// the rest is for handlers. CoAP over UDP takes its sockets and no more. Says so
    /// where it lowers what was asked for.
    pub(crate) fn share(
        self,
        coap_tcp: bool,
        gateway: &mut GatewayConfig,
        management: &mut ManagementConfig,
        process: &mut ProcessConfig,
    ) -> Option<String> {
        let spare = usize::try_from(self.0.saturating_sub(OWN_FILES)).unwrap_or(usize::MAX);
        let wanted = gateway.connections_max;
        let few = (spare / 16).max(SHARE_MIN);
        gateway.connections_max = wanted.min(spare / 8 * 3);
        gateway.refusals_max = gateway.refusals_max.min(few);
        management.connections_max = management.connections_max.min(few);
        let mut taken = gateway.connections_max + gateway.refusals_max + management.connections_max;
        let coap = &mut gateway.coap.tcp;
        let coap_wanted = coap.connections_max;
        if coap_tcp {
            coap.connections_max = coap_wanted.min(few);
            coap.refusals_max = coap.refusals_max.min(SHARE_MIN);
            taken += coap.connections_max + coap.refusals_max;
        }
        let fewer_over_coap = coap.connections_max < coap_wanted;
        let over_coap = match fewer_over_coap {
            true => {
                format!(", {} (not {coap_wanted}) of CoAP over TCP", coap.connections_max)
            }
            false => String::new(),
        };
        let handlers = spare.saturating_sub(taken) / FILES_PER_HANDLER;
        process.workers_max = process.workers_max.min(handlers);
        // Starting one takes some more for a moment.
        process.starts_at_a_time = process.starts_at_a_time.min((handlers / 8).max(1));
        (gateway.connections_max < wanted || fewer_over_coap).then(|| {
            format!(
                "only {} files may be open at a time: at most {} connections (not {wanted}){over_coap} \
                 and {handlers} handlers; raise that limit (ulimit -n, or LimitNOFILE= of the systemd \
                 unit) for more",
                self.0, gateway.connections_max
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    /// The shares: connections, those refused, management's, handlers, and CoAP's
    /// connections over TCP.
    fn check(files: u64, coap_tcp: bool, expected: [usize; 5], told: bool) {
        let place = PathBuf::new;
        let mut gateway = GatewayConfig::default();
        let mut management = ManagementConfig::new(place(), place());
        let mut process = ProcessConfig::new(place(), place(), place());
        let said = OpenFiles(files).share(coap_tcp, &mut gateway, &mut management, &mut process);
        let shares = [
            gateway.connections_max,
            gateway.refusals_max,
            management.connections_max,
            process.workers_max,
            gateway.coap.tcp.connections_max,
        ];
        assert_eq!((shares, said.is_some()), (expected, told), "{files}: {said:?}");
        let coap = shares[4] + gateway.coap.tcp.refusals_max;
        let taken: usize = shares[..3].iter().sum::<usize>()
            + FILES_PER_HANDLER * shares[3]
            + if coap_tcp { coap } else { 0 };
        assert!(taken as u64 + OWN_FILES <= files, "{files}: more than there are");
    }

    #[test]
    fn few_files_are_shared_out() {
        check(64, false, [12, 4, 4, 4, 256], true);
        check(64, true, [12, 4, 4, 2, 4], true);
        check(1024, false, [372, 62, 62, 166, 256], true);
        check(1024, true, [372, 62, 62, 144, 62], true);
        check(4096, true, [1524, 64, 254, 655, 254], true);
    }

    #[test]
    fn many_files_change_nothing() {
        check(1 << 20, true, [4096, 64, 256, 10_000, 256], false);
        check(u64::MAX, false, [4096, 64, 256, 10_000, 256], false);
    }
}
