//! A results file while it grows: `NAME.part` and its journal, and what may be
//! said of them at any moment.
//!
//! - The journal's header is on disk before the first record is.
//! - A record is *acknowledged* when a [`Part::sync`] that came after it has
//!   returned: from then on it is found again, whatever happens.
//! - The part gets its final name when it is whole and on disk, not before.

use std::{
    io::{self, BufReader},
    path::{Path, PathBuf},
};

use fanout_proto::control::ListIdentity;

use super::{
    destination::{Form, part_name},
    files::{Files, OpenFile, ReadFrom, System},
    journal::{self, Header, JOURNAL_BYTES, Journal, JournalError},
    records::{RecoverError, Recovered, recover},
    writer_thread::RecordSink,
};

const READ_BYTES: usize = 256 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PartError {
    #[error("cannot write {path}: {error}; name another file with --out")]
    Open { path: String, error: io::Error },
    #[error(
        "another fetch writes {0} at this moment; wait for its end, or name another file with --out"
    )]
    Taken(String),
    #[error(
        "{0} holds the records of a fetch that did not come to its end: go on with it by adding --resume, \
         or remove it to start from the beginning"
    )]
    HoldsRecords(String),
    #[error(
        "{journal} {what}, and without it nobody can tell which list the records in {part} are of; move {part} \
         away to start from the beginning"
    )]
    Journal { part: String, journal: String, what: String },
    #[error(
        "{part} holds the records of another list: it was begun with {theirs}, and this is {ours}; give the \
         same list and --repeat, or name another file with --out"
    )]
    OtherList { part: String, theirs: Box<ListIdentity>, ours: Box<ListIdentity> },
    #[error("{part} holds records as {}, and --out asks for {}", .theirs.name(), .ours.name())]
    OtherForm { part: String, theirs: Form, ours: Form },
    #[error("{part} {error}; it stays as it is: move it away to start from the beginning")]
    Recover { part: String, error: RecoverError },
}

pub(crate) fn journal_name(path: &Path) -> PathBuf {
    let mut name = part_name(path).into_os_string();
    name.push(".journal");
    name.into()
}

/// What is there when a fetch wants to write `NAME`.
#[derive(Debug)]
pub(crate) enum Claimed<F: Files = System> {
    Fresh(Claim<F>),
    /// A part with records, and its journal; only where going on was asked for.
    Begun(Claim<F>, Journal),
    /// No part but the whole file; only where going on was asked for.
    Whole,
}

/// A part that no other process writes while this value lives.
#[derive(Debug)]
pub(crate) struct Claim<F: Files = System> {
    files: F,
    path: PathBuf,
    part: F::File,
    form: Form,
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl<F: Files> Claim<F> {
    /// Takes the part of `path`, and makes it if there is none. Without `resume`
    /// one that may hold records is an error.
    pub(crate) fn of(
        files: F,
        path: &Path,
        form: Form,
        resume: bool,
    ) -> Result<Claimed<F>, PartError> {
        let name = part_name(path);
        let failed = |error| PartError::Open { path: shown(&name), error };
        let (part, length) = loop {
            let there = files.exists(&name).map_err(failed)?;
            if resume && !there && files.exists(path).map_err(failed)? {
                return Ok(Claimed::Whole);
            }
            let part = files.open(&name).map_err(failed)?;
            if !part.lock().map_err(failed)? {
                return Err(PartError::Taken(shown(&name)));
            }
            // The one that held the lock may have given it its final name meanwhile.
            if files.is_called(&part, &name).map_err(failed)? {
                let length = part.length().map_err(failed)?;
                break (part, length);
            }
        };
        let claim = Self { files, path: path.to_owned(), part, form };
        if length <= form.head().len() as u64 {
            return Ok(Claimed::Fresh(claim));
        }
        if !resume {
            return Err(PartError::HoldsRecords(shown(&name)));
        }
        let journal = claim.journal()?;
        if journal.header.form != form {
            return Err(PartError::OtherForm {
                part: shown(&name),
                theirs: journal.header.form,
                ours: form,
            });
        }
        Ok(Claimed::Begun(claim, journal))
    }

    fn journal(&self) -> Result<Journal, PartError> {
        let name = journal_name(&self.path);
        let bad = |what: String| PartError::Journal {
            part: shown(&part_name(&self.path)),
            journal: shown(&name),
            what,
        };
        let read = || -> io::Result<Option<Vec<u8>>> {
            if !self.files.exists(&name)? {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            let file = self.files.open(&name)?;
            let all = ReadFrom { file: &file, offset: 0 };
            io::Read::read_to_end(&mut io::Read::take(all, JOURNAL_BYTES as u64), &mut bytes)?;
            Ok(Some(bytes))
        };
        match read() {
            Ok(Some(bytes)) => {
                journal::read(&bytes).map_err(|error: JournalError| bad(error.to_string()))
            }
            Ok(None) => Err(bad("is missing".to_owned())),
            Err(error) => Err(bad(format!("cannot be read ({error})"))),
        }
    }

    pub(crate) fn begin(self, list: &ListIdentity) -> Result<Part<F>, PartError> {
        let (part_path, journal_path) = (part_name(&self.path), journal_name(&self.path));
        let failed = |error| PartError::Open { path: shown(&journal_path), error };
        let header = journal::header(&Header { list: list.clone(), form: self.form });
        let head = self.form.head();
        let begin = || {
            // First of all: a journal of an earlier part would promise what is not there.
            self.files.remove(&journal_path)?;
            self.files.sync_names(&journal_path)?;
            self.part.cut(0)?;
            let journal = self.files.open(&journal_path)?;
            write_all(&journal, &header, 0).map_err(|(error, _)| error)?;
            journal.sync()?;
            write_all(&self.part, head, 0).map_err(|(error, _)| error)?;
            self.files.sync_names(&part_path)?;
            Ok(journal)
        };
        let journal = begin().map_err(failed)?;
        let length = head.len() as u64;
        Ok(Part {
            files: self.files,
            path: self.path,
            part: self.part,
            journal,
            length,
            whole: length,
            empty: length,
            synced: 0,
            sequence: 0,
        })
    }

    /// Goes on behind the last good record.
    pub(crate) fn go_on(self, journal: &Journal) -> Result<(Part<F>, Recovered), PartError> {
        let name = part_name(&self.path);
        let failed = |error| PartError::Open { path: shown(&name), error };
        let input = ReadFrom { file: &self.part, offset: 0 };
        let recovered = recover(
            BufReader::with_capacity(READ_BYTES, input),
            self.form,
            journal.header.list.urls,
            journal.durable,
        )
        .map_err(|error| PartError::Recover { part: shown(&name), error })?;
        let head = self.form.head();
        let go_on = || {
            // On disk before anything is written behind it.
            self.part.cut(recovered.length)?;
            if recovered.length < head.len() as u64 {
                write_all(&self.part, head, 0).map_err(|(error, _)| error)?;
            }
            self.part.sync()?;
            self.files.open(&journal_name(&self.path))
        };
        let journal_file = go_on().map_err(failed)?;
        let length = recovered.length.max(head.len() as u64);
        let part = Part {
            empty: head.len() as u64,
            files: self.files,
            path: self.path,
            part: self.part,
            journal: journal_file,
            length,
            whole: length,
            synced: length,
            sequence: journal.sequence,
        };
        Ok((part, recovered))
    }

    /// Nothing will be written: a part that holds nothing goes away.
    pub(crate) fn discard(self) -> io::Result<()> {
        if self.part.length()? == 0 {
            self.files.remove(&part_name(&self.path))?;
        }
        Ok(())
    }

    pub(crate) fn part_path(&self) -> PathBuf {
        part_name(&self.path)
    }
}

#[derive(Debug)]
pub(crate) struct Part<F: Files = System> {
    files: F,
    path: PathBuf,
    part: F::File,
    journal: F::File,
    length: u64,
    /// Bytes up to the last line's end.
    whole: u64,
    empty: u64,
    /// Bytes up to the last line's end when it was synced last.
    synced: u64,
    sequence: u64,
}

impl<F: Files> RecordSink for Part<F> {
    /// Adds records; the bytes may end within one.
    /// When not all could be written, the part ends behind a whole record.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (written, failed) = match write_all(&self.part, bytes, self.length) {
            Ok(()) => (bytes.len(), None),
            Err((error, written)) => (written, Some(error)),
        };
        if let Some(end) = bytes[..written].iter().rposition(|byte| *byte == b'\n') {
            self.whole = self.length + end as u64 + 1;
        }
        self.length += written as u64;
        if let Some(error) = failed {
            // What cannot be taken away now is cut when the fetch goes on.
            if self.part.cut(self.whole).is_ok() {
                self.length = self.whole;
            }
            return Err(error);
        }
        Ok(())
    }

    fn unsynced(&self) -> u64 {
        self.whole - self.synced
    }

    /// Acknowledges the records that are whole by now.
    fn sync(&mut self) -> io::Result<()> {
        if self.whole == self.synced {
            return Ok(());
        }
        self.part.sync()?;
        let (note, place) = journal::note(self.sequence + 1, self.whole);
        write_all(&self.journal, &note, place).map_err(|(error, _)| error)?;
        self.sequence += 1;
        self.journal.sync()?;
        self.synced = self.whole;
        Ok(())
    }

    /// Nothing more will come. A complete part gets its final name; one without
    /// a record goes away. After an error it stays.
    fn finish(mut self, complete: bool) -> io::Result<()> {
        let (part, journal) = (part_name(&self.path), journal_name(&self.path));
        if !complete && self.length > self.empty {
            return self.sync();
        }
        if complete {
            self.part.sync()?;
            self.files.rename(&part, &self.path)?;
            self.files.sync_names(&self.path)?;
        } else {
            self.files.remove(&part)?;
        }
        self.files.remove(&journal)
    }
}

/// Writes at a place of its own; an error comes with how much was written.
fn write_all(file: &impl OpenFile, bytes: &[u8], offset: u64) -> Result<(), (io::Error, usize)> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64) {
            Ok(0) => return Err((io::ErrorKind::WriteZero.into(), written)),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((error, written)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
