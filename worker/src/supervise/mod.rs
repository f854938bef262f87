//! One fetcher's process and pipes: start it, write its frames, forward its
//! answers, reap it.
//!
//! A [`Fetcher`] is a task that owns the process. It decides nothing: what
//! happens it tells as an [`Event`], and `trial` says what follows.

mod outbox;
mod start;

use std::{io, sync::Arc};

use bytes::{Bytes, BytesMut};
use fanout_proto::{
    WireError, frame,
    id::{FetcherId, TrialId},
    limits::FRAME_MAX_BYTES,
    report::FetcherReport,
    wire,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, unix::AsyncFd},
    net::unix::pipe::{Receiver, Sender},
    sync::mpsc,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use outbox::Outbox;
pub(crate) use start::{Killer, Process, Started, TOKEN_VARIABLE, pipe_bytes, start};

pub use start::FetcherCommand;

use crate::measure::usage::Reaped;
use outbox::Hand;

/// Room made in the buffer before each read from a fetcher.
const READ_BYTES: usize = 64 * 1024;
/// How much of a fetcher's stderr is kept: its last words.
const LAST_WORDS_BYTES: usize = 4 * 1024;

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
    exit: &AsyncFd<Arc<std::os::fd::OwnedFd>>,
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

/// Writes what the outbox holds, until the fetcher stops reading or has ended.
async fn write_frames(
    stdin: Sender,
    outbox: &Outbox,
    outlet: &Outlet,
    ended: &CancellationToken,
    bytes: &mut u64,
) {
    let write = async {
        let mut hand = Hand::default();
        loop {
            if hand.is_empty() {
                outbox.take(&mut hand).await;
            }
            if stdin.writable().await.is_err() {
                return;
            }
            match hand.with_slices(|slices| stdin.try_write_vectored(slices)) {
                Ok(written) => {
                    *bytes += written as u64;
                    if hand.advance(written, outbox) {
                        outlet.tell(What::GoWritten(Instant::now())).await;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // It closed its end; its exit will say why.
                Err(_) => return,
            }
        }
    };
    tokio::select! {
        () = ended.cancelled() => {}
        () = write => {}
    }
}

/// Forwards completions undecoded and tells the rest, to the pipe's end.
async fn read_frames(
    stdout: &mut Receiver,
    outlet: &Outlet,
    ended: &CancellationToken,
    bytes: &mut u64,
) {
    let mut buffer = BytesMut::new();
    loop {
        match read_some(stdout, ended, &mut buffer).await {
            Ok(0) => break,
            Ok(read) => *bytes += read as u64,
            Err(error) => {
                outlet
                    .tell(What::Broken(format!("its pipe failed: {error}")))
                    .await;
                return;
            }
        }
        loop {
            let answer = match frame::take(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => Answer::try_from(frame).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match answer {
                Ok(Answer::Forward(frame)) => {
                    if !outlet.forward(frame).await {
                        return;
                    }
                }
                Ok(Answer::Ready) => outlet.tell(What::Ready(Instant::now())).await,
                Ok(Answer::Report(report)) => outlet.tell(What::Report(report)).await,
                Ok(Answer::SetupFailed(reason)) => outlet.tell(What::SetupFailed(reason)).await,
                Err(reason) => {
                    let reason = format!("what it wrote makes no sense: {reason}");
                    outlet.tell(What::Broken(reason)).await;
                    return;
                }
            }
        }
    }
}

/// Reads what there is; 0 at the pipe's end. Once the fetcher has ended all it
/// wrote is in the pipe already, so an empty pipe is its end as well, even if
/// something that it started still holds the other end open.
async fn read_some(
    pipe: &mut Receiver,
    ended: &CancellationToken,
    buffer: &mut BytesMut,
) -> io::Result<usize> {
    if buffer.capacity() - buffer.len() < READ_BYTES / 4 {
        buffer.reserve(READ_BYTES);
    }
    tokio::select! {
        biased;
        read = pipe.read_buf(buffer) => return read,
        () = ended.cancelled() => {}
    }
    // Readiness may not have been noticed yet: ask the kernel itself.
    let mut rest = vec![0; READ_BYTES];
    match rustix::io::read(&*pipe, &mut rest[..]) {
        Ok(read) => {
            buffer.extend_from_slice(&rest[..read]);
            Ok(read)
        }
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// Keeps the end of what the fetcher says on stderr.
async fn listen(
    stderr: &mut Receiver,
    outlet: &Outlet,
    ended: &CancellationToken,
    last_words: &mut Vec<u8>,
) {
    let mut buffer = BytesMut::new();
    while let Ok(1..) = read_some(stderr, ended, &mut buffer).await {
        tracing::debug!(
            trial = outlet.trial.0,
            fetcher = outlet.fetcher.0,
            "stderr: {}",
            String::from_utf8_lossy(&buffer).trim_end()
        );
        last_words.extend_from_slice(&buffer);
        let surplus = last_words.len().saturating_sub(LAST_WORDS_BYTES);
        last_words.drain(..surplus);
        buffer.clear();
    }
}

/// The last lines, as one text for a reason.
fn last_words_text(octets: &[u8]) -> String {
    const LINES: usize = 5;
    let text = String::from_utf8_lossy(octets);
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

/// A frame from a fetcher, as far as the worker looks into it.
#[derive(Debug, PartialEq)]
enum Answer {
    Forward(Bytes),
    Ready,
    Report(FetcherReport),
    SetupFailed(String),
}

impl TryFrom<Bytes> for Answer {
    type Error = WireError;

    fn try_from(frame: Bytes) -> Result<Self, WireError> {
        use wire::from_fetcher::Message as From;
        if is_batch(&frame) {
            return Ok(Self::Forward(frame));
        }
        let message = wire::FromFetcher::decode(frame.clone())?.message;
        Ok(match message.ok_or(WireError::Missing("message"))? {
            From::Ready(wire::FetcherIsReady {}) => Self::Ready,
            From::Completions(_) | From::Started(_) => Self::Forward(frame),
            From::Report(report) => Self::Report(report.into()),
            From::Failed(wire::SetupFailed { reason }) => Self::SetupFailed(reason),
        })
    }
}

/// Whether `frame` is a batch of completions or of starts and nothing else,
/// by its outermost field alone: decoding the columns would cost more than
/// everything else that the worker does with them.
fn is_batch(frame: &[u8]) -> bool {
    const COMPLETIONS: u8 = 2 << 3 | 2;
    const STARTED: u8 = 3 << 3 | 2;
    match frame.split_first() {
        Some((&(COMPLETIONS | STARTED), mut rest)) => {
            // Decoding moves `rest` past the length.
            prost::decode_length_delimiter(&mut rest).is_ok_and(|length| length == rest.len())
        }
        _ => false,
    }
}

/// An encoded message to a fetcher that the worker sends on its own account.
pub(crate) fn to_fetcher(message: wire::to_fetcher::Message) -> Bytes {
    let frame = wire::ToFetcher {
        message: Some(message),
    };
    debug_assert!(frame.encoded_len() <= FRAME_MAX_BYTES);
    frame.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::{
        completion::{Completion, CompletionBatchBuilder, Outcome},
        id::UrlId,
    };

    fn encoded(message: Option<wire::from_fetcher::Message>) -> Bytes {
        wire::FromFetcher { message }.encode_to_vec().into()
    }

    fn completions(count: u64) -> wire::CompletionBatch {
        let mut builder = CompletionBatchBuilder::default();
        for id in 0..count {
            let completion = Completion {
                id: UrlId(id),
                outcome: Outcome::Ok,
                status: Some(200),
                body_bytes: 64,
                start_us: id,
                connect_us: 0,
                first_byte_us: Some(1),
                duration_us: 2,
                slot: 0,
            };
            builder.push(&completion, None);
        }
        builder.take()
    }

    #[test]
    fn batches_are_known_by_their_first_octets() {
        use wire::from_fetcher::Message as From;
        for count in [1, 100, 4096] {
            let frame = encoded(Some(From::Completions(completions(count))));
            assert!(is_batch(&frame));
            assert_eq!(Answer::try_from(frame.clone()), Ok(Answer::Forward(frame)));
        }
        let started = encoded(Some(From::Started(wire::StartedBatch::default())));
        assert!(is_batch(&started));
        for other in [
            From::Ready(wire::FetcherIsReady {}),
            From::Report(wire::FetcherReport::default()),
            From::Failed(wire::SetupFailed::default()),
        ] {
            assert!(!is_batch(&encoded(Some(other))));
        }
    }

    #[test]
    fn nothing_hides_behind_a_batch() {
        use wire::from_fetcher::Message as From;
        let mut both = encoded(Some(From::Completions(completions(3)))).to_vec();
        both.extend(encoded(Some(From::Ready(wire::FetcherIsReady {}))));
        // The last field of a oneof holds.
        assert_eq!(Answer::try_from(Bytes::from(both)), Ok(Answer::Ready));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        assert_eq!(
            Answer::try_from(Bytes::new()),
            Err(WireError::Missing("message"))
        );
        assert_eq!(
            Answer::try_from(Bytes::from_static(b"\x7a\x00")),
            Err(WireError::Missing("message"))
        );
        assert!(matches!(
            Answer::try_from(Bytes::from_static(b"hello, world")),
            Err(WireError::Undecodable(_))
        ));
        // A batch that is longer than its frame.
        assert!(Answer::try_from(Bytes::from_static(b"\x12\x05\x01")).is_err());
    }

    #[test]
    fn last_words_are_the_last_lines_without_control_characters() {
        assert_eq!(last_words_text(b""), "");
        assert_eq!(
            last_words_text(b"1\n2\n\n3\r\n4\n  5\n6\x1b[0m\n"),
            "2; 3; 4; 5; 6 [0m"
        );
    }
}
