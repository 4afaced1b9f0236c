//! What of the configuration each room is told.
//!
//! Owns the mapping from settings to the rooms' own limits. Must not know what
//! the limits do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tinyfaas_gateway::{CoapConfig, GatewayConfig, GrpcConfig};
use tinyfaas_handlers::process::ProcessConfig;
use tinyfaas_management::{ArchiveLimits, ManagementConfig};
use tinyfaas_model::Limits;
use tinyfaas_tls::{AcmeConfig, Challenge, TlsConfig};

use crate::config::Config;
use crate::config::settings::{HTTP_01, MANAGEMENT_HOSTS};

/// The gateway's share.
pub(crate) fn gateway(config: &Config) -> GatewayConfig {
    GatewayConfig {
        body_bytes_max: config.bytes("http-body-max"),
        held_bytes_max: size(config.bytes("held-bytes")),
        waiting_max: config.count("waiting-total"),
        async_waiting_max: config.count("async-waiting"),
        async_keep: config.duration("async-keep"),
        async_ended_max: config.count("async-ended"),
        async_result_bytes_max: size(config.bytes("async-result-max")),
        async_results_bytes_max: size(config.bytes("async-results")),
        async_wait_max: config.duration("async-wait-max"),
        coap: coap(config),
        grpc: grpc(config),
        connections_max: config.count("connections-max"),
        header_lines_max: config.count("header-lines-max"),
        header_bytes_max: small(config.bytes("header-bytes-max")),
        header_timeout: config.duration("header-timeout"),
        idle_timeout: config.duration("idle-timeout"),
        body_idle_timeout: config.duration("body-timeout"),
        write_stall_timeout: config.duration("write-timeout"),
        ..GatewayConfig::default()
    }
}

fn coap(config: &Config) -> CoapConfig {
    let mut coap = CoapConfig::default();
    let messages = &mut coap.messages;
    messages.calls_max = config.count("coap-calls");
    messages.calls_per_source_max = config.count("coap-calls-per-source");
    messages.observers.observers_max = config.count("coap-observers");
    messages.observers.observers_per_source_max = config.count("coap-observers-per-source");
    messages.remembered_bytes_max = size(config.bytes("coap-remembered"));
    messages.sources.burst_bytes = small(config.bytes("coap-burst"));
    messages.sources.bytes_per_s = small(config.bytes("coap-rate"));
    messages.sources.challenge = config.truth("coap-challenge");
    coap.dtls.sessions_max = config.count("coap-sessions");
    coap.dtls.idle = config.duration("coap-session-idle");
    let blocks = &mut coap.blocks;
    blocks.body_bytes_max = size(config.bytes("coap-body-max"));
    blocks.reply_bytes_max = size(config.bytes("coap-reply-max"));
    blocks.assembling_bytes_max = size(config.bytes("coap-assembling"));
    blocks.stored_bytes_max = size(config.bytes("coap-stored"));
    let tcp = &mut coap.tcp;
    tcp.connections_max = config.count("coap-tcp-connections");
    tcp.idle_timeout = config.duration("coap-tcp-idle-timeout");
    tcp.write_stall_timeout = config.duration("write-timeout");
    tcp.stream.message_bytes_max = size(config.bytes("coap-tcp-message-max"));
    tcp.stream.sent_message_bytes_max = tcp.stream.message_bytes_max;
    coap
}

fn grpc(config: &Config) -> GrpcConfig {
    let origins = config.text("grpc-web-origins").split(',').map(str::trim);
    GrpcConfig {
        message_bytes_max: size(config.bytes("grpc-message-max")),
        // A body over HTTP has its call's time, too.
        message_timeout: config.duration("call-deadline"),
        web_origins: origins.filter(|origin| !origin.is_empty()).map(str::to_owned).collect(),
    }
}

/// Management's share.
pub(crate) fn management(config: &Config, data_dir: &Path) -> ManagementConfig {
    ManagementConfig {
        allowed_hosts: config.list(MANAGEMENT_HOSTS),
        uploads_max: config.count("uploads-max"),
        threads_max: config.count("threads-max"),
        archive: ArchiveLimits {
            packed_bytes_max: config.bytes("zip-packed-max"),
            unpacked_bytes_max: config.bytes("zip-unpacked-max"),
            entries_max: config.count("zip-entries-max"),
            ratio_max: config.count("zip-ratio-max") as u64,
            name_bytes_max: config.count("zip-name-max"),
            ..ArchiveLimits::default()
        },
        download_timeout: config.duration("download-timeout"),
        download_redirects_max: config.count("download-redirects"),
        drain_delete: config.duration("drain-delete"),
        log_bytes_max: config.bytes("log-bytes-max"),
        call_deadline: config.duration("call-deadline"),
        start_timeout: config.duration("start-timeout"),
        calls_per_handler: config.count("calls-per-handler"),
        calls_per_handler_binary: config.count("calls-per-handler-binary"),
        waiting_max: config.count("waiting-per-function"),
        build_timeout: config.duration("build-timeout"),
        limits_max: Limits {
            call_deadline: config.duration("call-deadline-max"),
            start_timeout: config.duration("start-timeout-max"),
            calls_per_handler: config.count("calls-per-handler-max"),
            waiting_max: config.count("waiting-per-function-max"),
            build_timeout: config.duration("build-timeout-max"),
        },
        ..ManagementConfig::new(data_dir.join("spool"), data_dir.join("logs"))
    }
}

/// Files are looked at no more often than this, whatever is asked for.
const RELOAD_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What TLS has.
pub(crate) fn tls(config: &Config) -> TlsConfig {
    let managed = config.endpoint("management-tls").port.is_some();
    TlsConfig {
        handshake_timeout: config.duration("tls-handshake-timeout"),
        reload_interval: config.duration("tls-reload-interval").max(RELOAD_INTERVAL_MIN),
        expected_names: if managed { config.list(MANAGEMENT_HOSTS) } else { Vec::new() },
        ..TlsConfig::default()
    }
}

/// How a certificate for these domains is fetched, and kept in this folder.
pub(crate) fn acme(config: &Config, domains: Vec<String>, state: PathBuf) -> AcmeConfig {
    let (ca_file, profile) = (config.text("acme-ca-file"), config.text("acme-profile"));
    AcmeConfig {
        contact: config.list("acme-contact"),
        challenge: match config.text("acme-challenge") {
            HTTP_01 => Challenge::Http01,
            _ => Challenge::TlsAlpn01,
        },
        profile: (!profile.is_empty()).then(|| profile.to_owned()),
        ca_file: (!ca_file.is_empty()).then(|| ca_file.into()),
        retry_first: config.duration("acme-retry"),
        terms_agreed: config.truth("acme-agree"),
        ..AcmeConfig::new(config.text("acme-directory").to_owned(), domains, state)
    }
}

/// The process backend's share.
pub(crate) fn process(data_dir: &Path) -> ProcessConfig {
    ProcessConfig::new(
        data_dir.join("functions"),
        data_dir.join("runtimes"),
        data_dir.join("cache"),
    )
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn small(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_coap_reach_the_gateway() {
        let given = |name: &str| {
            let text = match name {
                "TF_COAP_CHALLENGE" => "yes",
                "TF_COAP_BURST" => "9GiB",
                "TF_COAP_RATE" => "1KiB",
                "TF_COAP_OBSERVERS" => "7",
                "TF_COAP_SESSION_IDLE" => "1h",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let read = |variable: &dyn Fn(&str) -> Option<String>| {
            gateway(&Config::read(|_| None, variable, None).expect("valid")).coap
        };
        let coap = read(&given);
        let sources = &coap.messages.sources;
        // More than there can be is as much as there can be.
        assert_eq!((sources.challenge, sources.burst_bytes), (true, u32::MAX));
        assert_eq!((sources.bytes_per_s, coap.messages.observers.observers_max), (1024, 7));
        assert_eq!(coap.dtls.idle.as_secs(), 3600);
        assert_eq!(read(&|_| None), CoapConfig::default(), "one default, in both places");
    }
}
