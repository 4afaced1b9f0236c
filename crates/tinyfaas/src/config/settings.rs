//! The table of settings: each has one row here, and one in
//! `docs/configuration.md`, which a test holds against this one.
//!
//! Owns names, defaults and what is said of them. Must not know how texts are
//! read or what a value does.

use crate::config::values::Kind;

/// One setting: a flag, an environment variable, a default.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name; the flag is `--NAME`.
    pub(crate) name: &'static str,
    /// Its environment variable.
    pub(crate) variable: &'static str,
    /// The variable by which the Go implementation reads it.
    pub(crate) old_variable: Option<&'static str>,
    /// Its text where none is given.
    pub(crate) default: &'static str,
    /// How its text is read.
    pub(crate) kind: Kind,
    /// The heading that it stands under.
    pub(crate) heading: &'static str,
    /// What it means, for `--help` and the table.
    pub(crate) help: &'static str,
}

impl Setting {
    /// Whether there is a flag for it: every user sees the command lines of all
    /// processes.
    pub(crate) const fn has_flag(&self) -> bool {
        !self.kind.is_secret()
    }
}

const fn setting(
    heading: &'static str,
    name: &'static str,
    variable: &'static str,
    default: &'static str,
    kind: Kind,
    help: &'static str,
) -> Setting {
    Setting { name, variable, old_variable: None, default, kind, heading, help }
}

const fn port(
    name: &'static str,
    variable: &'static str,
    old_variable: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        name,
        variable,
        old_variable: Some(old_variable),
        default,
        kind: Kind::Port,
        heading: ENDPOINTS,
        help,
    }
}

const ENDPOINTS: &str = "Endpoints";
const SERVER: &str = "Server";
const CALLS: &str = "Calls";
const HTTP: &str = "HTTP gateway";
const COAP: &str = "CoAP";
const GRPC: &str = "gRPC";
const TLS: &str = "TLS";
const DEPLOYS: &str = "Deploying functions";

/// The setting that names the file of all others.
pub(crate) const CONFIG: &str = "config";

/// The setting that names the server's directory.
pub(crate) const DATA_DIR: &str = "data-dir";

/// The settings that give the keys of CoAP over DTLS.
pub(crate) const COAP_KEYS: &str = "coap-keys";
pub(crate) const COAP_KEYS_FILE: &str = "coap-keys-file";

/// The settings that say where the server's certificate comes from.
pub(crate) const TLS_CERTIFICATE: &str = "tls-certificate";
pub(crate) const TLS_KEY: &str = "tls-key";
pub(crate) const TLS_SELF_SIGNED: &str = "tls-self-signed";
pub(crate) const ACME_DOMAINS: &str = "acme-domains";

/// The ports that are served over TLS.
pub(crate) const TLS_PORTS: &[&str] =
    &["https-port", "grpc-tls-port", "coaps-tcp-port", "management-tls-port"];

/// The setting that lists names of this server beside those of its machine.
pub(crate) const MANAGEMENT_HOSTS: &str = "management-hosts";

/// Who must show a certificate, in the words of the settings.
pub(crate) const NOBODY: &str = "none";
pub(crate) const OPTIONAL: &str = "optional";
pub(crate) const REQUIRED: &str = "required";

/// Where a domain is proven to be this server's, in the words of the setting.
pub(crate) const TLS_ALPN_01: &str = "tls-alpn-01";
pub(crate) const HTTP_01: &str = "http-01";

/// The longest body that CoAP carries here, in bytes: blocks are counted to 2^20, and
/// a client may ask for blocks of 16 bytes.
const COAP_BODY_MAX: u64 = 16 << 20;

/// A message over TCP that every client may count on (RFC 8323 section 5.3.1), in
/// bytes.
const COAP_TCP_MESSAGE_MIN: u64 = 1152;

/// The longest message that gRPC carries here, in bytes: its length is written in four
/// of them.
const GRPC_MESSAGE_MAX: u64 = 1 << 30;

/// Every setting, in the order in which they are shown.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    port("http-port", "HTTP_PORT", "http_PORT", "8000",
        "port of the HTTP endpoint; negative: off, 0: any free one"),
    port("coap-port", "COAP_PORT", "coap_PORT", "5683",
        "port of the CoAP endpoint (UDP); negative: off, 0: any free one"),
    port("grpc-port", "GRPC_PORT", "grpc_PORT", "9000",
        "port of the gRPC endpoint; negative: off, 0: any free one"),
    port("management-port", "MANAGEMENT_PORT", "management_PORT", "8080",
        "port of the management service; negative: off, once MANAGEMENT_TLS_PORT is on; 0: any free one"),
    setting(ENDPOINTS, "https-port", "HTTPS_PORT", "-1", Kind::Port,
        "port of the HTTP endpoint over TLS; negative: off, 0: any free one"),
    setting(ENDPOINTS, "grpc-tls-port", "GRPC_TLS_PORT", "-1", Kind::Port,
        "port of the gRPC endpoint over TLS; negative: off, 0: any free one"),
    setting(ENDPOINTS, "management-tls-port", "MANAGEMENT_TLS_PORT", "-1", Kind::Port,
        "port of the management service over TLS; negative: off, 0: any free one"),
    setting(ENDPOINTS, "coap-tcp-port", "COAP_TCP_PORT", "-1", Kind::Port,
        "port of CoAP over TCP, by custom 5683; negative: off, 0: any free one"),
    setting(ENDPOINTS, "coaps-tcp-port", "COAPS_TCP_PORT", "-1", Kind::Port,
        "port of CoAP over TCP with TLS, by custom 5684; negative: off, 0: any free one"),
    setting(ENDPOINTS, "coaps-port", "COAPS_PORT", "", Kind::PortIfWanted,
        "port of CoAP over DTLS (UDP); negative: off, 0: any free one, empty: 5684 if keys are given, else off"),
    setting(ENDPOINTS, "http-address", "HTTP_ADDRESS", "all", Kind::Addresses,
        "addresses of the HTTP endpoint, separated by commas"),
    setting(ENDPOINTS, "coap-address", "COAP_ADDRESS", "all", Kind::Addresses,
        "addresses of the CoAP endpoint"),
    setting(ENDPOINTS, "coap-tcp-address", "COAP_TCP_ADDRESS", "all", Kind::Addresses,
        "addresses of CoAP over TCP"),
    setting(ENDPOINTS, "coaps-tcp-address", "COAPS_TCP_ADDRESS", "all", Kind::Addresses,
        "addresses of CoAP over TCP with TLS"),
    setting(ENDPOINTS, "coaps-address", "COAPS_ADDRESS", "all", Kind::Addresses,
        "addresses of CoAP over DTLS"),
    setting(ENDPOINTS, "grpc-address", "GRPC_ADDRESS", "all", Kind::Addresses,
        "addresses of the gRPC endpoint"),
    setting(ENDPOINTS, "management-address", "MANAGEMENT_ADDRESS", "localhost", Kind::Addresses,
        "addresses of the management service; whoever reaches it can run code here"),
    setting(ENDPOINTS, "https-address", "HTTPS_ADDRESS", "all", Kind::Addresses,
        "addresses of the HTTP endpoint over TLS"),
    setting(ENDPOINTS, "grpc-tls-address", "GRPC_TLS_ADDRESS", "all", Kind::Addresses,
        "addresses of the gRPC endpoint over TLS"),
    setting(ENDPOINTS, "management-tls-address", "MANAGEMENT_TLS_ADDRESS", "localhost", Kind::Addresses,
        "addresses of the management service over TLS; whoever reaches it can run code here, unless certificates are required of clients"),
    setting(ENDPOINTS, MANAGEMENT_HOSTS, "TF_MANAGEMENT_HOSTS", "", Kind::Names,
        "further host names by which the management service may be called, separated by commas"),

    setting(SERVER, CONFIG, "TF_CONFIG", "", Kind::Text,
        "a file of settings (root: /etc/tinyfaas/config.toml, else ~/.config/tinyfaas/config.toml, if there)"),
    setting(SERVER, "backend", "TF_BACKEND", "process", Kind::Choice(&["process", "docker"]),
        "which backend runs the handlers (docker is not built yet)"),
    setting(SERVER, DATA_DIR, "TF_DATA_DIR", "", Kind::Text,
        "the one directory of the server (root: /var/lib/tinyfaas, else ~/.local/state/tinyfaas)"),
    setting(SERVER, "user", "TF_USER", "", Kind::User,
        "the user as whom server and functions run when root starts the server; empty: as whoever starts it"),
    setting(SERVER, "log-level", "TF_LOG", "info",
        Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        "how much the server says of itself on standard error"),
    setting(SERVER, "log-format", "TF_LOG_FORMAT", "text", Kind::Choice(&["text", "json"]),
        "how it says it: text, or a JSON object a line"),
    setting(SERVER, "drain-stop", "TF_DRAIN_STOP", "10s", Kind::Duration,
        "how long running calls may go on when the server stops"),

    setting(CALLS, "call-deadline", "TF_CALL_DEADLINE", "300s", Kind::Duration,
        "time of a call, waiting included"),
    setting(CALLS, "calls-per-handler", "TF_CALLS_PER_HANDLER", "64", Kind::Count,
        "calls at a time in one handler of python3 or nodejs"),
    setting(CALLS, "calls-per-handler-binary", "TF_CALLS_PER_HANDLER_BINARY", "16", Kind::Count,
        "calls at a time in one handler of binary"),
    setting(CALLS, "waiting-per-function", "TF_WAITING_PER_FUNCTION", "256", Kind::Count,
        "calls that may wait for a place in one function"),
    setting(CALLS, "call-deadline-max", "TF_CALL_DEADLINE_MAX", "1h", Kind::Duration,
        "the longest call deadline that a function's tinyfaas.toml may ask for"),
    setting(CALLS, "calls-per-handler-max", "TF_CALLS_PER_HANDLER_MAX", "1024", Kind::Count,
        "the same for calls at a time in one handler"),
    setting(CALLS, "waiting-per-function-max", "TF_WAITING_PER_FUNCTION_MAX", "4096", Kind::Count,
        "the same for calls that may wait for a place in the function"),
    setting(CALLS, "waiting-total", "TF_WAITING_TOTAL", "4096", Kind::Count,
        "calls that may wait in all"),
    setting(CALLS, "async-waiting", "TF_ASYNC_WAITING", "4096", Kind::Count,
        "asynchronous calls that are accepted and have not ended"),
    setting(CALLS, "async-keep", "TF_ASYNC_KEEP", "10min", Kind::Duration,
        "how long an asynchronous call that has ended is remembered, with its result"),
    setting(CALLS, "async-ended", "TF_ASYNC_ENDED", "10000", Kind::Count,
        "asynchronous calls that have ended and are remembered; the oldest go"),
    setting(CALLS, "async-result-max", "TF_ASYNC_RESULT_MAX", "8MiB", Kind::Bytes,
        "an asynchronous call's result; a larger one is not kept"),
    setting(CALLS, "async-results", "TF_ASYNC_RESULTS", "64MiB", Kind::Bytes,
        "results of asynchronous calls, in all; the oldest go"),
    setting(CALLS, "async-wait-max", "TF_ASYNC_WAIT_MAX", "60s", Kind::Duration,
        "how long one request may wait for an asynchronous call's end"),
    setting(CALLS, "held-bytes", "TF_HELD_BYTES", "64MiB", Kind::Bytes,
        "bodies held whole (asynchronous calls, CoAP, gRPC), in all; beyond: 503, 5.03, RESOURCE_EXHAUSTED"),

    setting(HTTP, "http-body-max", "TF_HTTP_BODY_MAX", "64MiB", Kind::Bytes,
        "a request's body; beyond: 413"),
    setting(HTTP, "header-lines-max", "TF_HEADER_LINES_MAX", "100", Kind::Count,
        "header lines of a request; beyond: 431"),
    setting(HTTP, "header-bytes-max", "TF_HEADER_BYTES_MAX", "64KiB", Kind::Bytes,
        "bytes of a request's headers; beyond: 431"),
    setting(HTTP, "header-timeout", "TF_HEADER_TIMEOUT", "30s", Kind::Duration,
        "how long a client may take for a request's headers; beyond: closed"),
    setting(HTTP, "body-timeout", "TF_BODY_TIMEOUT", "30s", Kind::Duration,
        "how long a request's body may stall; beyond: 408"),
    setting(HTTP, "write-timeout", "TF_WRITE_TIMEOUT", "30s", Kind::Duration,
        "how long a caller, also one of CoAP over TCP, may take no byte of its reply; beyond: cut off"),
    setting(HTTP, "idle-timeout", "TF_IDLE_TIMEOUT", "75s", Kind::Duration,
        "how long a connection may be kept open without a call"),
    setting(HTTP, "connections-max", "TF_CONNECTIONS_MAX", "4096", Kind::Count,
        "connections at a time; beyond: 503"),

    setting(COAP, COAP_KEYS_FILE, "TF_COAP_KEYS_FILE", "", Kind::File,
        "a file of the keys of CoAP over DTLS, a line IDENTITY:KEY or IDENTITY:hex:00ff10ab for each client; read once, at start"),
    setting(COAP, COAP_KEYS, "TF_COAP_KEYS", "", Kind::Keys,
        "the same keys, with commas between them; a file is better, as other processes of a user can read this user's variables"),
    setting(COAP, "coap-body-max", "TF_COAP_BODY_MAX", "4MiB", Kind::BytesUpTo(COAP_BODY_MAX),
        "a request's body; beyond: 4.13"),
    setting(COAP, "coap-reply-max", "TF_COAP_REPLY_MAX", "16MiB", Kind::BytesUpTo(COAP_BODY_MAX),
        "a reply's body; beyond: 5.00"),
    setting(COAP, "coap-assembling", "TF_COAP_ASSEMBLING", "16MiB", Kind::Bytes,
        "bodies that arrive in blocks and are not complete, in all; beyond: 5.03"),
    setting(COAP, "coap-stored", "TF_COAP_STORED", "32MiB", Kind::Bytes,
        "replies that are fetched in blocks, in all; the one that was not asked for for longest goes"),
    setting(COAP, "coap-remembered", "TF_COAP_REMEMBERED", "16MiB", Kind::Bytes,
        "requests and their replies that are remembered to recognise copies, in all; the oldest go"),
    setting(COAP, "coap-calls", "TF_COAP_CALLS", "4096", Kind::Count,
        "requests that run at a time; beyond: 5.03"),
    setting(COAP, "coap-calls-per-source", "TF_COAP_CALLS_PER_SOURCE", "1024", Kind::Count,
        "the same from one IP address"),
    setting(COAP, "coap-observers", "TF_COAP_OBSERVERS", "4096", Kind::Count,
        "observers at a time; beyond: answered as if they had not asked to observe"),
    setting(COAP, "coap-observers-per-source", "TF_COAP_OBSERVERS_PER_SOURCE", "1024", Kind::Count,
        "the same from one IP address"),
    setting(COAP, "coap-sessions", "TF_COAP_SESSIONS", "1024", Kind::Count,
        "DTLS sessions at a time, of about 12 KB each; beyond: the one that was silent for longest gives way if it was for 30 s, else the new one waits"),
    setting(COAP, "coap-session-idle", "TF_COAP_SESSION_IDLE", "25h", Kind::Duration,
        "how long a DTLS session may be silent; a device that reports once a day needs no new handshake"),
    setting(COAP, "coap-burst", "TF_COAP_BURST", "64KiB", Kind::Bytes,
        "what a source that has not proven its address is sent at once, beyond three times what it sent"),
    setting(COAP, "coap-rate", "TF_COAP_RATE", "16KiB", Kind::Bytes,
        "how much of that comes back each second"),
    setting(COAP, "coap-challenge", "TF_COAP_CHALLENGE", "no", Kind::YesNo,
        "whether a source must answer an Echo (RFC 9175) before its first request is run; simple clients cannot"),
    setting(COAP, "coap-tcp-connections", "TF_COAP_TCP_CONNECTIONS", "256", Kind::Count,
        "connections over TCP at a time; further ones are told so and closed"),
    setting(COAP, "coap-tcp-idle-timeout", "TF_COAP_TCP_IDLE_TIMEOUT", "5min", Kind::Duration,
        "a silent connection over TCP; beyond: closed, or, if its client observes something, asked whether it is there"),
    setting(COAP, "coap-tcp-message-max", "TF_COAP_TCP_MESSAGE_MAX", "129KiB", Kind::BytesBetween(COAP_TCP_MESSAGE_MIN, COAP_BODY_MAX),
        "a message over TCP, either way, 1,152 bytes at least; longer bodies go in blocks"),

    setting(GRPC, "grpc-message-max", "TF_GRPC_MESSAGE_MAX", "16MiB", Kind::BytesUpTo(GRPC_MESSAGE_MAX),
        "a message, either way; beyond: RESOURCE_EXHAUSTED"),
    setting(GRPC, "grpc-web-origins", "TF_GRPC_WEB_ORIGINS", "", Kind::Origins,
        "origins whose web pages may call functions by grpc-web, as in https://app.example, separated by commas; *: any"),

    setting(TLS, TLS_CERTIFICATE, "TF_TLS_CERTIFICATE", "", Kind::File,
        "the server's certificate, and those between it and a root, in PEM; read again when it changes"),
    setting(TLS, TLS_KEY, "TF_TLS_KEY", "", Kind::File,
        "its private key, in PEM, without a password"),
    setting(TLS, TLS_SELF_SIGNED, "TF_TLS_SELF_SIGNED", "no", Kind::YesNo,
        "for a trial: whether the server makes itself a certificate that nobody vouches for"),
    setting(TLS, ACME_DOMAINS, "TF_ACME_DOMAINS", "", Kind::Names,
        "names of this server for which a certificate is fetched by ACME (RFC 8555), separated by commas"),
    setting(TLS, "acme-agree", "TF_ACME_AGREE", "no", Kind::YesNo,
        "whether you agree to the terms of that certificate authority"),
    setting(TLS, "acme-directory", "TF_ACME_DIRECTORY", "https://acme-v02.api.letsencrypt.org/directory", Kind::HttpsUrl,
        "where that certificate authority is"),
    setting(TLS, "acme-contact", "TF_ACME_CONTACT", "", Kind::Emails,
        "whom it tells of trouble: e-mail addresses, separated by commas, or none"),
    setting(TLS, "acme-challenge", "TF_ACME_CHALLENGE", TLS_ALPN_01, Kind::Choice(&[TLS_ALPN_01, HTTP_01]),
        "how it sees that the names are this server's: on the HTTP endpoint over TLS, reached on port 443, or on the plain one, reached on port 80"),
    setting(TLS, "acme-ca-file", "TF_ACME_CA_FILE", "", Kind::File,
        "root certificates, in PEM, by which its own server is trusted; empty: the system's"),
    setting(TLS, "acme-profile", "TF_ACME_PROFILE", "", Kind::Word,
        "which of its profiles is wanted, such as shortlived, which Let's Encrypt demands for IP addresses; empty: its usual one"),
    setting(TLS, "acme-retry", "TF_ACME_RETRY", "1min", Kind::Duration,
        "the wait after a first failure; it doubles with each further one, up to a day"),
    setting(TLS, "tls-clients", "TF_TLS_CLIENTS", NOBODY, Kind::Choice(&[NOBODY, OPTIONAL, REQUIRED]),
        "whether callers show certificates of their own"),
    setting(TLS, "tls-client-ca", "TF_TLS_CLIENT_CA", "", Kind::File,
        "root certificates, in PEM, of which those of callers must be; read again when it changes"),
    setting(TLS, "management-clients", "TF_MANAGEMENT_CLIENTS", NOBODY, Kind::Choice(&[NOBODY, REQUIRED]),
        "whether who manages functions over TLS must show a certificate"),
    setting(TLS, "management-client-ca", "TF_MANAGEMENT_CLIENT_CA", "", Kind::File,
        "root certificates of which those must be; empty: those of TF_TLS_CLIENT_CA, with which every caller can run code here"),
    setting(TLS, "tls-handshake-timeout", "TF_TLS_HANDSHAKE_TIMEOUT", "10s", Kind::Duration,
        "how long a client may take to set up TLS; beyond: closed"),
    setting(TLS, "tls-reload-interval", "TF_TLS_RELOAD_INTERVAL", "5s", Kind::Duration,
        "how often it is looked whether the files of certificates have changed, 100ms at least"),

    setting(DEPLOYS, "start-timeout", "TF_START_TIMEOUT", "60s", Kind::Duration,
        "from a handler's start to its readiness"),
    setting(DEPLOYS, "build-timeout", "TF_BUILD_TIMEOUT", "10min", Kind::Duration,
        "how long installing a function's dependencies may take"),
    setting(DEPLOYS, "start-timeout-max", "TF_START_TIMEOUT_MAX", "10min", Kind::Duration,
        "the longest start timeout that a function's tinyfaas.toml may ask for"),
    setting(DEPLOYS, "build-timeout-max", "TF_BUILD_TIMEOUT_MAX", "1h", Kind::Duration,
        "the same for the build timeout"),
    setting(DEPLOYS, "threads-max", "TF_THREADS_MAX", "256", Kind::Count,
        "handlers of one function"),
    setting(DEPLOYS, "uploads-max", "TF_UPLOADS_MAX", "4", Kind::Count,
        "uploads at a time; beyond: 503"),
    setting(DEPLOYS, "drain-delete", "TF_DRAIN_DELETE", "10s", Kind::Duration,
        "how long the running calls of a deleted or wiped function may go on"),
    setting(DEPLOYS, "log-bytes-max", "TF_LOG_BYTES_MAX", "8MiB", Kind::Bytes,
        "a function's log; the oldest lines go"),
    setting(DEPLOYS, "zip-packed-max", "TF_ZIP_PACKED_MAX", "256MiB", Kind::Bytes,
        "an uploaded or downloaded zip"),
    setting(DEPLOYS, "zip-unpacked-max", "TF_ZIP_UNPACKED_MAX", "1GiB", Kind::Bytes,
        "what comes out of a zip"),
    setting(DEPLOYS, "zip-entries-max", "TF_ZIP_ENTRIES_MAX", "200000", Kind::Count,
        "files, links and folders in a zip"),
    setting(DEPLOYS, "zip-ratio-max", "TF_ZIP_RATIO_MAX", "200", Kind::Count,
        "how many times its own size may come out of a zip, past 10 MiB"),
    setting(DEPLOYS, "zip-name-max", "TF_ZIP_NAME_MAX", "4096", Kind::Count,
        "bytes of a name in a zip"),
    setting(DEPLOYS, "download-timeout", "TF_DOWNLOAD_TIMEOUT", "60s", Kind::Duration,
        "how long fetching a zip by URL may take"),
    setting(DEPLOYS, "download-redirects", "TF_DOWNLOAD_REDIRECTS", "5", Kind::Count,
        "redirects that a download follows"),
];

/// Settings that another one bounds: a function's defaults, by the most that its
/// folder may ask for instead; a body, by the room for all of them.
pub(crate) const BOUNDED: &[(&str, &str)] = &[
    ("call-deadline", "call-deadline-max"),
    ("calls-per-handler", "calls-per-handler-max"),
    ("calls-per-handler-binary", "calls-per-handler-max"),
    ("waiting-per-function", "waiting-per-function-max"),
    ("start-timeout", "start-timeout-max"),
    ("build-timeout", "build-timeout-max"),
    ("coap-body-max", "coap-assembling"),
    ("coap-reply-max", "coap-stored"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The table as `docs/configuration.md` shows it.
    fn table() -> String {
        let mut lines = Vec::new();
        let mut heading = "";
        for setting in SETTINGS {
            if setting.heading != heading {
                heading = setting.heading;
                lines.push(format!("\n## {heading}\n\n| variable | flag | default | meaning |"));
                lines.push("|---|---|---|---|".to_owned());
            }
            let Setting { name, variable, default, help, .. } = setting;
            let default =
                if default.is_empty() { "–".to_owned() } else { format!("`{default}`") };
            let flag = match setting.has_flag() {
                true => format!("`--{name}`"),
                false => format!("only `{name}` in the file"),
            };
            lines.push(format!("| `{variable}` | {flag} | {default} | {help} |"));
        }
        lines.join("\n") + "\n"
    }

    #[test]
    fn the_documentation_shows_every_setting() {
        const MARK: &str = "<!-- made from settings.rs; UPDATE=1 cargo test -p tinyfaas -->\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let text = std::fs::read_to_string(path).expect("docs/configuration.md is there");
        let (intro, shown) = text.split_once(MARK).expect("the mark stands above the table");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, format!("{intro}{MARK}{}", table())).expect("writable");
        } else {
            assert_eq!(shown, table(), "docs/configuration.md is stale: UPDATE=1 cargo test");
        }
    }

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../pkg/config/config.toml");

    /// The example of a configuration file: every setting with its default, each a
    /// comment.
    fn example() -> String {
        let mut lines = vec![
            "# Settings of tinyFaaS, for /etc/tinyfaas/config.toml or ~/.config/tinyfaas/config.toml."
                .to_owned(),
            "# Take the # away in front of a line to change it: these are the defaults. A flag or an"
                .to_owned(),
            "# environment variable wins over this file.".to_owned(),
        ];
        let mut heading = "";
        for setting in SETTINGS.iter().filter(|setting| setting.name != CONFIG) {
            if setting.heading != heading {
                heading = setting.heading;
                lines.push(format!("\n## {heading}"));
            }
            let Setting { name, default, help, .. } = setting;
            let value = match setting.kind {
                Kind::Port | Kind::Count => (*default).to_owned(),
                Kind::YesNo => (*default == "yes").to_string(),
                _ => format!("{default:?}"),
            };
            lines.push(format!("\n## {help}\n#{name} = {value}"));
        }
        lines.join("\n") + "\n"
    }

    #[test]
    fn the_example_file_shows_every_default() {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(EXAMPLE, example()).expect("writable");
        }
        let text = std::fs::read_to_string(EXAMPLE).expect("pkg/config/config.toml is there");
        assert_eq!(text, example(), "pkg/config/config.toml is stale: UPDATE=1 cargo test");
        let dir = tempfile::tempdir().expect("room");
        let path = dir.path().join("config.toml");
        let bare = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with([' ', '#']) => setting.to_owned(),
            _ => line.to_owned(),
        };
        let settings: Vec<String> = text.lines().map(bare).collect();
        std::fs::write(&path, settings.join("\n")).expect("writable");
        let read = crate::config::Config::read(|_| None, |_| None, Some(&path)).expect("valid");
        let defaults = crate::config::Config::read(|_| None, |_| None, None).expect("valid");
        assert_eq!(read.values, defaults.values);
    }

    #[test]
    fn every_default_is_valid() {
        for setting in SETTINGS {
            assert_eq!(setting.kind.parse(setting.default).err(), None, "{}", setting.name);
        }
    }
}
