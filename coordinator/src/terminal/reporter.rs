//! To whom a run reports: the person at this terminal, or those who follow a job of the server.

use std::{io, os::fd::OwnedFd, path::Path};

use fanout_analysis::record::Study;

use crate::run::Progress;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Report<'a> {
    /// A line, or a few, for people.
    Line(&'a str),
    /// A text that is the result.
    Result(&'a str),
    /// A trial begins: its name, and how many URLs it has.
    Trial(&'a str, u64),
    /// How far that trial is.
    Progress(&'a Progress),
    /// No trial runs any more.
    Idle,
    /// A study is over and kept, with its page for a browser.
    Study(&'a Study, &'a Path),
    /// One study of a series is over and kept; the series' result is a text.
    SeriesStudy(&'a Study),
    /// A fetch ended early; its records so far are kept in this part.
    Kept(&'a Path),
}

pub(crate) trait Reporter {
    fn report(&self, report: Report<'_>) -> io::Result<()>;

    /// Where lines go, if that may keep a writer waiting: many of them are then
    /// written on a thread of its own.
    fn may_block(&self) -> Option<OwnedFd> {
        None
    }

    /// Takes what is no result: a run does not fail because it cannot be passed on.
    fn tell(&self, report: Report<'_>) {
        if let Err(error) = self.report(report) {
            tracing::warn!(%error, "cannot report");
        }
    }

    fn say(&self, text: &str) {
        self.tell(Report::Line(text));
    }
}
