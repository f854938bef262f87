//! Where leases wait and completions are handed in: what all slots of a
//! fetcher share. Pure; every model puts its own way of waiting around it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use fanout_proto::{
    completion::{Completion, Outcome},
    id::UrlId,
    lease::LeaseBatch,
    limits::{CREDIT_MAX_URLS, TIMEOUT_MAX},
    report::FetcherReport,
    setup::{Pace, Setup},
    time,
};

use crate::{
    counters::{Counter, Counters},
    fetch_failure::FetchFailure,
    gauge::Gauge,
    outbox::Outbox,
};

/// Bytes of waiting leases past which no more are read.
const LEASES_MAX_BYTES: usize = 8 * 1024 * 1024;

/// A URL in a slot's hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) id: UrlId,
    /// When it was taken up, or is to be.
    pub(crate) start: Instant,
    /// Open loop: when it was to be taken up.
    pub(crate) intended: Option<Instant>,
    /// The slot has to wait until `start`, and then say so with [`WorkQueue::begin`].
    pub(crate) is_early: bool,
}

/// The intended starts of an open loop: they wait for no slot.
#[derive(Debug)]
struct PacedStarts {
    pace: Pace,
    given: u64,
}

impl PacedStarts {
    fn next(&mut self, go: Instant) -> Instant {
        let nanos = u128::from(self.given) * self.pace.interval.as_nanos();
        self.given += 1;
        let since = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        // Past what a clock can tell, a start is as good as never.
        (go + self.pace.offset).checked_add(since).unwrap_or(go + TIMEOUT_MAX)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Take {
    Url(Assignment),
    /// Not now: wait to be woken.
    Wait,
    Closed,
}

/// What became of a URL, as the client tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetched {
    pub(crate) outcome: Outcome,
    /// Of the last response, if there was one.
    pub(crate) status: Option<u16>,
    /// How long a busy server asks to be left alone, in its last response.
    pub(crate) retry_after_s: Option<u32>,
    /// Of the last body, before content decoding.
    pub(crate) body_bytes: u64,
    /// Spent on resolving, connecting and the TLS handshake.
    pub(crate) connect: Duration,
    /// The last response's first byte.
    pub(crate) first_byte: Option<Instant>,
    /// The last byte, or the failure.
    pub(crate) end: Instant,
    pub(crate) detail: Option<Box<str>>,
}

impl Fetched {
    /// Ended with `result`, and without a response.
    pub(crate) fn new(result: Result<(), FetchFailure>, end: Instant) -> Self {
        let (outcome, detail) = match result {
            Ok(()) => (Outcome::Ok, None),
            Err(failure) => (failure.outcome, Some(failure.detail.into())),
        };
        Self {
            outcome,
            status: None,
            retry_after_s: None,
            body_bytes: 0,
            connect: Duration::ZERO,
            first_byte: None,
            end,
            detail,
        }
    }
}

/// Time that slots had no URL before they got one. Slots that get none any more only reached the
/// end of the list: their time does not count.
#[derive(Debug, Default)]
struct Starvation {
    /// Slots without a URL, since `counted_at`.
    slots: u32,
    counted_at: Option<Instant>,
    /// Slot time up to then of the slots that are without a URL.
    open: Duration,
    /// Slot time of those that got one.
    starved: Duration,
}

impl Starvation {
    /// So many slots are without a URL from now on.
    fn count(&mut self, now: Instant, slots: u32) {
        if let Some(before) = self.counted_at {
            self.open += now.saturating_duration_since(before) * self.slots;
        }
        self.counted_at = self.counted_at.max(Some(now));
        self.slots = slots;
    }

    /// URLs came. Where they are too few for all, each slot has waited for as long as the mean.
    fn end(&mut self, now: Instant, urls: usize) {
        self.count(now, self.slots);
        let served = u32::try_from(urls).unwrap_or(u32::MAX).min(self.slots);
        if let Some(mean) = self.open.checked_div(self.slots) {
            let waited = if served == self.slots { self.open } else { mean * served };
            self.starved += waited;
            self.open -= waited;
            self.slots -= served;
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct WorkQueue {
    /// The origin of all times that are told.
    go: Option<Instant>,
    leases: VecDeque<LeaseBatch>,
    waiting: usize,
    waiting_bytes: usize,
    pub(crate) outbox: Outbox,
    gauge: Gauge,
    slots: u32,
    starvation: Starvation,
    held: u32,
    report_starts: bool,
    open_loop: Option<PacedStarts>,
    first_start: Option<Instant>,
    last_end: Option<Instant>,
    closed: bool,
}

impl WorkQueue {
    pub(crate) fn new(setup: &Setup) -> Self {
        Self {
            slots: setup.concurrency.get(),
            report_starts: setup.report_starts,
            open_loop: setup.pace.map(|pace| PacedStarts { pace, given: 0 }),
            ..Self::default()
        }
    }

    /// The clocks start; from here on URLs are taken up.
    pub(crate) fn go(&mut self, now: Instant) {
        self.go = Some(now);
        self.count_starved(now);
    }

    /// Every slot without a URL finds none waiting either, but for as many as wait.
    fn count_starved(&mut self, now: Instant) {
        let idle = self.slots.saturating_sub(self.held);
        let waiting = u32::try_from(self.waiting).unwrap_or(u32::MAX);
        self.starvation.count(now, idle.saturating_sub(waiting));
    }

    pub(crate) fn lease(&mut self, now: Instant, batch: LeaseBatch) {
        self.starvation.end(now, batch.remaining());
        self.waiting += batch.remaining();
        self.waiting_bytes += batch.held_bytes();
        self.leases.push_back(batch);
    }

    /// URLs that wait to be taken up and may be: so many slots can be woken.
    pub(crate) fn ready(&self) -> usize {
        if self.go.is_some() && !self.outbox.is_stalled() { self.waiting } else { 0 }
    }

    /// Whether so much waits that nothing more should be read.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting >= CREDIT_MAX_URLS as usize || self.waiting_bytes >= LEASES_MAX_BYTES
    }

    /// Whether no URL waits and none is in a slot's hands.
    pub(crate) fn is_clear(&self) -> bool {
        self.waiting == 0 && self.held == 0
    }

    /// Hands out the next URL and copies its text into `url`.
    pub(crate) fn take(&mut self, now: Instant, url: &mut Vec<u8>) -> Take {
        if self.closed {
            return Take::Closed;
        }
        let Some(go) = self.go else {
            return Take::Wait;
        };
        if self.outbox.is_stalled() {
            return Take::Wait;
        }
        let id = loop {
            let Some(batch) = self.leases.front_mut() else {
                self.outbox.flush_now();
                self.count_starved(now);
                return Take::Wait;
            };
            if let Some((id, text)) = batch.advance() {
                url.clear();
                url.extend_from_slice(text);
                break id;
            }
            self.waiting_bytes -= batch.held_bytes();
            self.leases.pop_front();
        };
        self.waiting -= 1;
        self.held += 1;
        let intended = self.open_loop.as_mut().map(|open_loop| open_loop.next(go));
        let start = intended.map_or(now, |intended| intended.max(now));
        let is_early = start > now;
        if !is_early {
            self.begin(now, id);
        }
        Take::Url(Assignment { id, start, intended, is_early })
    }

    pub(crate) fn begin(&mut self, now: Instant, id: UrlId) {
        self.gauge.enter(now);
        self.first_start.get_or_insert(now);
        if self.report_starts {
            let go = self.go.unwrap_or(now);
            self.outbox.start(now, id, micros(now, go));
        }
    }

    /// A URL's last byte, or its failure, was there at `end`. It stays in its
    /// slot's hands until [`Self::hand_in`].
    pub(crate) fn end(&mut self, end: Instant) {
        self.gauge.leave(end);
        self.last_end = self.last_end.max(Some(end));
    }

    pub(crate) fn hand_in(&mut self, slot: u32, assignment: Assignment, fetched: &Fetched) {
        self.held -= 1;
        let go = self.go.unwrap_or(assignment.start);
        let completion = Completion {
            id: assignment.id,
            outcome: fetched.outcome,
            status: fetched.status,
            body_bytes: fetched.body_bytes,
            start_us: micros(assignment.start, go),
            connect_us: time::micros(fetched.connect),
            first_byte_us: fetched.first_byte.map(|at| micros(at, assignment.start)),
            duration_us: micros(fetched.end, assignment.start),
            slot,
            wait_us: assignment.intended.map(|at| micros(assignment.start, at)),
        };
        if let Some(seconds) = fetched.retry_after_s {
            self.outbox.retry_after(seconds);
        }
        let detail = fetched.detail.as_deref();
        self.outbox.complete(fetched.end, &completion, detail);
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    pub(crate) fn report(&self, counters: &Counters) -> FetcherReport {
        let since_go = |at: Option<Instant>| Some(at?.saturating_duration_since(self.go?));
        FetcherReport {
            counts: counters.map(Counter::get),
            in_flight: self.gauge.integral,
            in_flight_peak: self.gauge.peak,
            starved: Some(self.starvation.starved),
            first_start: since_go(self.first_start),
            last_end: since_go(self.last_end),
        }
    }
}

fn micros(at: Instant, since: Instant) -> u64 {
    time::micros(at.saturating_duration_since(since))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbox::Due;
    use fanout_proto::{
        arm::{Client, Model},
        lease::LeaseBatchBuilder,
        limits::BATCH_MAX_URLS,
        setup::HttpSettings,
    };
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn setup(report_starts: bool) -> Setup {
        Setup {
            model: Model::Async,
            concurrency: NonZeroU32::MIN,
            client: Client::CORE,
            http: HttpSettings::default(),
            report_starts,
            cpu_work: Duration::ZERO,
            cpu_lock: false,
            pace: None,
            https: false,
        }
    }

    fn leases(ids: std::ops::Range<u64>) -> LeaseBatch {
        let mut builder = LeaseBatchBuilder::default();
        for id in ids {
            builder.push(UrlId(id), format!("http://h/{id}").as_bytes());
        }
        builder.finish().try_into().unwrap()
    }

    fn fetched(end: Instant) -> Fetched {
        Fetched {
            status: Some(200),
            body_bytes: 7,
            first_byte: Some(end),
            ..Fetched::new(Ok(()), end)
        }
    }

    #[test]
    fn nothing_is_taken_up_before_go() {
        let now = Instant::now();
        let mut queue = WorkQueue::new(&setup(false));
        let mut url = Vec::new();
        queue.lease(now, leases(0..2));
        assert_eq!(queue.ready(), 0);
        assert_eq!(queue.take(now, &mut url), Take::Wait);
        queue.go(now);
        assert_eq!(queue.ready(), 2);
        assert_eq!(
            queue.take(now, &mut url),
            Take::Url(Assignment { id: UrlId(0), start: now, intended: None, is_early: false })
        );
        assert_eq!(url, b"http://h/0");
    }

    #[test]
    fn an_open_loop_keeps_its_schedule_whatever_others_take() {
        let go = Instant::now();
        let ms = Duration::from_millis;
        let mut paced = setup(false);
        paced.pace = Some(Pace { interval: ms(10), offset: ms(5) });
        let mut queue = WorkQueue::new(&paced);
        let mut url = Vec::new();
        queue.lease(go, leases(0..3));
        queue.go(go);
        let mut taken_at = |now| match queue.take(now, &mut url) {
            Take::Url(assignment) => assignment,
            other => panic!("{other:?}"),
        };
        let early = taken_at(go);
        assert_eq!((early.start, early.is_early), (go + ms(5), true));
        // The first took long: the second and third are late by what they waited.
        let late = taken_at(go + ms(40));
        assert_eq!((late.start, late.is_early), (go + ms(40), false));
        assert_eq!(late.intended, Some(go + ms(15)));
        assert_eq!(taken_at(go + ms(41)).intended, Some(go + ms(25)));
        assert_eq!(queue.gauge.peak, 2, "who waits for its start is not in flight");
        queue.begin(go + ms(41), early.id);
        assert_eq!(queue.gauge.peak, 3);
    }

    #[test]
    fn who_finds_no_lease_sends_the_completions_off() {
        let now = Instant::now();
        let mut queue = WorkQueue::new(&setup(false));
        let mut url = Vec::new();
        queue.go(now);
        queue.lease(now, leases(0..1));
        let Take::Url(assignment) = queue.take(now, &mut url) else {
            panic!("a lease waits");
        };
        assert!(!queue.is_clear());
        queue.end(now);
        queue.hand_in(0, assignment, &fetched(now));
        assert!(matches!(queue.outbox.due(), Due::At(_)));
        assert_eq!(queue.take(now, &mut url), Take::Wait);
        assert_eq!(queue.outbox.due(), Due::Now);
        assert!(queue.is_clear());
        queue.close();
        assert_eq!(queue.take(now, &mut url), Take::Closed);
    }

    #[test]
    fn only_slots_that_get_a_url_at_last_were_starved() {
        let go = Instant::now();
        let at = |ms| go + Duration::from_millis(ms);
        let three = Setup { concurrency: NonZeroU32::new(3).unwrap(), ..setup(false) };
        let mut queue = WorkQueue::new(&three);
        let mut url = Vec::new();
        // Before Go nobody waits, and what waits then is one slot's.
        queue.lease(at(0), leases(0..1));
        queue.go(at(0));
        let Take::Url(first) = queue.take(at(0), &mut url) else {
            panic!("a lease waits");
        };
        let starved = |queue: &WorkQueue| queue.report(&Counters::default()).starved;
        // Two slots wait for 10 ms, one of them gets a URL.
        assert_eq!(queue.take(at(1), &mut url), Take::Wait);
        queue.lease(at(10), leases(1..2));
        assert_eq!(starved(&queue), Some(Duration::from_millis(10)));
        assert!(matches!(queue.take(at(11), &mut url), Take::Url(_)));
        // One slot waits on, another is done at 20 ms; both get a URL, and another URL waits.
        queue.end(at(20));
        queue.hand_in(0, first, &fetched(at(20)));
        assert_eq!(queue.take(at(20), &mut url), Take::Wait);
        queue.lease(at(25), leases(2..5));
        assert_eq!(starved(&queue), Some(Duration::from_millis(10 + 25 + 5)));
        // The end of the list is nobody's fault.
        for _ in 0..2 {
            assert!(matches!(queue.take(at(25), &mut url), Take::Url(_)));
        }
        queue.end(at(30));
        queue.hand_in(0, Assignment { id: UrlId(1), ..first }, &fetched(at(30)));
        assert!(matches!(queue.take(at(30), &mut url), Take::Url(_)));
        assert_eq!(queue.take(at(31), &mut url), Take::Wait);
        assert_eq!(starved(&queue), Some(Duration::from_millis(40)));
    }

    #[test]
    fn a_full_outbox_stops_the_taking_up() {
        let now = Instant::now();
        let mut queue = WorkQueue::new(&setup(false));
        let mut url = Vec::new();
        queue.go(now);
        let many = BATCH_MAX_URLS as u64;
        queue.lease(now, leases(0..many));
        queue.lease(now, leases(many..many + 1));
        for _ in 0..many {
            let Take::Url(assignment) = queue.take(now, &mut url) else {
                panic!("a lease waits");
            };
            queue.end(now);
            queue.hand_in(0, assignment, &fetched(now));
        }
        assert_eq!(queue.ready(), 0);
        assert_eq!(queue.take(now, &mut url), Take::Wait);
        let _ = queue.outbox.collect();
        assert_eq!(queue.ready(), 1);
        assert!(matches!(queue.take(now, &mut url), Take::Url(_)));
    }

    proptest! {
        #[test]
        fn every_lease_is_handed_out_once_and_in_order(sizes in prop::collection::vec(1_u64..50, 1..8), slots in 1_usize..5) {
            let now = Instant::now();
            let mut queue = WorkQueue::new(&setup(true));
            queue.go(now);
            let mut next = 0;
            for size in sizes {
                queue.lease(now, leases(next..next + size));
                next += size;
            }
            let mut url = Vec::new();
            let mut held = VecDeque::new();
            let mut seen = Vec::new();
            loop {
                match queue.take(now, &mut url) {
                    Take::Url(assignment) => {
                        seen.push(assignment.id.0);
                        held.push_back(assignment);
                    }
                    Take::Wait if held.is_empty() => break,
                    _ => {}
                }
                if held.len() == slots || queue.ready() == 0 {
                    let assignment = held.pop_front().unwrap();
                    queue.end(now);
                    queue.hand_in(0, assignment, &fetched(now));
                }
            }
            prop_assert_eq!(seen, (0..next).collect::<Vec<_>>());
            prop_assert!(queue.is_clear());
            prop_assert_eq!(queue.report(&Counters::default()).in_flight_peak as usize, slots.min(usize::try_from(next).unwrap()));
        }
    }
}
