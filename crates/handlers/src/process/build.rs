//! From a function's folder to something that handlers can be made of.
//!
//! Owns a build: the folder is checked and moved to its place, and what it
//! declares is installed there. Must not know handlers. Installers run like
//! functions, started by the spawner, and get of the server's environment only
//! what concerns where packages come from.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tinyfaas_model::{BuildError, FunctionSpec, HandlerId, LogSink, Runtime};

use super::config::ProcessConfig;
use super::dependencies::{
    Package, check, declares_requirements, npm_args, pip_args, wheel_folders,
};
use super::folders;
use super::interpreters::Interpreters;
use super::output::Log;
use super::run::{Command, Finished, RunError, run};
use super::spawner::Spawner;
use super::worker::{blocking, remove_folder};

/// Within a deployment's folder: the function's folder, never run in.
pub(super) const ARTIFACT: &str = "artifact";
/// The same: what the build has installed.
pub(super) const DEPENDENCIES: &str = "dependencies";
/// The same: the installers' temporary files.
const TMP: &str = "build-tmp";
/// The name under which an installer's lines stand in the log.
const LOG_NAME: &str = "build";

/// Variables of the server that installers get: its index, proxy and
/// certificate settings.
const PASSED_ON: [&str; 6] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "TZ",
];
/// The same, by how their names begin or end, in upper or lower case.
const PASSED_ON_PREFIXES: [&str; 2] = ["pip_", "npm_config_"];
const PASSED_ON_SUFFIX: &str = "_proxy";

/// What a build works with.
pub(super) struct Builder<'a> {
    pub(super) config: &'a ProcessConfig,
    pub(super) interpreters: &'a Interpreters,
    pub(super) spawner: &'a Spawner,
    pub(super) spec: &'a FunctionSpec,
    pub(super) log: Arc<dyn LogSink>,
}

impl Builder<'_> {
    /// Builds what lies in `folder` within `place`, a folder that does not exist
    /// yet. Whoever calls this removes both when it fails.
    pub(super) async fn build(&self, folder: &Path, place: &Path) -> Result<(), BuildError> {
        let runtime = self.spec.runtime;
        let missing = |problem| BuildError::RuntimeMissing { runtime, problem };
        self.interpreters.program(runtime).map_err(missing)?;
        let (from, to) = (folder.to_owned(), place.to_owned());
        let moved = blocking(move || {
            if let Err(problem) = check(&from, runtime)? {
                return Ok(Err(problem));
            }
            fs::create_dir(&to)?;
            folders::relocate(&from, &to.join(ARTIFACT)).map(Ok)
        });
        moved
            .await
            .map_err(|source| io_error("moving the function's folder to its place", source))?
            .map_err(BuildError::InvalidFunction)?;
        match runtime {
            Runtime::Python3 => self.install_requirements(place).await?,
            Runtime::Nodejs => self.install_packages(place).await?,
            Runtime::Binary => {}
        }
        remove_folder(place.join(TMP)).await;
        Ok(())
    }

    async fn install_requirements(&self, place: &Path) -> Result<(), BuildError> {
        let artifact = place.join(ARTIFACT);
        let declared = read_if_there(&artifact.join("requirements.txt"))?;
        if !declared.is_some_and(|text| declares_requirements(&String::from_utf8_lossy(&text))) {
            return Ok(());
        }
        let python =
            self.interpreters.pip(self.spawner).await.map_err(|problem| {
                BuildError::RuntimeMissing { runtime: Runtime::Python3, problem }
            })?;
        let (target, cache) = (place.join(DEPENDENCIES), self.config.cache_dir.join("pip"));
        let home = env::var_os("HOME").unwrap_or_else(|| place.into());
        let command = |wheels: &[PathBuf], index| Command {
            shown: "pip install -r requirements.txt".into(),
            program: python.clone(),
            args: pip_args(&target, &cache, wheels, index),
            env: self.environment(place, &home, &[]),
            folder: artifact.clone(),
        };
        let wheels = wheel_folders(&artifact);
        if !wheels.is_empty() && self.install(command(&wheels, false), place).await?.succeeded() {
            return Ok(());
        }
        let shown = command(&wheels, true);
        judge(&shown.shown.clone(), self.install(shown, place).await?)
    }

    async fn install_packages(&self, place: &Path) -> Result<(), BuildError> {
        let artifact = place.join(ARTIFACT);
        let Some(json) = read_if_there(&artifact.join("package.json"))? else { return Ok(()) };
        let package = Package::parse(&json).map_err(BuildError::InvalidFunction)?;
        if !package.lacks_any(&artifact) {
            return Ok(());
        }
        let npm =
            self.interpreters.npm(self.spawner).await.map_err(|problem| {
                BuildError::RuntimeMissing { runtime: Runtime::Nodejs, problem }
            })?;
        // npm writes into its home; the user's settings are only read.
        let home = self.config.cache_dir.join("npm-home");
        let cache = self.config.cache_dir.join("npm").into_os_string();
        fs::create_dir_all(&home).map_err(|source| io_error("making a home for npm", source))?;
        let mut settings =
            vec![("npm_config_cache", cache), ("npm_config_update_notifier", "false".into())];
        if let Some(home) = env::var_os("HOME") {
            settings.push(("npm_config_userconfig", Path::new(&home).join(".npmrc").into()));
        }
        let args = npm_args(&artifact);
        let shown = format!("npm {}", args[0].to_string_lossy());
        let command = Command {
            shown: shown.clone(),
            program: npm,
            args,
            env: self.environment(place, home.as_os_str(), &settings),
            folder: artifact.clone(),
        };
        judge(&shown, self.install(command, place).await?)?;
        // Shared by all handlers instead of copied for each.
        let (modules, shared) = (artifact.join("node_modules"), place.join(DEPENDENCIES));
        let moved = blocking(move || {
            if !modules.is_dir() || links_elsewhere(&modules)? {
                return Ok(());
            }
            fs::create_dir(&shared)?;
            fs::rename(&modules, shared.join("node_modules"))
        });
        moved.await.map_err(|source| io_error("moving node_modules to its place", source))
    }

    async fn install(&self, command: Command, place: &Path) -> Result<Finished, BuildError> {
        let tmp = place.join(TMP);
        fs::create_dir_all(&tmp).map_err(|source| io_error("making temporary room", source))?;
        let shown = command.shown.clone();
        let log = Log {
            sink: Arc::clone(&self.log),
            handler: HandlerId::new(LOG_NAME),
            line_bytes_max: self.config.log_line_bytes_max,
        };
        let (bytes_max, limit) =
            (self.config.build_output_bytes_max, self.spec.limits.build_timeout);
        run(self.spawner, command, &log, bytes_max, limit).await.map_err(|error| {
            let source = match error {
                RunError::Streams(source) => source,
                RunError::Spawn(error) => io::Error::other(error),
            };
            io_error(&format!("running {shown}"), source)
        })
    }

    fn environment(
        &self,
        place: &Path,
        home: &OsStr,
        settings: &[(&str, OsString)],
    ) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), self.interpreters.installer_path(self.spec.runtime)),
            ("HOME".into(), home.to_owned()),
            ("TMPDIR".into(), place.join(TMP).into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        all.extend(settings.iter().map(|(key, value)| ((*key).into(), value.clone())));
        // What the user has set wins.
        for (key, value) in env::vars_os().filter(|(key, _)| is_passed_on(key)) {
            all.retain(|(other, _)| !other.eq_ignore_ascii_case(&key));
            all.push((key, value));
        }
        all
    }
}

fn is_passed_on(key: &OsStr) -> bool {
    let Some(key) = key.to_str() else { return false };
    let lower = key.to_ascii_lowercase();
    PASSED_ON.contains(&key)
        || PASSED_ON_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        || lower.ends_with(PASSED_ON_SUFFIX)
}

/// Whether a package of `node_modules` is a link, as npm makes for one that lies
/// in the function's own folder: such a link would lead nowhere from elsewhere.
fn links_elsewhere(modules: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(modules)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if entry.file_type()?.is_symlink()
            || (name.starts_with('@') && links_elsewhere(&entry.path())?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn judge(command: &str, finished: Finished) -> Result<(), BuildError> {
    if finished.succeeded() {
        return Ok(());
    }
    Err(BuildError::InstallFailed {
        command: command.to_owned(),
        how: finished.ending.to_string(),
        output: finished.output,
    })
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, BuildError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(&format!("reading {}", path.display()), source)),
    }
}

fn io_error(what: &str, source: io::Error) -> BuildError {
    BuildError::Io { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn installers_get_where_packages_come_from_and_nothing_else() {
        for key in ["PIP_INDEX_URL", "NPM_CONFIG_REGISTRY", "npm_config_cafile", "https_proxy"] {
            assert!(is_passed_on(OsStr::new(key)), "{key}");
        }
        for key in ["HTTP_PROXY", "NO_PROXY", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
            assert!(is_passed_on(OsStr::new(key)), "{key}");
        }
        for key in ["HOME", "AWS_SECRET_ACCESS_KEY", "TF_DATA_DIR", "PIPELINE", "NODE_OPTIONS"] {
            assert!(!is_passed_on(OsStr::new(key)), "{key}");
        }
    }
}
