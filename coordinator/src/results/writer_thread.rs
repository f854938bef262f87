//! The thread that writes results, so that a slow disk or reader never keeps
//! the drive loop from its workers.
//!
//! Pieces wait in a queue. When more than [`QUEUE_MAX_BYTES`] wait, the thread
//! says that it is full; the drive loop then takes nothing in until there is
//! room, and that slows everything before it down to the source.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use fanout_program::lock;
use tokio::sync::Notify;
use tracing::warn;

/// Bytes that may wait before no more is taken in.
const QUEUE_MAX_BYTES: usize = 4 * 1024 * 1024;
/// Records are acknowledged at the latest this long after they were written …
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// … or so many bytes after.
const SYNC_AFTER_BYTES: u64 = 64 * 1024 * 1024;
/// Empty buffers that are kept to be used again.
const SPARE_MAX: usize = 4;

pub(crate) trait RecordSink: Send + 'static {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Bytes that are not acknowledged.
    fn unsynced(&self) -> u64;

    fn sync(&mut self) -> io::Result<()>;

    fn finish(self, complete: bool) -> io::Result<()>;
}

/// A pipe, a terminal, a file as standard output: nothing is acknowledged there.
impl RecordSink for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn unsynced(&self) -> u64 {
        0
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct WriterState {
    queue: VecDeque<Vec<u8>>,
    /// Of the queue, and of the piece that is being written.
    bytes: usize,
    spare: Vec<Vec<u8>>,
    failed: Option<io::Error>,
    /// Whether what came is all.
    ending: Option<bool>,
    ended: bool,
}

#[derive(Debug, Default)]
struct WriterShared {
    state: Mutex<WriterState>,
    work: Condvar,
    /// Something was written, failed or ended.
    done: Arc<Notify>,
}

#[derive(Debug)]
pub(crate) struct WriterThread {
    shared: Arc<WriterShared>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    pub(crate) fn start(sink: impl RecordSink) -> io::Result<Self> {
        let shared = Arc::new(WriterShared::default());
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("results".to_owned())
                .spawn(move || write(&shared, sink))?
        };
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Hands a piece over, and gets an empty buffer for the next; or the error that
    /// an earlier piece met, once.
    pub(crate) fn push(&self, piece: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut state = lock(&self.shared.state);
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if state.ended {
            return Err(io::Error::other("they were given up before"));
        }
        state.bytes += piece.len();
        state.queue.push_back(piece);
        self.shared.work.notify_one();
        Ok(state.spare.pop().unwrap_or_default())
    }

    /// What an earlier piece met, unless it was told already.
    pub(crate) fn check(&self) -> io::Result<()> {
        lock(&self.shared.state).failed.take().map_or(Ok(()), Err)
    }

    /// When it is full: what tells that it may not be any more.
    pub(crate) fn full(&self) -> Option<Arc<Notify>> {
        let state = lock(&self.shared.state);
        let full = state.bytes > QUEUE_MAX_BYTES && state.failed.is_none() && !state.ended;
        full.then(|| self.shared.done.clone())
    }

    /// Writes what is left, and gives a complete file its name. When `patience` is
    /// over it fails with `TimedOut`, and the thread is left behind.
    pub(crate) async fn finish(
        mut self,
        complete: bool,
        patience: impl Future<Output = ()>,
    ) -> io::Result<()> {
        lock(&self.shared.state).ending = Some(complete);
        self.shared.work.notify_one();
        let ended = async {
            while !lock(&self.shared.state).ended {
                self.shared.done.notified().await;
            }
        };
        tokio::select! {
            biased;
            () = ended => {}
            () = patience => return Err(io::ErrorKind::TimedOut.into()),
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            return Err(io::Error::other("the thread that writes them failed"));
        }
        self.check()
    }
}

impl Drop for WriterThread {
    /// What was handed over is written still, unless it was finished already.
    fn drop(&mut self) {
        lock(&self.shared.state).ending.get_or_insert(false);
        self.shared.work.notify_one();
    }
}

fn write(shared: &WriterShared, mut sink: impl RecordSink) {
    let mut unsynced_since = None;
    let result = loop {
        let piece = match next(shared, unsynced_since) {
            Next::Piece(piece) => Some(piece),
            Next::Sync => None,
            Next::End(complete) => break sink.finish(complete),
        };
        let length = piece.as_ref().map_or(0, Vec::len);
        let mut result = piece.as_deref().map_or(Ok(()), |piece| sink.append(piece));
        if sink.unsynced() == 0 {
            unsynced_since = None;
        } else {
            let since = *unsynced_since.get_or_insert_with(Instant::now);
            let due = since.elapsed() >= SYNC_AFTER || sink.unsynced() >= SYNC_AFTER_BYTES;
            if result.is_ok() && due {
                result = sink.sync();
                unsynced_since = None;
            }
        }
        if let Err(error) = result {
            // What is whole stays so; the first error is the one that counts.
            if let Err(error) = sink.finish(false) {
                warn!(%error, "cannot sync the results");
            }
            break Err(error);
        }
        let mut state = lock(&shared.state);
        state.bytes -= length;
        if let Some(mut piece) = piece
            && state.spare.len() < SPARE_MAX
        {
            piece.clear();
            state.spare.push(piece);
        }
        drop(state);
        shared.done.notify_one();
    };
    let mut state = lock(&shared.state);
    state.queue.clear();
    state.failed = result.err();
    state.ended = true;
    drop(state);
    shared.done.notify_one();
}

enum Next {
    Piece(Vec<u8>),
    Sync,
    End(bool),
}

fn next(shared: &WriterShared, unsynced_since: Option<Instant>) -> Next {
    let mut state = lock(&shared.state);
    loop {
        if let Some(piece) = state.queue.pop_front() {
            return Next::Piece(piece);
        }
        if let Some(complete) = state.ending {
            return Next::End(complete);
        }
        state = match unsynced_since {
            None => shared.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            Some(since) => {
                let left = SYNC_AFTER.saturating_sub(since.elapsed());
                if left.is_zero() {
                    return Next::Sync;
                }
                let waited = shared.work.wait_timeout(state, left);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes a piece whenever it is allowed to.
    struct Slow {
        allowed: mpsc::Receiver<io::Result<()>>,
        took: mpsc::Sender<Vec<u8>>,
    }

    impl RecordSink for Slow {
        fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.allowed.recv().unwrap_or(Ok(()))?;
            let _ = self.took.send(bytes.to_vec());
            Ok(())
        }

        fn unsynced(&self) -> u64 {
            0
        }

        fn sync(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn finish(self, complete: bool) -> io::Result<()> {
            let _ = self.took.send(vec![u8::from(complete)]);
            Ok(())
        }
    }

    fn slow() -> (WriterThread, mpsc::Sender<io::Result<()>>, mpsc::Receiver<Vec<u8>>) {
        let (allow, allowed) = mpsc::channel();
        let (took, taken) = mpsc::channel();
        (WriterThread::start(Slow { allowed, took }).unwrap(), allow, taken)
    }

    #[tokio::test]
    async fn a_slow_drain_is_full_until_it_has_taken_enough() {
        let (thread, allow, taken) = slow();
        let piece = vec![7; QUEUE_MAX_BYTES / 2];
        thread.push(piece.clone()).unwrap();
        thread.push(piece.clone()).unwrap();
        assert!(thread.full().is_none());
        thread.push(piece.clone()).unwrap();
        let full = thread.full().unwrap();
        allow.send(Ok(())).unwrap();
        while thread.full().is_some() {
            full.notified().await;
        }
        drop(allow);
        thread.finish(true, std::future::pending()).await.unwrap();
        let taken: Vec<_> = taken.into_iter().collect();
        assert_eq!(taken.len(), 4);
        assert_eq!(taken[3], [1]);
    }

    #[tokio::test]
    async fn a_drain_that_fails_is_told_of_and_is_never_full() {
        let (thread, allow, taken) = slow();
        thread.push(vec![0; QUEUE_MAX_BYTES + 1]).unwrap();
        let full = thread.full().unwrap();
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        full.notified().await;
        assert!(thread.full().is_none());
        let error = thread.check().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(taken.recv().unwrap(), [0], "it was finished, not complete");
        thread.finish(false, std::future::pending()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_for_a_drain_that_takes_nothing() {
        let (thread, allow, _taken) = slow();
        thread.push(vec![1]).unwrap();
        let error = thread.finish(true, std::future::ready(())).await;
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(allow);
    }
}
