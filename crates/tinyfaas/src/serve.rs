//! Starting the rooms, and stopping them in the order in which nothing is lost.
//!
//! Owns the wiring: who is told of whom. Must not know what happens inside a
//! room.

use std::io::{self, Write};
use std::net::TcpListener as StdListener;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use tinyfaas_gateway::{CoapSockets, Gateway, PskKeys};
use tinyfaas_handlers::process::ProcessBackend;
use tinyfaas_handlers::process::leftovers::kill_leftovers;
use tinyfaas_handlers::process::spawner::{Instance, Spawner, SpawnerProcess};
use tinyfaas_management::{Endpoints, Entrance, Manager, Surroundings};
use tinyfaas_model::{Backend, RoutesWriter};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::config::{Config, Endpoint, misspelt};
use crate::data_dir::DataDir;
use crate::keys::Keys;
use crate::listen::{self, Bound};
use crate::notify::Manager as ServiceManager;
use crate::open_files::OpenFiles;
use crate::summary::Start;
use crate::tls::{self, Secured};
use crate::user::{self, OwnUser};
use crate::{logging, rooms, summary, variable};

/// The exit code of a server that a second signal ended at once: 128 + SIGINT,
/// as shells have it.
const EXIT_AT_ONCE: i32 = 130;

/// What was bound before anything was started.
struct Sockets {
    management: (Endpoint, Option<Bound>),
    http: (Endpoint, Option<Bound>),
    coap: (Endpoint, Option<Bound>),
    coap_tcp: (Endpoint, Option<Bound>),
    coaps_tcp: (Endpoint, Option<Bound>),
    coaps: (Endpoint, Option<Bound>),
    https: (Endpoint, Option<Bound>),
    management_tls: (Endpoint, Option<Bound>),
    grpc: (Endpoint, Option<Bound>),
    grpc_tls: (Endpoint, Option<Bound>),
}

/// What root may be needed for, done before the server gives root up.
struct Prepared {
    sockets: Sockets,
    spawner: SpawnerProcess,
    service_manager: ServiceManager,
    /// As whom server and functions run, for people.
    who: String,
    open_files: OpenFiles,
    keys: PskKeys,
    secured: Option<Secured>,
}

impl Sockets {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            management: bind(config.endpoint("management"))?,
            http: bind(config.endpoint("http"))?,
            coap: bind(config.endpoint("coap"))?,
            coap_tcp: bind(config.endpoint("coap-tcp"))?,
            coaps_tcp: bind(config.endpoint("coaps-tcp"))?,
            coaps: bind(config.endpoint("coaps"))?,
            https: bind(config.endpoint("https"))?,
            management_tls: bind(config.endpoint("management-tls"))?,
            grpc: bind(config.endpoint("grpc"))?,
            grpc_tls: bind(config.endpoint("grpc-tls"))?,
        })
    }

    /// Each endpoint with what became of it.
    fn pairs(&self) -> [summary::Outcome<'_>; 10] {
        let all = [
            &self.management,
            &self.management_tls,
            &self.http,
            &self.https,
            &self.coap,
            &self.coap_tcp,
            &self.coaps_tcp,
            &self.coaps,
            &self.grpc,
            &self.grpc_tls,
        ];
        all.map(|(endpoint, bound)| (endpoint, bound.as_ref()))
    }

    /// Where functions are called.
    fn endpoints(&self) -> Endpoints {
        let port = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.port);
        Endpoints {
            http: port(&self.http.1),
            coap: port(&self.coap.1),
            coap_tcp: port(&self.coap_tcp.1),
            coaps_tcp: port(&self.coaps_tcp.1),
            coaps: port(&self.coaps.1),
            grpc: port(&self.grpc.1),
            https: port(&self.https.1),
            grpc_tls: port(&self.grpc_tls.1),
            management: port(&self.management.1),
            management_tls: port(&self.management_tls.1),
        }
    }

    /// Where management is served.
    fn take_management(&mut self, secured: Option<&Secured>) -> io::Result<Vec<Entrance>> {
        let plain = listeners(&mut self.management.1)?;
        let over_tls = listeners(&mut self.management_tls.1)?;
        let tls = secured.map(Secured::for_management);
        let entrance = |listener, tls| Entrance { listener, tls };
        Ok(plain
            .into_iter()
            .map(|listener| entrance(listener, None))
            .chain(over_tls.into_iter().map(|listener| entrance(listener, tls.clone())))
            .collect())
    }

    /// What CoAP is served on.
    fn take_coap(&mut self, secured: Option<&Secured>) -> CoapSockets {
        let tls = secured.map(Secured::for_coap);
        let over_tls: Vec<StdListener> =
            self.coaps_tcp.1.as_mut().map(Bound::take).unwrap_or_default();
        CoapSockets {
            tcp_secured: over_tls.into_iter().zip(tls.into_iter().cycle()).collect(),
            udp: self.coap.1.as_mut().map(Bound::take).unwrap_or_default(),
            tcp: self.coap_tcp.1.as_mut().map(Bound::take).unwrap_or_default(),
            secured: self.coaps.1.as_mut().map(Bound::take).unwrap_or_default(),
        }
    }
}

/// Runs the server until a signal ends it.
///
/// # Errors
/// What keeps it from starting, or took it down.
pub(crate) fn serve(config: &Config, keys: Keys) -> anyhow::Result<()> {
    logging::start(config.text("log-level"), config.text("log-format"));
    if config.text("backend") == "docker" {
        bail!(
            "TF_BACKEND=docker: the Docker backend is not built yet; leave TF_BACKEND empty (or \
             set it to process) to run functions as processes"
        );
    }
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    for (name, meant) in misspelt(names) {
        tracing::warn!("{name} is no setting of this server; is {meant} meant?");
    }
    for warning in keys.warnings.iter().chain(&tls::warnings(config)) {
        tracing::warn!("{warning}");
    }
    let (data_dir, prepared) = prepare(config, keys.keys)?;
    let runtime = runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tinyfaas")
        .build()
        .context("cannot start the server's threads")?;
    let outcome = runtime.block_on(run(config, &data_dir, prepared));
    // Whatever still runs is a task that nobody waits for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    data_dir.sweep().context("cannot clean the data directory")?;
    outcome
}

/// All that comes before the first thread, and before root is given up.
fn prepare(config: &Config, keys: PskKeys) -> anyhow::Result<(DataDir, Prepared)> {
    let open_files = OpenFiles::allowed()?;
    let is_root = rustix::process::geteuid().is_root();
    let path = config.data_dir(is_root, variable).map_err(anyhow::Error::msg)?;
    let user = user::wanted(config.text("user"))?;
    let data_dir = DataDir::open(&path, user.as_ref())?;
    let sockets = Sockets::bind(config)?;
    let opening = tls::Opening::begin(config)?;
    let instance =
        Instance { id: data_dir.id().to_owned(), data_dir: data_dir.path().to_path_buf() };
    let killed = kill_leftovers(&instance).context("ending an earlier run's processes")?;
    if killed > 0 {
        tracing::warn!(killed, "ended processes that an earlier run had left");
    }
    let service_manager = ServiceManager::from_environment();
    // Before the limit of open files is raised, which functions shall not inherit.
    let spawner = start_spawner(&instance, user.as_ref())?;
    if let Err(error) = open_files.raise() {
        tracing::warn!("{error:#}");
    }
    if let Some(user) = &user {
        user.become_it()?;
    }
    let secured = opening.map(|opening| opening.finish(config, data_dir.path())).transpose()?;
    let who = summary::who(user.as_ref());
    let prepared = Prepared { sockets, spawner, service_manager, who, open_files, keys, secured };
    Ok((data_dir, prepared))
}

/// With root's rights where the server will give them up.
fn start_spawner(instance: &Instance, user: Option<&OwnUser>) -> anyhow::Result<SpawnerProcess> {
    match user {
        Some(user) => SpawnerProcess::start_for(instance, &user.identity),
        None => SpawnerProcess::start(instance),
    }
    .context("cannot start the spawner process")
}

fn bind(endpoint: Endpoint) -> anyhow::Result<(Endpoint, Option<Bound>)> {
    let bound = endpoint.port.map(|port| listen::bind(&endpoint, port)).transpose()?;
    Ok((endpoint, bound))
}

fn listeners(bound: &mut Option<Bound>) -> io::Result<Vec<TcpListener>> {
    let all: Vec<StdListener> = bound.as_mut().map(Bound::take).unwrap_or_default();
    all.into_iter().map(TcpListener::from_std).collect()
}

async fn run(config: &Config, data_dir: &DataDir, prepared: Prepared) -> anyhow::Result<()> {
    let Prepared { mut sockets, spawner, service_manager, who, open_files, keys, secured } =
        prepared;
    let mut signals = Signals::listen().context("cannot watch for signals")?;
    let spawner = Spawner::connect(spawner);
    let (mut for_gateway, mut for_management, mut for_process) = (
        rooms::gateway(config),
        rooms::management(config, data_dir.path()),
        rooms::process(data_dir.path()),
    );
    let coap_tcp = sockets.coap_tcp.1.is_some() || sockets.coaps_tcp.1.is_some();
    let fewer = open_files.share(coap_tcp, &mut for_gateway, &mut for_management, &mut for_process);
    if let Some(fewer) = fewer {
        tracing::warn!("{fewer}");
    }
    let backend =
        ProcessBackend::start(for_process, Arc::clone(&spawner)).await.with_context(|| {
            format!("cannot start the process backend in {}", data_dir.path().display())
        })?;
    let (writer, routes) = RoutesWriter::new();
    let gateway = Gateway::new(for_gateway, routes);
    let manager = Manager::new(for_management, Arc::clone(&backend) as Arc<dyn Backend>, writer);
    let identities = keys.len();
    serve_calls(&gateway, &mut sockets, keys, secured.as_ref())?;
    let (stop, stopping) = oneshot::channel::<()>();
    let endpoints = sockets.endpoints();
    let management = tokio::spawn(tinyfaas_management::serve(
        sockets.take_management(secured.as_ref())?,
        Arc::clone(&manager),
        Surroundings { endpoints, calls: gateway.calls(), gateway: Some(gateway.status()) },
        async { drop(stopping.await) },
    ));
    if let Some(secured) = &secured {
        tokio::spawn(secured.keep_fresh());
    }
    let start = Start {
        data_dir,
        config_file: config.file(),
        who: &who,
        endpoints: &sockets.pairs(),
        identities,
        secured: secured.as_ref(),
        runtimes: &backend.runtimes(),
    };
    announce(&start)?;
    service_manager.ready(&summary::status(&sockets.pairs()));

    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        never = service_manager.stay_alive() => match never {},
        reason = spawner.failed() => Err(anyhow::anyhow!("cannot start processes any more: {reason}")),
    };
    tracing::info!("stopping; a second signal ends everything at once");
    service_manager.stopping("stopping: running calls may end");
    let orderly = async {
        drop(stop);
        // Neither waits for the other: deploys under way are given up.
        let (_, ()) = tokio::join!(management, gateway.shutdown(config.duration("drain-stop")));
        // The gateway has let them end or has cut them off.
        manager.shutdown(Duration::ZERO).await;
        backend.shutdown().await;
        spawner.shutdown().await;
    };
    tokio::select! {
        () = orderly => tracing::info!("stopped"),
        () = signals.next() => {
            tracing::warn!("stopped at once; what is left on disk is removed at the next start");
            process::exit(EXIT_AT_ONCE);
        }
    }
    outcome
}

/// Begins to take calls, over every protocol that is on.
fn serve_calls(
    gateway: &Gateway,
    sockets: &mut Sockets,
    keys: PskKeys,
    secured: Option<&Secured>,
) -> anyhow::Result<()> {
    gateway.serve_http(listeners(&mut sockets.http.1)?).context("cannot serve HTTP")?;
    gateway.serve_grpc(listeners(&mut sockets.grpc.1)?);
    if let Some(secured) = secured {
        gateway.prove_names(secured.tls());
        let https = listeners(&mut sockets.https.1)?;
        gateway.serve_https(https, secured.for_calls()).context("cannot serve HTTPS")?;
        gateway.serve_grpc_tls(listeners(&mut sockets.grpc_tls.1)?, secured.for_calls());
    }
    gateway.serve_coap(sockets.take_coap(secured), keys).context("cannot serve CoAP")
}

/// Tells where the server is reached, in `ports.json` and to whoever listens.
fn announce(start: &Start<'_>) -> anyhow::Result<()> {
    let data_dir = start.data_dir;
    data_dir
        .write_ports(&summary::ports(start.endpoints))
        .with_context(|| format!("cannot write {}/ports.json", data_dir.path().display()))?;
    for warning in summary::open_management(start) {
        tracing::warn!("{warning}");
    }
    let mut lines = summary::lines(start);
    lines.push("ready\n".to_owned());
    // Nobody may be listening (`tinyfaas | head -1`): the server goes on.
    drop(io::stdout().write_all(lines.join("\n").as_bytes()));
    Ok(())
}

/// SIGINT and SIGTERM, which mean the same.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
