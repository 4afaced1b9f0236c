//! The server's certificate, and who must show another, as the configuration has it.
//!
//! Owns when they are read: what is there already may be root's own and is read before
//! root is given up, what the server makes itself must be its user's. Must not know
//! how TLS is spoken, nor what is served over it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tinyfaas_tls::{Acceptor, ClientCertificates, Description, Roots, Source, Tls};

use crate::config::Config;
use crate::config::settings::{
    ACME_DOMAINS, MANAGEMENT_HOSTS, OPTIONAL, REQUIRED, TLS_CERTIFICATE, TLS_KEY, TLS_PORTS,
    TLS_SELF_SIGNED,
};
use crate::rooms;

/// HTTP/2 and HTTP/1.1 (RFC 7301), the preferred one first.
const HTTP: &[&[u8]] = &[b"h2", b"http/1.1"];
/// What management speaks.
const HTTP_1: &[&[u8]] = &[b"http/1.1"];

/// What TLS needs, once all of it has been read.
pub(crate) struct Secured {
    tls: Arc<Tls>,
    callers: ClientCertificates,
    managers: ClientCertificates,
}

/// Those parts that have been read with the rights that the server was started with.
pub(crate) struct Opening {
    /// There where it comes from files.
    tls: Option<Arc<Tls>>,
    callers: ClientCertificates,
    managers: ClientCertificates,
}

impl Opening {
    /// Reads the files that are named; none where no endpoint speaks TLS.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn begin(config: &Config) -> anyhow::Result<Option<Self>> {
        if !is_on(config) {
            return Ok(None);
        }
        let tls = match from_files(config) {
            true => Some(open(config, Path::new(""))?),
            false => None,
        };
        let callers = clients(config.text("tls-clients"), config.text("tls-client-ca"))?;
        let of_callers = config.text("tls-client-ca");
        let of_managers = match config.text("management-client-ca") {
            "" => of_callers,
            own => own,
        };
        let managers = clients(config.text("management-clients"), of_managers)?;
        Ok(Some(Self { tls, callers, managers }))
    }

    /// The certificate that was read; none where it is made or fetched.
    pub(crate) fn describe(&self) -> Option<Description> {
        self.tls.as_ref()?.describe()
    }

    /// Makes what is not there yet, in the server's directory and as its user.
    ///
    /// # Errors
    /// What keeps it from that.
    pub(crate) fn finish(self, config: &Config, data_dir: &Path) -> anyhow::Result<Secured> {
        let Self { tls, callers, managers } = self;
        let tls = tls.map_or_else(|| open(config, data_dir), Ok)?;
        Ok(Secured { tls, callers, managers })
    }
}

impl Secured {
    /// For an endpoint by which functions are called; one of gRPC takes HTTP/1.1 from
    /// browsers.
    pub(crate) fn for_calls(&self) -> Acceptor {
        self.tls.acceptor(HTTP, self.callers.clone())
    }

    /// For that of CoAP over TCP (RFC 8323 section 8.2).
    pub(crate) fn for_coap(&self) -> Acceptor {
        self.tls.acceptor(&[b"coap"], self.callers.clone())
    }

    /// For that of management.
    pub(crate) fn for_management(&self) -> Acceptor {
        self.tls.acceptor(HTTP_1, self.managers.clone())
    }

    /// Keeps all of it fresh, for ever.
    pub(crate) fn keep_fresh(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.tls).keep_fresh()
    }

    /// The certificate itself, for who proves to an ACME server whose it is.
    pub(crate) fn tls(&self) -> Arc<Tls> {
        Arc::clone(&self.tls)
    }

    /// What is served; none while it is being fetched.
    pub(crate) fn describe(&self) -> Option<Description> {
        self.tls.describe()
    }

    /// Who of those at this endpoint must show a certificate.
    pub(crate) fn clients(&self, endpoint: &str) -> &ClientCertificates {
        match endpoint {
            "management-tls" => &self.managers,
            "https" | "grpc-tls" | "coaps-tcp" => &self.callers,
            _ => &ClientCertificates::None,
        }
    }
}

/// Whether any endpoint speaks TLS.
pub(crate) fn is_on(config: &Config) -> bool {
    let is_on =
        |port: &&'static str| config.endpoint(port.trim_end_matches("-port")).port.is_some();
    TLS_PORTS.iter().any(is_on)
}

fn from_files(config: &Config) -> bool {
    !config.text(TLS_CERTIFICATE).is_empty()
}

/// Warnings of what is allowed but hardly meant.
pub(crate) fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    let has_source = from_files(config)
        || config.truth(TLS_SELF_SIGNED)
        || !config.text(ACME_DOMAINS).is_empty();
    if has_source && !is_on(config) {
        warnings.push(
            "a certificate is given, but no endpoint speaks TLS; set HTTPS_PORT, GRPC_TLS_PORT, \
             COAPS_TCP_PORT or MANAGEMENT_TLS_PORT"
                .to_owned(),
        );
    }
    let open: Vec<&str> = ["http", "grpc", "coap", "coap-tcp"]
        .into_iter()
        .filter(|name| config.endpoint(name).port.is_some())
        .collect();
    if config.text("tls-clients") == REQUIRED && !open.is_empty() {
        warnings.push(format!(
            "callers must show certificates over TLS, and none elsewhere: {} may be called by \
             anybody; set those ports to -1 if that is not meant",
            open.join(", ")
        ));
    }
    if config.text("management-clients") == REQUIRED
        && config.text("tls-clients") != "none"
        && config.text("management-client-ca").is_empty()
    {
        warnings.push(
            "every caller's certificate lets its owner manage functions too, that is, run any \
             code here; name other roots by TF_MANAGEMENT_CLIENT_CA"
                .to_owned(),
        );
    }
    warnings
}

fn open(config: &Config, data_dir: &Path) -> anyhow::Result<Arc<Tls>> {
    let tls = Tls::open(source(config, data_dir), rooms::tls(config));
    tls.context("cannot speak TLS")
}

fn source(config: &Config, data_dir: &Path) -> Source {
    if from_files(config) {
        return Source::Files {
            certificate: config.text(TLS_CERTIFICATE).into(),
            key: config.text(TLS_KEY).into(),
        };
    }
    let domains = config.list(ACME_DOMAINS);
    if !domains.is_empty() {
        return Source::Acme(Box::new(rooms::acme(config, domains, data_dir.join("acme"))));
    }
    Source::SelfSigned { directory: data_dir.join("tls"), names: config.list(MANAGEMENT_HOSTS) }
}

fn clients(who: &str, roots: &str) -> anyhow::Result<ClientCertificates> {
    let open = || Roots::open(Path::new(roots)).context("cannot judge certificates of clients");
    Ok(match who {
        OPTIONAL => ClientCertificates::Optional(open()?),
        REQUIRED => ClientCertificates::Required(open()?),
        _ => ClientCertificates::None,
    })
}
