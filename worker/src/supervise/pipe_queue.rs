//! Frames that wait for one fetcher's pipe.

use std::{collections::VecDeque, io::IoSlice, sync::Mutex};

use bytes::{Buf, Bytes};
use fanout_program::lock;
use fanout_proto::frame;
use tokio::sync::Notify;

/// Most bytes that may wait for one fetcher. Credit keeps the coordinator far
/// below: 65,536 leases of ordinary URLs are under 10 MiB.
pub(crate) const QUEUE_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What a frame counts for besides its bytes, so that many small ones are bounded too.
const FRAME_OVERHEAD_BYTES: usize = 64;

/// Slices handed to one `writev`; two a frame.
const SLICES_MAX: usize = 32;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {} MiB wait for this fetcher; the coordinator must keep to its credit", QUEUE_MAX_BYTES >> 20)]
pub(crate) struct Overfull;

/// A bounded queue between the session and the task that writes the pipe.
/// Owns the invariant that what waits stays below [`QUEUE_MAX_BYTES`].
#[derive(Debug, Default)]
pub(crate) struct PipeQueue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<QueuedFrame>,
    /// Of the entries and of what the writer holds.
    bytes: usize,
}

/// One frame, or what is left of it.
#[derive(Debug)]
struct QueuedFrame {
    bytes: bytes::buf::Chain<Bytes, Bytes>,
    cost: usize,
    marked: bool,
}

impl PipeQueue {
    /// Queues `message` as a frame. A marked one is told to the writer when
    /// its last byte is in the pipe. One that is [`Overfull`] is not queued.
    pub(crate) fn push(&self, message: Bytes, marked: bool) -> Result<(), Overfull> {
        let bytes = frame::prefix(message.len()).chain(message);
        let cost = bytes.remaining() + FRAME_OVERHEAD_BYTES;
        {
            let mut waiting = lock(&self.waiting);
            if waiting.bytes + cost > QUEUE_MAX_BYTES {
                return Err(Overfull);
            }
            waiting.bytes += cost;
            waiting.entries.push_back(QueuedFrame { bytes, cost, marked });
        }
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for frames and moves them into `writing`; for one writer only.
    pub(crate) async fn take(&self, writing: &mut BeingWritten) {
        loop {
            // The guard must not be alive across the await below.
            let taken = {
                let mut waiting = lock(&self.waiting);
                let most = waiting.entries.len().min(SLICES_MAX / 2);
                // What follows a marked frame must not delay its being told.
                let marked = waiting.entries.iter().take(most).position(|e| e.marked);
                let count = marked.map_or(most, |position| position + 1);
                writing.0.extend(waiting.entries.drain(..count));
                count
            };
            if taken > 0 {
                return;
            }
            self.arrived.notified().await;
        }
    }

    fn release(&self, cost: usize) {
        lock(&self.waiting).bytes -= cost;
    }
}

#[derive(Debug, Default)]
pub(crate) struct BeingWritten(VecDeque<QueuedFrame>);

impl BeingWritten {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `write` with the bytes that come next.
    pub(crate) fn with_slices<R>(&self, write: impl FnOnce(&[IoSlice<'_>]) -> R) -> R {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut used = 0;
        for entry in &self.0 {
            used += entry.bytes.chunks_vectored(&mut slices[used..]);
        }
        write(&slices[..used])
    }

    /// Strikes `written` bytes off; the answer says whether a marked frame is now written in full.
    pub(crate) fn advance(&mut self, mut written: usize, queue: &PipeQueue) -> bool {
        let mut marked = false;
        while let Some(entry) = self.0.front_mut() {
            let step = written.min(entry.bytes.remaining());
            entry.bytes.advance(step);
            written -= step;
            if entry.bytes.has_remaining() {
                break;
            }
            queue.release(entry.cost);
            marked |= entry.marked;
            self.0.pop_front();
        }
        marked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn drain(queue: &PipeQueue, step: usize) -> (Vec<u8>, usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (mut written, mut marks) = (Vec::new(), 0);
        let mut writing = BeingWritten::default();
        while lock(&queue.waiting).bytes > 0 {
            if writing.is_empty() {
                runtime.block_on(queue.take(&mut writing));
            }
            let next: Vec<u8> = writing.with_slices(|slices| {
                slices.iter().flat_map(|s| s.iter().copied()).take(step).collect()
            });
            marks += usize::from(writing.advance(next.len(), queue));
            written.extend(next);
        }
        (written, marks)
    }

    proptest! {
        #[test]
        fn frames_leave_in_order_however_the_pipe_cuts_them(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..60),
            step in 1_usize..500,
        ) {
            let queue = PipeQueue::default();
            for (index, body) in bodies.iter().enumerate() {
                queue.push(Bytes::from(body.clone()), index == 7).unwrap();
            }
            let (written, marks) = drain(&queue, step);
            prop_assert_eq!(marks, usize::from(bodies.len() > 7));
            let mut buffer = BytesMut::from(&written[..]);
            for body in &bodies {
                prop_assert_eq!(&frame::take(&mut buffer).unwrap().unwrap()[..], &body[..]);
            }
            prop_assert!(buffer.is_empty());
        }
    }

    #[test]
    fn what_waits_is_bounded_and_room_comes_back() {
        let queue = PipeQueue::default();
        let megabyte = Bytes::from(vec![0; 1 << 20]);
        let mut fitted = 0;
        while queue.push(megabyte.clone(), false).is_ok() {
            fitted += 1;
        }
        assert_eq!(fitted, 31);
        drain(&queue, usize::MAX);
        assert_eq!(queue.push(megabyte, false), Ok(()));
    }

    #[test]
    fn many_empty_frames_are_bounded_too() {
        let queue = PipeQueue::default();
        let fitted = std::iter::repeat_with(|| queue.push(Bytes::new(), false))
            .take_while(Result::is_ok)
            .count();
        assert_eq!(fitted, QUEUE_MAX_BYTES / (FRAME_OVERHEAD_BYTES + 1));
    }
}
