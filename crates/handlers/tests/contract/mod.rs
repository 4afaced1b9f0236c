//! What holds for every backend: functions over `&dyn Backend`.
//!
//! Each case deploys real functions and calls them as a gateway would. What a
//! machine lacks is a counted skip with its reason, never a pass.

mod functions;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tinyfaas_model::{
    Admission, Backend, Body, BuildError, CallId, CallTarget, CoapAttributes, Condition,
    DeployError, Deployment, EnvVar, FunctionCounters, FunctionName, FunctionSpec, Handler,
    HandlerError, HandlerId, Invocation, InvokeError, Limits, LogSink, Patience, Place, Refusal,
    Reply, Runtime, WaitingRoom,
};

use functions::Behaviour;

/// How long anything here may take before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A backend to be tried, and what is seen of it from outside.
pub(crate) struct Subject {
    pub(crate) backend: Arc<dyn Backend>,
    /// What of its deployments is there now: processes, files.
    pub(crate) left: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    /// A folder for what cases upload.
    pub(crate) uploads: PathBuf,
}

/// How a case ended that did not panic.
pub(crate) enum Verdict {
    Passed,
    Skipped(String),
}

type Case = for<'a> fn(&'a Bench) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        &[$((stringify!($name), |bench| Box::pin($name(bench)))),*]
    };
}

/// Each is run for every environment.
pub(crate) const CASES: &[(&str, Case)] = cases![
    an_echo_answers,
    large_bodies_pass_both_ways,
    many_calls_run_at_once,
    a_function_sees_its_variables_and_not_the_servers,
    lines_reach_the_log_until_the_end,
    a_crash_costs_its_call_and_the_handler_is_replaced,
    a_crash_loop_makes_the_function_unavailable,
    what_handlers_take_is_told_and_counted,
    failed_starts_are_counted,
    a_call_that_never_ends_costs_its_handler_but_not_its_neighbours,
    a_cancelled_call_gives_its_place_back,
    every_thread_is_a_handler_with_its_own_folder,
    destroying_leaves_nothing,
    a_start_that_fails_says_why_and_leaves_nothing,
    a_start_that_takes_too_long_is_ended,
    a_folder_that_is_no_function_is_refused,
    an_install_that_fails_returns_its_output,
    vendored_dependencies_need_no_network,
];

/// Makes the names of uploads and signals different.
static FILES: AtomicUsize = AtomicUsize::new(0);

/// One environment on one backend.
pub(crate) struct Bench<'s> {
    backend: &'s dyn Backend,
    left: &'s dyn Fn() -> Vec<String>,
    uploads_dir: &'s Path,
    pub(crate) runtime: Runtime,
    log: Arc<Lines>,
}

/// A log that a case can read.
#[derive(Default)]
struct Lines(Mutex<Vec<(String, String)>>);

impl LogSink for Lines {
    fn line(&self, handler: &HandlerId, text: &[u8]) {
        let text = String::from_utf8_lossy(text).into_owned();
        self.0.lock().push((handler.as_str().to_owned(), text));
    }
}

impl Lines {
    fn has(&self, text: &str) -> bool {
        self.0.lock().iter().any(|(_, line)| line.contains(text))
    }
}

/// What a call came to.
#[derive(Debug)]
struct Answer {
    status: Option<u16>,
    failed: bool,
    body: String,
}

impl<'s> Bench<'s> {
    pub(crate) fn new(subject: &'s Subject, runtime: Runtime) -> Self {
        let (backend, left) = (&*subject.backend, &*subject.left);
        let log = Arc::default();
        Self { backend, left, uploads_dir: &subject.uploads, runtime, log }
    }

    /// A bench for another backend, of which nothing is seen from outside.
    pub(crate) fn over(backend: &'s dyn Backend, uploads_dir: &'s Path, runtime: Runtime) -> Self {
        let log = Arc::default();
        Self { backend, left: &Vec::new, uploads_dir, runtime, log }
    }

    /// Builds an echo with this `requirements.txt`.
    pub(crate) async fn build_with_requirements(&self, text: &str) -> Result<(), BuildError> {
        let mut files = functions::files(self.runtime, Behaviour::Echo);
        files.push(("requirements.txt", text));
        self.build(&files).await.map(drop)
    }

    /// Deploys what never becomes ready.
    pub(crate) async fn deploy_that_hangs(&self) -> Result<Box<dyn Deployment>, DeployError> {
        let files = functions::files(self.runtime, Behaviour::HangsWhileLoading);
        self.try_deploy(&files, self.spec()).await
    }

    /// Gets handlers replaced again and again that still have a call to finish,
    /// and returns how many of those calls broke off.
    pub(crate) async fn replace_handlers(&self, times: usize) -> usize {
        let deployment = self.deploy(Behaviour::Slow).await;
        let mut patient = Vec::new();
        for _ in 0..times {
            let (handler, place) = admit(&*deployment).await.unwrap();
            let id = handler.id().clone();
            let file = self.signal();
            let running = handler.invoke(invocation(file.clone(), PATIENCE), place);
            patient.push((file.clone(), tokio::spawn(running)));
            until("it runs", || self.log.has(&file)).await;
            replace_by_a_stuck_call(&*deployment, &id).await;
        }
        let mut broken = 0;
        // From the last to the first: the last ones are still there.
        for (file, running) in patient.into_iter().rev() {
            fs::write(&file, "").unwrap();
            match tokio::time::timeout(PATIENCE, running).await.expect("an end").unwrap() {
                Ok(reply) => assert_eq!(read(reply).await.unwrap().body, file),
                Err(HandlerError::Failed(InvokeError::Crashed { .. })) => broken += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
        self.destroy(deployment).await;
        broken
    }

    /// Waits until [`Self::deploy_that_hangs`] does.
    pub(crate) async fn until_loading(&self) {
        until("it is loading", || self.log.has("loading")).await;
    }

    fn spec(&self) -> FunctionSpec {
        FunctionSpec {
            name: FunctionName::parse(&format!("try-{}", self.runtime)).unwrap(),
            description: None,
            runtime: self.runtime,
            threads: 1,
            envs: Vec::new(),
            limits: Limits {
                call_deadline: PATIENCE,
                start_timeout: PATIENCE,
                calls_per_handler: 16,
                waiting_max: 64,
                build_timeout: PATIENCE,
            },
            cgi: false,
            coap: CoapAttributes::default(),
        }
    }

    /// A folder with these files, as an upload leaves it.
    fn folder(&self, files: &[(&str, &str)]) -> PathBuf {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        let folder = self.uploads_dir.join(format!("{}-{number}", self.runtime));
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    /// The path of a file that is not there, for [`Behaviour::Slow`].
    fn signal(&self) -> String {
        let number = FILES.fetch_add(1, Ordering::Relaxed);
        self.uploads_dir.join(format!("{}-signal-{number}", self.runtime)).display().to_string()
    }

    fn log(&self) -> Arc<dyn LogSink> {
        Arc::clone(&self.log) as Arc<dyn LogSink>
    }

    async fn build(&self, files: &[(&str, &str)]) -> Result<tinyfaas_model::Artifact, BuildError> {
        let folder = self.folder(files);
        let spec = self.spec();
        let built = self.backend.build(folder.clone(), &spec, self.log()).await;
        assert!(!folder.exists(), "the folder is the backend's");
        built
    }

    async fn try_deploy(
        &self,
        files: &[(&str, &str)],
        spec: FunctionSpec,
    ) -> Result<Box<dyn Deployment>, DeployError> {
        let artifact = self.build(files).await.expect("it builds");
        self.backend.deploy(artifact, Arc::new(spec), self.log(), Arc::default()).await
    }

    async fn deploy(&self, behaviour: Behaviour) -> Box<dyn Deployment> {
        let files = functions::files(self.runtime, behaviour);
        self.try_deploy(&files, self.spec()).await.expect("it starts")
    }

    /// A function answers again after this has happened to its backend.
    pub(crate) async fn survives(&self, blow: impl Future<Output = ()>) -> Verdict {
        let deployment = self.deploy(Behaviour::Echo).await;
        assert_eq!(call(&*deployment, "before").await.unwrap().body, "before");
        blow.await;
        // A call that was given to a handler of before fails, but is not lost.
        let start = Instant::now();
        loop {
            match call(&*deployment, "after").await {
                Ok(answer) => break assert_eq!(answer.body, "after"),
                Err(InvokeError::Crashed { .. }) => assert!(start.elapsed() < PATIENCE),
                Err(other) => panic!("{other:?}"),
            }
        }
        self.destroy(deployment).await;
        Verdict::Passed
    }

    async fn destroy(&self, deployment: Box<dyn Deployment>) {
        tokio::time::timeout(PATIENCE, deployment.destroy()).await.expect("it ends");
        assert_eq!((self.left)(), Vec::<String>::new(), "something is left");
    }
}

fn invocation(body: impl Into<Bytes>, deadline: Duration) -> Invocation {
    let (_, target) = CallTarget::split(&PathAndQuery::from_static("/try/below?query"));
    Invocation {
        id: CallId::random(),
        method: Method::POST,
        target,
        headers: HeaderMap::new(),
        body: Body::from_bytes(body),
        deadline: Instant::now() + deadline,
    }
}

async fn admit(deployment: &dyn Deployment) -> Result<(Arc<dyn Handler>, Place), Refusal> {
    let room = WaitingRoom::new(64);
    let set = deployment.handlers();
    let Admission { handler, place } =
        tokio::time::timeout(PATIENCE, set.admit(Patience::Caller, &room))
            .await
            .expect("a place")?;
    Ok((handler, place))
}

/// Calls as a gateway does: another handler for what has not started, and
/// nobody waits beyond the deadline.
async fn call_within(
    deployment: &dyn Deployment,
    body: &str,
    deadline: Duration,
) -> Result<Answer, InvokeError> {
    let mut invocation = invocation(body.to_owned(), deadline);
    loop {
        let (handler, place) = admit(deployment).await.map_err(|refusal| match refusal {
            Refusal::Unavailable { reason, retry_after } => {
                InvokeError::Unavailable { reason, retry_after }
            }
            other => panic!("refused: {other:?}"),
        })?;
        let running = handler.invoke(invocation, place);
        match tokio::time::timeout(deadline, running).await {
            Err(_) => return Err(InvokeError::DeadlineExceeded { after: deadline }),
            Ok(Ok(reply)) => return read(reply).await,
            Ok(Err(HandlerError::Failed(error))) => return Err(error),
            Ok(Err(HandlerError::NotStarted(back))) => invocation = *back,
        }
    }
}

async fn call(deployment: &dyn Deployment, body: &str) -> Result<Answer, InvokeError> {
    call_within(deployment, body, PATIENCE).await
}

async fn read(reply: Reply) -> Result<Answer, InvokeError> {
    let (status, failed) = (reply.status.map(|status| status.as_u16()), reply.failed);
    let bytes = reply.body.collect().await?.to_bytes();
    Ok(Answer { status, failed, body: String::from_utf8_lossy(&bytes).into_owned() })
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still not so: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn an_echo_answers(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Echo).await;
    for body in ["hello", "", "grüße\n\u{1f600}"] {
        let answer = call(&*deployment, body).await.unwrap();
        assert_eq!((answer.failed, &*answer.body), (false, body));
        assert!(answer.status.is_none_or(|status| status == 200), "{answer:?}");
    }
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn large_bodies_pass_both_ways(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Echo).await;
    let body = "0123456789abcdef".repeat(256 << 10);
    let answer = call(&*deployment, &body).await.unwrap();
    assert!(answer.body == body, "{} bytes came back of {}", answer.body.len(), body.len());
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn many_calls_run_at_once(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Slow).await;
    let files: Vec<_> = (0..8).map(|_| bench.signal()).collect();
    let mut calls = tokio::task::JoinSet::new();
    for file in &files {
        let (handler, place) = admit(&*deployment).await.unwrap();
        let running = handler.invoke(invocation(file.clone(), PATIENCE), place);
        let file = file.clone();
        calls.spawn(async move { (file, read(running.await.unwrap()).await.unwrap()) });
    }
    // None ends before all have begun.
    for file in &files {
        until("all calls have begun", || bench.log.has(file)).await;
    }
    files.iter().for_each(|file| fs::write(file, "").unwrap());
    while let Some(done) = calls.join_next().await {
        let (file, answer) = done.unwrap();
        assert_eq!(answer.body, file);
    }
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn a_function_sees_its_variables_and_not_the_servers(bench: &Bench<'_>) -> Verdict {
    let mut spec = bench.spec();
    let var = |key: &str, value: &str| EnvVar { key: key.into(), value: value.into() };
    spec.envs = vec![var("LAB", "first"), var("LAB", "a=b c"), var("LANG", "de_DE.UTF-8")];
    let files = functions::files(bench.runtime, Behaviour::Environment);
    let deployment = bench.try_deploy(&files, spec).await.unwrap();
    let seen = call(&*deployment, "").await.unwrap().body;
    let has = |line: &str| seen.lines().any(|other| other == line);
    assert!(has("LAB=a=b c") && has("LANG=de_DE.UTF-8"), "{seen}");
    assert!(!seen.contains("first") && !seen.contains(crate::SECRET), "{seen}");
    for key in ["PATH=", "HOME=", "TMPDIR="] {
        assert!(seen.lines().any(|line| line.starts_with(key)), "{key} {seen}");
    }
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn lines_reach_the_log_until_the_end(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Crash).await;
    let crashed = call(&*deployment, "crash").await.unwrap_err();
    assert!(matches!(crashed, InvokeError::Crashed { .. }), "{crashed:?}");
    until("the last lines are in the log", || {
        bench.log.has("last words on stdout") && bench.log.has("last words on stderr")
    })
    .await;
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn a_crash_costs_its_call_and_the_handler_is_replaced(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Crash).await;
    let health = deployment.health();
    assert_eq!((health.ready, health.wanted, health.restarts), (1, 1, 0));
    assert!(health.trouble.is_none(), "{health:?}");
    let (handler, place) = admit(&*deployment).await.unwrap();
    let first = handler.id().clone();
    drop((handler, place));
    match call(&*deployment, "crash").await.unwrap_err() {
        InvokeError::Crashed { how } => {
            assert!(
                how.contains("killed by signal 9") || how.contains("exited with code 3"),
                "{how}"
            );
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(call(&*deployment, "again").await.unwrap().body, "again");
    let (handler, place) = admit(&*deployment).await.unwrap();
    assert_ne!(*handler.id(), first);
    drop((handler, place));
    let health = deployment.health();
    assert_eq!((health.condition(), health.restarts), (Condition::Healthy, 1));
    let trouble = health.trouble.expect("one has died");
    assert_eq!(trouble.handler, first);
    assert!(["signal 9", "code 3"].iter().any(|how| trouble.what.contains(how)), "{trouble:?}");
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn a_crash_loop_makes_the_function_unavailable(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Crash).await;
    let mut crashes = 0;
    let (reason, retry_after) = loop {
        match call(&*deployment, "crash").await.unwrap_err() {
            InvokeError::Crashed { .. } => crashes += 1,
            InvokeError::Unavailable { reason, retry_after } => break (reason, retry_after),
            other => panic!("{other:?}"),
        }
        assert!(crashes < 20, "it never becomes unavailable");
    };
    assert!(crashes >= 2, "the first death is made good at once");
    let health = deployment.health();
    assert_eq!((health.condition(), health.ready), (Condition::Unavailable, 0), "{health:?}");
    assert!(reason.contains("again and again"), "{reason}");
    assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(30));
    until("the log says why", || bench.log.has("again; starting another handler in")).await;
    // And it comes back.
    let start = Instant::now();
    loop {
        match call(&*deployment, "back").await {
            Ok(answer) => break assert_eq!(answer.body, "back"),
            Err(InvokeError::Unavailable { .. }) => assert!(start.elapsed() < PATIENCE),
            Err(other) => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn what_handlers_take_is_told_and_counted(bench: &Bench<'_>) -> Verdict {
    let counters = Arc::<FunctionCounters>::default();
    let of_handlers = &counters.handlers;
    let cpu = || of_handlers.cpu_us.load(Ordering::Relaxed);
    let files = functions::files(bench.runtime, Behaviour::Crash);
    let artifact = bench.build(&files).await.expect("it builds");
    let spec = Arc::new(FunctionSpec { threads: 2, ..bench.spec() });
    let deployed = bench.backend.deploy(artifact, spec, bench.log(), Arc::clone(&counters)).await;
    let deployment = deployed.map_err(|error| error.to_string()).expect("it starts");
    let starts = of_handlers.starts.snapshot();
    assert_eq!((starts.count(), of_handlers.replaced.load(Ordering::Relaxed)), (2, 0));
    assert!(starts.sum > Duration::ZERO);
    let usage = deployment.usage().await;
    assert!(usage.processes >= 2 && usage.memory_bytes > 256 << 10, "{usage:?}");
    // Asked at once, it is not looked for anew.
    assert_eq!(deployment.usage().await, usage);
    let (before, later) = (cpu(), deployment.usage());
    call(&*deployment, "crash").await.unwrap_err();
    until("another is there", || of_handlers.starts.snapshot().count() == 3).await;
    assert_eq!(of_handlers.replaced.load(Ordering::Relaxed), 1);
    // Whoever it was that ended, its time is counted with the next look.
    let start = Instant::now();
    while cpu() == 0 || cpu() == before {
        assert!(cpu() >= before && start.elapsed() < PATIENCE, "{before} {}", cpu());
        deployment.usage().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = cpu();
    bench.destroy(deployment).await;
    assert!(cpu() > before, "those that ended last are counted too: {before} {}", cpu());
    // Nothing is left to be told; or what was is still told.
    later.await;
    assert_eq!(of_handlers.failed_starts.load(Ordering::Relaxed), 0);
    Verdict::Passed
}

async fn failed_starts_are_counted(bench: &Bench<'_>) -> Verdict {
    let counters = Arc::<FunctionCounters>::default();
    let files = functions::files(bench.runtime, Behaviour::FailsToLoad);
    let Ok(artifact) = bench.build(&files).await else {
        return Verdict::Skipped("its build refuses what cannot be loaded".into());
    };
    let spec = Arc::new(bench.spec());
    let deployed = bench.backend.deploy(artifact, spec, bench.log(), Arc::clone(&counters)).await;
    assert!(deployed.is_err());
    assert_eq!(counters.handlers.failed_starts.load(Ordering::Relaxed), 1);
    assert_eq!(counters.handlers.starts.snapshot().count(), 0);
    Verdict::Passed
}

async fn a_call_that_never_ends_costs_its_handler_but_not_its_neighbours(
    bench: &Bench<'_>,
) -> Verdict {
    if bench.runtime == Runtime::Binary {
        return Verdict::Skipped(
            "a script is killed at its deadline, and its handler lives".into(),
        );
    }
    let deployment = bench.deploy(Behaviour::Slow).await;
    let (handler, place) = admit(&*deployment).await.unwrap();
    let first = handler.id().clone();
    let file = bench.signal();
    let neighbour = tokio::spawn(handler.invoke(invocation(file.clone(), PATIENCE), place));
    replace_by_a_stuck_call(&*deployment, &first).await;
    // The new one works, and so does the old one's other call.
    assert_eq!(call(&*deployment, "/").await.unwrap().body, "/");
    assert!(!neighbour.is_finished(), "nothing has ended it");
    fs::write(&file, "").unwrap();
    let reply = tokio::time::timeout(PATIENCE, neighbour).await.unwrap().unwrap().unwrap();
    assert_eq!(read(reply).await.unwrap().body, file);
    until("the log says so", || bench.log.has("did not end")).await;
    let health = deployment.health();
    assert_eq!((health.condition(), health.restarts), (Condition::Healthy, 1));
    assert!(health.trouble.is_some_and(|trouble| trouble.what.contains("did not end")));
    bench.destroy(deployment).await;
    Verdict::Passed
}

/// A call that never ends, and what comes of it: calls go to another handler.
async fn replace_by_a_stuck_call(deployment: &dyn Deployment, first: &HandlerId) {
    let deadline = Duration::from_millis(100);
    let stuck = call_within(deployment, "never", deadline).await.unwrap_err();
    assert_eq!(stuck, InvokeError::DeadlineExceeded { after: deadline });
    let start = Instant::now();
    loop {
        let (handler, place) = admit(deployment).await.unwrap();
        if handler.id() != first {
            return;
        }
        drop(place);
        assert!(start.elapsed() < PATIENCE, "the handler is not replaced");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn a_cancelled_call_gives_its_place_back(bench: &Bench<'_>) -> Verdict {
    let deployment = bench.deploy(Behaviour::Slow).await;
    let (handler, place) = admit(&*deployment).await.unwrap();
    let file = bench.signal();
    let running = tokio::spawn(handler.invoke(invocation(file.clone(), PATIENCE), place));
    until("the call runs", || bench.log.has(&file)).await;
    running.abort();
    assert!(running.await.is_err());
    fs::write(&file, "").unwrap();
    let set = deployment.handlers();
    until("its place is free", || set.load() == (0, 0)).await;
    assert_eq!(call(&*deployment, "/").await.unwrap().body, "/");
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn every_thread_is_a_handler_with_its_own_folder(bench: &Bench<'_>) -> Verdict {
    let mut spec = bench.spec();
    spec.threads = 3;
    spec.limits.calls_per_handler = 1;
    let files = functions::files(bench.runtime, Behaviour::Counter);
    let deployment = bench.try_deploy(&files, spec).await.unwrap();
    let mut admitted = Vec::new();
    for _ in 0..3 {
        admitted.push(admit(&*deployment).await.unwrap());
    }
    let mut ids: Vec<_> = admitted.iter().map(|(handler, _)| handler.id().clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3, "{ids:?}");
    for (handler, place) in admitted {
        // Each counts in a file of its folder: nobody else's calls are in it.
        let reply = handler.invoke(invocation("", PATIENCE), place).await.unwrap();
        assert_eq!(read(reply).await.unwrap().body.trim(), "1");
    }
    assert_eq!(call(&*deployment, "").await.unwrap().body.trim(), "2");
    bench.destroy(deployment).await;
    Verdict::Passed
}

async fn destroying_leaves_nothing(bench: &Bench<'_>) -> Verdict {
    let mut spec = bench.spec();
    spec.threads = 2;
    let files = functions::files(bench.runtime, Behaviour::Daemon);
    let deployment = bench.try_deploy(&files, spec).await.unwrap();
    assert_eq!(call(&*deployment, "").await.unwrap().body.trim(), "started");
    assert_ne!(left(bench).len(), 0, "there is something to be removed");
    let (handler, place) = admit(&*deployment).await.unwrap();
    let running = tokio::spawn(handler.invoke(invocation("hang", PATIENCE), place));
    until("the call runs", || bench.log.has("hanging")).await;
    let start = Instant::now();
    bench.destroy(deployment).await;
    assert!(start.elapsed() < Duration::from_secs(5), "it took {:?}", start.elapsed());
    let ended = tokio::time::timeout(PATIENCE, running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(HandlerError::Failed(InvokeError::Crashed { .. }))), "{ended:?}");
    Verdict::Passed
}

fn left(bench: &Bench<'_>) -> Vec<String> {
    (bench.left)()
}

async fn a_start_that_fails_says_why_and_leaves_nothing(bench: &Bench<'_>) -> Verdict {
    let mut spec = bench.spec();
    spec.threads = 3;
    let files = functions::files(bench.runtime, Behaviour::FailsToLoad);
    match bench.try_deploy(&files, spec).await.map(drop).unwrap_err() {
        DeployError::StartFailed { how, output } => {
            let all = format!("{how}\n{output}");
            let expected = functions::load_failure(bench.runtime);
            assert!(expected.iter().all(|part| all.contains(part)), "{all}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(left(bench), Vec::<String>::new(), "something is left");
    Verdict::Passed
}

async fn a_start_that_takes_too_long_is_ended(bench: &Bench<'_>) -> Verdict {
    if bench.runtime == Runtime::Binary {
        return Verdict::Skipped("a script is not run before its first call".into());
    }
    let files = functions::files(bench.runtime, Behaviour::HangsWhileLoading);
    let mut spec = bench.spec();
    spec.limits.start_timeout = Duration::from_millis(500);
    // On a busy machine the interpreter itself may take longer.
    let output = loop {
        let timeout = spec.limits.start_timeout;
        match bench.try_deploy(&files, spec.clone()).await.map(drop).unwrap_err() {
            DeployError::StartTimedOut { after, output } if !output.is_empty() => {
                assert_eq!(after, timeout);
                break output;
            }
            DeployError::StartTimedOut { .. } if timeout < PATIENCE => {
                spec.limits.start_timeout = timeout * 2;
            }
            other => panic!("{other:?}"),
        }
    };
    assert!(output.contains("loading"), "{output}");
    assert_eq!(left(bench), Vec::<String>::new(), "something is left");
    Verdict::Passed
}

async fn a_folder_that_is_no_function_is_refused(bench: &Bench<'_>) -> Verdict {
    match bench.build(&[("readme.txt", "")]).await.unwrap_err() {
        BuildError::InvalidFunction(why) => {
            assert!(why.contains("readme.txt") && why.contains("needs"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(left(bench), Vec::<String>::new(), "something is left");
    Verdict::Passed
}

async fn an_install_that_fails_returns_its_output(bench: &Bench<'_>) -> Verdict {
    let Some(files) = functions::with_missing_dependency(bench.runtime) else {
        return Verdict::Skipped("this environment has no dependencies".into());
    };
    match bench.build(&files).await.unwrap_err() {
        BuildError::InstallFailed { how, output, .. } => {
            assert!(how.contains("exited with code"), "{how}");
            assert!(output.contains("not-there"), "{output}");
        }
        BuildError::RuntimeMissing { problem, .. } => return Verdict::Skipped(problem),
        other => panic!("{other:?}"),
    }
    assert!(bench.log.0.lock().iter().any(|(handler, _)| handler == "build"));
    assert_eq!(left(bench), Vec::<String>::new(), "something is left");
    Verdict::Passed
}

async fn vendored_dependencies_need_no_network(bench: &Bench<'_>) -> Verdict {
    let Some(files) = functions::with_vendored_dependency(bench.runtime) else {
        return Verdict::Skipped("this environment has no dependencies".into());
    };
    let folder = bench.folder(&files);
    if bench.runtime == Runtime::Python3 {
        functions::add_wheel(&folder);
    }
    let spec = bench.spec();
    let artifact = match bench.backend.build(folder, &spec, bench.log()).await {
        Err(BuildError::RuntimeMissing { problem, .. }) => return Verdict::Skipped(problem),
        built => built.unwrap(),
    };
    let deployment =
        bench.backend.deploy(artifact, Arc::new(spec), bench.log(), Arc::default()).await;
    let deployment = deployment.map_err(|error| error.to_string()).expect("it starts");
    assert_eq!(call(&*deployment, "").await.unwrap().body, "vendored");
    bench.destroy(deployment).await;
    Verdict::Passed
}
