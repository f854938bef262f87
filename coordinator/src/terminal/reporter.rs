//! To whom a run reports: the person at this terminal, or those who follow a
//! job of the server.

use std::{io, os::fd::OwnedFd, path::Path, sync::Arc};

use fanout_analysis::record::Study;
use fanout_engine::trial::Accepted;
use fanout_proto::{completion::StartedBatch, id::UrlId};
use tokio::sync::Notify;

use crate::run::{Progress, Sink, Who};

/// What a run reports.
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

/// Takes what a run reports.
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

/// A sink whose progress is reported.
pub(crate) struct WithProgress<'a, S> {
    pub(crate) sink: S,
    pub(crate) reporter: Option<&'a dyn Reporter>,
}

impl<S: Sink> Sink for WithProgress<'_, S> {
    fn started(&mut self, who: &Who<'_>, batch: &StartedBatch) -> io::Result<()> {
        self.sink.started(who, batch)
    }

    fn record(
        &mut self,
        who: &Who<'_>,
        accepted: &[Accepted],
        details: &[(u32, String)],
    ) -> io::Result<()> {
        self.sink.record(who, accepted, details)
    }

    fn abandoned(&mut self, ids: &[UrlId]) -> io::Result<()> {
        self.sink.abandoned(ids)
    }

    fn lost(&mut self, who: &Who<'_>, reason: &str) {
        self.sink.lost(who, reason);
    }

    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        if let Some(reporter) = self.reporter {
            reporter.report(Report::Progress(progress))?;
        }
        self.sink.progress(progress)
    }

    fn full(&self) -> Option<Arc<Notify>> {
        self.sink.full()
    }
}

impl Sink for () {
    fn full(&self) -> Option<Arc<Notify>> {
        None
    }
}
