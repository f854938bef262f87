use std::collections::{BTreeMap, BTreeSet};

use fanout_proto::{
    completion::Outcome,
    report::{Exit, FetcherExited, FetcherReport, HoldSnapshot},
};
use proptest::prelude::*;

use super::{losses::REAP_DEADLINE, *};
use crate::politeness::HostName;

const W: WorkerId = WorkerId(1);

fn plan(urls: u64, fetchers: usize, concurrency: u32) -> TrialPlan {
    TrialPlan {
        urls,
        split: Split::Dynamic,
        concurrency,
        credit_max: u32::MAX,
        timeout: Duration::from_secs(30),
        placement: vec![W; fetchers],
    }
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn completion(id: UrlId) -> Completion {
    Completion {
        id,
        outcome: Outcome::Ok,
        status: Some(200),
        body_bytes: 1,
        start_us: 0,
        connect_us: 0,
        first_byte_us: Some(1),
        duration_us: 2,
        slot: 0,
        wait_us: None,
    }
}

pub(super) fn batch(ids: &[UrlId]) -> CompletionBatch {
    CompletionBatch {
        completions: ids.iter().map(|id| completion(*id)).collect(),
        details: Vec::new(),
        retry_afters: Vec::new(),
    }
}

fn exited(fetcher: FetcherId, clean: bool) -> Box<FetcherExited> {
    Box::new(FetcherExited {
        fetcher,
        exit: if clean { Exit::Code(0) } else { Exit::Signal(9) },
        report: clean.then(FetcherReport::default),
        held: HoldSnapshot::default(),
        usage: None,
        reason: String::new(),
    })
}

/// The other side of the trial: fetchers that hold what they were leased.
#[derive(Default)]
struct World {
    held: BTreeMap<FetcherId, Vec<UrlId>>,
    worker_of: BTreeMap<FetcherId, WorkerId>,
    went: BTreeSet<WorkerId>,
    running: BTreeSet<FetcherId>,
    gone: BTreeSet<FetcherId>,
    starting: Vec<FetcherId>,
    /// Told to die, and not reaped yet.
    dying: Vec<FetcherId>,
    finishing: BTreeSet<WorkerId>,
    recorded: BTreeMap<UrlId, u32>,
    batches: Vec<(FetcherId, Vec<UrlId>)>,
    /// URLs whose hosts are to be found out.
    look_up: Vec<UrlId>,
    attempts: BTreeMap<UrlId, u8>,
    end: Option<TrialEnd>,
}

impl World {
    fn obey(&mut self, commands: Vec<Command>) {
        for command in commands {
            assert_eq!(self.end, None, "nothing comes after the end: {command:?}");
            match command {
                Command::Prepare(worker, id) => {
                    self.starting.push(id);
                    self.worker_of.insert(id, worker);
                    self.held.insert(id, Vec::new());
                }
                Command::Lease(_, id, urls) => {
                    assert!(!self.gone.contains(&id), "a lost fetcher gets nothing");
                    assert!(urls.is_sorted());
                    self.batches.push((id, urls.clone()));
                    self.held.get_mut(&id).unwrap().extend(urls);
                }
                Command::Go(worker) => {
                    self.went.insert(worker);
                    for (id, w) in &self.worker_of {
                        if *w == worker && !self.starting.contains(id) {
                            self.running.insert(*id);
                        }
                    }
                }
                Command::Finish(worker) => {
                    self.finishing.insert(worker);
                }
                Command::Kill(_, id) => self.dying.push(id),
                Command::Lost(id, _) => {
                    self.gone.insert(id);
                    self.starting.retain(|s| *s != id);
                }
                Command::Abort(_) => {}
                Command::LookUp(ids) => self.look_up.extend(ids),
                Command::Record(_, accepted, _) => {
                    for one in accepted {
                        self.attempts.insert(one.completion.id, one.attempt);
                        *self.recorded.entry(one.completion.id).or_default() += 1;
                    }
                }
                Command::Abandoned(ids) => {
                    for id in ids {
                        *self.recorded.entry(id).or_default() += 1;
                    }
                }
                Command::Ended(end) => self.end = Some(end),
            }
        }
    }

    fn live(&self) -> Vec<FetcherId> {
        self.held.keys().filter(|id| !self.gone.contains(id)).copied().collect()
    }
}

struct Harness {
    trial: Trial,
    world: World,
    now: Duration,
    hosts: u64,
}

impl Harness {
    fn new(plan: TrialPlan) -> Self {
        let (trial, commands) = Trial::new(plan);
        Self::of(trial, commands)
    }

    fn of(trial: Trial, commands: Vec<Command>) -> Self {
        let mut world = World::default();
        world.obey(commands);
        Self { trial, world, now: Duration::ZERO, hosts: 1 }
    }

    /// With these limits per host; URL i is at host i modulo `hosts`.
    fn limited(plan: TrialPlan, limits: Limits, hosts: u64) -> Self {
        let mut harness = Self::new(plan);
        harness.trial.limit_hosts(limits, 1);
        harness.hosts = hosts;
        harness
    }

    fn send(&mut self, event: Event) {
        let commands = self.trial.on(self.now, event);
        self.world.obey(commands);
        while !self.world.look_up.is_empty() {
            let ids = std::mem::take(&mut self.world.look_up);
            assert!(ids.is_sorted());
            let hosts = self.hosts;
            let name = |id: UrlId| HostName::of(format!("http://h{}/", id.0 % hosts).as_bytes());
            let found = ids.into_iter().map(|id| (id, name(id))).collect();
            let commands = self.trial.on(self.now, Event::Hosts(found));
            self.world.obey(commands);
        }
        let ledger = self.trial.ledger();
        assert_eq!(ledger.pending() + ledger.leased() + ledger.counts().done(), ledger.total());
    }

    fn all_ready(&mut self) {
        for id in std::mem::take(&mut self.world.dying) {
            if self.world.end.is_none() {
                self.send(Event::Exited(exited(id, false)));
            }
        }
        for id in std::mem::take(&mut self.world.starting) {
            if self.world.end.is_none() {
                self.send(Event::Ready(id));
            }
        }
    }

    /// Lets a fetcher do its first `count` URLs.
    fn complete(&mut self, id: FetcherId, count: usize) {
        let held = self.world.held.get_mut(&id).unwrap();
        let done: Vec<_> = held.drain(..count.min(held.len())).collect();
        self.send(Event::Completions(id, batch(&done)));
    }

    fn finish(&mut self) {
        for id in self.world.live() {
            self.send(Event::Exited(exited(id, true)));
        }
        for worker in self.world.finishing.clone() {
            self.send(Event::WorkerDone(worker));
        }
    }
}

#[test]
fn a_trial_goes_from_ready_to_done() {
    let mut h = Harness::new(plan(100, 2, 8));
    assert!(h.world.went.is_empty());
    h.all_ready();
    assert!(h.world.went.contains(&W));
    for _ in 0..100 {
        h.now += ms(10);
        for id in h.world.live() {
            h.complete(id, 8);
        }
    }
    assert_eq!(h.trial.counts().completed, 100);
    assert!(h.world.finishing.contains(&W));
    assert_eq!(h.world.end, None);
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
    assert!(!h.trial.is_degraded());
    assert!(h.trial.makespan().unwrap() > Duration::ZERO);
}

#[test]
fn leases_are_preloaded_before_the_barrier_opens() {
    let mut h = Harness::new(plan(1000, 2, 8));
    h.send(Event::Ready(FetcherId(0)));
    assert_eq!(h.world.held[&FetcherId(0)].len(), 16);
    assert!(h.world.went.is_empty());
}

#[test]
fn nobody_is_left_with_a_long_tail() {
    let mut h = Harness::new(plan(1000, 32, 1));
    h.all_ready();
    for _ in 0..2000 {
        h.now += ms(8);
        for id in h.world.live() {
            h.complete(id, 1);
            let held = h.world.held[&id].len() as u64;
            let remaining = h.trial.ledger().remaining();
            let guided = (remaining + 1) / (4 * 32);
            assert!(held <= guided.max(2), "{held} of {remaining}");
        }
    }
    assert_eq!(h.trial.counts().completed, 1000);
}

#[test]
fn a_fast_fetcher_gets_large_batches() {
    let mut h = Harness::new(plan(1_000_000, 1, 64));
    h.all_ready();
    for _ in 0..50 {
        h.now += ms(10);
        h.complete(FetcherId(0), 1_000);
    }
    // 200 ms at 100,000/s, and twice the concurrency.
    let held = h.world.held[&FetcherId(0)].len();
    assert!((15_000..=20_128).contains(&held), "{held}");
    let (_, last) = h.world.batches.last().unwrap();
    assert!(last.len() >= 1_000, "{}", last.len());
}

#[test]
fn a_poisonous_url_abandons_only_itself() {
    let poison = UrlId(77);
    let mut h = Harness::new(plan(200, 2, 16));
    h.all_ready();
    for _ in 0..2_000 {
        h.now += ms(1);
        for id in h.world.live() {
            if h.world.starting.contains(&id) {
                h.world.starting.retain(|s| *s != id);
                h.send(Event::Ready(id));
            } else if h.world.held[&id].iter().take(16).any(|url| *url == poison) {
                h.send(Event::Exited(exited(id, false)));
            } else {
                h.complete(id, 3);
            }
        }
    }
    let counts = h.trial.counts();
    assert_eq!((counts.completed, counts.abandoned), (199, 1));
    assert!(h.trial.is_degraded());
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

#[test]
fn a_silent_fetcher_is_lost_but_an_idle_one_is_not() {
    let mut h = Harness::new(plan(3, 2, 2));
    h.all_ready();
    assert_eq!(h.world.held[&FetcherId(0)].len(), 2);
    h.complete(FetcherId(1), 1);
    h.now += Duration::from_secs(36);
    h.send(Event::Tick);
    assert!(h.world.gone.contains(&FetcherId(0)));
    assert!(!h.world.gone.contains(&FetcherId(1)));
    assert!(h.world.starting.is_empty(), "its place is not free yet");
    h.send(Event::Exited(exited(FetcherId(0), false)));
    assert_eq!(h.world.starting, [FetcherId(2)]);
    assert!(!h.world.held[&FetcherId(1)].is_empty());
}

#[test]
fn setup_failures_end_the_trial_with_the_reason() {
    let mut h = Harness::new(plan(3, 2, 2));
    let mut failed = exited(FetcherId(1), false);
    failed.exit = Exit::Code(1);
    failed.reason = "no descriptors".to_owned();
    h.send(Event::Exited(failed));
    assert_eq!(
        h.world.end,
        Some(TrialEnd::Aborted(AbortReason::Setup("no descriptors".to_owned())))
    );
}

#[test]
fn a_fetcher_that_is_killed_at_its_start_is_started_again_a_few_times() {
    let mut h = Harness::new(plan(3, 2, 2));
    h.send(Event::Ready(FetcherId(0)));
    for id in (1..=3).map(FetcherId) {
        h.send(Event::Exited(exited(id, false)));
        assert_eq!(h.world.end, None);
    }
    let mut once_more = Harness::new(plan(3, 1, 2));
    once_more.send(Event::Exited(exited(FetcherId(0), false)));
    once_more.all_ready();
    once_more.complete(FetcherId(1), 3);
    once_more.finish();
    assert_eq!(once_more.world.end, Some(TrialEnd::Done));
    h.send(Event::Exited(exited(FetcherId(4), false)));
    assert!(matches!(h.world.end, Some(TrialEnd::Aborted(AbortReason::Setup(_)))));
}

#[test]
fn a_killed_fetcher_that_is_never_reaped_is_not_waited_for_for_ever() {
    let mut h = Harness::new(plan(3, 1, 2));
    h.all_ready();
    h.now += Duration::from_secs(36);
    h.send(Event::Tick);
    assert_eq!(h.world.dying, [FetcherId(0)]);
    h.now += REAP_DEADLINE;
    h.send(Event::Tick);
    assert_eq!(h.world.end, None);
    h.now += ms(1);
    h.send(Event::Tick);
    assert!(matches!(h.world.end, Some(TrialEnd::Aborted(AbortReason::AllLost(_)))));
}

#[test]
fn fetchers_that_only_ever_die_end_the_trial() {
    let mut h = Harness::new(plan(1_000_000, 1, 2));
    h.all_ready();
    for _ in 0..100 {
        for id in h.world.live() {
            h.world.starting.retain(|s| *s != id);
            h.send(Event::Ready(id));
            h.send(Event::Exited(exited(id, false)));
        }
        if h.world.end.is_some() {
            break;
        }
    }
    assert!(matches!(h.world.end, Some(TrialEnd::Aborted(AbortReason::AllLost(_)))));
}

#[test]
fn a_drain_waits_for_what_is_in_hand_and_no_longer_than_its_deadline() {
    let mut h = Harness::new(plan(1_000, 1, 4));
    h.all_ready();
    h.send(Event::Drain { deadline: ms(500) });
    let held = h.world.held[&FetcherId(0)].len();
    h.complete(FetcherId(0), held - 1);
    assert_eq!(h.world.end, None);
    assert_eq!(h.world.held[&FetcherId(0)].len(), 1, "nothing new is leased");
    h.now = ms(500);
    h.send(Event::Tick);
    assert_eq!(h.world.end, Some(TrialEnd::Aborted(AbortReason::Cancelled)));
}

#[test]
fn completing_what_one_does_not_hold_costs_the_fetcher_its_life() {
    let mut h = Harness::new(plan(1_000, 2, 4));
    h.all_ready();
    h.send(Event::Completions(FetcherId(0), batch(&[UrlId(999)])));
    assert!(h.world.gone.contains(&FetcherId(0)));
    assert_eq!(h.trial.counts().done(), 0);
}

#[test]
fn nobody_is_silent_while_nothing_is_taken_in() {
    let mut h = Harness::new(plan(100, 1, 4));
    h.all_ready();
    for _ in 0..600 {
        h.now += ms(100);
        h.send(Event::Stalled);
    }
    h.send(Event::Tick);
    assert!(h.world.gone.is_empty(), "{:?}", h.trial);
    // From here on its silence is its own.
    h.now += Duration::from_secs(36);
    h.send(Event::Tick);
    assert!(h.world.gone.contains(&FetcherId(0)));
}

#[test]
fn urls_that_were_done_before_are_not_leased() {
    let mut done = IdSet::new(10);
    for id in [0, 1, 2, 5, 9] {
        done.insert(UrlId(id));
    }
    let (trial, commands) = Trial::resumed(plan(10, 1, 4), done);
    let mut h = Harness::of(trial, commands);
    h.all_ready();
    while h.trial.ledger().remaining() > 0 {
        h.now += ms(1);
        h.complete(FetcherId(0), 1);
    }
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
    let recorded: Vec<_> = h.world.recorded.keys().map(|id| id.0).collect();
    assert_eq!(recorded, [3, 4, 6, 7, 8]);
    assert_eq!((h.trial.counts().before, h.trial.counts().done()), (5, 10));
}

#[test]
fn static_shards_outlive_their_fetchers() {
    let mut h = Harness::new(TrialPlan {
        split: Split::Static,
        placement: vec![WorkerId(1), WorkerId(2)],
        ..plan(100, 2, 4)
    });
    h.all_ready();
    h.send(Event::WorkerLost(WorkerId(2)));
    for _ in 0..100 {
        h.now += ms(1);
        h.complete(FetcherId(0), 4);
    }
    assert_eq!(h.trial.counts().completed, 100);
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

#[test]
fn a_lost_worker_costs_a_url_one_lease_only() {
    let two = WorkerId(2);
    // So short a list that each fetcher may hold more when there are fewer.
    let mut h = Harness::new(TrialPlan { placement: vec![W, W, W, W, two], ..plan(20, 5, 4) });
    h.all_ready();
    assert_eq!(h.trial.ledger().leased(), 20);
    let before = h.world.batches.len();
    h.send(Event::WorkerLost(W));
    assert_eq!(h.trial.counts().requeued, 16);
    assert!(!h.trial.ledger().has_suspects());
    let after = &h.world.batches[before..];
    assert!(!after.is_empty() && after.iter().all(|(id, _)| *id == FetcherId(4)));
    assert_eq!(h.trial.losses().fetchers, 4);
    h.now += ms(70);
    for _ in 0..20 {
        h.complete(FetcherId(4), 20);
    }
    assert_eq!(h.trial.losses().recovery, Some(ms(70)));
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

#[test]
fn what_is_lost_before_the_barrier_goes_to_those_that_wait_there() {
    let mut h = Harness::new(TrialPlan { placement: vec![WorkerId(2), W, W], ..plan(1, 3, 4) });
    h.send(Event::Ready(FetcherId(0)));
    h.send(Event::Ready(FetcherId(1)));
    assert_eq!(h.world.held[&FetcherId(0)], [UrlId(0)]);
    h.send(Event::WorkerLost(WorkerId(2)));
    assert_eq!(h.world.held[&FetcherId(1)], [UrlId(0)]);
    h.send(Event::Ready(FetcherId(2)));
    h.complete(FetcherId(1), 1);
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

fn per_host(max: u32) -> Limits {
    Limits { max_per_host: std::num::NonZeroU32::new(max), ..Limits::default() }
}

#[test]
fn an_idle_fetcher_that_gets_work_at_last_is_not_silent() {
    let mut h = Harness::new(plan(3, 2, 2));
    h.all_ready();
    h.complete(FetcherId(1), 1);
    h.now += Duration::from_secs(36);
    h.send(Event::Tick);
    assert!(h.world.gone.contains(&FetcherId(0)));
    assert!(!h.world.held[&FetcherId(1)].is_empty(), "what was lost");
    h.send(Event::Tick);
    assert!(!h.world.gone.contains(&FetcherId(1)));
}

#[test]
fn limits_per_host_hold_over_all_fetchers_and_nothing_is_preloaded() {
    let mut h = Harness::limited(plan(1_000, 3, 8), per_host(2), 4);
    h.send(Event::Ready(FetcherId(0)));
    assert!(h.world.batches.is_empty());
    h.world.starting.retain(|id| *id != FetcherId(0));
    h.all_ready();
    let held = |h: &Harness| -> Vec<_> { h.world.held.values().map(Vec::len).collect() };
    assert_eq!(held(&h), [3, 3, 2], "shared out in turn");
    let mut steps = 0;
    while h.trial.counts().done() < 1_000 {
        h.now += ms(7);
        for id in h.world.live() {
            h.complete(id, 1);
            let mut by_host = [0; 4];
            for url in h.world.held.values().flatten() {
                by_host[usize::try_from(url.0 % 4).unwrap()] += 1;
            }
            assert!(by_host.iter().all(|out| *out <= 2), "{by_host:?}");
        }
        steps += 1;
        assert!(steps < 1_000);
    }
    assert!(h.trial.held_by_hosts().unwrap() > Duration::ZERO);
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

#[test]
fn only_where_moments_do_not_matter_do_urls_wait_within_fetchers() {
    let held = |limits: Limits, hosts: u64| {
        let mut h = Harness::limited(plan(1_000, 2, 4), limits, hosts);
        h.all_ready();
        let held: Vec<_> = h.world.held.values().map(Vec::len).collect();
        (held, h.trial.waiting_for_hosts().is_some())
    };
    assert_eq!(held(per_host(1), 500), (vec![8, 8], false));
    assert_eq!(held(per_host(1), 10), (vec![5, 5], false));
    assert_eq!(held(per_host(1), 3), (vec![2, 1], true));
    let polite = Limits { polite: true, ..per_host(1) };
    assert_eq!(held(polite, 500), (vec![4, 4], false));
}

#[test]
fn a_list_longer_than_what_is_looked_at_ends() {
    let urls = 2 * crate::politeness::WINDOW_URLS as u64;
    let mut h = Harness::limited(plan(urls, 1, 64), per_host(16), 1);
    h.all_ready();
    while h.trial.counts().done() < urls {
        h.now += ms(1);
        h.complete(FetcherId(0), 16);
        assert!(h.world.held[&FetcherId(0)].len() <= 16);
    }
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

#[test]
fn a_rate_spaces_leases_and_says_when_to_come_back() {
    let limits = Limits { rate_per_host: Some(4.0), ..Limits::default() };
    let mut h = Harness::limited(plan(10, 2, 8), limits, 1);
    h.now = ms(50);
    h.all_ready();
    let began = h.now;
    for n in 1..=10_u32 {
        assert_eq!(h.world.batches.len(), usize::try_from(n).unwrap());
        for id in h.world.live() {
            h.complete(id, 9);
        }
        if n < 10 {
            let at = h.trial.wake_at().unwrap();
            assert!(at >= began + ms(250) * n && at < began + ms(251) * n, "{at:?}");
            assert_eq!(h.trial.waiting_for_hosts().map(|w| w.hosts), Some(1));
            h.now = at;
            h.send(Event::Tick);
        }
    }
    assert_eq!(h.trial.counts().completed, 10);
    assert_eq!(h.trial.wake_at(), None);
    assert!(h.trial.held_by_hosts().unwrap() >= ms(2_250));
}

#[test]
fn a_busy_answer_is_not_recorded_until_there_is_no_more_patience() {
    let limits = Limits { polite: true, ..per_host(6) };
    let mut h = Harness::limited(plan(2, 1, 4), limits, 2);
    h.all_ready();
    let answer = |h: &mut Harness, id: u64, status: u16, after: Option<u64>| {
        let held = h.world.held.get_mut(&FetcherId(0)).unwrap();
        let at = held.iter().position(|url| url.0 == id).expect("it is leased");
        held.remove(at);
        let mut batch = batch(&[UrlId(id)]);
        batch.completions[0].status = Some(status);
        batch.retry_afters = after.map(|s| (0, Duration::from_secs(s))).into_iter().collect();
        h.send(Event::Completions(FetcherId(0), batch));
    };
    answer(&mut h, 0, 503, Some(5));
    assert!(h.world.recorded.is_empty());
    assert_eq!(h.trial.ledger().pending(), 1);
    answer(&mut h, 1, 200, None);
    assert_eq!(h.world.attempts[&UrlId(1)], 1);
    assert_eq!(h.trial.wake_at(), Some(Duration::from_secs(5)));
    for _ in 0..3 {
        // Nobody takes the fetcher's idleness for silence.
        h.now = h.trial.wake_at().unwrap() + Duration::from_secs(100);
        h.send(Event::Tick);
        h.send(Event::Tick);
        answer(&mut h, 0, 429, None);
    }
    assert_eq!(h.world.recorded[&UrlId(0)], 1);
    assert_eq!(h.world.attempts[&UrlId(0)], 4);
    assert_eq!(h.trial.counts().asked_again, 3);
    assert_eq!(h.trial.counts().completed, 2, "a whole response is one of any status");
    assert!(!h.trial.is_degraded());
    h.finish();
    assert_eq!(h.world.end, Some(TrialEnd::Done));
}

#[test]
fn a_drain_does_not_wait_for_hosts() {
    let mut h = Harness::limited(plan(100, 1, 4), per_host(1), 1);
    h.all_ready();
    h.send(Event::Drain { deadline: ms(9_000) });
    h.complete(FetcherId(0), 1);
    assert_eq!(h.world.end, Some(TrialEnd::Aborted(AbortReason::Cancelled)));
}

#[test]
fn the_requests_of_a_lost_worker_count_until_they_must_be_over() {
    let mut h = Harness::limited(
        TrialPlan { placement: vec![WorkerId(1), WorkerId(2)], ..plan(10, 2, 4) },
        per_host(1),
        1,
    );
    h.all_ready();
    assert_eq!(h.world.held[&FetcherId(0)], [UrlId(0)]);
    h.send(Event::WorkerLost(WorkerId(1)));
    assert!(h.world.held[&FetcherId(1)].is_empty());
    // Twice the timeout: one may have waited within the fetcher.
    assert_eq!(h.trial.wake_at(), Some(Duration::from_secs(60)));
    h.now = Duration::from_secs(60);
    h.send(Event::Tick);
    assert_eq!(h.world.held[&FetcherId(1)].len(), 1);
}

#[test]
fn a_poisonous_url_abandons_only_itself_under_limits_too() {
    let poison = UrlId(77);
    let mut h = Harness::limited(plan(200, 2, 16), per_host(3), 5);
    h.all_ready();
    for _ in 0..2_000 {
        h.now += ms(100);
        h.send(Event::Tick);
        for id in h.world.live() {
            if h.world.starting.contains(&id) {
                h.world.starting.retain(|s| *s != id);
                h.send(Event::Ready(id));
            } else if h.world.held[&id].contains(&poison) {
                h.send(Event::Exited(exited(id, false)));
            } else {
                h.complete(id, 3);
            }
        }
    }
    let counts = h.trial.counts();
    assert_eq!((counts.completed, counts.abandoned), (199, 1));
}

#[test]
fn a_killed_fetcher_that_is_never_reaped_keeps_no_shard_back() {
    let mut h = Harness::new(TrialPlan {
        split: Split::Static,
        placement: vec![WorkerId(1), WorkerId(2)],
        ..plan(100, 2, 4)
    });
    h.all_ready();
    h.send(Event::Misbehaved(FetcherId(1), "nonsense".to_owned()));
    for _ in 0..100 {
        h.now += ms(1);
        h.complete(FetcherId(0), 4);
    }
    assert!(h.trial.counts().completed < 100, "its place is kept for a while");
    h.now += REAP_DEADLINE + ms(1);
    h.send(Event::Tick);
    for _ in 0..100 {
        h.now += ms(1);
        h.complete(FetcherId(0), 4);
    }
    assert_eq!(h.trial.counts().completed, 100);
}

#[test]
fn the_last_fetcher_killed_and_never_reaped_ends_the_trial() {
    let mut h = Harness::new(plan(100, 1, 4));
    h.all_ready();
    h.send(Event::Misbehaved(FetcherId(0), "nonsense".to_owned()));
    assert_eq!(h.world.end, None);
    h.now += REAP_DEADLINE + ms(1);
    h.send(Event::Tick);
    let lost = AbortReason::AllLost("nonsense".to_owned());
    assert_eq!(h.world.end, Some(TrialEnd::Aborted(lost)));
}

#[test]
fn whoever_is_not_ready_in_time_holds_nobody_up() {
    let mut h = Harness::new(plan(10, 2, 4));
    h.send(Event::Ready(FetcherId(0)));
    h.now = PREPARE_DEADLINE + ms(1);
    h.send(Event::Tick);
    assert!(h.world.gone.contains(&FetcherId(1)));
    assert!(h.trial.went().is_some());
    for _ in 0..10 {
        h.complete(FetcherId(0), 4);
    }
    assert_eq!(h.trial.counts().completed, 10);

    let mut h = Harness::new(plan(10, 2, 4));
    h.now = PREPARE_DEADLINE + ms(1);
    h.send(Event::Tick);
    let reason = AbortReason::NotReady { missing: 2, all: 2 };
    assert_eq!(h.world.end, Some(TrialEnd::Aborted(reason)));
}

#[derive(Debug, Clone)]
enum Fault {
    Complete(prop::sample::Index, usize),
    Twice(prop::sample::Index),
    Die(prop::sample::Index),
    LoseWorker(u32),
    Wait(u64),
    Invent(prop::sample::Index, u64),
}

fn fault() -> impl Strategy<Value = Fault> {
    let pick = any::<prop::sample::Index>;
    prop_oneof![
        6 => (pick(), 0_usize..20).prop_map(|(f, n)| Fault::Complete(f, n)),
        1 => pick().prop_map(Fault::Twice),
        1 => pick().prop_map(Fault::Die),
        1 => (0_u32..8).prop_map(Fault::LoseWorker),
        2 => (0_u64..20_000).prop_map(Fault::Wait),
        1 => (pick(), 0_u64..200).prop_map(|(f, id)| Fault::Invent(f, id)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn every_url_ends_exactly_once_under_any_faults(
        urls in 1_u64..150,
        workers in prop::collection::vec(1_u32..4, 1..6),
        concurrency in 1_u32..10,
        fixed in any::<bool>(),
        hosts in prop::option::of((1_u64..5, 0_u32..4, 0_u32..3, any::<bool>())),
        faults in prop::collection::vec(fault(), 0..120),
    ) {
        let fixed = fixed && hosts.is_none();
        let mut h = Harness::new(TrialPlan {
            urls,
            split: if fixed { Split::Static } else { Split::Dynamic },
            concurrency,
            credit_max: u32::MAX,
            timeout: Duration::from_secs(30),
            placement: workers.into_iter().map(WorkerId).collect(),
        });
        if let Some((hosts, max, rate, polite)) = hosts {
            let rate_per_host = (rate > 0).then(|| f64::from(rate) * 20.0);
            h.trial.limit_hosts(Limits { rate_per_host, polite, ..per_host(max) }, 1);
            h.hosts = hosts;
        }
        h.all_ready();
        for fault in faults {
            if h.world.end.is_some() { break; }
            let live = h.world.live();
            match fault {
                Fault::Complete(f, n) if !live.is_empty() => {
                    let id = *f.get(&live);
                    if h.world.running.contains(&id) { h.complete(id, n); }
                }
                Fault::Twice(f) if !h.world.recorded.is_empty() && !live.is_empty() => {
                    let done: Vec<_> = h.world.recorded.keys().copied().collect();
                    h.send(Event::Completions(*f.get(&live), batch(&[*f.get(&done)])));
                }
                Fault::Die(f) if !live.is_empty() => {
                    let id = *f.get(&live);
                    h.world.gone.insert(id);
                    h.world.starting.retain(|s| *s != id);
                    h.send(Event::Exited(exited(id, false)));
                }
                Fault::LoseWorker(w) => h.send(Event::WorkerLost(WorkerId(w))),
                Fault::Wait(millis) => { h.now += ms(millis); h.send(Event::Tick); }
                Fault::Invent(f, id) if !live.is_empty() => {
                    h.send(Event::Completions(*f.get(&live), batch(&[UrlId(id)])));
                    // A fetcher that happened to hold it has done it now.
                    for held in h.world.held.values_mut() { held.retain(|u| u.0 != id); }
                }
                _ => {}
            }
            if h.world.end.is_none() { h.all_ready(); }
        }
        // The faults are over: what is left must come to an end.
        for _ in 0..2_000 {
            if h.world.end.is_some() { break; }
            h.now += ms(100);
            h.all_ready();
            for id in h.world.live() {
                if h.world.running.contains(&id) { h.complete(id, 5); }
            }
            h.send(Event::Tick);
            if h.trial.ledger().remaining() == 0 { h.finish(); }
        }
        prop_assert!(h.world.end.is_some(), "{:?}", h.trial);
        prop_assert!(h.world.recorded.values().all(|times| *times == 1));
        let done = h.world.recorded.len() as u64;
        prop_assert_eq!(done, h.trial.counts().done());
        if h.world.end == Some(TrialEnd::Done) {
            prop_assert_eq!(done, urls);
        }
    }
}
