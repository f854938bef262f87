//! Where a followed fetch's records go.

use std::{io, time::Duration};

use fanout_engine::id_set::IdSet;
use fanout_proto::control::{JobDescription, ListIdentity};
use tokio::time::sleep;

use super::lines::LineBuffer;
use crate::{
    exit::{CommandExit, Failure},
    fetch::{cannot_write, patience},
    results::{ClaimedOutput, Destination, Resumed, WriterThread, id_of, part_name},
    run::Stop,
    terminal::{
        Terminal,
        reporter::{Report, Reporter},
    },
};

/// The last records are written within this time where this client only watches the job.
const END_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct FetchOutput {
    pub(super) destination: Destination,
    records: Records,
}

enum Records {
    /// Which list they will be of is not known yet.
    Claimed(Option<ClaimedOutput>),
    Written(Box<WrittenRecords>),
}

struct WrittenRecords {
    writer: WriterThread,
    before: Resumed,
    list: ListIdentity,
    /// Bytes of the job's results before the first record, which stand here already.
    head: usize,
    lines: LineBuffer,
}

impl FetchOutput {
    /// A fetch that goes on knows its list already.
    pub(super) fn new(destination: Destination, claimed: ClaimedOutput) -> Result<Self, Failure> {
        let list = claimed.list().cloned();
        let mut output = Self { destination, records: Records::Claimed(Some(claimed)) };
        if let Some(list) = list {
            output.open(list)?;
        }
        Ok(output)
    }

    /// What is here of a fetch that goes on: its list, and which URLs are done.
    pub(super) fn before(&self) -> Option<(ListIdentity, &IdSet)> {
        match &self.records {
            Records::Written(written) if !written.before.done.is_empty() => {
                Some((written.list.clone(), &written.before.done))
            }
            _ => None,
        }
    }

    pub(super) fn begin(&mut self, job: &JobDescription) -> Result<(), Failure> {
        let list = job.list.clone().ok_or_else(|| {
            Failure::incomplete(
                "the coordinator does not say which list the job fetches: it is of another version",
            )
        })?;
        self.open(list)
    }

    fn open(&mut self, list: ListIdentity) -> Result<(), Failure> {
        match &mut self.records {
            Records::Written(written) if written.list.is_same(&list) => {}
            Records::Written(written) => {
                let theirs = &written.list;
                return Err(Failure::usage(format!(
                    "the records here are of another list: of {theirs}, and the job fetches {list}; name another \
                     file with --out"
                )));
            }
            Records::Claimed(claimed) => {
                let Some(claimed) = claimed.take() else {
                    return Ok(());
                };
                let (writer, before) = claimed.open(&list).map_err(Failure::usage)?;
                self.records = Records::Written(Box::new(WrittenRecords {
                    writer,
                    before,
                    list,
                    head: match &self.destination {
                        Destination::Stdout => 0,
                        Destination::File(_, form) => form.head().len(),
                    },
                    lines: LineBuffer::default(),
                }));
            }
        }
        Ok(())
    }

    /// Waits until there is room for more, where records are written more slowly than they come.
    pub(super) async fn room(&self) {
        if let Records::Written(written) = &self.records {
            while let Some(full) = written.writer.full() {
                full.notified().await;
            }
        }
    }

    /// Records as they come, without those that are here already.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match &mut self.records {
            Records::Written(written) => written.push(bytes, &self.destination),
            Records::Claimed(_) => {
                Err(io::Error::other("records came before the job said what it is"))
            }
        };
        written.map_err(|error| cannot_write(&self.destination, &error))
    }

    /// The job never was: nothing of it stays, but what was there before.
    pub(super) async fn discard(self) {
        match self.records {
            Records::Claimed(claimed) => claimed.into_iter().for_each(ClaimedOutput::discard),
            Records::Written(written) => {
                let _ = written.writer.finish(false, sleep(END_PATIENCE)).await;
            }
        }
    }

    /// The job is over, or this client leaves it; `whole` says that every URL has
    /// its record. Answers with how that changes the end: URLs may have been
    /// abandoned before. `stop` is listened to where the job is this client's.
    pub(super) async fn finish(
        self,
        whole: bool,
        stop: Option<&Stop>,
    ) -> Result<Option<CommandExit>, Failure> {
        let WrittenRecords { writer, before, .. } = match self.records {
            Records::Written(written) => *written,
            Records::Claimed(claimed) => {
                claimed.into_iter().for_each(ClaimedOutput::discard);
                return Ok(None);
            }
        };
        let finished = match stop {
            Some(stop) => writer.finish(whole, patience(stop)).await,
            None => writer.finish(whole, sleep(END_PATIENCE)).await,
        };
        if let Destination::File(path, _) = &self.destination {
            let part = part_name(path);
            match stop {
                _ if !part.exists() => {}
                Some(_) => Terminal::default().tell(Report::Kept(&part)),
                None => eprintln!("the records so far are in {}", part.display()),
            }
        }
        match finished {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Ok(Some(CommandExit::Incomplete))
            }
            Err(error) => Err(cannot_write(&self.destination, &error)),
            Ok(()) => Ok((whole && before.counts.abandoned > 0).then_some(CommandExit::Incomplete)),
        }
    }
}

impl WrittenRecords {
    fn push(&mut self, bytes: &[u8], destination: &Destination) -> io::Result<()> {
        let (skipped, bytes) = bytes.split_at(bytes.len().min(self.head));
        self.head -= skipped.len();
        let mut piece = Vec::new();
        match destination {
            Destination::File(_, form) if !self.before.done.is_empty() => {
                for line in self.lines.push(bytes) {
                    // The record of a URL that has none here.
                    if id_of(*form, &line).is_some_and(|id| !self.before.done.contains(id)) {
                        piece.extend_from_slice(&line);
                        piece.push(b'\n');
                    }
                }
            }
            _ => piece.extend_from_slice(bytes),
        }
        if piece.is_empty() {
            return self.writer.check();
        }
        self.writer.push(piece).map(drop)
    }
}
