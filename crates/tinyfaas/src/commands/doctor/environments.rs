//! Which environments can run here: asked of the same code that the server asks.
//!
//! Owns nothing of the search: a spawner and a backend in a temporary folder do it.

use std::sync::Arc;

use tempfile::TempDir;
use tinyfaas_handlers::process::spawner::{Instance, Spawner, SpawnerProcess};
use tinyfaas_handlers::process::{ProcessBackend, ProcessConfig, RuntimeSurvey};
use tinyfaas_model::{Backend, Runtime};

use super::Check;
use crate::failure::Failure;

const GROUP: &str = "environments";

/// A spawner that has been started while there was one thread.
pub(super) struct Spawning {
    process: SpawnerProcess,
    dir: TempDir,
}

impl Spawning {
    /// Starts one.
    ///
    /// # Errors
    /// Where no process or folder can be made.
    pub(super) fn start() -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("tinyfaas-doctor-").tempdir();
        let dir = dir
            .map_err(|error| Failure::failed(format!("cannot make a temporary folder: {error}")))?;
        let instance = Instance { id: "doctor".to_owned(), data_dir: dir.path().to_path_buf() };
        let process = SpawnerProcess::start(&instance)
            .map_err(|error| Failure::failed(format!("cannot start a process: {error}")))?;
        Ok(Self { process, dir })
    }
}

/// Looks for interpreters and installers.
pub(super) async fn checks(spawning: Spawning) -> Result<Vec<Check>, Failure> {
    let Spawning { process, dir } = spawning;
    let spawner = Spawner::connect(process);
    let at = |name: &str| dir.path().join(name);
    let config = ProcessConfig::new(at("functions"), at("runtimes"), at("cache"));
    let backend = ProcessBackend::start(config, Arc::clone(&spawner))
        .await
        .map_err(|error| Failure::failed(format!("cannot look for interpreters: {error}")))?;
    let surveys = backend.survey().await;
    backend.shutdown().await;
    spawner.shutdown().await;
    let none = surveys.iter().all(|survey| survey.found.is_err());
    Ok(surveys.iter().flat_map(|survey| of(survey, none)).collect())
}

fn of(survey: &RuntimeSurvey, none: bool) -> Vec<Check> {
    let name = survey.runtime.name();
    let interpreter = match &survey.found {
        Ok(found) => {
            let path = survey.path.as_ref().map(|path| format!(" ({})", path.display()));
            Check::ok(GROUP, name, format!("{found}{}", path.unwrap_or_default()))
        }
        Err(problem) if none => Check::problem(GROUP, name, problem, "no function can be deployed"),
        Err(problem) => {
            let cost = format!("functions of {name} cannot be deployed");
            Check::missing(GROUP, name, problem, cost)
        }
    };
    let mut checks = vec![interpreter];
    if survey.found.is_ok()
        && let Some(installer) = &survey.installer
    {
        checks.push(of_installer(survey.runtime, installer));
    }
    checks
}

fn of_installer(runtime: Runtime, installer: &Result<std::path::PathBuf, String>) -> Check {
    let (name, file) = match runtime {
        Runtime::Python3 => ("pip", "requirements.txt"),
        Runtime::Nodejs | Runtime::Binary => ("npm", "package.json"),
    };
    match (installer, runtime) {
        (Ok(path), Runtime::Python3) if path.ends_with("pip-environment/bin/python3") => {
            Check::ok(GROUP, name, "none of the system's; the server makes its own (venv)")
        }
        (Ok(path), Runtime::Python3) => {
            Check::ok(GROUP, name, format!("{} -m pip", path.display()))
        }
        (Ok(path), _) => Check::ok(GROUP, name, path.display().to_string()),
        (Err(problem), _) => {
            // The message is one for a deploy.
            let problem = problem.trim_start_matches("the function declares dependencies, and ");
            let cost = format!(
                "functions that declare dependencies in {file} cannot be deployed; others can"
            );
            Check::missing(GROUP, name, problem, cost)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn check(found: Result<&str, &str>, none: bool, expected: State) {
        let found = found.map(str::to_owned).map_err(str::to_owned);
        let survey = RuntimeSurvey { runtime: Runtime::Nodejs, found, path: None, installer: None };
        assert_eq!(of(&survey, none)[0].state, expected);
    }

    #[test]
    fn one_environment_is_enough() {
        check(Ok("Node 22"), false, State::Ok);
        check(Err("no node"), false, State::Missing);
        check(Err("no node"), true, State::Problem);
    }
}
