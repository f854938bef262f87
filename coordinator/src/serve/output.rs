//! What a job says and produces goes to its files; followers read them.

use std::{
    cell::RefCell,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use fanout_analysis::record::Study;
use fanout_proto::{control::JobProgress, limits::PART_MAX_BYTES};
use tracing::warn;

use super::{jobs::Job, plan::study_results};
use crate::{
    run::Progress,
    terminal::reporter::{Report, Reporter},
};

/// Standard output, in the journal.
const OUT: char = '1';
/// Standard error.
pub(super) const ERR: char = '2';

/// Writes a job's journal and passes its studies on.
#[derive(Debug)]
pub(super) struct Output {
    job: Arc<Job>,
    journal: File,
    /// The trial that runs.
    what: RefCell<String>,
}

impl Output {
    pub(super) fn open(job: Arc<Job>) -> io::Result<Self> {
        let journal = append(&job.journal())?;
        Ok(Self {
            job,
            journal,
            what: RefCell::default(),
        })
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

/// A text's lines as they stand in a journal.
pub(super) fn lines(stream: char, text: &str) -> String {
    text.trim_end()
        .lines()
        .map(|line| format!("{stream}{line}\n"))
        .collect()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Reporter for Output {
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

/// Reads a file that grows, and may not be there yet.
#[derive(Debug)]
pub(super) struct Tail {
    names: Vec<PathBuf>,
    file: Option<File>,
    offset: u64,
}

impl Tail {
    /// The first of `names` that is there is the file; reads on from `offset`.
    pub(super) fn new(names: Vec<PathBuf>, offset: u64) -> Self {
        Self {
            names,
            file: None,
            offset,
        }
    }

    /// The next bytes, if there are any by now.
    pub(super) fn read(&mut self) -> io::Result<Option<Bytes>> {
        if self.file.is_none() {
            self.file = self.names.iter().find_map(|name| File::open(name).ok());
        }
        let Some(file) = &self.file else {
            return Ok(None);
        };
        let mut bytes = vec![0; PART_MAX_BYTES];
        let count = file.read_at(&mut bytes, self.offset)?;
        if count == 0 {
            return Ok(None);
        }
        bytes.truncate(count);
        self.offset += count as u64;
        Ok(Some(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_reads_what_comes_even_under_another_name() {
        let place = tempfile::tempdir().unwrap();
        let (part, whole) = (place.path().join("a.part"), place.path().join("a"));
        let mut tail = Tail::new(vec![part.clone(), whole.clone()], 1);
        assert_eq!(tail.read().unwrap(), None);
        append(&part).unwrap().write_all(b"abc").unwrap();
        assert_eq!(tail.read().unwrap(), Some(Bytes::from_static(b"bc")));
        std::fs::rename(&part, &whole).unwrap();
        append(&whole).unwrap().write_all(b"d").unwrap();
        assert_eq!(tail.read().unwrap(), Some(Bytes::from_static(b"d")));
        assert_eq!(tail.read().unwrap(), None);
        let mut late = Tail::new(vec![part, whole], 3);
        assert_eq!(late.read().unwrap(), Some(Bytes::from_static(b"d")));
    }
}
