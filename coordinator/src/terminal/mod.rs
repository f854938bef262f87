//! What a person at a terminal sees.

pub mod announce;
pub mod bar;
pub mod print;
pub mod reporter;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use fanout_analysis::record::Study;

use crate::{
    cli::{Format, without_secrets},
    study::store::Store,
    terminal::{bar::Bar, reporter::Voice},
};

/// The terminal that this process was started from.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// How studies are printed.
    pub format: Format,
}

impl Voice for Terminal {
    fn say(&self, text: &str) {
        eprintln!("{}", text.trim_end());
    }

    fn may_block(&self) -> Option<OwnedFd> {
        io::stderr().as_fd().try_clone_to_owned().ok()
    }

    fn bar(&self, total: u64, what: String) -> Bar {
        Bar::new(total, what)
    }

    fn print(&self, text: &str) -> io::Result<()> {
        print::print(text)
    }

    fn study(&self, study: &Study, store: &Store) -> io::Result<()> {
        print::show(study, self.format)?;
        self.say(&format!("report: {}", store.report().display()));
        Ok(())
    }

    fn kept(&self, part: &Path) {
        self.say(&format!(
            "the records so far are in {}; to go on from there:\n  {}",
            part.display(),
            again()
        ));
    }

    fn study_of_series(&self, _: &Study) -> io::Result<()> {
        Ok(())
    }
}

/// This process's own command, to be typed again so that it goes on. Values of
/// headers are left out: they may be secret, and this may stand in a log.
#[must_use]
pub fn again() -> String {
    let typed: Vec<_> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    command_again(&typed)
}

fn command_again(typed: &[String]) -> String {
    let resumes = typed.iter().any(|argument| argument == "--resume");
    let mut words: Vec<_> = without_secrets(typed)
        .iter()
        .map(|argument| quoted(argument))
        .collect();
    if !resumes {
        words.push("--resume".to_owned());
    }
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_goes_on_can_be_typed() {
        let typed = |line: &[&str]| {
            let typed: Vec<_> = line.iter().map(|word| (*word).to_owned()).collect();
            command_again(&typed)
        };
        assert_eq!(
            typed(&["coordinator", "fetch", "it's my list.txt", "--out", "a.csv"]),
            r"coordinator fetch 'it'\''s my list.txt' --out a.csv --resume"
        );
        assert_eq!(
            typed(&["c", "fetch", "-", "--resume", "--header", "Cookie: x", ""]),
            "c fetch - --resume --header 'Cookie: …' ''"
        );
    }
}
