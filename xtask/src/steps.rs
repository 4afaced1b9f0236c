//! The steps of `cargo xtask check`: each has a name, and is a command or a look
//! at the files.
//!
//! Owns what is checked and how the outcome is told. Must not know how a tool
//! gets here (`tools.rs`) or what is tidy (`tidy.rs`).

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::{tidy, tools};

/// How a step ended.
enum Outcome {
    Passed,
    Failed(String),
    /// Not run, and why.
    Skipped(String),
}

type Step = (&'static str, fn(&Path) -> Outcome);

/// All steps, the quick ones first.
const STEPS: [Step; 9] = [
    ("tidy", tidy),
    ("fmt", |root| cargo(root, &["fmt", "--all", "--check"])),
    ("typos", |root| tool(root, &tools::TYPOS, &[])),
    ("shellcheck", shellcheck),
    ("python", python),
    ("deny", |root| {
        let arguments = ["--all-features", "check", "--hide-inclusion-graph"];
        tool(root, &tools::CARGO_DENY, &[&arguments[..], &["bans", "licenses", "sources"]].concat())
    }),
    ("machete", |root| tool(root, &tools::CARGO_MACHETE, &["--skip-target-dir"])),
    ("clippy", |root| {
        let lints = ["--", "-D", "warnings"];
        cargo(root, &[&["clippy", "--workspace", "--all-targets", "--locked"], &lints[..]].concat())
    }),
    ("doc", |root| {
        let mut command = Command::new("cargo");
        command.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
        command.env("RUSTDOCFLAGS", "-D warnings");
        run_command(root, &mut command)
    }),
];

/// Runs the steps named, or all, and says of each how it ended. All are run,
/// whichever fails.
pub(crate) fn run(root: &Path, wanted: &[String]) -> ExitCode {
    if let Some(unknown) = wanted.iter().find(|name| STEPS.iter().all(|step| step.0 != **name)) {
        let names = STEPS.map(|step| step.0).join(", ");
        eprintln!("there is no step {unknown:?}; the steps are {names}");
        return ExitCode::from(2);
    }
    let mut failed = Vec::new();
    for (name, step) in STEPS {
        if !wanted.is_empty() && wanted.iter().all(|one| one != name) {
            continue;
        }
        println!("check {name} ...");
        let began = Instant::now();
        let outcome = step(root);
        let seconds = began.elapsed().as_secs_f64();
        match outcome {
            Outcome::Passed => println!("check {name}: passed ({seconds:.1} s)"),
            Outcome::Skipped(why) => println!("check {name}: skipped, {why}"),
            Outcome::Failed(why) => {
                println!("check {name}: FAILED ({seconds:.1} s), {why}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn tidy(root: &Path) -> Outcome {
    match tidy::problems(root) {
        Ok(problems) if problems.is_empty() => Outcome::Passed,
        Ok(problems) => {
            Outcome::Failed(format!("{} times\n{}", problems.len(), problems.join("\n")))
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn cargo(root: &Path, arguments: &[&str]) -> Outcome {
    run_command(root, Command::new("cargo").args(arguments))
}

fn tool(root: &Path, tool: &tools::Tool, arguments: &[&str]) -> Outcome {
    let program = tool.path(root);
    if !program.exists() {
        return Outcome::Failed(format!(
            "{} is missing; `cargo xtask tools` installs it",
            tool.name
        ));
    }
    run_command(root, Command::new(program).args(arguments))
}

fn shellcheck(root: &Path) -> Outcome {
    // Into what a script sources, wherever shellcheck is started.
    const FOLLOW: [&str; 2] = ["--external-sources", "--source-path=SCRIPTDIR"];
    if Command::new("shellcheck").arg("--version").stdout(Stdio::null()).status().is_err() {
        return Outcome::Skipped("there is no shellcheck here".to_owned());
    }
    match tidy::files(root) {
        Err(error) => Outcome::Failed(error.to_string()),
        Ok(files) => {
            let scripts = files.iter().filter(|file| tidy::is_shell(root, file));
            run_command(root, Command::new("shellcheck").args(FOLLOW).args(scripts))
        }
    }
}

/// Compiles every Python file by the grammar of the oldest version supported.
fn python(root: &Path) -> Outcome {
    const PROGRAM: &str = "import ast, sys
for name in sys.argv[1:]:
    with open(name, encoding='utf-8') as file:
        ast.parse(file.read(), name, feature_version=(3, 9))";
    match tidy::files(root) {
        Err(error) => Outcome::Failed(error.to_string()),
        Ok(files) => {
            let modules = files.iter().filter(|file| file.extension().is_some_and(|e| e == "py"));
            run_command(root, Command::new("python3").args(["-c", PROGRAM]).args(modules))
        }
    }
}

fn run_command(root: &Path, command: &mut Command) -> Outcome {
    match command.current_dir(root).stdin(Stdio::null()).status() {
        Ok(status) if status.success() => Outcome::Passed,
        Ok(status) => Outcome::Failed(format!("{status}")),
        Err(error) => {
            Outcome::Failed(format!("{}: {error}", Path::new(command.get_program()).display()))
        }
    }
}
