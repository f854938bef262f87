//! What a person at a terminal sees.

pub(crate) mod announce;
mod bar;
pub(crate) mod command;
pub(crate) mod print;
pub(crate) mod reporter;

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
};

use crate::terminal::{
    bar::ProgressBar,
    command::resuming_command,
    print::PrintArgs,
    reporter::{Report, Reporter},
};

#[derive(Default)]
pub(crate) struct Terminal {
    pub(crate) print: PrintArgs,
    bar: RefCell<Option<ProgressBar>>,
}

impl Terminal {
    pub(crate) fn new(print: PrintArgs) -> Self {
        Self { print, ..Self::default() }
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
                print::show(study, self.print)?;
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
