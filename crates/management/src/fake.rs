//! A backend for this room's tests: it deploys folders to nowhere and writes down
//! what it is asked for.
//!
//! What a folder's files are called decides how it behaves: `fail-build`,
//! `fail-install`, `fail-start`, `no-runtime`, and `gate`, which makes the build
//! wait for [`FakeBackend::open_gate`]. The file `version` names the deployment
//! in what is written down.

use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use parking_lot::Mutex;
use tinyfaas_model::{
    Artifact, Backend, BoxFuture, BuildError, CallId, CallPage, CallQuery, CallRecord,
    CallRegistry, CallResult, CallState, Cancelling, DeployError, Deployment, FunctionCounters,
    FunctionName, FunctionSpec, Handler, HandlerError, HandlerId, HandlerSet, Health, Invocation,
    LogSink, Moment, Place, Reply, Runtime, RuntimeStatus, Usage,
};
use tokio::sync::{Semaphore, watch};
use zip::write::SimpleFileOptions;

pub(crate) struct FakeBackend {
    events: watch::Sender<Vec<String>>,
    gate: Semaphore,
    /// What it says when asked whether it can start handlers.
    pub(crate) problem: Mutex<Option<String>>,
}

impl FakeBackend {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            events: watch::Sender::new(Vec::new()),
            gate: Semaphore::new(0),
            problem: Mutex::default(),
        })
    }

    pub(crate) fn open_gate(&self) {
        self.gate.add_permits(1);
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.events.borrow().clone()
    }

    pub(crate) async fn wait_for(&self, event: &str) {
        let mut events = self.events.subscribe();
        events.wait_for(|seen| seen.iter().any(|one| one == event)).await.unwrap();
    }

    fn note(&self, what: &str, spec: &FunctionSpec, folder: &Path) {
        note(&self.events, what, spec, folder);
    }
}

fn note(events: &watch::Sender<Vec<String>>, what: &str, spec: &FunctionSpec, folder: &Path) {
    let version = fs::read_to_string(folder.join("version")).unwrap_or_default();
    let event = format!("{what} {} {version}", spec.name);
    events.send_modify(|events| events.push(event.trim_end().to_owned()));
}

impl Backend for FakeBackend {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn runtimes(&self) -> Vec<RuntimeStatus> {
        let found = |runtime| match runtime {
            Runtime::Python3 => Ok("Python 3.11.2".to_owned()),
            _ => Err("install it".to_owned()),
        };
        let status = |runtime| RuntimeStatus { runtime, found: found(runtime) };
        Runtime::ALL.map(status).to_vec()
    }

    fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    fn build<'a>(
        &'a self,
        folder: PathBuf,
        spec: &'a FunctionSpec,
        log: Arc<dyn LogSink>,
    ) -> BoxFuture<'a, Result<Artifact, BuildError>> {
        Box::pin(async move {
            self.note("build", spec, &folder);
            log.line(&HandlerId::new("build"), b"building");
            if folder.join("gate").exists() {
                self.gate.acquire().await.unwrap().forget();
            }
            let has = |name: &str| folder.join(name).exists();
            let error = if has("fail-build") {
                BuildError::InvalidFunction("there is no fn.py".to_owned())
            } else if has("fail-install") {
                let output = "no matching distribution".to_owned();
                let (command, how) = ("pip".to_owned(), "exited with 1".to_owned());
                BuildError::InstallFailed { command, how, output }
            } else if has("no-runtime") {
                let problem = "install python3".to_owned();
                BuildError::RuntimeMissing { runtime: spec.runtime, problem }
            } else {
                return Ok(Artifact { reference: folder.to_str().unwrap().to_owned() });
            };
            fs::remove_dir_all(&folder).unwrap();
            Err(error)
        })
    }

    fn deploy(
        &self,
        artifact: Artifact,
        spec: Arc<FunctionSpec>,
        log: Arc<dyn LogSink>,
        _counters: Arc<FunctionCounters>,
    ) -> BoxFuture<'_, Result<Box<dyn Deployment>, DeployError>> {
        Box::pin(async move {
            let folder = PathBuf::from(artifact.reference);
            self.note("deploy", &spec, &folder);
            let id = HandlerId::new(&format!("{}-1", spec.name));
            log.line(&id, b"started");
            if folder.join("fail-start").exists() {
                fs::remove_dir_all(&folder).unwrap();
                let output = "SyntaxError: no".to_owned();
                return Err(DeployError::StartFailed { how: "exited with 1".to_owned(), output });
            }
            let handlers = HandlerSet::new(spec.limits.waiting_max);
            handlers.add(Arc::new(FakeHandler { id }), spec.threads);
            let events = self.events.clone();
            Ok(Box::new(FakeDeployment { folder, spec, handlers, events }) as Box<dyn Deployment>)
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

struct FakeDeployment {
    folder: PathBuf,
    spec: Arc<FunctionSpec>,
    handlers: Arc<HandlerSet>,
    events: watch::Sender<Vec<String>>,
}

impl Deployment for FakeDeployment {
    fn handlers(&self) -> Arc<HandlerSet> {
        Arc::clone(&self.handlers)
    }

    fn health(&self) -> Health {
        let wanted = self.spec.threads;
        Health { ready: wanted, wanted, ..Health::default() }
    }

    fn usage(&self) -> BoxFuture<'static, Usage> {
        let processes = self.spec.threads as u64;
        Box::pin(std::future::ready(Usage { processes, memory_bytes: processes << 20 }))
    }

    fn destroy(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            note(&self.events, "destroy", &self.spec, &self.folder);
            fs::remove_dir_all(&self.folder).unwrap();
        })
    }
}

struct FakeHandler {
    id: HandlerId,
}

impl Handler for FakeHandler {
    fn id(&self) -> &HandlerId {
        &self.id
    }

    fn invoke(
        self: Arc<Self>,
        _invocation: Invocation,
        _place: Place,
    ) -> BoxFuture<'static, Result<Reply, HandlerError>> {
        Box::pin(async { Ok(Reply::from_bytes("never called")) })
    }
}

/// Calls of which there are as many as a test has put there.
#[derive(Default)]
pub(crate) struct FakeCalls {
    /// The newest last.
    pub(crate) calls: Mutex<Vec<CallRecord>>,
}

impl FakeCalls {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// One more call of this function.
    pub(crate) fn add(&self, function: &str, state: CallState) -> CallId {
        let mut calls = self.calls.lock();
        let now = Moment { wall: SystemTime::now(), steady: Instant::now() };
        let id = CallId::random();
        let number = calls.len() as u64;
        calls.push(CallRecord {
            id,
            number,
            function: FunctionName::parse(function).unwrap(),
            state,
            accepted: now,
            started: (state != CallState::Waiting).then_some(now),
            ended: state.has_ended().then_some(now),
            problem: None,
            result: CallResult::None,
        });
        id
    }
}

impl CallRegistry for FakeCalls {
    fn list(&self, query: &CallQuery) -> CallPage {
        let calls = self.calls.lock();
        let wanted = |call: &&CallRecord| {
            query.function.as_ref().is_none_or(|name| *name == call.function)
                && query.state.is_none_or(|state| state == call.state)
                && query.before.is_none_or(|before| call.number < before)
        };
        let mut found: Vec<_> = calls.iter().rev().filter(wanted).cloned().collect();
        let more = found.len() > query.limit;
        found.truncate(query.limit);
        let next = found.last().filter(|_| more).map(|call| call.number);
        CallPage { calls: found, next }
    }

    fn get(&self, id: CallId) -> Option<CallRecord> {
        self.calls.lock().iter().find(|call| call.id == id).cloned()
    }

    fn cancel(&self, id: CallId) -> Cancelling {
        let mut calls = self.calls.lock();
        let Some(call) = calls.iter_mut().find(|call| call.id == id) else {
            return Cancelling::Unknown;
        };
        if call.state.has_ended() && call.state != CallState::Cancelled {
            return Cancelling::TooLate(call.clone());
        }
        call.state = CallState::Cancelled;
        Cancelling::Cancelled(call.clone())
    }
}

/// A zip of these files.
pub(crate) fn zip_of(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
