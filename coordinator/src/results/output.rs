//! Results' destination, claimed for this process.

use std::{fs::File, io, os::fd::AsFd};

use fanout_engine::{id_set::IdSet, ledger::Counts};
use fanout_proto::control::ListIdentity;

use super::{
    destination::Destination,
    files::System,
    part::{Claim, Claimed, PartError},
    writer_thread::{RecordSink, WriterThread},
};

#[derive(Debug)]
pub(crate) enum ClaimedOutput {
    Stdout,
    File(Box<Claimed>),
}

impl ClaimedOutput {
    /// Claims the destination. `None`: the fetch is to go on, and it is complete.
    pub(crate) fn of(destination: &Destination, resume: bool) -> Result<Option<Self>, PartError> {
        Ok(match destination {
            Destination::Stdout => Some(Self::Stdout),
            Destination::File(path, form) => match Claim::of(System, path, *form, resume)? {
                Claimed::Whole => None,
                claimed => Some(Self::File(Box::new(claimed))),
            },
        })
    }

    /// The list that the records there are of, if there are any.
    pub(crate) fn list(&self) -> Option<&ListIdentity> {
        match self {
            Self::File(claimed) => match &**claimed {
                Claimed::Begun(_, journal) => Some(&journal.header.list),
                Claimed::Fresh(_) | Claimed::Whole => None,
            },
            Self::Stdout => None,
        }
    }

    pub(crate) fn discard(self) {
        if let Self::File(claimed) = self
            && let Claimed::Fresh(claim) = *claimed
        {
            // An empty file that stays does no harm.
            let _ = claim.discard();
        }
    }

    /// Starts to write records of `list` there, behind those that are there;
    /// those of another list are an error.
    pub(crate) fn open(self, list: &ListIdentity) -> Result<(WriterThread, Resumed), PartError> {
        let claimed = match self {
            Self::Stdout => {
                let path = "standard output";
                let stdout = io::stdout().as_fd().try_clone_to_owned();
                let stdout = stdout.map_err(|error| cannot_open(path, error))?;
                return Ok((start(path, File::from(stdout))?, Resumed::nothing(list)));
            }
            Self::File(claimed) => *claimed,
        };
        let (path, part, resumed) = match claimed {
            Claimed::Fresh(claim) => {
                (claim.part_path(), claim.begin(list)?, Resumed::nothing(list))
            }
            Claimed::Begun(claim, journal) => {
                let path = claim.part_path();
                if !journal.header.list.is_same(list) {
                    return Err(PartError::OtherList {
                        part: path.display().to_string(),
                        theirs: Box::new(journal.header.list),
                        ours: Box::new(list.clone()),
                    });
                }
                let (part, recovered) = claim.go_on(&journal)?;
                let resumed = Resumed { done: recovered.done, counts: recovered.counts };
                (path, part, resumed)
            }
            Claimed::Whole => unreachable!("it was not claimed"),
        };
        Ok((start(&path.display().to_string(), part)?, resumed))
    }
}

fn start(path: &str, sink: impl RecordSink) -> Result<WriterThread, PartError> {
    WriterThread::start(sink).map_err(|error| cannot_open(path, error))
}

fn cannot_open(path: &str, error: io::Error) -> PartError {
    PartError::Open { path: path.to_owned(), error }
}

#[derive(Debug)]
pub(crate) struct Resumed {
    pub(crate) done: IdSet,
    pub(crate) counts: Counts,
}

impl Resumed {
    fn nothing(list: &ListIdentity) -> Self {
        Self { done: IdSet::new(list.urls), counts: Counts::default() }
    }
}
