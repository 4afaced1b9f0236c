//! The spawner with real processes: whatever dies, nothing outlives it.
//!
//! The spawner is this test's own binary, executed again, so this file has its
//! own `main` instead of the usual harness. Arguments pick tests by name;
//! `measure` measures instead (with `--release`).

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tinyfaas_handlers::process::leftovers::kill_leftovers;
use tinyfaas_handlers::process::spawner::{
    self, Child, Exit, Identity, Instance, KEEPER, Launch, SpawnError, Spawner, SpawnerProcess,
    Step,
};

/// How long anything here may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("exit_codes_and_signals_are_told", exit_codes_and_signals_are_told),
    ("a_worker_is_set_up_as_promised", a_worker_is_set_up_as_promised),
    ("a_failing_step_is_named", a_failing_step_is_named),
    ("kill_finds_a_daemon", kill_finds_a_daemon),
    ("the_end_of_a_worker_ends_its_daemons", the_end_of_a_worker_ends_its_daemons),
    ("a_dropped_child_is_killed", a_dropped_child_is_killed),
    ("a_killed_guard_costs_its_tree_only", a_killed_guard_costs_its_tree_only),
    ("a_stopped_guard_is_overcome", a_stopped_guard_is_overcome),
    ("a_killed_spawner_is_started_anew", a_killed_spawner_is_started_anew),
    (
        "a_guard_that_is_stopped_again_and_again_is_overcome",
        a_guard_that_is_stopped_again_and_again_is_overcome,
    ),
    ("a_stopped_guard_does_not_outlive_the_spawner", a_stopped_guard_does_not_outlive_the_spawner),
    ("a_spawner_that_dies_again_and_again_is_given_up", a_spawner_is_given_up),
    ("nothing_outlives_a_killed_server", nothing_outlives_a_killed_server),
    ("shutdown_leaves_nothing", shutdown_leaves_nothing),
    ("many_spawns_leave_nothing", many_spawns_leave_nothing),
    ("many_at_once_are_kept_apart", many_at_once_are_kept_apart),
    ("leftovers_are_found_by_their_mark", leftovers_are_found_by_their_mark),
    ("nonsense_ends_the_spawner", nonsense_ends_the_spawner),
];

/// Those that only root can run.
const TESTS_OF_ROOT: &[Test] = &[
    ("programs_run_as_the_user_and_guards_do_not", programs_run_as_the_user),
    ("a_killed_spawner_is_started_anew_by_the_keeper", a_kept_spawner_is_started_anew),
    ("a_killed_keeper_ends_the_next_start", a_killed_keeper_ends_the_next_start),
    ("shutdown_leaves_no_keeper", shutdown_leaves_no_keeper),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("spawner") => return spawner::main(),
        Some(KEEPER) => return spawner::keeper_main(),
        Some("spawner-that-dies") => return ExitCode::from(9),
        Some("fake-server") => fake_server(),
        Some("measure") => {
            measure();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let wanted: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let mut failed = 0;
    let is_root = rustix::process::geteuid().is_root();
    let (of_root, skipped) =
        if is_root { (TESTS_OF_ROOT, &[][..]) } else { (&[][..], TESTS_OF_ROOT) };
    for (name, _) in skipped {
        println!("test {name} ... skipped: only root can change its user");
    }
    for (name, test) in TESTS.iter().chain(of_root) {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let start = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        failed += usize::from(!passed);
        let verdict = if passed { "ok" } else { "FAILED" };
        println!("test {name} ... {verdict} ({} ms)", start.elapsed().as_millis());
    }
    println!("{failed} of {} tests failed, {} skipped", TESTS.len() + of_root.len(), skipped.len());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A spawner of this binary with a runtime to talk to it.
struct Bench {
    runtime: tokio::runtime::Runtime,
    spawner: Arc<Spawner>,
    folder: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = SpawnerProcess::start(&instance(folder.path())).unwrap();
        Self::with(folder, process)
    }

    /// With a spawner whose programs run as another user.
    fn start_for(identity: &Identity) -> Self {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(identity.uid), Some(identity.gid)).unwrap();
        let process = SpawnerProcess::start_for(&instance(folder.path()), identity).unwrap();
        Self::with(folder, process)
    }

    fn with(folder: tempfile::TempDir, process: SpawnerProcess) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let spawner = runtime.block_on(async { Spawner::connect(process) });
        Self { runtime, spawner, folder }
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, future).await })
            .expect("it takes too long")
    }

    /// Starts a shell script; what it prints goes to the file that comes along.
    fn sh(&self, script: &str) -> (Child, File) {
        let (launch, output) = self.launch(script);
        (self.wait(self.spawner.spawn(launch)).unwrap(), output)
    }

    fn launch(&self, script: &str) -> (Launch, File) {
        let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let launch = Launch {
            label: "a test".into(),
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            env: vec![("PATH".into(), std::env::var_os("PATH").unwrap())],
            folder: self.folder.path().to_owned(),
            socket: None,
            stdout: input.try_clone().unwrap(),
            stderr: input,
        };
        (launch, output.into())
    }

    /// Ends the spawner and sees that nothing is left.
    fn finish(self) {
        self.wait(self.spawner.shutdown());
        assert_eq!(marked(self.folder.path()), Vec::<i32>::new(), "processes are left");
    }
}

/// An instance of its own for each test: its folder is its id.
fn instance(folder: &Path) -> Instance {
    let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
    Instance { id, data_dir: folder.to_owned() }
}

/// The processes that carry the mark of the instance in this folder.
fn marked(folder: &Path) -> Vec<i32> {
    let mark = format!("TINYFAAS_INSTANCE={}@", instance(folder).id).into_bytes();
    processes()
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|line| line.starts_with(&mark))
        })
        .collect()
}

fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A field of `/proc/PID/status`.
fn status(pid: impl std::fmt::Display, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with(&format!("{field}:")))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn children_of(pid: u32) -> Vec<i32> {
    processes().filter(|child| status(child, "PPid") == Some(pid.to_string())).collect()
}

fn lines(output: &File, count: usize) -> Vec<String> {
    BufReader::new(output).lines().take(count).map(Result::unwrap).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::yield_now();
    }
}

fn kill(pid: impl TryInto<i32>, signal: Signal) {
    let pid = pid.try_into().ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, signal).unwrap();
}

fn is_alive(pid: &str) -> bool {
    status(pid, "State").is_some_and(|state| !state.starts_with('Z'))
}

/// A script that leaves a daemon behind: forked twice, its own session, no
/// stream of ours. It prints the daemon's process id.
const DAEMONISE: &str = "
    (setsid sh -c 'trap \"\" HUP TERM; echo $$ >daemon.new; mv daemon.new daemon
                   while :; do sleep 1000; done' >/dev/null 2>&1 &)
    while ! [ -e daemon ]; do sleep 0.01; done
    cat daemon; rm daemon
";

fn exit_codes_and_signals_are_told() {
    let bench = Bench::start();
    let check = |script: &str, expected: Exit| {
        let (child, _output) = bench.sh(script);
        assert_eq!(bench.wait(child.wait()), expected, "{script}");
        assert_eq!(bench.wait(child.wait()), expected, "a second time");
    };
    check("true", Exit::Code(0));
    check("exit 3", Exit::Code(3));
    check("exit 255", Exit::Code(255));
    check("kill -SEGV $$", Exit::Signal(11));
    check("kill -KILL $$", Exit::Signal(9));
    let (child, _output) = bench.sh("sleep 1000");
    child.kill();
    child.kill();
    let waits = async { tokio::join!(child.wait(), child.wait()) };
    assert_eq!(bench.wait(waits), (Exit::Signal(9), Exit::Signal(9)));
    bench.finish();
}

fn a_worker_is_set_up_as_promised() {
    let bench = Bench::start();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (mut launch, output) = bench.launch(
        "read line <&3; echo \"got $line\" >&3
         echo $TINYFAAS_INSTANCE; echo \"$ODD\"; env | wc -l; pwd; umask
         ulimit -c; ulimit -n; readlink /proc/self/fd/0
         ls /proc/self/fd | tr '\\n' ' '; echo
         grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status;
         [ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo own session",
    );
    launch.socket = Some(theirs.into());
    launch.env.push(("ODD".into(), odd()));
    let child = bench.wait(bench.spawner.spawn(launch)).unwrap();
    writeln!(&ours, "ping").unwrap();
    assert_eq!(BufReader::new(&ours).lines().next().unwrap().unwrap(), "got ping");
    assert_eq!(bench.wait(child.wait()), Exit::Code(0));
    let mut text = Vec::new();
    (&output).read_to_end(&mut text).unwrap();
    // One line is not UTF-8, on purpose.
    let text: String = text.into_iter().map(char::from).collect();
    let lines: Vec<&str> = text.lines().collect();
    let folder = bench.folder.path().to_str().unwrap();
    let soft = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    assert_eq!(lines[0], format!("{}@{folder}", instance(bench.folder.path()).id));
    assert_eq!(lines[1], "a\u{ff} b");
    // PATH, ODD, the mark and what the shell itself adds: PWD.
    assert_eq!(lines[2], "4");
    assert_eq!(lines[3..6], [folder, "0022", "0"]);
    assert_eq!(lines[6], soft.to_string());
    // The last is the list's own.
    assert_eq!(lines[7..9], ["/dev/null", "0 1 2 3 4 "]);
    assert!(lines[9].ends_with("0000000000000000"), "blocked: {}", lines[9]);
    // Less 32 and 33, which belong to the C library: it lets nobody reset them.
    let ignored = u64::from_str_radix(lines[10].split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(ignored & !(0b11 << 31), 0, "ignored: {ignored:x}");
    assert_eq!(lines.last(), Some(&"own session"), "{text}");
    bench.finish();
}

/// Text that is not UTF-8.
fn odd() -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(b"a\xff b".to_vec())
}

fn a_failing_step_is_named() {
    let bench = Bench::start();
    let check = |change: fn(&mut Launch), step: Step, errno: i32| {
        let (mut launch, _output) = bench.launch("true");
        change(&mut launch);
        match bench.wait(bench.spawner.spawn(launch)) {
            Err(SpawnError::Step { step: at, source, label, .. }) => {
                assert_eq!((at, source.raw_os_error(), &*label), (step, Some(errno), "a test"));
            }
            other => panic!("{other:?}"),
        }
    };
    check(|launch| launch.program = "/no/such".into(), Step::Exec, 2);
    check(|launch| launch.program = "/etc/passwd".into(), Step::Exec, 13);
    check(|launch| launch.folder = "/no/such".into(), Step::Folder, 2);
    check(|launch| launch.args.push("x".repeat(3 << 20).into()), Step::Exec, 7);
    let (mut launch, _output) = bench.launch("true");
    launch.args.push("x".repeat(5 << 20).into());
    let refused = bench.wait(bench.spawner.spawn(launch));
    assert!(matches!(refused, Err(SpawnError::Invalid { .. })), "{refused:?}");
    let (mut launch, _output) = bench.launch("true");
    launch.program = PathBuf::from("sh");
    let refused = bench.wait(bench.spawner.spawn(launch));
    assert!(matches!(refused, Err(SpawnError::Invalid { .. })), "{refused:?}");
    bench.finish();
}

fn kill_finds_a_daemon() {
    let bench = Bench::start();
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000 & wait"));
    let daemon = lines(&output, 1).remove(0);
    assert!(is_alive(&daemon));
    child.kill();
    assert_eq!(bench.wait(child.wait()), Exit::Signal(9));
    assert!(!is_alive(&daemon), "the daemon outlived its worker's kill");
    bench.finish();
}

fn the_end_of_a_worker_ends_its_daemons() {
    let bench = Bench::start();
    let (child, output) = bench.sh(&format!("{DAEMONISE} exit 5"));
    let daemon = lines(&output, 1).remove(0);
    assert_eq!(bench.wait(child.wait()), Exit::Code(5));
    assert!(!is_alive(&daemon), "the daemon outlived its worker");
    bench.finish();
}

fn a_dropped_child_is_killed() {
    let bench = Bench::start();
    let (child, _output) = bench.sh("sleep 1000");
    let pid = child.pid().to_string();
    let other = child.clone();
    drop(child);
    assert!(is_alive(&pid));
    drop(other);
    eventually("the dropped child is gone", || !is_alive(&pid));
    // A start that nobody waits for leaves nothing either.
    let (launch, _output) = bench.launch("sleep 1000");
    bench.runtime.block_on(async {
        let spawn = bench.spawner.spawn(launch);
        let _ = tokio::time::timeout(Duration::ZERO, spawn).await;
    });
    eventually("the abandoned start is gone", || marked(bench.folder.path()).is_empty());
    bench.finish();
}

fn guard_of(child: &Child) -> String {
    let guard = status(child.pid(), "PPid").unwrap();
    assert_eq!(status(&guard, "Name").as_deref(), Some("tinyfaas-guard"));
    guard
}

fn a_killed_guard_costs_its_tree_only() {
    let bench = Bench::start();
    let (other, _output) = bench.sh("sleep 1000");
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let daemon = lines(&output, 1).remove(0);
    kill(guard_of(&child).parse::<i32>().unwrap(), Signal::KILL);
    assert_eq!(bench.wait(child.wait()), Exit::GuardLost);
    assert!(!is_alive(&daemon), "the daemon outlived its guard");
    assert!(is_alive(&other.pid().to_string()), "another child was hit");
    bench.finish();
}

fn a_stopped_guard_is_overcome() {
    let bench = Bench::start();
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let daemon = lines(&output, 1).remove(0);
    kill(guard_of(&child).parse::<i32>().unwrap(), Signal::STOP);
    child.kill();
    assert_eq!(bench.wait(child.wait()), Exit::Signal(9));
    assert!(!is_alive(&daemon), "the daemon outlived its stopped guard");
    bench.finish();
}

fn a_guard_that_is_stopped_again_and_again_is_overcome() {
    let bench = Bench::start();
    let stops = "while :; do kill -STOP $PPID; done";
    let (child, output) = bench.sh(&format!("{DAEMONISE} {stops}"));
    let daemon = lines(&output, 1).remove(0);
    child.kill();
    let exit = bench.wait(child.wait());
    assert!(matches!(exit, Exit::GuardLost | Exit::Signal(9)), "{exit}");
    assert!(!is_alive(&daemon), "the daemon outlived its stopped guard");
    bench.finish();
}

fn a_killed_spawner_is_started_anew() {
    let bench = Bench::start();
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let daemon = lines(&output, 1).remove(0);
    let first = bench.spawner.pid().unwrap();
    assert_eq!(status(first, "Name").as_deref(), Some("tinyfaas-spawn"));
    let spawner = bench.spawner.clone();
    let lost = bench.runtime.spawn(async move { spawner.lost().await });
    eventually("somebody waits for the loss", || !lost.is_finished());
    kill(i32::try_from(first).unwrap(), Signal::KILL);
    assert_eq!(bench.wait(child.wait()), Exit::SpawnerLost);
    assert!(!is_alive(&daemon), "the daemon outlived the spawner");
    assert!(!is_alive(&child.pid().to_string()), "the worker outlived the spawner");
    bench.wait(lost).unwrap();
    let (again, _output) = bench.sh("exit 7");
    assert_eq!(bench.wait(again.wait()), Exit::Code(7));
    assert_ne!(bench.spawner.pid(), Some(first));
    bench.finish();
}

fn a_stopped_guard_does_not_outlive_the_spawner() {
    let bench = Bench::start();
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let (daemon, guard) = (lines(&output, 1).remove(0), guard_of(&child));
    kill(guard.parse::<i32>().unwrap(), Signal::STOP);
    kill(i32::try_from(bench.spawner.pid().unwrap()).unwrap(), Signal::KILL);
    assert_eq!(bench.wait(child.wait()), Exit::SpawnerLost);
    eventually("the guard is gone", || !is_alive(&guard));
    assert!(!is_alive(&daemon), "the daemon outlived the spawner");
    bench.finish();
}

fn a_spawner_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let process =
        SpawnerProcess::start_with(&own, &["spawner-that-dies"], &instance(folder.path())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let bench =
        Bench { spawner: runtime.block_on(async { Spawner::connect(process) }), runtime, folder };
    let reason = bench.wait(bench.spawner.failed());
    assert!(reason.contains("died 6 times"), "{reason}");
    let (launch, _output) = bench.launch("true");
    let refused = bench.wait(bench.spawner.spawn(launch));
    assert!(matches!(refused, Err(SpawnError::Lost)), "{refused:?}");
    bench.finish();
}

/// The server's part of the test below: starts a worker with a daemon, prints
/// their process ids and waits for its own death.
fn fake_server() -> ! {
    let bench = Bench::start();
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let daemon = lines(&output, 1).remove(0);
    println!("{}", bench.folder.path().display());
    println!("{}", bench.spawner.pid().unwrap());
    println!("{}\n{}\n{daemon}", guard_of(&child), child.pid());
    loop {
        std::thread::park();
    }
}

fn nothing_outlives_a_killed_server() {
    let mut server =
        Command::new("/proc/self/exe").arg("fake-server").stdout(Stdio::piped()).spawn().unwrap();
    let output = server.stdout.take().unwrap();
    let said: Vec<String> = BufReader::new(output).lines().take(5).map(Result::unwrap).collect();
    let [folder, pids @ ..] = said.as_slice() else { panic!("{said:?}") };
    for pid in pids {
        assert!(is_alive(pid), "{pid} is not there yet: {said:?}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
    eventually("all of the server's processes are gone", || !pids.iter().any(|pid| is_alive(pid)));
    assert_eq!(marked(Path::new(folder)), Vec::<i32>::new());
    fs::remove_dir_all(folder).unwrap();
}

fn shutdown_leaves_nothing() {
    let bench = Bench::start();
    let children: Vec<_> = (0..5).map(|_| bench.sh(&format!("{DAEMONISE} sleep 1000")).0).collect();
    let spawner = bench.spawner.pid().unwrap();
    let start = Instant::now();
    bench.wait(bench.spawner.shutdown());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert!(status(spawner, "State").is_none(), "the spawner is left");
    assert_eq!(marked(bench.folder.path()), Vec::<i32>::new());
    for child in children {
        assert_eq!(bench.wait(child.wait()), Exit::Signal(9));
    }
    let (launch, _output) = bench.launch("true");
    let refused = bench.wait(bench.spawner.spawn(launch));
    assert!(matches!(refused, Err(SpawnError::Stopped)), "{refused:?}");
    bench.finish();
}

/// Somebody that every Linux has, in a group that is nobody's.
fn nobody() -> Identity {
    Identity { uid: 65534, gid: 65534, groups: vec![65534, 4242] }
}

fn programs_run_as_the_user() {
    let bench = Bench::start_for(&nobody());
    let script = "id -u; id -g; id -G; touch mine
        kill -KILL $PPID 2>/dev/null && echo killed its guard || echo refused
        sleep 1000";
    let (child, output) = bench.sh(script);
    let lines = lines(&output, 4);
    assert_eq!(lines, ["65534", "65534", "65534 4242", "refused"]);
    let pid = child.pid();
    assert_eq!(status(pid, "Uid").as_deref(), Some("65534\t65534\t65534\t65534"));
    assert_eq!(status(pid, "Gid").as_deref(), Some("65534\t65534\t65534\t65534"));
    assert_eq!(status(pid, "NoNewPrivs").as_deref(), Some("1"));
    for set in ["CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(pid, set).as_deref(), Some("0000000000000000"), "{set}");
    }
    let guard = guard_of(&child);
    let spawner = bench.spawner.pid().unwrap().to_string();
    for of_root in [&guard, &spawner, &status(&spawner, "PPid").unwrap()] {
        assert_eq!(status(of_root, "Uid").as_deref(), Some("0\t0\t0\t0"));
    }
    // The tie to the guard has survived the change of user.
    kill(guard.parse::<i32>().unwrap(), Signal::KILL);
    assert_eq!(bench.wait(child.wait()), Exit::GuardLost);
    assert!(!is_alive(&pid.to_string()));
    bench.finish();
}

fn a_kept_spawner_is_started_anew() {
    let bench = Bench::start_for(&nobody());
    let (child, output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let daemon = lines(&output, 1).remove(0);
    let first = bench.spawner.pid().unwrap();
    let keeper = status(first, "PPid").unwrap();
    assert_eq!(status(&keeper, "Name").as_deref(), Some("tinyfaas-keep"));
    kill(i32::try_from(first).unwrap(), Signal::KILL);
    assert_eq!(bench.wait(child.wait()), Exit::SpawnerLost);
    assert!(!is_alive(&daemon), "the daemon outlived the spawner");
    let (again, output) = bench.sh("id -u; exit 7");
    assert_eq!(lines(&output, 1), ["65534"]);
    assert_eq!(bench.wait(again.wait()), Exit::Code(7));
    let second = bench.spawner.pid().unwrap();
    assert_ne!(second, first);
    assert_eq!(status(second, "PPid"), Some(keeper));
    bench.finish();
}

fn a_killed_keeper_ends_the_next_start() {
    let bench = Bench::start_for(&nobody());
    let spawner = bench.spawner.pid().unwrap();
    kill(status(spawner, "PPid").unwrap().parse::<i32>().unwrap(), Signal::KILL);
    let (child, _output) = bench.sh("exit 7");
    assert_eq!(bench.wait(child.wait()), Exit::Code(7), "what runs goes on");
    kill(i32::try_from(spawner).unwrap(), Signal::KILL);
    let reason = bench.wait(bench.spawner.failed());
    assert!(reason.contains("keeps the rights to start others"), "{reason}");
    bench.finish();
}

fn shutdown_leaves_no_keeper() {
    let bench = Bench::start_for(&nobody());
    let (child, _output) = bench.sh(&format!("{DAEMONISE} sleep 1000"));
    let spawner = bench.spawner.pid().unwrap();
    let keeper = status(spawner, "PPid").unwrap();
    let start = Instant::now();
    bench.wait(bench.spawner.shutdown());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(bench.wait(child.wait()), Exit::Signal(9));
    assert!(status(spawner, "State").is_none(), "the spawner is left");
    assert!(status(&keeper, "State").is_none(), "the keeper is left");
    bench.finish();
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn many_spawns_leave_nothing() {
    let bench = Bench::start();
    let (first, _output) = bench.sh("true");
    bench.wait(first.wait());
    let spawner = bench.spawner.pid().unwrap();
    eventually("the first guard is reaped", || children_of(spawner).is_empty());
    let before = (open_files(spawner), open_files(std::process::id()));
    for _ in 0..200 {
        let (child, _output) = bench.sh("exit 1");
        assert_eq!(bench.wait(child.wait()), Exit::Code(1));
    }
    eventually("all guards are reaped", || children_of(spawner).is_empty());
    assert_eq!((open_files(spawner), open_files(std::process::id())), before);
    bench.finish();
}

fn many_at_once_are_kept_apart() {
    let bench = Bench::start();
    let mut starts = Vec::new();
    for code in 0..100 {
        let (launch, output) = bench.launch(&format!("echo {code}; exit {code}"));
        let spawner = bench.spawner.clone();
        let start = async move {
            let child = spawner.spawn(launch).await.unwrap();
            assert_eq!(child.wait().await, Exit::Code(code));
        };
        starts.push((bench.runtime.spawn(start), output, code));
    }
    for (start, output, code) in starts {
        bench.wait(start).unwrap();
        assert_eq!(lines(&output, 1), [code.to_string()]);
    }
    bench.finish();
}

fn leftovers_are_found_by_their_mark() {
    let folder = tempfile::tempdir().unwrap();
    let ours = instance(folder.path());
    let start = |mark: OsString| {
        Command::new("sleep").arg("1000").env("TINYFAAS_INSTANCE", mark).spawn().unwrap()
    };
    let mut left = start(ours.mark());
    let mut moved = start(format!("{}@/elsewhere", ours.id).into());
    let mut longer = start(format!("{}x@/elsewhere", ours.id).into());
    // Somebody has to reap what is killed here, as init does for real leftovers.
    let reaper = std::thread::spawn(move || (left.wait().unwrap(), moved.wait().unwrap()));
    eventually("all have executed", || marked(folder.path()).len() == 2);
    assert_eq!(kill_leftovers(&ours).unwrap(), 2);
    assert_eq!(kill_leftovers(&ours).unwrap(), 0);
    reaper.join().unwrap();
    assert!(longer.try_wait().unwrap().is_none(), "another server's process was killed");
    longer.kill().unwrap();
    longer.wait().unwrap();
}

fn nonsense_ends_the_spawner() {
    let check = |sent: &[u8], expected: &str| {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let spawner = Command::new("/proc/self/exe")
            .arg("spawner")
            .stdin(OwnedFd::from(theirs))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        ours.write_all(sent).unwrap();
        let output = spawner.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    };
    check(b"\x03\0\0\0abc", "a message does not parse");
    check(b"\xff\xff\xff\xff", "a message of 4294967295 bytes came");
    let early =
        br#"{"Spawn":{"id":1,"program":"/bin/sh","args":[],"env":[],"folder":"/","socket":false}}"#;
    let mut message = u32::try_from(early.len()).unwrap().to_le_bytes().to_vec();
    message.extend_from_slice(early);
    check(&message, "a program came without its streams");
}

/// What a start by the spawner costs beside one without it, and what the
/// processes take in memory.
fn measure() {
    const STARTS: usize = 1000;
    let bench = Bench::start();
    let launch = || {
        let (mut launch, _output) = bench.launch("");
        (launch.program, launch.args) = ("/bin/true".into(), Vec::new());
        launch
    };
    let (mut bare, mut executed, mut ended) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let start = Instant::now();
        Command::new("/bin/true").spawn().unwrap().wait().unwrap();
        bare.push(start.elapsed());
        let launch = launch();
        let start = Instant::now();
        bench.wait(async {
            let child = bench.spawner.spawn(launch).await.unwrap();
            executed.push(start.elapsed());
            child.wait().await;
            ended.push(start.elapsed());
        });
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[STARTS / 2], times[STARTS * 95 / 100])
    };
    println!("/bin/true, median and 95th percentile of {STARTS}:");
    println!("  started and waited for without the spawner: {:?}", median(bare));
    println!("  by the spawner, until it is executed:       {:?}", median(executed));
    println!("  by the spawner, until it and all is gone:   {:?}", median(ended));
    let children: Vec<Child> = (0..100).map(|_| bench.sh("exec sleep 1000").0).collect();
    let spawner = bench.spawner.pid().unwrap();
    println!("spawner with 100 children: {}", memory(&spawner.to_string()));
    println!("a guard:                   {}", memory(&guard_of(&children[50])));
    let ticks = |pid: &str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = (ticks(&spawner.to_string()), ticks(&guard_of(&children[50])));
    std::thread::sleep(Duration::from_secs(3));
    let after = (ticks(&spawner.to_string()), ticks(&guard_of(&children[50])));
    println!("ticks of CPU in 3 idle seconds, spawner and guard: {before:?} to {after:?}");
    let start = Instant::now();
    bench.wait(bench.spawner.shutdown());
    println!("all 100 ended in {:?}", start.elapsed());
    bench.finish();
}

fn memory(pid: &str) -> String {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| {
        let line = rollup.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or("?").to_owned()
    };
    format!(
        "{} kB resident, {} kB proportional, {} kB its own",
        field("Rss:"),
        field("Pss:"),
        field("Private_Dirty:")
    )
}
