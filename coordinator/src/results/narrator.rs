//! Tells of starts and ends of URLs, one by one.

use std::{fs::File, io, os::fd::OwnedFd};

use super::writer_thread::WriterThread;

pub(crate) enum Narrator<'a> {
    /// This never keeps us waiting.
    Direct(Box<dyn Fn(&str) + 'a>),
    /// A terminal or a pipe may.
    Thread(WriterThread),
}

impl<'a> Narrator<'a> {
    /// Hands lines to `say`; or writes them there on a thread of its own, where that `may_block`.
    pub(crate) fn new(say: impl Fn(&str) + 'a, may_block: Option<OwnedFd>) -> Self {
        may_block
            .and_then(|there| WriterThread::start(File::from(there)).ok())
            .map_or_else(|| Self::Direct(Box::new(say)), Self::Thread)
    }

    pub(super) fn thread(&self) -> Option<&WriterThread> {
        match self {
            Self::Direct(_) => None,
            Self::Thread(thread) => Some(thread),
        }
    }

    /// Whether it is heard does not matter to the results.
    pub(super) fn say(&self, lines: &str) {
        match self {
            Self::Direct(say) => say(lines),
            Self::Thread(thread) => {
                let _ = thread.push(lines.as_bytes().to_vec());
            }
        }
    }

    pub(super) async fn finish(self, patience: impl Future<Output = ()>) -> io::Result<()> {
        match self {
            Self::Direct(_) => Ok(()),
            Self::Thread(thread) => thread.finish(true, patience).await,
        }
    }
}
