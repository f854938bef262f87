//! When a trial's memory is sampled, and the sample that is being taken: one
//! fetcher after the other, with frames forwarded in between.

use std::{collections::VecDeque, time::Duration};

use fanout_proto::{
    id::FetcherId,
    report::{MemorySample, ProcessMemory},
};
use tokio::time::Instant;

use crate::trial::WorkerTrial;

/// Sampling may take one part in so many of a processor. Where reading takes
/// longer, samples become rarer: the instrument must not weigh on the subject.
const SHARE: u32 = 10;

#[derive(Debug, Default)]
pub(super) struct Sampling {
    interval: Option<Duration>,
    due: Option<Instant>,
    present: Option<Present>,
}

#[derive(Debug)]
struct Present {
    started: Instant,
    sums: MemorySample,
    rest: VecDeque<FetcherId>,
    spent: Duration,
}

impl Sampling {
    /// Not yet started; without an interval it never will be.
    pub(super) fn every(interval: Option<Duration>) -> Self {
        Self { interval, ..Self::default() }
    }

    pub(super) fn start(&mut self, now: Instant) {
        self.due = self.interval.map(|_| now);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Begins a sample of the fetchers that run; `false` if none is due.
    pub(super) fn begin_if_due(&mut self, now: Instant, trial: &WorkerTrial) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        self.present = trial.gone_since().map(|go| Present {
            started: now,
            sums: MemorySample::at(now.saturating_duration_since(go)),
            rest: trial.running().collect(),
            spent: Duration::ZERO,
        });
        self.present.is_some()
    }

    /// The fetcher to read next; `None` when all have been read.
    pub(super) fn next(&mut self) -> Option<FetcherId> {
        self.present.as_mut()?.rest.pop_front()
    }

    /// Adds one fetcher's memory, which took so long to read.
    pub(super) fn add(&mut self, memory: &ProcessMemory, spent: Duration) {
        if let Some(present) = &mut self.present {
            present.sums.add(memory);
            present.spent += spent;
        }
    }

    /// The sample, complete; the next one is due after the interval at least.
    pub(super) fn finish(&mut self) -> Option<MemorySample> {
        let present = self.present.take()?;
        let pause = self.interval?.max(SHARE * present.spent);
        self.due = Some(present.started + pause);
        Some(present.sums)
    }

    pub(super) fn give_up(&mut self) {
        self.due = None;
        self.present = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trial::TrialInput;

    const TENTH: Duration = Duration::from_millis(100);

    /// A trial whose fetchers run since `go`.
    fn running(fetchers: u32, go: Instant) -> WorkerTrial {
        let mut trial = WorkerTrial::new();
        let mut actions = Vec::new();
        for fetcher in (0..fetchers).map(FetcherId) {
            assert!(trial.add(fetcher));
            trial.on(go, TrialInput::Started(fetcher, go), &mut actions);
            trial.on(go, TrialInput::Ready(fetcher, go), &mut actions);
        }
        trial.on(go, TrialInput::Go, &mut actions);
        trial
    }

    fn memory(bytes: u64) -> ProcessMemory {
        ProcessMemory {
            pss_bytes: Some(bytes),
            uss_bytes: Some(bytes / 2),
            anonymous_bytes: Some(bytes / 4),
            file_bytes: Some(bytes * 3),
            threads: Some(3),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sample_sums_up_what_could_be_read() {
        let go = Instant::now();
        let trial = running(3, go);
        let mut sampling = Sampling::every(Some(TENTH));
        assert_eq!(sampling.due(), None);
        sampling.start(go);
        let now = go + Duration::from_millis(1);
        assert!(sampling.begin_if_due(now, &trial));
        for read in [memory(100), ProcessMemory::default(), memory(20)] {
            assert!(sampling.next().is_some());
            sampling.add(&read, Duration::ZERO);
        }
        assert_eq!(sampling.next(), None);
        let sums = sampling.finish().unwrap();
        assert_eq!(
            sums,
            MemorySample {
                elapsed: Duration::from_millis(1),
                fetchers: 2,
                pss_bytes: Some(120),
                uss_bytes: Some(60),
                anonymous_bytes: Some(30),
                file_bytes: Some(300),
                threads: 6,
            }
        );
        assert_eq!(sampling.due(), Some(now + TENTH));
    }

    #[tokio::test(start_paused = true)]
    async fn slow_reading_makes_samples_rarer() {
        let go = Instant::now();
        let trial = running(1, go);
        let mut sampling = Sampling::every(Some(TENTH));
        sampling.start(go);
        assert!(sampling.begin_if_due(go, &trial));
        sampling.add(&memory(1), Duration::from_millis(30));
        assert!(sampling.finish().is_some());
        assert_eq!(sampling.due(), Some(go + Duration::from_millis(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_interval_there_is_no_sample() {
        let go = Instant::now();
        let trial = running(1, go);
        let mut sampling = Sampling::every(None);
        sampling.start(go);
        assert!(!sampling.begin_if_due(go, &trial));
    }
}
