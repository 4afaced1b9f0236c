//! The manual pages and the shells' completions, made from the command line.
//!
//! Owns the two commands that write them. Must not know which other commands
//! there are: whoever calls hands over the whole command line.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

/// The command that writes manual pages.
pub(crate) const MAN: &str = "man";
/// The command that writes a shell's completions.
pub(crate) const COMPLETIONS: &str = "completions";

const DIRECTORY: &str = "directory";
const SHELL: &str = "shell";

const SHELLS: [(&str, Shell); 3] =
    [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish)];

/// How many flags a synopsis names one by one.
const SYNOPSIS_FLAGS_MAX: usize = 12;

const MAN_EXAMPLES: &str = "\
Examples:
  tinyfaas man | man -l -               read the manual without installing it
  tinyfaas man --directory ./man1       write a page for each command";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  . <(tinyfaas completions bash)        for this shell only
  tinyfaas completions bash > ~/.local/share/bash-completion/completions/tinyfaas
  tinyfaas completions zsh > ~/.zfunc/_tinyfaas    a folder in zsh's fpath
  tinyfaas completions fish > ~/.config/fish/completions/tinyfaas.fish";

/// `tinyfaas man`.
pub(crate) fn man_command() -> Command {
    let directory = Arg::new(DIRECTORY)
        .long(DIRECTORY)
        .value_name("DIRECTORY")
        .value_parser(value_parser!(PathBuf))
        .help("write a page for every command into this folder, which must be there");
    Command::new(MAN)
        .about("Write the manual page (roff) to standard output")
        .arg(directory)
        .after_help(MAN_EXAMPLES)
}

/// `tinyfaas completions`.
pub(crate) fn completions_command() -> Command {
    let shell = Arg::new(SHELL)
        .value_name("SHELL")
        .required(true)
        .value_parser(PossibleValuesParser::new(SHELLS.map(|(name, _)| name)))
        .help("the shell that shall complete tinyfaas' commands and flags");
    Command::new(COMPLETIONS)
        .about("Write a shell's completions to standard output")
        .arg(shell)
        .after_help(COMPLETIONS_EXAMPLES)
}

/// Writes the main page to standard output, or all pages into a folder.
///
/// # Errors
/// The system's, with the file's name.
pub(crate) fn man(matches: &ArgMatches, whole: Command) -> io::Result<()> {
    let whole = whole.disable_help_subcommand(true);
    match matches.get_one::<PathBuf>(DIRECTORY) {
        Some(directory) => write_pages(directory, whole),
        None => io::stdout().write_all(&page(whole)?),
    }
}

/// Writes completions to standard output.
///
/// # Errors
/// The system's.
pub(crate) fn completions(matches: &ArgMatches, whole: Command) -> io::Result<()> {
    let shell = matches.get_one::<String>(SHELL).expect("it is required");
    io::stdout().write_all(&completions_of(shell, whole))
}

fn completions_of(shell: &str, mut whole: Command) -> Vec<u8> {
    let mut text = Vec::new();
    let shell = SHELLS.iter().find(|(name, _)| *name == shell).expect("clap has checked it").1;
    let name = whole.get_name().to_owned();
    clap_complete::generate(shell, &mut whole, name, &mut text);
    text
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let synopsis = short_synopsis(&command);
    let mut text = Vec::new();
    Man::new(command).render(&mut text)?;
    let Some(synopsis) = synopsis else { return Ok(text) };
    let whole = String::from_utf8(text).map_err(io::Error::other)?;
    let sections = whole.split_once(".SH SYNOPSIS\n").and_then(|(before, rest)| {
        rest.split_once(".SH DESCRIPTION\n").map(|(_, after)| (before, after))
    });
    let (before, after) = sections.expect("a page has both, and a test asks for them");
    Ok(format!("{before}.SH SYNOPSIS\n{synopsis}\n.SH DESCRIPTION\n{after}").into_bytes())
}

/// What stands in the synopsis of a command with more flags than anybody would
/// read there.
fn short_synopsis(command: &Command) -> Option<String> {
    let flags = command.get_opts().filter(|flag| !flag.is_hide_set()).count();
    if flags <= SYNOPSIS_FLAGS_MAX {
        return None;
    }
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let commands = if command.has_subcommands() { " [\\fICOMMAND\\fR]" } else { "" };
    Some(format!("\\fB{name}\\fR [\\fIOPTIONS\\fR]{commands}"))
}

/// A page for the program and one for each command, however deep.
fn write_pages(directory: &Path, mut whole: Command) -> io::Result<()> {
    whole.build();
    let mut commands = vec![whole];
    while let Some(command) = commands.pop() {
        let visible = command.get_subcommands().filter(|command| !command.is_hide_set());
        commands.extend(visible.cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(command)?).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    #[test]
    fn every_command_has_a_page_with_its_flags() {
        let directory = tempfile::tempdir().expect("room");
        write_pages(directory.path(), cli::command()).expect("written");
        let main = fs::read_to_string(directory.path().join("tinyfaas.1")).expect("there");
        assert!(main.contains(".TH tinyfaas 1"), "{main}");
        let synopsis = "\\fBtinyfaas\\fR [\\fIOPTIONS\\fR] [\\fICOMMAND\\fR]\n.SH DESCRIPTION";
        assert!(main.contains(synopsis), "{main}");
        let commands = cli::command();
        for command in commands.get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            assert!(main.contains(&format!("tinyfaas\\-{name}(1)")), "{name} is not in {main}");
            let path = directory.path().join(format!("tinyfaas-{name}.1"));
            let page = fs::read_to_string(path).expect("a page for each command");
            let shown = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for flag in shown.filter_map(|argument| argument.get_long()) {
                let flag = flag.replace('-', "\\-");
                assert!(page.contains(&flag), "--{flag} is not in {page}");
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_pages(Path::new("/no/such/folder"), cli::command()).expect_err("none");
        assert!(error.to_string().contains("/no/such/folder/tinyfaas"), "{error}");
    }

    #[test]
    fn each_shell_completes_commands_and_flags() {
        for (shell, _) in SHELLS {
            let text = String::from_utf8(completions_of(shell, cli::command())).expect("text");
            assert!(text.contains("completions") && text.contains("http-port"), "{shell}: {text}");
        }
    }
}
