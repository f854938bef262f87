//! Where a followed job's output goes: to the same places as a local run's.

use std::{io, path::Path, time::Duration};

use fanout_analysis::record::Study;
use fanout_engine::id_set::IdSet;
use fanout_proto::control::{JobDescription, ListIdentity};
use tokio::time::sleep;

use crate::{
    cli::{
        Format,
        exit::{Exit, Failure},
    },
    fetch::{cannot_write, patience},
    results::{Before, Destination, Form, Taken, Writer, id_of, part_name},
    run::Stop,
    study::store::Store,
    terminal::{
        Terminal, print,
        reporter::{Report, Reporter},
    },
};

/// The last records are written within this time of whoever only watches a job.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Takes what a job produces, byte by byte.
pub(super) struct Output {
    kind: Kind,
    journal: Lines,
    /// Bytes of the journal and of the results so far.
    pub(super) taken: (u64, u64),
}

/// Where a study is kept beside the coordinator's own store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Keep<'a> {
    /// Here: the directory, or one named after the time.
    Here(Option<&'a Path>),
    /// Nowhere else; these are the coordinator's pages.
    Pages(&'a str),
}

impl<'a> Keep<'a> {
    pub(super) fn new(out: Option<&'a Path>, pages: Option<&'a str>) -> Self {
        match pages.filter(|url| !url.is_empty()) {
            Some(url) if out.is_none() => Self::Pages(url),
            _ => Self::Here(out),
        }
    }
}

enum Kind {
    Study {
        kept: Kept,
        terminal: Terminal,
        series: bool,
        studies: Lines,
        count: u32,
    },
    Fetch {
        destination: Destination,
        records: Records,
    },
}

/// [`Keep`], carried out.
enum Kept {
    Here(Store),
    Pages(String),
}

/// A fetch's records on this side.
enum Records {
    /// Which list they will be of is not known yet.
    Taken(Taken),
    Open(Box<Written>),
    Ended,
}

/// Records that are being written.
struct Written {
    writer: Writer,
    before: Before,
    /// The list that they are of.
    list: ListIdentity,
    /// Bytes of the job's results before the first record, which stand here already.
    head: usize,
    lines: Lines,
}

/// Cuts bytes into lines.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The lines that are whole by now.
    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        whole
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }
}

impl Output {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            journal: Lines::default(),
            taken: (0, 0),
        }
    }

    /// A study's directory and its table on standard output.
    pub(super) fn study(keep: Keep<'_>, format: Format, series: bool) -> Result<Self, Failure> {
        let kept = match keep {
            Keep::Here(Some(out)) if out.join("study.json").exists() => {
                return Err(Failure::usage(format!(
                    "--out {}: a study is kept there already; name another directory",
                    out.display()
                )));
            }
            Keep::Here(out) => Kept::Here(Store::create(out).map_err(Failure::usage)?),
            Keep::Pages(url) => Kept::Pages(url.trim_end_matches('/').to_owned()),
        };
        Ok(Self::new(Kind::Study {
            kept,
            terminal: Terminal::new(format),
            series,
            studies: Lines::default(),
            count: 0,
        }))
    }

    /// The coordinator's pages, if there is a study that is kept there alone.
    pub(super) fn pages(&self) -> Option<&str> {
        match &self.kind {
            Kind::Study {
                kept: Kept::Pages(url),
                count: 1..,
                ..
            } => Some(url),
            _ => None,
        }
    }

    /// A fetch's results file, or standard output. A fetch that goes on knows its
    /// list already.
    pub(super) fn fetch(destination: Destination, taken: Taken) -> Result<Self, Failure> {
        let mut records = Records::Taken(taken);
        if let Records::Taken(taken) = &records
            && let Some(list) = taken.list().cloned()
        {
            records.open(list, &destination)?;
        }
        Ok(Self::new(Kind::Fetch {
            destination,
            records,
        }))
    }

    /// What is here of a fetch that goes on: its list, and which URLs are done.
    pub(super) fn before(&self) -> Option<(ListIdentity, &IdSet)> {
        match &self.kind {
            Kind::Fetch {
                records: Records::Open(open),
                ..
            } if !open.before.done.is_empty() => Some((open.list.clone(), &open.before.done)),
            _ => None,
        }
    }

    /// The job says what it is.
    pub(super) fn begin(&mut self, job: &JobDescription) -> Result<(), Failure> {
        match &mut self.kind {
            Kind::Fetch {
                records,
                destination,
            } => {
                let list = job.list.clone().ok_or_else(|| {
                    Failure::incomplete(
                        "the coordinator does not say which list the job fetches: it is of another version",
                    )
                })?;
                records.open(list, destination)
            }
            Kind::Study { .. } => Ok(()),
        }
    }

    /// The job never was: nothing of it stays.
    pub(super) async fn discard(self) {
        match self.kind {
            Kind::Study {
                kept: Kept::Here(store),
                ..
            } => store.discard(),
            Kind::Study { .. } => {}
            Kind::Fetch { records, .. } => match records {
                Records::Taken(taken) => taken.discard(),
                Records::Open(open) => {
                    // What was there before stays.
                    let _ = open.writer.finish(false, sleep(END_PATIENCE)).await;
                }
                Records::Ended => {}
            },
        }
    }

    /// Waits until there is room for more, where records are written more slowly
    /// than they come.
    pub(super) async fn room(&self) {
        if let Kind::Fetch {
            records: Records::Open(open),
            ..
        } = &self.kind
        {
            while let Some(full) = open.writer.full() {
                full.notified().await;
            }
        }
    }

    /// Lines for standard output and standard error.
    pub(super) fn journal(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.taken.0 += bytes.len() as u64;
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
        self.taken.1 += bytes.len() as u64;
        match &mut self.kind {
            Kind::Fetch {
                destination,
                records,
            } => records
                .push(bytes, destination)
                .map_err(|error| cannot_write(destination, &error)),
            Kind::Study {
                kept,
                terminal,
                series,
                studies,
                count,
            } => {
                for line in studies.push(bytes) {
                    let study: Study = serde_json::from_slice(&line).map_err(|error| {
                        Failure::incomplete(format!(
                            "the coordinator's study cannot be read: {error}"
                        ))
                    })?;
                    *count += 1;
                    match (&*kept, *series) {
                        (Kept::Here(store), true) => store
                            .within(&format!("{count:04}"))
                            .map_err(Failure::usage)?
                            .save(&study)
                            .map_err(Failure::incomplete)?,
                        (Kept::Here(store), false) => {
                            store.save(&study).map_err(Failure::incomplete)?;
                            terminal
                                .report(Report::Study(&study, &store.report()))
                                .map_err(Failure::incomplete)?;
                        }
                        (Kept::Pages(_), true) => {}
                        (Kept::Pages(_), false) => {
                            print::show(&study, terminal.format).map_err(Failure::incomplete)?
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether results go to standard output as they come.
    pub(super) fn shows_results(&self) -> bool {
        !matches!(
            self.kind,
            Kind::Fetch {
                destination: Destination::File(..),
                ..
            }
        )
    }

    /// The job is over, or this client leaves it; `whole` says that every URL has
    /// its record. Answers with how that changes the end: URLs may have been
    /// abandoned before. `stop` is listened to where the job is this client's.
    pub(super) async fn finish(
        self,
        whole: bool,
        stop: Option<&Stop>,
    ) -> Result<Option<Exit>, Failure> {
        let (destination, records) = match self.kind {
            // Goes away only if it is empty.
            Kind::Study { kept, .. } => {
                if let Kept::Here(store) = kept {
                    store.discard();
                }
                return Ok(None);
            }
            Kind::Fetch {
                destination,
                records,
            } => (destination, records),
        };
        let (writer, before) = match records {
            Records::Open(open) => (open.writer, open.before),
            Records::Taken(taken) => {
                taken.discard();
                return Ok(None);
            }
            Records::Ended => return Ok(None),
        };
        let finished = match stop {
            Some(stop) => writer.finish(whole, patience(stop)).await,
            None => writer.finish(whole, sleep(END_PATIENCE)).await,
        };
        if let Destination::File(path, _) = &destination
            && part_name(path).exists()
        {
            match stop {
                Some(_) => Terminal::default().tell(Report::Kept(&part_name(path))),
                None => eprintln!("the records so far are in {}", part_name(path).display()),
            }
        }
        match finished {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Some(Exit::Incomplete)),
            Err(error) => Err(cannot_write(&destination, &error)),
            Ok(()) => Ok((whole && before.counts.abandoned > 0).then_some(Exit::Incomplete)),
        }
    }
}

impl Records {
    fn open(&mut self, list: ListIdentity, destination: &Destination) -> Result<(), Failure> {
        if let Self::Open(open) = self
            && !open.list.is_same(&list)
        {
            let theirs = &open.list;
            return Err(Failure::usage(format!(
                "the records here are of another list: of {theirs}, and the job fetches {list}; name another \
                 file with --out"
            )));
        }
        match std::mem::replace(self, Self::Ended) {
            Self::Taken(taken) => {
                let (writer, before) = taken.open(&list).map_err(Failure::usage)?;
                *self = Self::Open(Box::new(Written {
                    writer,
                    before,
                    list,
                    head: match destination {
                        Destination::Stdout => 0,
                        Destination::File(_, form) => form.head().len(),
                    },
                    lines: Lines::default(),
                }));
            }
            open => *self = open,
        }
        Ok(())
    }

    /// Records as they come, without those that are here already.
    fn push(&mut self, bytes: &[u8], destination: &Destination) -> io::Result<()> {
        let Self::Open(open) = self else {
            return Err(io::Error::other(
                "records came before the job said what it is",
            ));
        };
        let Written {
            writer,
            before,
            head,
            lines,
            ..
        } = &mut **open;
        let (skipped, bytes) = bytes.split_at(bytes.len().min(*head));
        *head -= skipped.len();
        let mut piece = Vec::new();
        match destination {
            Destination::File(_, form) if !before.done.is_empty() => {
                for line in lines.push(bytes) {
                    if is_new(*form, &line, &before.done) {
                        piece.extend_from_slice(&line);
                        piece.push(b'\n');
                    }
                }
            }
            _ => piece.extend_from_slice(bytes),
        }
        if piece.is_empty() {
            return writer.check();
        }
        writer.push(piece).map(drop)
    }
}

/// Whether a line is the record of a URL that has none here.
fn is_new(form: Form, line: &[u8], done: &IdSet) -> bool {
    id_of(form, line).is_some_and(|id| !done.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut lines = Lines::default();
        assert!(lines.push(b"1a").is_empty());
        assert_eq!(lines.push(b"b\n2c\n1"), [b"1ab".to_vec(), b"2c".to_vec()]);
        assert_eq!(lines.push(b"d\n"), [b"1d".to_vec()]);
    }
}
