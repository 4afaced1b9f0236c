//! The embedded backend: the contract of all backends, and what is its own.
//!
//! The spawner and the binary worker are this test's own binary, executed again,
//! so this file has its own `main` instead of the usual harness. Arguments pick
//! cases by parts of their names.
#![allow(clippy::unwrap_used, reason = "a test without the harness is no test to clippy")]

mod contract;

use std::collections::HashMap;
use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::{Bench, CASES, PATIENCE, Subject, Verdict};
use tinyfaas_handlers::process::spawner::{self, Instance, Spawner, SpawnerProcess};
use tinyfaas_handlers::process::{BINARY_WORKER, ProcessBackend, ProcessConfig};
use tinyfaas_model::{Backend, BuildError, DeployError, Runtime};

/// Stands in this process's environment, where no function may see it.
const SECRET: &str = "the-servers-own-secret";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("spawner") => return spawner::main(),
        Some(BINARY_WORKER) => return tinyfaas_binary_worker::main(),
        _ => {}
    }
    let data = tempfile::tempdir().unwrap();
    let instance = Instance { id: "backend-test".into(), data_dir: data.path().to_owned() };
    if std::env::var_os("TF_TEST_SECRET").is_none() {
        // Its environment is set before any thread: by starting itself anew.
        return again();
    }
    let spawner = SpawnerProcess::start(&instance).expect("the spawner starts");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(run_all(data.path(), spawner))
}

fn again() -> ExitCode {
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env("TF_TEST_SECRET", SECRET)
        .status()
        .unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn config(data: &Path) -> ProcessConfig {
    ProcessConfig::new(data.join("functions"), data.join("runtimes"), data.join("cache"))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    failed: usize,
}

impl Tally {
    fn note(&mut self, name: &str, start: Instant, outcome: Result<Verdict, String>) {
        let took = start.elapsed().as_millis();
        match outcome {
            Ok(Verdict::Passed) => {
                self.passed += 1;
                println!("test {name} ... ok ({took} ms)");
            }
            Ok(Verdict::Skipped(why)) => {
                self.skipped += 1;
                println!("test {name} ... SKIPPED: {why}");
            }
            Err(what) => {
                self.failed += 1;
                println!("test {name} ... FAILED ({took} ms) {what}");
            }
        }
    }
}

async fn run_all(data: &Path, process: SpawnerProcess) -> ExitCode {
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    // What a killed server left.
    fs::create_dir_all(data.join("functions/old-0001/artifact")).unwrap();
    let spawner = Spawner::connect(process);
    let backend = ProcessBackend::start(config(data), Arc::clone(&spawner)).await.unwrap();
    assert_eq!(files(&data.join("functions")), Vec::<String>::new(), "the start cleans up");
    let subject = subject(data, &spawner, &backend);
    let mut tally = Tally::default();
    for (name, case) in CASES {
        for runtime in Runtime::ALL {
            let name = format!("{runtime}: {name}");
            if !is_wanted(&name) {
                continue;
            }
            let start = Instant::now();
            let status = backend.runtimes().into_iter().find(|status| status.runtime == runtime);
            let outcome = match status.unwrap().found {
                Err(missing) => Ok(Verdict::Skipped(missing)),
                Ok(_) => guarded(case(&Bench::new(&subject, runtime))).await,
            };
            tally.note(&name, start, outcome);
        }
    }
    type Own<'a> = Pin<Box<dyn Future<Output = Verdict> + 'a>>;
    let own: [(&str, Own<'_>); 6] = [
        ("replaced_handlers_do_not_pile_up", Box::pin(replaced_handlers(&subject))),
        ("a_lost_spawner_costs_no_function", Box::pin(a_lost_spawner(&subject, &spawner))),
        ("missing_interpreters_are_reported", Box::pin(missing_interpreters(data, &spawner))),
        ("installers_are_needed_only_if_declared", Box::pin(missing_installers(data, &spawner))),
        ("a_python_without_pip_makes_one", Box::pin(python_without_pip(data, &spawner))),
        ("shutdown_ends_what_is_starting", Box::pin(shutdown_while_starting(data, &spawner))),
    ];
    for (name, case) in own {
        if is_wanted(name) {
            let start = Instant::now();
            let outcome = guarded(case).await;
            tally.note(name, start, outcome);
        }
    }
    backend.shutdown().await;
    assert!(!data.join("functions").exists(), "shutdown removes the deployments");
    let pid = spawner.pid().expect("it was started anew");
    contract::until("the guards are gone", || descendants(pid).is_empty()).await;
    spawner.shutdown().await;
    println!("{} passed, {} skipped, {} failed", tally.passed, tally.skipped, tally.failed);
    if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a case; a panic, or taking too long, is its failure.
async fn guarded(case: impl Future<Output = Verdict>) -> Result<Verdict, String> {
    let mut case = std::pin::pin!(case);
    let caught = std::future::poll_fn(|cx| {
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| case.as_mut().poll(cx)));
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err("it panicked, see above".to_owned())),
        }
    });
    tokio::time::timeout(PATIENCE * 2, caught).await.unwrap_or(Err("it is stuck".into()))
}

fn subject(data: &Path, spawner: &Arc<Spawner>, backend: &Arc<ProcessBackend>) -> Subject {
    let uploads = data.join("uploads");
    fs::create_dir_all(&uploads).unwrap();
    let (functions, spawner) = (data.join("functions"), Arc::clone(spawner));
    let left = move || {
        let mut left = files(&functions);
        let processes = spawner.pid().map(descendants).unwrap_or_default();
        // A guard says that all is gone, and goes itself a moment later.
        let named = processes.into_iter().map(|pid| (pid, name_of(pid)));
        let workers = named.filter(|(_, name)| name != "tinyfaas-guard" && !name.is_empty());
        left.extend(workers.map(|(pid, name)| format!("process {pid} {name}")));
        left
    };
    Subject { backend: Arc::clone(backend) as Arc<dyn Backend>, left: Box::new(left), uploads }
}

fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    entries.map(|entry| entry.unwrap().path().display().to_string()).collect()
}

/// Empty where it has gone meanwhile.
fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// All processes below one.
fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name in parentheses may hold anything.
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if let Some(parent) = after.split_whitespace().nth(1).and_then(|text| text.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let (mut found, mut at) = (children.remove(&root).unwrap_or_default(), 0);
    while let Some(pid) = found.get(at).copied() {
        found.extend(children.remove(&pid).unwrap_or_default());
        at += 1;
    }
    found
}

/// As many as may be are left to finish their calls; the oldest are not.
async fn replaced_handlers(subject: &Subject) -> Verdict {
    let all = subject.backend.runtimes();
    for status in all.into_iter().filter(|status| status.runtime == Runtime::Python3) {
        if let Err(missing) = status.found {
            return Verdict::Skipped(missing);
        }
    }
    let bench = Bench::new(subject, Runtime::Python3);
    // Of four replaced ones, the default lets two finish.
    assert_eq!(bench.replace_handlers(4).await, 2);
    Verdict::Passed
}

async fn a_lost_spawner(subject: &Subject, spawner: &Spawner) -> Verdict {
    let bench = Bench::new(subject, Runtime::Binary);
    bench
        .survives(async {
            let lost = spawner.lost();
            let pid = spawner.pid().and_then(|pid| i32::try_from(pid).ok()).unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            tokio::time::timeout(PATIENCE, lost).await.expect("its loss is noticed");
        })
        .await
}

/// A backend of its own that looks for interpreters in `bin` only.
async fn backend_with(
    data: &Path,
    name: &str,
    bin: &Path,
    spawner: &Arc<Spawner>,
) -> Arc<ProcessBackend> {
    let place = |part: &str| -> PathBuf { data.join(name).join(part) };
    let config = ProcessConfig {
        search_path: bin.into(),
        probe_timeout: Duration::from_secs(2),
        ..ProcessConfig::new(place("functions"), place("runtimes"), place("cache"))
    };
    ProcessBackend::start(config, Arc::clone(spawner)).await.unwrap()
}

fn found(backend: &ProcessBackend, runtime: Runtime) -> Result<String, String> {
    let all = backend.runtimes();
    all.into_iter().find(|status| status.runtime == runtime).unwrap().found
}

async fn missing_interpreters(data: &Path, spawner: &Arc<Spawner>) -> Verdict {
    let bin = data.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let old = "#!/bin/sh\nprintf 'tinyfaas\\t/opt/python3.6\\t3\\t6\\t9\\n'\n";
    write_program(&bin.join("python3"), old);
    write_program(&bin.join("node"), "#!/bin/sh\nexec /bin/sleep 1000\n");
    let start = Instant::now();
    let backend = backend_with(data, "interpreters", &bin, spawner).await;
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "an interpreter that hangs holds up the start: {took:?}"
    );
    let python = found(&backend, Runtime::Python3).unwrap_err();
    assert!(python.contains("3.6.9") && python.contains("apt install python3"), "{python}");
    let node = found(&backend, Runtime::Nodejs).unwrap_err();
    assert!(node.contains("longer than") && node.contains("install Node 20"), "{node}");
    assert!(found(&backend, Runtime::Binary).is_ok());
    match Bench::over(&*backend, data, Runtime::Python3).build_with_requirements("").await {
        Err(BuildError::RuntimeMissing { problem, .. }) => assert_eq!(problem, python),
        other => panic!("{other:?}"),
    }
    backend.shutdown().await;
    Verdict::Passed
}

async fn missing_installers(data: &Path, spawner: &Arc<Spawner>) -> Verdict {
    let bin = data.join("bin-without-pip");
    fs::create_dir_all(&bin).unwrap();
    let python = bin.join("python3");
    let path = python.display();
    write_program(
        &python,
        &format!(
            "#!/bin/sh\ncase $* in\n*'-m pip'*) echo 'No module named pip' >&2; exit 1;;\n\
             *) printf 'tinyfaas\\t{path}\\t3\\t9\\t0\\n';;\nesac\n"
        ),
    );
    let backend = backend_with(data, "installers", &bin, spawner).await;
    assert_eq!(found(&backend, Runtime::Python3), Ok("Python 3.9.0".into()));
    let bench = Bench::over(&*backend, data, Runtime::Python3);
    bench.build_with_requirements("# nothing\n\n").await.expect("pip is not needed");
    match bench.build_with_requirements("requests\n").await {
        Err(BuildError::RuntimeMissing { problem, .. }) => assert!(
            problem.contains("No module named pip") && problem.contains("python3-pip"),
            "{problem}"
        ),
        other => panic!("{other:?}"),
    }
    backend.shutdown().await;
    Verdict::Passed
}

/// Debian's Python has no pip, but with python3-venv it can make one.
async fn python_without_pip(data: &Path, spawner: &Arc<Spawner>) -> Verdict {
    const CAN_MAKE: [&str; 2] = ["-c", "import venv, ensurepip, sys; print(sys.executable)"];
    let asked = std::process::Command::new("python3").args(CAN_MAKE).output();
    let real = match asked {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout).unwrap(),
        _ => return Verdict::Skipped("no python3 that makes environments with pip".into()),
    };
    let bin = data.join("bin-with-venv");
    fs::create_dir_all(&bin).unwrap();
    let (python, real) = (bin.join("python3"), real.trim());
    let path = python.display();
    write_program(
        &python,
        &format!(
            "#!/bin/sh\ncase $* in\n*'-m pip'*) echo 'No module named pip' >&2; exit 1;;\n\
             *'-m venv'*) exec {real} \"$@\";;\n\
             *) printf 'tinyfaas\\t{path}\\t3\\t9\\t0\\n';;\nesac\n"
        ),
    );
    let backend = backend_with(data, "venv", &bin, spawner).await;
    let bench = Bench::over(&*backend, data, Runtime::Python3);
    // Something is declared, and nothing needs to be fetched for it.
    let declared = "nothing; python_version < '3'\n";
    bench.build_with_requirements(declared).await.expect("pip is made and used");
    assert!(data.join("venv/cache/pip-environment/bin/python3").exists());
    bench.build_with_requirements(declared).await.expect("it is used again");
    backend.shutdown().await;
    Verdict::Passed
}

async fn shutdown_while_starting(data: &Path, spawner: &Arc<Spawner>) -> Verdict {
    let path = std::env::var_os("PATH").unwrap();
    let backend = backend_with(data, "starting", Path::new(&path), spawner).await;
    if let Err(missing) = found(&backend, Runtime::Python3) {
        return Verdict::Skipped(missing);
    }
    let bench = Bench::over(&*backend, data, Runtime::Python3);
    let (deployed, ()) = tokio::join!(bench.deploy_that_hangs(), async {
        bench.until_loading().await;
        backend.shutdown().await;
    });
    assert!(matches!(deployed, Err(DeployError::Stopping)), "{:?}", deployed.map(drop));
    assert!(!data.join("starting/functions").exists(), "shutdown removes the deployments");
    Verdict::Passed
}

fn write_program(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
