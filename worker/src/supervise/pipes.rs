//! The worker's ends of a fetcher's pipes.

use std::io;

use bytes::BytesMut;
use fanout_proto::frame;
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe::{Receiver, Sender},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    event::FetcherOutput,
    fetcher_message::FetcherMessage,
    pipe_queue::{BeingWritten, PipeQueue},
};
use crate::trial::TrialInput;

/// Room made in the buffer before each read from a fetcher.
const READ_BYTES: usize = 64 * 1024;
/// How much of a fetcher's stderr is kept: its last words.
const LAST_WORDS_BYTES: usize = 4 * 1024;

/// Writes what the queue holds, until the fetcher stops reading or has ended.
pub(super) async fn write_frames(
    stdin: Sender,
    queue: &PipeQueue,
    output: &FetcherOutput,
    ended: &CancellationToken,
    bytes: &mut u64,
) {
    let write = async {
        let mut writing = BeingWritten::default();
        loop {
            if writing.is_empty() {
                queue.take(&mut writing).await;
            }
            if stdin.writable().await.is_err() {
                return;
            }
            match writing.with_slices(|slices| stdin.try_write_vectored(slices)) {
                Ok(written) => {
                    *bytes += written as u64;
                    if writing.advance(written, queue) {
                        output.did(TrialInput::GoWritten(output.fetcher, Instant::now())).await;
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
pub(super) async fn read_frames(
    stdout: &mut Receiver,
    output: &FetcherOutput,
    ended: &CancellationToken,
    bytes: &mut u64,
) {
    let mut buffer = BytesMut::new();
    loop {
        match read_some(stdout, ended, &mut buffer).await {
            Ok(0) => break,
            Ok(read) => *bytes += read as u64,
            Err(error) => {
                output
                    .did(TrialInput::Broken(output.fetcher, format!("its pipe failed: {error}")))
                    .await;
                return;
            }
        }
        loop {
            let answer = match frame::take(&mut buffer) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    FetcherMessage::try_from(frame).map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            match answer {
                Ok(FetcherMessage::Forward(frame)) => {
                    if !output.forward(frame).await {
                        return;
                    }
                }
                Ok(FetcherMessage::Ready) => {
                    output.did(TrialInput::Ready(output.fetcher, Instant::now())).await
                }
                Ok(FetcherMessage::Report(report)) => {
                    output.did(TrialInput::Report(output.fetcher, report)).await
                }
                Ok(FetcherMessage::SetupFailed(reason)) => {
                    output.did(TrialInput::SetupFailed(output.fetcher, reason)).await
                }
                Err(reason) => {
                    let reason = format!("what it wrote makes no sense: {reason}");
                    output.did(TrialInput::Broken(output.fetcher, reason)).await;
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
    // The read above may have been held back for other tasks' sake only, with
    // the pipe still full: ask the kernel itself.
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

pub(super) async fn listen(
    stderr: &mut Receiver,
    output: &FetcherOutput,
    ended: &CancellationToken,
    last_words: &mut Vec<u8>,
) {
    let mut buffer = BytesMut::new();
    while let Ok(1..) = read_some(stderr, ended, &mut buffer).await {
        tracing::debug!(
            trial = output.trial.0,
            fetcher = output.fetcher.0,
            "stderr: {}",
            String::from_utf8_lossy(&buffer).trim_end()
        );
        last_words.extend_from_slice(&buffer);
        let surplus = last_words.len().saturating_sub(LAST_WORDS_BYTES);
        last_words.drain(..surplus);
        buffer.clear();
    }
}
