//! A trial: one arm over the whole list, once, as a pure state machine.
//!
//! ```text
//!  Preparing ──all Ready──► Running ──all URLs done──► Draining ──all reaped──► Ended(Done)
//!      │                       │                           │
//!      └───────────────────────┴── cancelled, no fetcher ──┴──► Ended(Aborted)
//! ```
//!
//! [`Trial::on`] takes an event with the moment it came and says what to do.
//! There is no I/O and no clock in here; moments are durations since the trial
//! began, on the coordinator's clock.
//!
//! A fetcher is lost when it exits before the hold, when its worker is lost,
//! when it breaks the protocol, or when it holds URLs and completes none for
//! the request timeout and five seconds more. A lease never expires by age.
//! A lost fetcher is replaced on its worker, as long as that leads anywhere.
//!
//! Under limits per host ([`Trial::limit_hosts`]) [`Politeness`] says which URL
//! may be leased next, and every lease counts as a request. Where moments matter
//! (a rate, pauses) a fetcher holds no more URLs than it has in flight, so that
//! a lease is a request at once. Nothing is preloaded then.

mod event;
mod fetcher;
mod leasing;
mod losses;

use std::{collections::BTreeMap, time::Duration};

use fanout_proto::{
    completion::{Completion, CompletionBatch, Outcome, StartedBatch},
    id::{FetcherId, UrlId, WorkerId},
};

pub use self::event::{AbortReason, Accepted, Command, Event, Losses, TrialEnd, TrialPlan};
use self::{
    event::PREPARE_DEADLINE,
    fetcher::{Fetcher, FetcherLife},
};
use crate::{
    id_set::IdSet,
    ledger::{Booked, Counts, Ledger, Split},
    politeness::{HostAnswer, HostsWaiting, Limits, Politeness},
};

/// On top of the request timeout, before a silent fetcher is given up.
const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// From Finish to the last reaped fetcher.
const FINISH_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum RunPhase {
    #[default]
    Preparing,
    Running,
    Draining {
        deadline: Duration,
    },
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerLife {
    Present,
    /// Sent all it knows.
    Done,
    Lost,
}

#[derive(Debug, Default)]
struct PoliteLeasing {
    politeness: Politeness,
    /// URLs may wait within a fetcher; else a lease is a request, at once.
    may_queue: bool,
    /// Some URLs' hosts were asked for, and are not known yet.
    looking: bool,
    turn: FetcherId,
    /// Since when slots are free for which the limits allow no URL.
    held_since: Option<Duration>,
    held: Duration,
}

/// One arm over the whole list, once.
///
/// ```
/// use std::time::Duration;
///
/// use fanout_engine::{
///     ledger::Split,
///     trial::{Command, Event, Trial, TrialPlan},
/// };
/// use fanout_proto::id::{FetcherId, UrlId, WorkerId};
///
/// let (worker, fetcher) = (WorkerId(1), FetcherId(0));
/// let (mut trial, commands) = Trial::new(TrialPlan {
///     urls: 2,
///     split: Split::Dynamic,
///     concurrency: 8,
///     credit_max: 16,
///     timeout: Duration::from_secs(30),
///     placement: vec![worker],
/// });
/// assert_eq!(commands, [Command::Prepare(worker, fetcher)]);
///
/// let now = Duration::from_millis(20);
/// assert_eq!(
///     trial.on(now, Event::Ready(fetcher)),
///     [
///         Command::Lease(worker, fetcher, vec![UrlId(0), UrlId(1)]),
///         Command::Go(worker),
///     ]
/// );
/// assert_eq!(trial.ledger().leased(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Trial {
    plan: TrialPlan,
    phase: RunPhase,
    ledger: Ledger,
    fetchers: BTreeMap<FetcherId, Fetcher>,
    workers: BTreeMap<WorkerId, WorkerLife>,
    next_fetcher: u32,
    stop_at: Option<Duration>,
    fruitless: u32,
    killed_at_start: u32,
    last_loss: String,
    losses: Losses,
    recovering_since: Option<Duration>,
    degraded: bool,
    went: Option<Duration>,
    last_completion: Option<Duration>,
    /// The moment of the event at hand.
    now: Duration,
    /// What that event leads to.
    commands: Vec<Command>,
    hosts: Option<PoliteLeasing>,
}

impl Trial {
    /// Begins a trial; the commands start its fetchers.
    pub fn new(plan: TrialPlan) -> (Self, Vec<Command>) {
        let none = IdSet::new(plan.urls);
        Self::resumed(plan, none)
    }

    /// As [`Trial::new`], but the URLs in `done` were done before.
    pub fn resumed(plan: TrialPlan, done: IdSet) -> (Self, Vec<Command>) {
        let placement = plan.placement.clone();
        let shards = u32::try_from(placement.len()).unwrap_or(u32::MAX);
        let present = |worker: &WorkerId| (*worker, WorkerLife::Present);
        let mut trial = Self {
            ledger: Ledger::new(done, plan.split, shards),
            workers: placement.iter().map(present).collect(),
            plan,
            ..Self::default()
        };
        for (worker, shard) in placement.into_iter().zip(0..) {
            trial.start_fetcher(worker, (trial.plan.split == Split::Static).then_some(shard));
        }
        let commands = std::mem::take(&mut trial.commands);
        (trial, commands)
    }

    /// Limits what each host gets, over all fetchers together; to be called before the first event,
    /// and not with [`Split::Static`]. `seed` keeps the pauses of two coordinators apart.
    pub fn limit_hosts(&mut self, limits: Limits, seed: u64) {
        debug_assert!(!limits.any() || self.plan.split == Split::Dynamic, "shards know no hosts");
        self.hosts = limits.any().then(|| PoliteLeasing {
            politeness: Politeness::new(limits, seed),
            may_queue: limits.rate_per_host.is_none() && !limits.polite,
            ..PoliteLeasing::default()
        });
    }

    /// When a [`Event::Tick`] is needed at the latest, so that no host is kept
    /// waiting; `None` if nothing depends on that.
    pub fn wake_at(&self) -> Option<Duration> {
        let wanted = self.phase == RunPhase::Running && self.stop_at.is_none();
        let hosts = self.hosts.as_ref().filter(|_| wanted)?;
        hosts.politeness.wake_at()
    }

    /// How long slots were free for which the limits per host allowed no URL;
    /// `None` without limits.
    pub fn held_by_hosts(&self) -> Option<Duration> {
        let hosts = self.hosts.as_ref()?;
        let now = hosts.held_since.map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
        Some(hosts.held + now)
    }

    /// What slots wait for at present, if the limits per host let them wait.
    pub fn waiting_for_hosts(&self) -> Option<HostsWaiting> {
        let hosts = self.hosts.as_ref()?;
        hosts.held_since.map(|_| hosts.politeness.waiting())
    }

    /// The account so far.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// The account itself.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a fetcher or worker was lost.
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// What was lost so far.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// When the barrier opened.
    pub fn went(&self) -> Option<Duration> {
        self.went
    }

    /// From Go to the last completion.
    pub fn makespan(&self) -> Option<Duration> {
        Some(self.last_completion?.saturating_sub(self.went?))
    }

    /// Every fetcher, lost ones too, with its worker.
    pub fn fetchers(&self) -> impl Iterator<Item = (FetcherId, WorkerId)> + '_ {
        self.fetchers.iter().map(|(id, f)| (*id, f.worker))
    }

    /// Whether fetchers of this trial run there, or did.
    pub fn takes_part(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Where a fetcher runs.
    pub fn worker_of(&self, fetcher: FetcherId) -> Option<WorkerId> {
        Some(self.fetchers.get(&fetcher)?.worker)
    }

    /// Takes an event at its moment, and says what is to be done.
    #[must_use]
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Command> {
        if self.phase == RunPhase::Ended {
            return Vec::new();
        }
        self.now = now;
        match event {
            Event::Ready(id) => self.ready(id),
            Event::Completions(id, batch) => self.completions(id, batch),
            Event::Exited(exited) => self.exited(*exited),
            Event::Misbehaved(id, reason) => self.kill(id, reason),
            Event::WorkerDone(worker) => {
                if let Some(life @ WorkerLife::Present) = self.workers.get_mut(&worker) {
                    *life = WorkerLife::Done;
                }
            }
            Event::WorkerLost(worker) => self.worker_lost(worker),
            Event::Hosts(found) => self.found_hosts(found),
            Event::Drain { deadline } => {
                self.stop_at = Some(self.stop_at.map_or(deadline, |at| at.min(deadline)));
            }
            Event::Cancel => self.abort(AbortReason::Cancelled),
            Event::Tick => self.tick(),
            Event::Stalled => {
                for fetcher in self.fetchers.values_mut() {
                    fetcher.last_progress = now;
                }
            }
        }
        self.watch_recovery();
        self.advance();
        std::mem::take(&mut self.commands)
    }

    fn ready(&mut self, id: FetcherId) {
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        if fetcher.life != FetcherLife::Starting {
            return self.kill(id, "it said Ready twice".to_owned());
        }
        fetcher.last_progress = self.now;
        fetcher.rate_since = self.now;
        fetcher.life = FetcherLife::Ready;
        self.top_up(id);
        if self.phase == RunPhase::Running {
            // A replacement does not wait for any other.
            let fetcher = self.fetchers.get_mut(&id).expect("it was just there");
            fetcher.life = FetcherLife::Running;
            self.commands.push(Command::Go(fetcher.worker));
            self.top_up_by_host();
        }
    }

    fn completions(&mut self, id: FetcherId, batch: CompletionBatch) {
        let Some(fetcher) = self.fetchers.get(&id) else {
            return;
        };
        if fetcher.life != FetcherLife::Running {
            // From a fetcher that was given up: too late. From any other: too early.
            self.ledger.ignore(batch.completions.len() as u64);
            return self.kill(id, "it completed URLs before Go".to_owned());
        }
        let mut accepted = Vec::with_capacity(batch.completions.len());
        let mut asked_again = 0;
        let mut broken = None;
        for (completion, position) in batch.completions.iter().copied().zip(0..) {
            if completion.slot >= self.plan.concurrency {
                broken = Some(format!("it has no slot {}", completion.slot));
                continue;
            }
            match self.book(id, &completion, batch.retry_after(position)) {
                Booked::Counted { attempt } => {
                    accepted.push(Accepted { completion, attempt, position })
                }
                Booked::AskedAgain => asked_again += 1,
                Booked::Duplicate => {}
                Booked::NotHeld => {
                    let url = completion.id;
                    broken = Some(format!("it completed URL {url}, which it does not hold"));
                }
            }
        }
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        let count = accepted.len() as u64 + asked_again;
        if count > 0 {
            fetcher.outstanding -= count;
            fetcher.last_progress = self.now;
            fetcher.observe(self.now, count);
            self.fruitless = 0;
        }
        if !accepted.is_empty() {
            self.last_completion = Some(self.now);
            self.commands.push(Command::Record(id, accepted, batch.details));
        }
        if let Some(reason) = broken {
            return self.kill(id, reason);
        }
        if self.phase == RunPhase::Running {
            self.top_up(id);
        }
    }

    /// Enters a completion; under limits per host, its host hears of the answer.
    fn book(
        &mut self,
        id: FetcherId,
        completion: &Completion,
        retry_after: Option<Duration>,
    ) -> Booked {
        let url = completion.id;
        let Some(hosts) = &mut self.hosts else {
            return self.ledger.complete(id, url, completion.outcome);
        };
        let answer = HostAnswer::of(completion.status, retry_after);
        if completion.outcome == Outcome::Ok && hosts.politeness.asks_again(url, answer) {
            let booked = self.ledger.put_back(id, url);
            if booked == Booked::AskedAgain {
                hosts.politeness.postpone(self.now, url, answer);
            }
            return booked;
        }
        let mut booked = self.ledger.complete(id, url, completion.outcome);
        if let Booked::Counted { attempt } = &mut booked {
            *attempt = attempt.saturating_add(hosts.politeness.asked_again(url));
            hosts.politeness.done(self.now, url, answer);
        }
        booked
    }

    /// Looks at URLs that a fetcher says it took up; `false` when it cannot
    /// have, and is given up for that.
    #[must_use]
    pub fn may_start(&mut self, id: FetcherId, batch: &StartedBatch) -> bool {
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return false;
        };
        fetcher.started += batch.starts.len() as u64;
        let ledger = &self.ledger;
        let known = |url: UrlId| ledger.is_held_by(id, url) || ledger.is_done(url);
        // What a lost one had is with another by now.
        fetcher.started <= fetcher.leased
            && (!fetcher.is_live() || batch.starts.iter().all(|(url, _)| known(*url)))
    }

    fn tick(&mut self) {
        if self.phase == RunPhase::Running {
            let patience = self.plan.timeout + SILENCE_GRACE;
            let is_silent = |f: &Fetcher| match f.life {
                FetcherLife::Running => {
                    // One that had nothing to do was idle, not silent.
                    let since = f.last_progress.max(f.held_since);
                    f.outstanding > 0 && self.now.saturating_sub(since) > patience
                }
                // A replacement that never gets ready.
                FetcherLife::Starting => {
                    self.now.saturating_sub(f.last_progress) > PREPARE_DEADLINE
                }
                _ => false,
            };
            for id in self.fetchers_that(is_silent) {
                self.kill(id, format!("it completed nothing for {} s", patience.as_secs()));
            }
            self.top_up_by_host();
        }
        self.give_up_on_dying();
    }

    fn fetchers_that(&self, is: impl Fn(&Fetcher) -> bool) -> Vec<FetcherId> {
        let those = self.fetchers.iter().filter(|(_, fetcher)| is(fetcher));
        those.map(|(id, _)| *id).collect()
    }

    /// Moves on to the next phase when the present one is over.
    fn advance(&mut self) {
        let coming = |f: &&Fetcher| f.is_live() || f.dying_until.is_some();
        let live = self.fetchers.values().filter(coming).count();
        match self.phase {
            RunPhase::Preparing | RunPhase::Running if self.ledger.remaining() == 0 => {
                self.phase = RunPhase::Draining { deadline: self.now + FINISH_DEADLINE };
                self.tell_workers(Command::Finish);
            }
            RunPhase::Preparing | RunPhase::Running if live == 0 => {
                let reason = self.last_loss.clone();
                self.abort(AbortReason::AllLost(reason));
            }
            RunPhase::Preparing => {
                if self.stop_at.is_some() {
                    return self.abort(AbortReason::Cancelled);
                }
                let late = self.fetchers_that(|f| f.life == FetcherLife::Starting);
                if late.is_empty() {
                    self.go();
                } else if self.now > PREPARE_DEADLINE {
                    self.start_without(late);
                }
            }
            RunPhase::Running => {
                if let Some(deadline) = self.stop_at
                    && (self.ledger.leased() == 0 || self.now >= deadline)
                {
                    self.abort(AbortReason::Cancelled);
                }
            }
            RunPhase::Draining { deadline } => {
                let told = self.workers.values().all(|w| *w != WorkerLife::Present);
                if live == 0 && told {
                    self.end(TrialEnd::Done);
                } else if self.now >= deadline {
                    // Every URL is done, so the account stands; only figures are missing.
                    self.degraded = true;
                    self.tell_workers(Command::Abort);
                    self.end(TrialEnd::Done);
                }
            }
            RunPhase::Ended => {}
        }
    }

    /// Fetchers that are not ready in time hold no other up, unless none is.
    fn start_without(&mut self, late: Vec<FetcherId>) {
        if !self.fetchers.values().any(|f| f.life == FetcherLife::Ready) {
            let (missing, all) = (late.len(), self.plan.placement.len());
            return self.abort(AbortReason::NotReady { missing, all });
        }
        for id in late {
            let reason = format!("it was not ready within {} s", PREPARE_DEADLINE.as_secs());
            self.kill(id, reason);
        }
        self.go();
    }

    fn go(&mut self) {
        self.phase = RunPhase::Running;
        self.went = Some(self.now);
        for fetcher in self.fetchers.values_mut() {
            if fetcher.life == FetcherLife::Ready {
                fetcher.life = FetcherLife::Running;
                fetcher.last_progress = self.now;
                fetcher.rate_since = self.now;
            }
        }
        self.tell_workers(Command::Go);
        self.top_up_by_host();
    }

    fn abort(&mut self, reason: AbortReason) {
        self.tell_workers(Command::Abort);
        self.end(TrialEnd::Aborted(reason));
    }

    fn end(&mut self, end: TrialEnd) {
        self.phase = RunPhase::Ended;
        self.commands.push(Command::Ended(end));
    }

    fn tell_workers(&mut self, command: impl Fn(WorkerId) -> Command) {
        let present = |life: &WorkerLife| *life == WorkerLife::Present;
        let workers = self.workers.iter().filter(|(_, life)| present(life));
        self.commands.extend(workers.map(|(worker, _)| command(*worker)));
    }
}

#[cfg(test)]
mod starvation_tests;
#[cfg(test)]
mod tests;
