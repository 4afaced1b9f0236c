use std::path::PathBuf;
use std::sync::atomic::Ordering;

use tempfile::TempDir;
use tinyfaas_model::{Admission, Patience, Refusal, Routes, Runtime, WaitingRoom};

use crate::archive::{Formats, Subfolder};
use crate::fake::{FakeBackend, zip_of};
use crate::request::{Fields, Wanted};
use crate::spool::SpoolFile;

use super::*;

struct World {
    dir: TempDir,
    backend: Arc<FakeBackend>,
    routes: Routes,
    manager: Arc<Manager>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut ManagementConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ManagementConfig::new(dir.path().join("spool"), dir.path().join("logs"));
        change(&mut config);
        let backend = FakeBackend::new();
        let (writer, routes) = RoutesWriter::new();
        let manager = Manager::new(config, backend.clone(), writer);
        Self { dir, backend, routes, manager }
    }

    async fn prepare(&self, name: &str, files: &[(&str, &str)]) -> (Wanted, Source) {
        let env = if files.iter().any(|(name, _)| *name == "tinyfaas.toml") {
            ""
        } else {
            r#","env":"python3","threads":1"#
        };
        let body = format!(r#"{{"name":"{name}"{env}}}"#);
        let wanted = Fields::parse(body.as_bytes()).unwrap().wanted(self.manager.config()).unwrap();
        let mut spool = SpoolFile::create(&self.dir.path().join("spool"), 1 << 20).await.unwrap();
        spool.write(&zip_of(files)).await.unwrap();
        let archive = spool.finish().await.unwrap();
        (wanted, Source::Sent { archive, subfolder: Subfolder::default() })
    }

    async fn upload(&self, name: &str, files: &[(&str, &str)]) -> Result<(), String> {
        let (wanted, source) = self.prepare(name, files).await;
        let slot = self.manager.upload_slot().unwrap();
        let deployed = self.manager.deploy(order(slot, wanted, source)).await;
        deployed.map(drop).map_err(|error| error.to_string())
    }

    async fn upload_version(&self, name: &str, version: &str) {
        self.upload(name, &[("version", version)]).await.unwrap();
    }

    /// Starts an upload that goes on by itself; those started before come before.
    async fn upload_later(&self, name: &str, files: &[(&str, &str)]) -> Task {
        let (wanted, source) = self.prepare(name, files).await;
        let slot = self.manager.upload_slot().unwrap();
        let manager = Arc::clone(&self.manager);
        tokio::spawn(async move {
            let deployed = manager.deploy(order(slot, wanted, source)).await;
            deployed.map(drop).map_err(|error| error.to_string())
        })
    }

    fn delete_later(&self, name: &str) -> tokio::task::JoinHandle<Result<(), DeleteError>> {
        let (manager, name) = (Arc::clone(&self.manager), FunctionName::parse(name).unwrap());
        tokio::spawn(async move { manager.delete(name).await })
    }

    /// A call that runs until it is dropped.
    async fn call(&self, name: &str) -> Admission {
        let room = WaitingRoom::new(10);
        let route = self.routes.find(name).unwrap();
        route.handlers.admit(Patience::Caller, &room).await.unwrap()
    }

    async fn log(&self, name: &str) -> Option<String> {
        let of = Some(FunctionName::parse(name).unwrap());
        let mut reader = self.manager.read_logs(of, LogView::default()).ok()?;
        let mut text = Vec::new();
        while let Some(piece) = reader.next().await.unwrap() {
            text.extend_from_slice(&piece);
        }
        Some(String::from_utf8(text).unwrap())
    }

    fn names(&self) -> Vec<String> {
        self.manager.names().iter().map(ToString::to_string).collect()
    }

    fn files_in(&self, folder: &str) -> Vec<PathBuf> {
        let Ok(found) = std::fs::read_dir(self.dir.path().join(folder)) else { return Vec::new() };
        found.map(|entry| entry.unwrap().path()).collect()
    }

    /// What the backend was asked for, in order.
    fn check_events(&self, expected: &[&str]) {
        assert_eq!(self.backend.events(), expected);
    }
}

fn order(slot: UploadSlot, wanted: Wanted, source: Source) -> Order {
    let (formats, progress) = (Formats::Zip, Progress::default());
    Order { slot, wanted, source, formats, progress }
}

type Task = tokio::task::JoinHandle<Result<(), String>>;

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_function_comes_and_goes() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    assert_eq!(world.names(), ["echo"]);
    assert!(world.routes.find("echo").is_some());
    assert!(world.log("echo").await.unwrap().contains("handler=echo-1 "));
    world.delete_later("echo").await.unwrap().unwrap();
    world.check_events(&["build echo v1", "deploy echo v1", "destroy echo v1"]);
    assert!(world.names().is_empty() && world.routes.find("echo").is_none());
    assert!(world.log("echo").await.is_none());
    assert!(world.files_in("spool").is_empty() && world.files_in("logs").is_empty());
}

#[tokio::test]
async fn a_folder_says_what_the_request_leaves_open() {
    let world = World::new();
    let settings = "environment = 'binary'\nthreads = 2\ncgi = true\ndescription = 'shouts'\n\
        call_deadline = '1s'\ncalls_per_handler = 7\nwaiting = 3\n";
    world.upload("echo", &[("tinyfaas.toml", settings)]).await.unwrap();
    let route = world.routes.find("echo").unwrap();
    let spec = &route.function;
    assert_eq!((spec.runtime, spec.threads, spec.cgi), (Runtime::Binary, 2, true));
    assert_eq!(spec.description.as_deref(), Some("shouts"));
    assert_eq!(spec.limits.call_deadline, Duration::from_secs(1));
    assert_eq!((spec.limits.calls_per_handler, spec.limits.waiting_max), (7, 3));
    assert_eq!(spec.limits.start_timeout, Duration::from_secs(60), "not set: the server's");
}

#[tokio::test]
async fn a_folder_whose_settings_are_wrong_is_not_built() {
    let world = World::new();
    for (settings, expected) in [
        ("environment = 'binary'\nthread = 1", "tinyfaas.toml:2: there is no setting \"thread\""),
        ("threads = 1", "send \"env\" with the request, or put a line like environment ="),
        (
            "environment = 'nodejs'\ncgi = true",
            "tinyfaas.toml:2: cgi is for the environment binary",
        ),
    ] {
        let error = world.upload("echo", &[("tinyfaas.toml", settings)]).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(world.names().is_empty() && world.backend.events().is_empty());
    assert!(world.files_in("spool").is_empty() && world.files_in("logs").is_empty());
}

#[tokio::test]
async fn a_replacement_lets_the_old_finish() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    let old_route = world.routes.find("echo").unwrap();
    let running = world.call("echo").await;
    world.upload_version("echo", "v2").await;
    // New calls go to the new one; who still holds the old route is sent there.
    let room = WaitingRoom::new(1);
    let refused = old_route.handlers.admit(Patience::Caller, &room).await.unwrap_err();
    assert_eq!(refused, Refusal::Gone);
    drop(world.call("echo").await);
    world.check_events(&["build echo v1", "deploy echo v1", "build echo v2", "deploy echo v2"]);
    drop(running);
    world.backend.wait_for("destroy echo v1").await;
    let log = world.log("echo").await.unwrap();
    assert_eq!(log.matches("started").count(), 2, "the log survives a redeploy: {log}");
}

#[tokio::test(start_paused = true)]
async fn the_old_has_until_its_calls_deadline() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    let running = world.call("echo").await;
    world.upload_version("echo", "v2").await;
    let began = Instant::now();
    world.backend.wait_for("destroy echo v1").await;
    assert_eq!(began.elapsed().as_secs(), 300);
    drop(running);
}

#[tokio::test]
async fn what_is_watched_counts_on_through_replacements() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    let running = world.call("echo").await;
    world.upload_version("echo", "v2").await;
    world.upload("echo", &[("fail-build", "")]).await.unwrap_err();
    world.upload_version("other", "v1").await;
    let [echo, other] = <[_; 2]>::try_from(world.manager.samples().await).unwrap();
    assert_eq!((echo.name.as_str(), other.name.as_str()), ("echo", "other"));
    // The old one still runs a call.
    assert_eq!((echo.running, echo.waiting, other.running), (1, 0, 0));
    assert_eq!(echo.usage.unwrap().processes, 2);
    let builds = &echo.counters.builds;
    assert_eq!(
        (builds.succeeded.snapshot().count(), builds.failed.load(Ordering::Relaxed)),
        (2, 1)
    );
    drop(running);
    world.backend.wait_for("destroy echo v1").await;
    let samples = world.manager.samples().await;
    assert_eq!((samples[0].running, samples[0].usage.unwrap().processes), (0, 1));
    world.delete_later("echo").await.unwrap().unwrap();
    world.upload_version("echo", "v3").await;
    let samples = world.manager.samples().await;
    assert_eq!(samples[0].counters.builds.succeeded.snapshot().count(), 1);
}

#[tokio::test]
async fn a_failed_replacement_changes_nothing() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    for (file, expected) in [
        ("fail-build", "there is no fn.py"),
        ("fail-install", "no matching distribution"),
        ("fail-start", "SyntaxError: no"),
        ("no-runtime", "install python3"),
    ] {
        let error = world.upload("echo", &[(file, "")]).await.unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let error = world.upload("echo", &[("../fn.py", "")]).await.unwrap_err();
    assert!(error.contains("'..'"), "{error}");
    drop(world.call("echo").await);
    assert_eq!(world.files_in("spool").len(), 1);
    assert!(world.log("echo").await.unwrap().contains("started"));
    assert!(!world.backend.events().iter().any(|event| event.starts_with("destroy")));
}

#[tokio::test]
async fn a_failed_first_upload_leaves_nothing() {
    let world = World::new();
    for file in ["fail-build", "fail-start"] {
        world.upload("echo", &[(file, "")]).await.unwrap_err();
        assert!(world.names().is_empty() && world.routes.find("echo").is_none());
        assert!(world.log("echo").await.is_none(), "after {file}");
        assert!(world.files_in("spool").is_empty() && world.files_in("logs").is_empty());
    }
}

#[tokio::test]
async fn uploads_of_one_name_take_turns() {
    let world = World::new();
    let first = world.upload_later("echo", &[("version", "v1"), ("gate", "")]).await;
    world.backend.wait_for("build echo v1").await;
    let second = world.upload_later("echo", &[("version", "v2"), ("fail-start", "")]).await;
    let third = world.upload_later("echo", &[("version", "v3")]).await;
    // Other names do not wait.
    world.upload_version("other", "v1").await;
    world.check_events(&["build echo v1", "build other v1", "deploy other v1"]);
    world.backend.open_gate();
    first.await.unwrap().unwrap();
    assert!(second.await.unwrap().unwrap_err().contains("SyntaxError"));
    third.await.unwrap().unwrap();
    world.backend.wait_for("destroy echo v1").await;
    let of_echo: Vec<_> =
        world.backend.events().into_iter().filter(|event| event.contains("echo")).collect();
    let builds: Vec<_> = of_echo.iter().filter(|event| !event.starts_with("destroy")).collect();
    assert_eq!(
        builds,
        [
            "build echo v1",
            "deploy echo v1",
            "build echo v2",
            "deploy echo v2",
            "build echo v3",
            "deploy echo v3"
        ]
    );
}

#[tokio::test]
async fn a_delete_takes_its_turn() {
    let world = World::new();
    let upload = world.upload_later("echo", &[("gate", "")]).await;
    world.backend.wait_for("build echo").await;
    let delete = world.delete_later("echo");
    world.backend.open_gate();
    upload.await.unwrap().unwrap();
    delete.await.unwrap().unwrap();
    assert!(world.names().is_empty());
}

#[tokio::test]
async fn a_delete_answers_when_all_is_gone() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    let old_call = world.call("echo").await;
    world.upload_version("echo", "v2").await;
    let new_call = world.call("echo").await;
    let delete = world.delete_later("echo");
    until(|| world.routes.find("echo").is_none()).await;
    assert!(!delete.is_finished());
    drop(new_call);
    world.backend.wait_for("destroy echo v2").await;
    // The version before is part of the function.
    assert!(!delete.is_finished());
    drop(old_call);
    delete.await.unwrap().unwrap();
    assert_eq!(world.backend.events().last().unwrap(), "destroy echo v1");
}

#[tokio::test(start_paused = true)]
async fn a_delete_waits_ten_seconds_at_most() {
    let world = World::new();
    world.upload_version("echo", "v1").await;
    let old_call = world.call("echo").await;
    world.upload_version("echo", "v2").await;
    let new_call = world.call("echo").await;
    let began = Instant::now();
    world.delete_later("echo").await.unwrap().unwrap();
    assert_eq!(began.elapsed().as_secs(), 10);
    drop((old_call, new_call));
}

#[tokio::test]
async fn a_delete_of_nothing_says_so() {
    let world = World::new();
    let error = world.delete_later("echo").await.unwrap().unwrap_err();
    assert!(matches!(error, DeleteError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn a_wipe_takes_what_is_on_its_way_too() {
    let world = World::new();
    world.upload_version("a", "v1").await;
    world.upload_version("b", "v1").await;
    let upload = world.upload_later("c", &[("gate", "")]).await;
    world.backend.wait_for("build c").await;
    let manager = Arc::clone(&world.manager);
    let wipe = tokio::spawn(async move { manager.wipe().await });
    until(|| world.names().is_empty()).await;
    assert!(!wipe.is_finished());
    world.backend.open_gate();
    upload.await.unwrap().unwrap();
    wipe.await.unwrap().unwrap();
    assert!(world.names().is_empty() && world.routes.all().is_empty());
    assert!(world.files_in("spool").is_empty() && world.files_in("logs").is_empty());
    world.manager.wipe().await.unwrap();
}

#[tokio::test]
async fn a_caller_who_leaves_changes_nothing() {
    let world = World::new();
    let upload = world.upload_later("echo", &[("gate", ""), ("version", "v1")]).await;
    world.backend.wait_for("build echo v1").await;
    upload.abort();
    assert!(upload.await.unwrap_err().is_cancelled());
    world.backend.open_gate();
    until(|| world.routes.find("echo").is_some()).await;
    let running = world.call("echo").await;
    let delete = world.delete_later("echo");
    until(|| world.routes.find("echo").is_none()).await;
    delete.abort();
    drop(running);
    world.backend.wait_for("destroy echo v1").await;
}

#[tokio::test]
async fn the_slots_are_bounded_and_come_back() {
    let world = World::with(|config| config.uploads_max = 2);
    let slots = (world.manager.upload_slot().unwrap(), world.manager.upload_slot().unwrap());
    assert!(world.manager.upload_slot().is_none());
    drop(slots);
    world.upload_version("echo", "v1").await;
    world.upload_version("echo", "v2").await;
    assert!(world.manager.upload_slot().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_stop_leaves_nothing() {
    let world = World::new();
    world.upload_version("a", "v1").await;
    world.upload_version("b", "v1").await;
    let running = world.call("b").await;
    let upload = world.upload_later("c", &[("gate", "")]).await;
    world.backend.wait_for("build c").await;
    let began = Instant::now();
    world.manager.shutdown(Duration::from_secs(3)).await;
    assert_eq!(began.elapsed().as_secs(), 3);
    assert!(upload.await.unwrap().unwrap_err().contains("stopping"));
    for event in ["destroy a v1", "destroy b v1"] {
        world.backend.wait_for(event).await;
    }
    assert!(world.routes.all().is_empty());
    assert_eq!(std::fs::read_dir(world.dir.path()).unwrap().count(), 0);
    assert!(world.upload("d", &[("version", "v1")]).await.unwrap_err().contains("stopping"));
    drop(running);
}

#[tokio::test]
async fn a_start_removes_what_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let (spool, logs) = (dir.path().join("spool"), dir.path().join("logs"));
    for folder in [&spool, &logs] {
        std::fs::create_dir_all(folder.join("echo-0/deep")).unwrap();
    }
    let config = ManagementConfig::new(spool.clone(), logs.clone());
    let (writer, _routes) = RoutesWriter::new();
    let manager = Manager::new(config, FakeBackend::new(), writer);
    assert!(!spool.exists() && !logs.exists());
    manager.shutdown(Duration::ZERO).await;
}
