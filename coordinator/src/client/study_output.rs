//! Where a followed study goes.

use std::path::Path;

use fanout_analysis::record::Study;

use super::lines::LineBuffer;
use crate::{
    exit::Failure,
    study::store::Store,
    terminal::{
        Terminal, print,
        print::PrintArgs,
        reporter::{Report, Reporter},
    },
};

pub(super) struct StudyOutput {
    kept: KeptStudies,
    terminal: Terminal,
    series: bool,
    lines: LineBuffer,
    count: u32,
}

enum KeptStudies {
    Here(Store),
    /// In the coordinator's own store alone; these are its pages.
    Pages(String),
}

impl StudyOutput {
    /// Studies are kept in `out` or, without it, a directory named after the
    /// time, unless the coordinator's `pages` show them.
    pub(super) fn new(
        out: Option<&Path>,
        pages: Option<&str>,
        print: PrintArgs,
        series: bool,
    ) -> Result<Self, Failure> {
        let kept = match (out, pages.filter(|url| !url.is_empty())) {
            (None, Some(url)) => KeptStudies::Pages(url.trim_end_matches('/').to_owned()),
            (Some(out), _) if out.join("study.json").exists() => {
                return Err(Failure::usage(format!(
                    "--out {}: a study is kept there already; name another directory",
                    out.display()
                )));
            }
            _ => KeptStudies::Here(Store::create(out)?),
        };
        Ok(Self {
            kept,
            terminal: Terminal::new(print),
            series,
            lines: LineBuffer::default(),
            count: 0,
        })
    }

    /// The coordinator's pages, if there is a study that is kept there alone.
    pub(super) fn pages(&self) -> Option<&str> {
        match &self.kept {
            KeptStudies::Pages(url) if self.count > 0 => Some(url),
            _ => None,
        }
    }

    pub(super) fn discard(self) {
        if let KeptStudies::Here(store) = self.kept {
            store.discard();
        }
    }

    /// Takes lines of JSON, one for each study.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for line in self.lines.push(bytes) {
            let study: Study = serde_json::from_slice(&line).map_err(|error| {
                Failure::incomplete(format!("the coordinator's study cannot be read: {error}"))
            })?;
            self.count += 1;
            match (&self.kept, self.series) {
                (KeptStudies::Here(store), true) => {
                    store.within(&format!("{:04}", self.count))?.save(&study)?;
                }
                (KeptStudies::Here(store), false) => {
                    store.save(&study)?;
                    let report = store.report();
                    let shown = self.terminal.report(Report::Study(&study, &report));
                    shown.map_err(Failure::incomplete)?;
                }
                (KeptStudies::Pages(_), true) => {}
                (KeptStudies::Pages(_), false) => {
                    print::show(&study, self.terminal.print).map_err(Failure::incomplete)?;
                }
            }
        }
        Ok(())
    }
}
