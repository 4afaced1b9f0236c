//! What this machine has to run functions with.
//!
//! Owns the search for interpreters and installers, and what to tell a user who
//! lacks one. Interpreters are looked for once, at start; pip and npm when first
//! needed. Must not know what a function is made of.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tinyfaas_model::{Runtime, RuntimeStatus};
use tokio::sync::OnceCell;

use super::config::{BINARY_WORKER, ProcessConfig, SYSTEM_PATH};
use super::run::{Command, no_log, run};
use super::spawner::Spawner;

/// The worker's code, as it is written out at start.
const PYTHON_WORKER: &str = include_str!("../../../../runtimes/python3/worker.py");
/// The same for Node.
const NODE_WORKER: &str = include_str!("../../../../runtimes/nodejs/worker.js");

/// Of several interpreters of one name on the path, so many are tried.
const CANDIDATES_MAX: usize = 8;
/// Bytes of a probe's output that are looked at.
const PROBE_OUTPUT_BYTES: usize = 8 << 10;
/// What a probe's line begins with; an interpreter may print warnings besides.
const PROBE_MARK: &str = "tinyfaas\t";

/// What starts a worker.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) args: Vec<OsString>,
    /// The `PATH` of the worker: the system's, and where its interpreter lies.
    pub(super) search_path: OsString,
}

/// An interpreter, found and asked for its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interpreter {
    /// The real one, behind a version manager's shims.
    pub(super) path: PathBuf,
    version: [u32; 3],
}

/// Why an installer cannot be had: what is missing, and what to install.
pub(super) type Missing = String;

/// What this machine has for one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSurvey {
    /// Which.
    pub runtime: Runtime,
    /// The interpreter and its version, or what is missing and what to install.
    pub found: Result<String, String>,
    /// Where the real interpreter lies; none for the binary environment.
    pub path: Option<PathBuf>,
    /// What installs dependencies (for Python the interpreter that has pip), or
    /// what is missing. None: the environment has no installer.
    pub installer: Option<Result<PathBuf, String>>,
}

/// All that was found.
pub(super) struct Interpreters {
    python: Result<Interpreter, Missing>,
    python_worker: PathBuf,
    node: Result<Interpreter, Missing>,
    shell: Result<(), Missing>,
    program: PathBuf,
    runtimes_dir: PathBuf,
    search_path: OsString,
    probe_timeout: Duration,
    /// Where an environment with pip is made, where it must be.
    pip_dir: PathBuf,
    pip_setup_timeout: Duration,
    pip: OnceCell<PathBuf>,
    npm: OnceCell<PathBuf>,
}

impl Interpreters {
    /// Looks for all of them at the same time, and writes the workers' code.
    ///
    /// # Errors
    /// If the workers' code cannot be written.
    pub(super) async fn find(config: &ProcessConfig, spawner: &Spawner) -> io::Result<Self> {
        std::fs::create_dir_all(&config.runtimes_dir)?;
        let python_source = config.runtimes_dir.join("worker.py");
        std::fs::write(&python_source, PYTHON_WORKER)?;
        std::fs::write(config.runtimes_dir.join("worker.js"), NODE_WORKER)?;
        let python = async {
            let python = look_for(&PYTHON, config, spawner).await;
            let worker = match &python {
                Ok(python) => compile(python, python_source, config, spawner).await,
                Err(_) => python_source,
            };
            (python, worker)
        };
        let ((python, python_worker), node) =
            tokio::join!(python, look_for(&NODE, config, spawner));
        if let Ok(node) = &node
            && node.version < NODE_CURRENT
        {
            tracing::warn!(
                "{} is old and no longer maintained; install Node 20 or later",
                NODE.describe(node)
            );
        }
        let shell = match is_executable(Path::new("/bin/sh")) {
            true => Ok(()),
            false => Err("there is no /bin/sh; install a shell, e.g. apt install dash".into()),
        };
        Ok(Self {
            python,
            python_worker,
            node,
            shell,
            program: config.program.clone(),
            runtimes_dir: config.runtimes_dir.clone(),
            search_path: config.search_path.clone(),
            probe_timeout: config.probe_timeout,
            pip_dir: config.cache_dir.join("pip-environment"),
            pip_setup_timeout: config.pip_setup_timeout,
            pip: OnceCell::new(),
            npm: OnceCell::new(),
        })
    }

    /// Which environments can be used.
    pub(super) fn statuses(&self) -> Vec<RuntimeStatus> {
        Runtime::ALL.map(|runtime| RuntimeStatus { runtime, found: self.status(runtime) }).into()
    }

    fn status(&self, runtime: Runtime) -> Result<String, Missing> {
        match runtime {
            Runtime::Python3 => self.python.as_ref().map(|found| PYTHON.describe(found)),
            Runtime::Nodejs => self.node.as_ref().map(|found| NODE.describe(found)),
            Runtime::Binary => self.shell.as_ref().map(|()| "/bin/sh".into()),
        }
        .map_err(Clone::clone)
    }

    /// The same with paths, and the installers asked for: that may take a while,
    /// where an environment with pip must be made first.
    pub(super) async fn survey(&self, spawner: &Spawner) -> Vec<RuntimeSurvey> {
        let (pip, npm) = tokio::join!(self.pip(spawner), self.npm(spawner));
        Runtime::ALL
            .map(|runtime| {
                let (path, installer) = match runtime {
                    Runtime::Python3 => (self.python.as_ref().ok(), Some(pip.clone())),
                    Runtime::Nodejs => (self.node.as_ref().ok(), Some(npm.clone())),
                    Runtime::Binary => (None, None),
                };
                let path = path.map(|found| found.path.clone());
                RuntimeSurvey { runtime, found: self.status(runtime), path, installer }
            })
            .into()
    }

    /// What starts a worker of this environment.
    ///
    /// # Errors
    /// What is missing, and what to install.
    pub(super) fn program(&self, runtime: Runtime) -> Result<Program, Missing> {
        match runtime {
            Runtime::Python3 => {
                let found = self.python.clone()?;
                let worker = self.python_worker.clone().into();
                let args = vec!["-I".into(), "-S".into(), "-u".into(), worker];
                Ok(Program { search_path: path_with(&found.path), path: found.path, args })
            }
            Runtime::Nodejs => {
                let found = self.node.clone()?;
                let args = vec![self.runtimes_dir.join("worker.js").into()];
                Ok(Program { search_path: path_with(&found.path), path: found.path, args })
            }
            Runtime::Binary => {
                self.shell.clone()?;
                let args = vec![BINARY_WORKER.into()];
                Ok(Program { path: self.program.clone(), args, search_path: SYSTEM_PATH.into() })
            }
        }
    }

    /// A Python that has pip and installs for ours: ours itself, or one in an
    /// environment of its own, where the system's has no pip but can make one
    /// (Debian's with python3-venv).
    ///
    /// # Errors
    /// What is missing, and what to install.
    pub(super) async fn pip(&self, spawner: &Spawner) -> Result<PathBuf, Missing> {
        let python = self.python.clone()?.path;
        // Only success is remembered: what is missing may be installed meanwhile.
        let look = || async {
            let Err(how) = self.ask_pip(spawner, &python, self.probe_timeout).await else {
                return Ok(python.clone());
            };
            let (own, patience) = (self.pip_dir.join("bin/python3"), self.pip_setup_timeout);
            if self.ask_pip(spawner, &own, patience).await.is_ok() {
                return Ok(own);
            }
            let made = self.make_environment(spawner, &python).await;
            if made.is_ok() && self.ask_pip(spawner, &own, patience).await.is_ok() {
                return Ok(own);
            }
            Err(format!(
                "the function declares dependencies, and {} -m pip {how}; \
                 install pip, e.g. apt install python3-pip",
                python.display()
            ))
        };
        Ok(self.pip.get_or_try_init(look).await?.clone())
    }

    async fn ask_pip(
        &self,
        spawner: &Spawner,
        python: &Path,
        patience: Duration,
    ) -> Result<(), String> {
        let args = ["-I", "-m", "pip", "--version"];
        probe(spawner, python, &args, &self.search_path, patience).await.map(drop)
    }

    async fn make_environment(&self, spawner: &Spawner, python: &Path) -> Result<(), String> {
        let dir = self.pip_dir.to_string_lossy();
        let args = ["-I", "-m", "venv", "--clear", &dir];
        let (path, limit) = (&self.search_path, self.pip_setup_timeout);
        probe(spawner, python, &args, path, limit).await.map(drop)
    }

    /// Node's npm.
    ///
    /// # Errors
    /// What is missing, and what to install.
    pub(super) async fn npm(&self, spawner: &Spawner) -> Result<PathBuf, Missing> {
        let node = self.node.clone()?.path;
        let ask = || async {
            let (path, limit) = (with_folder_of(&node, &self.search_path), self.probe_timeout);
            for npm in candidates("npm", &path) {
                if probe(spawner, &npm, &["--version"], &path, limit).await.is_ok() {
                    return Ok(npm);
                }
            }
            Err("the function declares dependencies, and there is no npm that works on the PATH; \
                 install npm, e.g. apt install npm")
        };
        Ok(self.npm.get_or_try_init(ask).await?.clone())
    }

    /// The `PATH` for installers: the server's own, the interpreter first.
    pub(super) fn installer_path(&self, runtime: Runtime) -> OsString {
        let found = match runtime {
            Runtime::Python3 => self.python.as_ref().ok(),
            Runtime::Nodejs => self.node.as_ref().ok(),
            Runtime::Binary => None,
        };
        match found {
            Some(found) => with_folder_of(&found.path, &self.search_path),
            None => self.search_path.clone(),
        }
    }
}

/// How an interpreter is looked for.
struct Kind {
    title: &'static str,
    names: &'static [&'static str],
    /// Prints [`PROBE_MARK`], the real path, and three numbers, tabs between.
    ask: &'static [&'static str],
    least: [u32; 3],
    least_shown: &'static str,
    install: &'static str,
}

const PYTHON: Kind = Kind {
    title: "Python",
    names: &["python3"],
    ask: &[
        "-I",
        "-S",
        "-c",
        "import os,sys;print('tinyfaas',os.path.realpath(sys.executable),*sys.version_info[:3],sep='\\t')",
    ],
    least: [3, 9, 0],
    least_shown: "Python 3.9 or later",
    install: "install python3, e.g. apt install python3",
};

const NODE: Kind = Kind {
    title: "Node",
    names: &["node", "nodejs"],
    ask: &[
        "-e",
        "console.log(['tinyfaas',process.execPath,...process.versions.node.split('.')].join('\\t'))",
    ],
    least: [18, 0, 0],
    least_shown: "Node 18 or later",
    install: "install Node 20 or later, e.g. apt install nodejs",
};

/// Older ones work, with a warning.
const NODE_CURRENT: [u32; 3] = [20, 0, 0];

impl Kind {
    fn describe(&self, found: &Interpreter) -> String {
        let [major, minor, patch] = found.version;
        format!("{} {major}.{minor}.{patch}", self.title)
    }
}

async fn look_for(
    kind: &Kind,
    config: &ProcessConfig,
    spawner: &Spawner,
) -> Result<Interpreter, Missing> {
    let mut problem = format!("there is no {} on the PATH", kind.names[0]);
    let all = kind.names.iter().flat_map(|name| candidates(name, &config.search_path));
    let found = async {
        for path in all.take(CANDIDATES_MAX) {
            match probe(spawner, &path, kind.ask, &config.search_path, config.probe_timeout).await {
                Err(how) => problem = format!("{} {how}", path.display()),
                Ok(output) => match parse_probe(&output) {
                    None => problem = format!("{} does not say its version", path.display()),
                    Some(found) if found.version < kind.least => {
                        problem = format!(
                            "{} is {}, and {} is needed",
                            path.display(),
                            kind.describe(&found),
                            kind.least_shown
                        );
                    }
                    Some(found) => return Some(found),
                },
            }
        }
        None
    };
    // One that hangs must not take the others' time, nor ours.
    match tokio::time::timeout(config.probe_timeout, found).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(format!("{problem}; {}", kind.install)),
        Err(_) => Err(format!(
            "asking for its version took longer than {:?}; {}",
            config.probe_timeout, kind.install
        )),
    }
}

/// Compiles Python's worker: Python itself keeps no compiled form of a program
/// that it is started with, and would compile it at each start of a handler.
/// Returns what is to be started.
async fn compile(
    python: &Interpreter,
    source: PathBuf,
    config: &ProcessConfig,
    spawner: &Spawner,
) -> PathBuf {
    let compiled = source.with_extension("pyc");
    let (from, to) = (source.to_string_lossy(), compiled.to_string_lossy());
    let program = "import py_compile,sys;py_compile.compile(*sys.argv[1:],doraise=True)";
    let args = ["-I", "-S", "-c", program, &from, &to];
    let (path, limit) = (&config.search_path, config.probe_timeout);
    match probe(spawner, &python.path, &args, path, limit).await {
        Ok(_) => compiled,
        Err(how) => {
            tracing::debug!("the Python worker is not compiled, it starts slower: {how}");
            source
        }
    }
}

/// Runs an interpreter to learn something. What a shim of a version manager
/// needs is the server's `PATH` and home; it runs no function's code.
async fn probe(
    spawner: &Spawner,
    program: &Path,
    args: &[&str],
    search_path: &OsStr,
    time_limit: Duration,
) -> Result<String, String> {
    let home = env::var_os("HOME").unwrap_or_else(|| "/".into());
    let command = Command {
        shown: program.display().to_string(),
        program: program.to_owned(),
        args: args.iter().map(OsString::from).collect(),
        env: vec![
            ("PATH".into(), search_path.to_owned()),
            ("HOME".into(), home),
            ("LANG".into(), "C.UTF-8".into()),
        ],
        folder: "/".into(),
    };
    match run(spawner, command, &no_log(), PROBE_OUTPUT_BYTES, time_limit).await {
        Ok(finished) if finished.succeeded() => Ok(finished.output),
        Ok(finished) => {
            let said = finished.output.lines().last().unwrap_or_default().to_owned();
            Err(match said.is_empty() {
                true => finished.ending.to_string(),
                false => format!("{} ({said})", finished.ending),
            })
        }
        Err(error) => Err(format!("cannot be run: {error}")),
    }
}

fn parse_probe(output: &str) -> Option<Interpreter> {
    let line = output.lines().find_map(|line| line.strip_prefix(PROBE_MARK))?;
    let mut fields = line.split('\t');
    let path = PathBuf::from(fields.next()?);
    let mut number = || fields.next()?.parse().ok();
    let version = [number()?, number()?, number()?];
    path.is_absolute().then_some(Interpreter { path, version })
}

/// The programs of this name on a search path, in its order.
fn candidates(name: &str, search_path: &OsStr) -> Vec<PathBuf> {
    let all = env::split_paths(search_path).filter(|dir| dir.is_absolute());
    all.map(|dir| dir.join(name)).filter(|path| is_executable(path)).collect()
}

fn is_executable(path: &Path) -> bool {
    let meta = std::fs::metadata(path);
    meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// The system's `PATH`, and before it the interpreter's folder where that is not
/// in it: a function may start its own interpreter.
fn path_with(interpreter: &Path) -> OsString {
    with_folder_of(interpreter, OsStr::new(SYSTEM_PATH))
}

fn with_folder_of(program: &Path, search_path: &OsStr) -> OsString {
    let Some(folder) = program.parent() else { return search_path.to_owned() };
    if env::split_paths(search_path).any(|dir| dir == folder) {
        return search_path.to_owned();
    }
    let mut with = OsString::from(folder);
    with.push(":");
    with.push(search_path);
    with
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_probes_line_is_found_among_warnings() {
        let output = "warning: x\ntinyfaas\t/opt/py/bin/python3.11\t3\t11\t7\n";
        let found = Interpreter { path: "/opt/py/bin/python3.11".into(), version: [3, 11, 7] };
        assert_eq!(parse_probe(output), Some(found.clone()));
        assert_eq!(PYTHON.describe(&found), "Python 3.11.7");
        assert_eq!(parse_probe("tinyfaas\tpython\t3\t11\t7"), None);
        assert_eq!(parse_probe("tinyfaas\t/x\t3\t11"), None);
        assert_eq!(parse_probe(""), None);
    }

    #[test]
    fn candidates_are_executables_of_absolute_folders_in_order() {
        let dir = tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (folder, mode) in [("a", 0o755), ("b", 0o644), ("c", 0o755)] {
            fs::create_dir(path(folder)).unwrap();
            fs::write(path(folder).join("node"), "").unwrap();
            fs::set_permissions(path(folder).join("node"), Permissions::from_mode(mode)).unwrap();
        }
        let all =
            env::join_paths([path("c"), "a".into(), path("b"), path("a"), path("d")]).unwrap();
        assert_eq!(candidates("node", &all), [path("c/node"), path("a/node")]);
    }

    #[test]
    fn an_interpreters_folder_comes_first_once() {
        assert_eq!(path_with(Path::new("/usr/bin/node")), SYSTEM_PATH);
        assert_eq!(path_with(Path::new("/opt/n/bin/node")), *format!("/opt/n/bin:{SYSTEM_PATH}"));
    }
}
