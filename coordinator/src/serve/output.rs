//! What a job says and produces goes to its files; followers read them.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Write},
    sync::Arc,
};

use fanout_analysis::record::Study;
use fanout_proto::control::JobProgress;
use tracing::warn;

use super::{
    jobs::ServerJob,
    plan::study_results,
    transcript::{ERR, OUT, append, lines},
};
use crate::{
    run::Progress,
    terminal::reporter::{Report, Reporter},
};

#[derive(Debug)]
pub(super) struct JobOutput {
    job: Arc<ServerJob>,
    journal: File,
    what: RefCell<String>,
}

impl JobOutput {
    pub(super) fn open(job: Arc<ServerJob>) -> io::Result<Self> {
        let journal = append(&job.journal())?;
        Ok(Self { job, journal, what: RefCell::default() })
    }

    fn write(&self, stream: char, text: &str) -> io::Result<()> {
        (&self.journal).write_all(lines(stream, text).as_bytes())?;
        self.job.wrote();
        Ok(())
    }

    fn pass_on(&self, study: &Study) -> io::Result<()> {
        let mut line = serde_json::to_vec(study)?;
        line.push(b'\n');
        append(&study_results(&self.job.directory))?.write_all(&line)?;
        self.job.wrote();
        Ok(())
    }
}

impl Reporter for JobOutput {
    fn report(&self, report: Report<'_>) -> io::Result<()> {
        match report {
            Report::Line(text) => {
                if let Err(error) = self.write(ERR, text) {
                    warn!(job = %self.job.description.id, %error, "cannot write the journal");
                }
            }
            Report::Result(text) => self.write(OUT, text)?,
            Report::Trial(what, _) => *self.what.borrow_mut() = what.to_owned(),
            Report::Progress(progress) => {
                let progress = job_progress(&self.what.borrow(), progress);
                self.job.progress(progress);
            }
            Report::Study(study, _) | Report::SeriesStudy(study) => self.pass_on(study)?,
            // The client keeps the records, and knows where.
            Report::Idle | Report::Kept(_) => {}
        }
        Ok(())
    }
}

fn job_progress(what: &str, progress: &Progress) -> JobProgress {
    JobProgress {
        what: what.to_owned(),
        total: progress.total,
        completed: progress.counts.completed,
        failed: progress.counts.failed,
        abandoned: progress.counts.abandoned,
        bytes: progress.bytes,
        elapsed: progress.elapsed,
        waiting: progress.waiting,
    }
}
