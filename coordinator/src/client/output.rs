//! Where a followed job's output goes: to the same places as a local run's.

use std::io;

use fanout_engine::id_set::IdSet;
use fanout_proto::control::{JobDescription, ListIdentity};

use super::{fetch_output::FetchOutput, lines::LineBuffer, study_output::StudyOutput};
use crate::{
    exit::{CommandExit, Failure},
    results::Destination,
    run::Stop,
    terminal::print,
};

pub(super) struct ClientOutput {
    results: JobResults,
    journal: LineBuffer,
    pub(super) received: (u64, u64),
}

pub(super) enum JobResults {
    Study(StudyOutput),
    Fetch(FetchOutput),
}

impl ClientOutput {
    pub(super) fn new(results: JobResults) -> Self {
        Self { results, journal: LineBuffer::default(), received: (0, 0) }
    }

    /// The coordinator's pages, if there is a study that is kept there alone.
    pub(super) fn pages(&self) -> Option<&str> {
        match &self.results {
            JobResults::Study(study) => study.pages(),
            JobResults::Fetch(_) => None,
        }
    }

    /// What is here of a fetch that goes on: its list, and which URLs are done.
    pub(super) fn before(&self) -> Option<(ListIdentity, &IdSet)> {
        match &self.results {
            JobResults::Study(_) => None,
            JobResults::Fetch(fetch) => fetch.before(),
        }
    }

    pub(super) fn begin(&mut self, job: &JobDescription) -> Result<(), Failure> {
        match &mut self.results {
            JobResults::Study(_) => Ok(()),
            JobResults::Fetch(fetch) => fetch.begin(job),
        }
    }

    pub(super) async fn discard(self) {
        match self.results {
            JobResults::Study(study) => study.discard(),
            JobResults::Fetch(fetch) => fetch.discard().await,
        }
    }

    pub(super) async fn room(&self) {
        if let JobResults::Fetch(fetch) = &self.results {
            fetch.room().await;
        }
    }

    pub(super) fn journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.received.0 += bytes.len() as u64;
        for line in self.journal.push(bytes) {
            let (stream, text) = line.split_at(1);
            let text = String::from_utf8_lossy(text);
            match stream {
                b"1" => print::print(&text)?,
                _ => eprintln!("{text}"),
            }
        }
        Ok(())
    }

    /// Records of a fetch, or a line of JSON for each study.
    pub(super) fn results(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.received.1 += bytes.len() as u64;
        match &mut self.results {
            JobResults::Study(study) => study.push(bytes),
            JobResults::Fetch(fetch) => fetch.push(bytes),
        }
    }

    pub(super) fn shows_results(&self) -> bool {
        match &self.results {
            JobResults::Study(_) => true,
            JobResults::Fetch(fetch) => matches!(fetch.destination, Destination::Stdout),
        }
    }

    pub(super) async fn finish(
        self,
        whole: bool,
        stop: Option<&Stop>,
    ) -> Result<Option<CommandExit>, Failure> {
        match self.results {
            JobResults::Study(study) => {
                study.discard();
                Ok(None)
            }
            JobResults::Fetch(fetch) => fetch.finish(whole, stop).await,
        }
    }
}
