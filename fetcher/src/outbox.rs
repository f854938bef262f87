//! Completions on their way out, and the rule by which they leave.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use fanout_proto::{
    completion::{Completion, CompletionBatchBuilder, StartedBatch},
    frame,
    id::UrlId,
    limits::{BATCH_MAX_URLS, FLUSH_AFTER},
    wire,
};

/// Kept free of the time that a batch may wait, for timers that fire late:
/// tokio's count whole milliseconds and round up.
const TIMER_SLACK: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Never,
    /// Then, unless something makes it more urgent.
    At(Instant),
    Now,
}

impl Due {
    pub(crate) fn has_come(self) -> bool {
        match self {
            Self::Never => false,
            Self::Now => true,
            Self::At(at) => at <= Instant::now(),
        }
    }
}

/// What the writer was last woken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum WokenFor {
    #[default]
    Nothing,
    ATime,
    Now,
}

/// Gathers completions into batches.
///
/// A batch leaves [`FLUSH_AFTER`] after its first entry, at once when it is full, and at once when
/// [`Self::flush_now`] says that it is waited for. It holds at most one full batch and what is in
/// flight: while [`Self::is_stalled`], no URL may be taken up.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    batch: CompletionBatchBuilder,
    full: VecDeque<wire::CompletionBatch>,
    starts: StartedBatch,
    first_at: Option<Instant>,
    urgent: bool,
    woken_for: WokenFor,
}

impl Outbox {
    pub(crate) fn start(&mut self, now: Instant, id: UrlId, start_us: u64) {
        self.first_at.get_or_insert(now);
        self.starts.starts.push((id, start_us));
    }

    /// The server of the next completion asks to be left alone for so long.
    pub(crate) fn retry_after(&mut self, seconds: u32) {
        self.batch.retry_after(seconds);
    }

    pub(crate) fn complete(&mut self, now: Instant, completion: &Completion, detail: Option<&str>) {
        self.first_at.get_or_insert(now);
        self.batch.push(completion, detail);
        if self.batch.is_full() {
            self.full.push_back(self.batch.take());
        }
    }

    /// What there is leaves at once, for it is waited for.
    pub(crate) fn flush_now(&mut self) {
        self.urgent = self.first_at.is_some();
    }

    pub(crate) fn is_stalled(&self) -> bool {
        !self.full.is_empty() || self.starts.starts.len() >= BATCH_MAX_URLS
    }

    pub(crate) fn due(&self) -> Due {
        match self.first_at {
            None => Due::Never,
            Some(_) if self.urgent || self.is_stalled() => Due::Now,
            Some(first) => Due::At(first + FLUSH_AFTER - TIMER_SLACK),
        }
    }

    /// Whether the writer has to be woken, because it was last woken for less.
    /// True once for each change.
    pub(crate) fn needs_wake(&mut self) -> bool {
        let wake_for = match self.due() {
            Due::Never => WokenFor::Nothing,
            Due::At(_) => WokenFor::ATime,
            Due::Now => WokenFor::Now,
        };
        let is_needed = wake_for > self.woken_for;
        self.woken_for = self.woken_for.max(wake_for);
        is_needed
    }

    pub(crate) fn collect(&mut self) -> Outgoing {
        self.first_at = None;
        self.urgent = false;
        self.woken_for = WokenFor::Nothing;
        if !self.batch.is_empty() {
            self.full.push_back(self.batch.take());
        }
        Outgoing {
            starts: std::mem::take(&mut self.starts),
            completions: std::mem::take(&mut self.full),
        }
    }
}

/// What was collected, to be encoded without a lock.
#[derive(Debug)]
pub(crate) struct Outgoing {
    starts: StartedBatch,
    completions: VecDeque<wire::CompletionBatch>,
}

impl Outgoing {
    pub(crate) fn encode(self, out: &mut Vec<u8>) {
        use wire::from_fetcher::Message;
        for starts in self.starts.starts.chunks(BATCH_MAX_URLS) {
            let starts = starts.to_vec();
            encode(Message::Started((&StartedBatch { starts }).into()), out);
        }
        for batch in self.completions {
            encode(Message::Completions(batch), out);
        }
    }
}

pub(crate) fn encode(message: wire::from_fetcher::Message, out: &mut Vec<u8>) {
    let message = Some(message);
    frame::encode(&wire::FromFetcher { message }, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanout_proto::completion::Outcome;

    fn completion(id: u64) -> Completion {
        Completion {
            id: UrlId(id),
            outcome: Outcome::Ok,
            status: Some(200),
            body_bytes: 1,
            start_us: 2,
            connect_us: 3,
            first_byte_us: Some(4),
            duration_us: 5,
            slot: 6,
            wait_us: None,
        }
    }

    #[test]
    fn a_batch_leaves_in_time_after_its_first_completion() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        assert_eq!(outbox.due(), Due::Never);
        outbox.flush_now();
        assert_eq!(outbox.due(), Due::Never, "there is nothing to wait for");
        outbox.complete(now, &completion(1), None);
        let due = Due::At(now + FLUSH_AFTER - TIMER_SLACK);
        assert_eq!(outbox.due(), due);
        outbox.complete(now + FLUSH_AFTER / 2, &completion(2), None);
        assert_eq!(outbox.due(), due);
        outbox.flush_now();
        assert_eq!(outbox.due(), Due::Now);
        assert_eq!(outbox.collect().completions[0].outcomes.len(), 2);
        assert_eq!(outbox.due(), Due::Never);
    }

    #[test]
    fn a_full_batch_stalls_until_it_is_collected_and_nothing_is_lost() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        let in_flight = 10;
        for id in 0..(BATCH_MAX_URLS + in_flight) as u64 {
            assert_eq!(outbox.is_stalled(), id >= BATCH_MAX_URLS as u64);
            outbox.complete(now, &completion(id), None);
        }
        assert_eq!(outbox.due(), Due::Now);
        let lengths: Vec<_> =
            outbox.collect().completions.iter().map(|batch| batch.outcomes.len()).collect();
        assert_eq!(lengths, [BATCH_MAX_URLS, in_flight]);
        assert!(!outbox.is_stalled());
    }

    #[test]
    fn a_wake_is_asked_for_once() {
        let now = Instant::now();
        let mut outbox = Outbox::default();
        assert!(!outbox.needs_wake());
        outbox.start(now, UrlId(1), 0);
        assert!(outbox.needs_wake(), "a time to come back at");
        outbox.complete(now, &completion(1), None);
        assert!(!outbox.needs_wake());
        outbox.flush_now();
        assert!(outbox.needs_wake(), "now");
        assert!(!outbox.needs_wake());
        let mut out = Vec::new();
        outbox.collect().encode(&mut out);
        assert!(!out.is_empty());
        outbox.complete(now, &completion(2), None);
        assert!(outbox.needs_wake());
    }
}
