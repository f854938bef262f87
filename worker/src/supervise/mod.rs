//! One fetcher's process and pipes: start it, write its frames, forward its answers, reap it.
//!
//! [`supervise`] is the task that owns the process. It decides nothing: what
//! happens it tells as an [`FetcherEvent`], and `trial` says what follows.

mod event;
mod fetcher_message;
mod pipe_queue;
mod pipes;
mod start;

use std::{io, os::fd::OwnedFd, process::ExitStatus, sync::Arc, time::Duration};

use bytes::Bytes;
use fanout_proto::{limits::FRAME_MAX_BYTES, wire};
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, unix::AsyncFd},
    net::unix::pipe::Receiver,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub(crate) use event::{FetcherEnd, FetcherEvent, FetcherEventKind, FetcherOutput};
#[cfg(fuzzing)]
pub(crate) use fetcher_message::FetcherMessage;
pub(crate) use pipe_queue::PipeQueue;
pub use start::FetcherCommand;
pub(crate) use start::{FetcherProcess, Killer, Started, TOKEN_VARIABLE, own, pipe_bytes, start};

use crate::measure::usage::Reaped;
use pipes::{listen, read_frames, write_frames};

/// How much of the standard error of a fetcher that is only asked is read.
const WORDS_MAX_BYTES: u64 = 64 * 1024;

pub(crate) async fn supervise(
    process: FetcherProcess,
    queue: Arc<PipeQueue>,
    output: FetcherOutput,
) {
    let FetcherProcess { mut child, stdin, mut stdout, mut stderr, exit } = process;
    let ended = CancellationToken::new();
    let mut last_words = Vec::new();
    let (mut bytes_to_fetcher, mut bytes_from_fetcher) = (0, 0);
    let reaped = {
        // The pipes' ends: each finishes by itself once the fetcher has ended.
        let pipes = async {
            tokio::join!(
                write_frames(stdin, &queue, &output, &ended, &mut bytes_to_fetcher),
                read_frames(&mut stdout, &output, &ended, &mut bytes_from_fetcher),
                listen(&mut stderr, &output, &ended, &mut last_words),
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
    output
        .tell(FetcherEventKind::Ended(FetcherEnd {
            reaped,
            last_words: last_words_text(&last_words),
            bytes_to_fetcher,
            bytes_from_fetcher,
        }))
        .await;
}

/// What a fetcher said that was told everything at once.
pub(crate) struct Answer {
    /// The first of its standard output, as many bytes as a frame may have.
    pub(crate) said: Vec<u8>,
    /// The last lines of the first of its standard error, as one text.
    pub(crate) words: String,
    pub(crate) status: ExitStatus,
}

/// Writes `told`, and hears what is said until it ends; `None` where that takes longer. The process
/// and whatever it started are gone afterwards.
pub(crate) async fn converse(
    process: FetcherProcess,
    told: &[u8],
    within: Duration,
) -> io::Result<Option<Answer>> {
    let killer = process.killer();
    let FetcherProcess { mut child, mut stdin, stdout, stderr, exit } = process;
    let conversation = async {
        // One that does not read says so by its exit.
        let _ = stdin.write_all(told).await;
        let (said, words) = tokio::join!(
            the_first(stdout, FRAME_MAX_BYTES as u64),
            the_first(stderr, WORDS_MAX_BYTES)
        );
        (said, last_words_text(&words))
    };
    // The pipes end with the fetcher, or when what it left behind is killed as it is reaped.
    let both = async { tokio::join!(conversation, ended_and_reaped(&exit, &mut child)) };
    match timeout(within, both).await {
        Ok(((said, words), reaped)) => Ok(Some(Answer { said, words, status: reaped?.status })),
        Err(_) => {
            killer.kill();
            ended_and_reaped(&exit, &mut child).await?;
            Ok(None)
        }
    }
}

async fn the_first(pipe: Receiver, max_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What was read before an error counts.
    let _ = pipe.take(max_bytes).read_to_end(&mut bytes).await;
    bytes
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
pub(crate) fn last_words_text(bytes: &[u8]) -> String {
    const LINES: usize = 5;
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<_> = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    lines[lines.len().saturating_sub(LINES)..].join("; ").chars().map(plain).collect()
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
        assert_eq!(last_words_text(b"1\n2\n\n3\r\n4\n  5\n6\x1b[0m\n"), "2; 3; 4; 5; 6 [0m");
    }
}
