//! One fetcher's process and pipes: start it, write its frames, forward its
//! answers, reap it.
//!
//! [`supervise`] is the task that owns the process. It decides nothing: what
//! happens it tells as an [`Event`], and `trial` says what follows.

mod answer;
mod outbox;
mod pipes;
mod start;

use std::{io, os::fd::OwnedFd, sync::Arc};

use bytes::Bytes;
use fanout_proto::{
    id::{FetcherId, TrialId},
    report::FetcherReport,
    wire,
};
use prost::Message;
use tokio::{io::unix::AsyncFd, sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

#[cfg(fuzzing)]
pub(crate) use answer::Answer;
pub(crate) use outbox::Outbox;
pub use start::FetcherCommand;
pub(crate) use start::{Killer, Process, Started, TOKEN_VARIABLE, pipe_bytes, start};

use crate::measure::usage::Reaped;
use pipes::{listen, read_frames, write_frames};

/// What a fetcher did, or what became of it.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) trial: TrialId,
    pub(crate) fetcher: FetcherId,
    pub(crate) what: What,
}

/// See [`Event`].
#[derive(Debug)]
pub(crate) enum What {
    /// Its model is set up.
    Ready(Instant),
    /// Go is in its pipe.
    GoWritten(Instant),
    /// It holds.
    Report(FetcherReport),
    /// It cannot work as it was told to.
    SetupFailed(String),
    /// What it writes makes no sense; nothing more is read from it.
    Broken(String),
    /// It has been reaped; always the last.
    Ended(Ended),
}

/// What is known once a fetcher has been reaped.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) reaped: io::Result<Reaped>,
    /// The end of what it wrote to stderr.
    pub(crate) last_words: String,
    pub(crate) bytes_to_fetcher: u64,
    pub(crate) bytes_from_fetcher: u64,
}

/// Where a fetcher's answers go.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    pub(crate) trial: TrialId,
    pub(crate) fetcher: FetcherId,
    /// To the coordinator; full, it stops the reading from the fetcher.
    pub(crate) frames: mpsc::Sender<wire::FromWorker>,
    /// To the session.
    pub(crate) events: mpsc::Sender<Event>,
    /// Cancelled when nobody wants this trial's frames any more.
    pub(crate) unwanted: CancellationToken,
}

impl Outlet {
    async fn tell(&self, what: What) {
        let (trial, fetcher) = (self.trial, self.fetcher);
        // A session that is over listens no more.
        let _ = self
            .events
            .send(Event {
                trial,
                fetcher,
                what,
            })
            .await;
    }

    /// Passes a frame on; `false` when nobody wants it.
    async fn forward(&self, frame: Bytes) -> bool {
        let message = crate::message::frame(self.trial, self.fetcher, frame);
        tokio::select! {
            biased;
            () = self.unwanted.cancelled() => false,
            sent = self.frames.send(message) => sent.is_ok(),
        }
    }
}

/// Sees a started fetcher to its end.
pub(crate) async fn supervise(process: Process, outbox: Arc<Outbox>, outlet: Outlet) {
    let Process {
        mut child,
        stdin,
        mut stdout,
        mut stderr,
        exit,
    } = process;
    let ended = CancellationToken::new();
    let mut last_words = Vec::new();
    let (mut bytes_to_fetcher, mut bytes_from_fetcher) = (0, 0);
    let reaped = {
        // The pipes' ends: each finishes by itself once the fetcher has ended.
        let pipes = async {
            tokio::join!(
                write_frames(stdin, &outbox, &outlet, &ended, &mut bytes_to_fetcher),
                read_frames(&mut stdout, &outlet, &ended, &mut bytes_from_fetcher),
                listen(&mut stderr, &outlet, &ended, &mut last_words),
            );
        };
        tokio::pin!(pipes);
        let mut open = true;
        let reaped = loop {
            tokio::select! {
                reaped = ended_and_reaped(&exit, &mut child) => break reaped,
                () = &mut pipes, if open => open = false,
            }
        };
        ended.cancel();
        if open {
            pipes.await;
        }
        reaped
    };
    outlet
        .tell(What::Ended(Ended {
            reaped,
            last_words: last_words_text(&last_words),
            bytes_to_fetcher,
            bytes_from_fetcher,
        }))
        .await;
}

async fn ended_and_reaped(
    exit: &AsyncFd<Arc<OwnedFd>>,
    child: &mut start::OwnedChild,
) -> io::Result<Reaped> {
    loop {
        let mut readable = exit.readable().await?;
        if let Some(reaped) = child.reap()? {
            return Ok(reaped);
        }
        readable.clear_ready();
    }
}

/// The last lines, as one text for a reason.
fn last_words_text(bytes: &[u8]) -> String {
    const LINES: usize = 5;
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    lines[lines.len().saturating_sub(LINES)..]
        .join("; ")
        .chars()
        .map(plain)
        .collect()
}

/// An encoded message to a fetcher that the worker sends on its own account.
pub(crate) fn to_fetcher(message: wire::to_fetcher::Message) -> Bytes {
    let message = Some(message);
    wire::ToFetcher { message }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines_without_control_characters() {
        assert_eq!(last_words_text(b""), "");
        assert_eq!(
            last_words_text(b"1\n2\n\n3\r\n4\n  5\n6\x1b[0m\n"),
            "2; 3; 4; 5; 6 [0m"
        );
    }
}
