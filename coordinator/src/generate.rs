//! What is generated from the command line: completions for shells, and manual pages.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{
    cli::CommandLine,
    exit::{CommandExit, Failure},
    terminal::print,
};

const NAME: &str = "coordinator";

pub(crate) fn completions(shell: Shell) -> Result<CommandExit, Failure> {
    let mut script = Vec::new();
    generate(shell, &mut CommandLine::command(), NAME, &mut script);
    to_stdout(&script)
}

/// Prints the manual page of the whole, or writes one for each subcommand too into `directory`.
pub(crate) fn manual(directory: Option<&Path>) -> Result<CommandExit, Failure> {
    let command = CommandLine::command();
    let Some(directory) = directory else {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command);
        man.render(&mut page).map_err(Failure::incomplete)?;
        return to_stdout(&page);
    };
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command, directory))
        .map_err(|error| {
            Failure::usage(format!("cannot write to {}: {error}", directory.display()))
        })?;
    Ok(CommandExit::Done)
}

fn to_stdout(text: &[u8]) -> Result<CommandExit, Failure> {
    print::print(&String::from_utf8_lossy(text)).map_err(Failure::incomplete)?;
    Ok(CommandExit::Done)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_has_completions_that_know_the_flags() {
        for shell in Shell::value_variants() {
            let mut script = Vec::new();
            generate(*shell, &mut CommandLine::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("time-budget"), "{shell}");
        }
    }

    #[test]
    fn every_subcommand_has_a_page() {
        let place = tempfile::tempdir().unwrap();
        let pages = place.path().join("man1");
        assert_eq!(manual(Some(&pages)).unwrap(), CommandExit::Done);
        let study = std::fs::read_to_string(pages.join("coordinator-study.1")).unwrap();
        assert!(study.contains("time\\-budget"), "{study}");
        assert!(!study.contains("control\\-unsampled"), "a hidden flag");
        let shown = CommandLine::command();
        for command in shown.get_subcommands().filter(|c| !c.is_hide_set()) {
            let page = format!("coordinator-{}.1", command.get_name());
            assert!(pages.join(&page).exists(), "{page}");
        }
    }
}
