//! What a person at a terminal sees.

pub(crate) mod announce;
mod bar;
pub(crate) mod print;
pub(crate) mod reporter;

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
};

use crate::{
    cli::{Format, without_secrets},
    terminal::{
        bar::ProgressBar,
        reporter::{Report, Reporter},
    },
};

/// The terminal that this process was started from.
#[derive(Default)]
pub(crate) struct Terminal {
    pub(crate) format: Format,
    bar: RefCell<Option<ProgressBar>>,
}

impl Terminal {
    /// A terminal on which studies are printed like this.
    pub(crate) fn new(format: Format) -> Self {
        Self {
            format,
            ..Self::default()
        }
    }
}

impl Reporter for Terminal {
    fn report(&self, report: Report<'_>) -> io::Result<()> {
        let mut bar = self.bar.borrow_mut();
        match report {
            Report::Line(text) => eprintln!("{}", text.trim_end()),
            Report::Result(text) => print::print(text)?,
            Report::Trial(what, urls) => match &*bar {
                Some(bar) => bar.restart(what.to_owned()),
                None => *bar = ProgressBar::new(urls, what.to_owned()),
            },
            Report::Progress(progress) => {
                if let Some(bar) = &*bar {
                    bar.show(progress);
                }
            }
            Report::Idle => *bar = None,
            Report::Study(study, page) => {
                print::show(study, self.format)?;
                eprintln!("report: {}", page.display());
            }
            Report::SeriesStudy(_) => {}
            Report::Kept(part) => eprintln!(
                "the records so far are in {}; to go on from there:\n  {}",
                part.display(),
                resuming_command()
            ),
        }
        Ok(())
    }

    fn may_block(&self) -> Option<OwnedFd> {
        io::stderr().as_fd().try_clone_to_owned().ok()
    }
}

/// This process's own command, to be typed again so that it goes on. Values of
/// headers are left out: they may be secret, and this may stand in a log.
fn resuming_command() -> String {
    let typed: Vec<_> = std::env::args_os()
        .map(|argument| argument.to_string_lossy().into_owned())
        .collect();
    resuming(&typed)
}

fn resuming(typed: &[String]) -> String {
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
            resuming(&typed)
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
