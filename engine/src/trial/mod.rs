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

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use fanout_proto::{
    completion::{Completion, CompletionBatch, Outcome, StartedBatch},
    id::{FetcherId, UrlId, WorkerId},
    limits::{BATCH_MAX_URLS, CREDIT_MAX_URLS},
    report::{Exit, FetcherExited},
};

use crate::{
    id_set::IdSet,
    ledger::{AGAIN_MAX, Booked, Counts, Ledger, Split},
    politeness::{Answer, HostName, LOOK_AHEAD_URLS, Limits, Politeness, Waiting},
};

/// A fetcher may hold this long a stretch of its own rate beyond twice its
/// concurrency, so that a slow way to it never starves it.
const CREDIT_WINDOW: Duration = Duration::from_millis(200);
/// The rate is averaged over about this long.
const RATE_WINDOW: Duration = Duration::from_millis(200);
/// On top of the request timeout, before a silent fetcher is given up.
const SILENCE_GRACE: Duration = Duration::from_secs(5);
/// From Prepare to the last Ready.
const PREPARE_DEADLINE: Duration = Duration::from_secs(60);
/// From Kill to the reaped fetcher; then its place stays empty.
const REAP_DEADLINE: Duration = Duration::from_secs(60);
/// From Finish to the last reaped fetcher.
const FINISH_DEADLINE: Duration = Duration::from_secs(30);
/// Fetchers killed before they were ready, until a trial is given up.
const KILLED_AT_START_MAX: u32 = 3;
/// Fetchers lost in a row, without a URL completed in between, before a trial is given up.
const FRUITLESS_MAX: u32 = 64;

/// What a trial needs to know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// URLs in the list.
    pub urls: u64,
    /// How they are handed out.
    pub split: Split,
    /// In flight in each fetcher.
    pub concurrency: u32,
    /// URLs that one fetcher may hold at most, however fast it is.
    pub credit_max: u32,
    /// One exchange takes no longer.
    pub timeout: Duration,
    /// The worker of every fetcher; ids are the positions.
    pub placement: Vec<WorkerId>,
}

/// What happens to a trial.
#[derive(Debug)]
pub enum Event {
    /// A fetcher's model is set up.
    Ready(FetcherId),
    /// A fetcher did some URLs.
    Completions(FetcherId, CompletionBatch),
    /// A fetcher was reaped.
    Exited(Box<FetcherExited>),
    /// A worker sent what the protocol does not allow for this fetcher.
    Misbehaved(FetcherId, String),
    /// A worker has told all it knows of this trial.
    WorkerDone(WorkerId),
    /// A worker is gone, and with it its fetchers.
    WorkerLost(WorkerId),
    /// The hosts of all the URLs that [`Command::LookUp`] named.
    Hosts(Vec<(UrlId, HostName)>),
    /// Lease no more; end when the URLs in hand are done, at the latest then.
    Drain {
        /// When the rest is given up.
        deadline: Duration,
    },
    /// End at once.
    Cancel,
    /// Time has passed.
    Tick,
    /// Time has passed, and nothing was taken from the workers: nobody counts as silent.
    Stalled,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// Start a fetcher.
    Prepare(WorkerId, FetcherId),
    /// Find out the hosts of these URLs, in ascending order, and say so with [`Event::Hosts`].
    LookUp(Vec<UrlId>),
    /// Send these URLs, in ascending order.
    Lease(WorkerId, FetcherId, Vec<UrlId>),
    /// Open the barrier for the worker's fetchers that still wait at it.
    Go(WorkerId),
    /// Hold, measure, exit, reap.
    Finish(WorkerId),
    /// End one fetcher.
    Kill(WorkerId, FetcherId),
    /// End all fetchers of the trial there.
    Abort(WorkerId),
    /// These completions count.
    Record(FetcherId, Vec<Accepted>, Vec<(u32, String)>),
    /// These URLs are given up.
    Abandoned(Vec<UrlId>),
    /// A fetcher was lost; for the log and the report.
    Lost(FetcherId, String),
    /// Nothing more will come.
    Ended(End),
}

/// A completion that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// What the fetcher said.
    pub completion: Completion,
    /// From 1; above 1 after lost leases, and where the URL was asked for again.
    pub attempt: u8,
    /// Its position in the fetcher's batch, which the details refer to.
    pub position: u32,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every URL is done.
    Done,
    /// Some are not.
    Aborted(AbortReason),
}

/// What was lost on the way, and how long it took to be made good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Fetchers, those of lost workers included.
    pub fetchers: u32,
    /// From a fetcher's last sign of life, its Ready or a completion, to the
    /// moment at which its loss was noticed; the longest.
    pub notice: Option<Duration>,
    /// From that moment to the end of the last URL that went out again; the
    /// longest. Losses that overlap count as one.
    pub recovery: Option<Duration>,
}

/// Why a trial ended before every URL was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbortReason {
    /// Somebody asked for it.
    #[error("interrupted")]
    Cancelled,
    /// A fetcher could not be set up.
    #[error("a fetcher could not start: {0}")]
    Setup(String),
    /// Not every fetcher was ready in time.
    #[error("{missing} of {all} fetchers were not ready within {} s", PREPARE_DEADLINE.as_secs())]
    NotReady {
        /// Fetchers that were not.
        missing: usize,
        /// Fetchers in all.
        all: usize,
    },
    /// Nobody is left to fetch.
    #[error("all fetchers are lost; the last one: {0}")]
    AllLost(String),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Preparing,
    Running,
    Draining { deadline: Duration },
    Ended,
}

/// What a completion leads to.
enum Booking {
    Counted {
        attempt: u8,
    },
    /// It does not count: the host was busy, and is asked again later.
    AskedAgain,
    Duplicate,
    NotHeld,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Starting,
    Ready,
    Running,
    Lost,
    Exited,
}

#[derive(Debug)]
struct Fetcher {
    worker: WorkerId,
    shard: Option<u32>,
    life: Life,
    outstanding: u64,
    rate_per_s: f64,
    rate_since: Duration,
    last_progress: Duration,
    /// Holds URLs since then, if it does.
    held_since: Duration,
    /// Gets nothing but one suspect at a time.
    solo: bool,
    /// It was told to die: its place is free only when it has been reaped,
    /// which is waited for until then.
    dying_until: Option<Duration>,
    /// URLs it was given, and said that it took up; the second never passes the first.
    leased: u64,
    started: u64,
}

impl Fetcher {
    fn is_live(&self) -> bool {
        matches!(self.life, Life::Starting | Life::Ready | Life::Running)
    }
}

/// One arm over the whole list, once.
#[derive(Debug)]
pub struct Trial {
    plan: Plan,
    phase: Phase,
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
    last_ready: Option<Duration>,
    /// The moment of the event at hand.
    now: Duration,
    hosts: Option<Hosts>,
}

/// The limits per host at work.
#[derive(Debug)]
struct Hosts {
    politeness: Politeness,
    /// URLs may wait within a fetcher; else a lease is a request, at once.
    may_queue: bool,
    /// Some URLs' hosts were asked for, and are not known yet.
    looking: bool,
    /// Whose turn it is.
    turn: FetcherId,
    /// Since when slots are free for which the limits allow no URL.
    held_since: Option<Duration>,
    held: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WorkerLife {
    Present,
    /// Sent all it knows.
    Done,
    Lost,
}

impl Trial {
    /// Begins a trial; the commands start its fetchers.
    #[must_use]
    pub fn new(plan: Plan) -> (Self, Vec<Command>) {
        let none = IdSet::new(plan.urls);
        Self::resumed(plan, none)
    }

    /// As [`Trial::new`], but the URLs in `done` were done before.
    #[must_use]
    pub fn resumed(plan: Plan, done: IdSet) -> (Self, Vec<Command>) {
        let shards = u32::try_from(plan.placement.len()).unwrap_or(u32::MAX);
        let mut trial = Self {
            phase: Phase::Preparing,
            ledger: Ledger::resumed(done, plan.split, shards),
            fetchers: BTreeMap::new(),
            workers: plan
                .placement
                .iter()
                .map(|worker| (*worker, WorkerLife::Present))
                .collect(),
            next_fetcher: 0,
            stop_at: None,
            fruitless: 0,
            killed_at_start: 0,
            last_loss: String::new(),
            losses: Losses::default(),
            recovering_since: None,
            degraded: false,
            went: None,
            last_completion: None,
            last_ready: None,
            now: Duration::ZERO,
            hosts: None,
            plan,
        };
        let mut commands = Vec::new();
        for (worker, shard) in trial.plan.placement.clone().into_iter().zip(0..) {
            let shard = (trial.plan.split == Split::Static).then_some(shard);
            trial.start_fetcher(Duration::ZERO, worker, shard, &mut commands);
        }
        (trial, commands)
    }

    /// Limits what each host gets, over all fetchers together; to be called
    /// before the first event, and not with [`Split::Static`]. `seed` keeps the
    /// pauses of two coordinators apart.
    pub fn limit_hosts(&mut self, limits: Limits, seed: u64) {
        debug_assert!(
            !limits.any() || self.plan.split == Split::Dynamic,
            "shards know no hosts"
        );
        self.hosts = limits.any().then(|| Hosts {
            politeness: Politeness::new(limits, seed),
            may_queue: limits.rate_per_host.is_none() && !limits.polite,
            looking: false,
            turn: FetcherId(0),
            held_since: None,
            held: Duration::ZERO,
        });
    }

    /// When a [`Event::Tick`] is needed at the latest, so that no host is kept
    /// waiting; `None` if nothing depends on that.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        let wanted = self.phase == Phase::Running && self.stop_at.is_none();
        let hosts = self.hosts.as_ref().filter(|_| wanted)?;
        hosts.politeness.wake_at()
    }

    /// How long slots were free for which the limits per host allowed no URL;
    /// `None` without limits.
    #[must_use]
    pub fn held_by_hosts(&self) -> Option<Duration> {
        let hosts = self.hosts.as_ref()?;
        let now = hosts
            .held_since
            .map_or(Duration::ZERO, |since| self.now.saturating_sub(since));
        Some(hosts.held + now)
    }

    /// What slots wait for at present, if the limits per host let them wait.
    #[must_use]
    pub fn waiting_for_hosts(&self) -> Option<Waiting> {
        let hosts = self.hosts.as_ref()?;
        hosts.held_since.map(|_| hosts.politeness.waiting())
    }

    /// The account so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// The account itself.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Whether a fetcher or worker was lost.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }

    /// What was lost so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// When the barrier opened.
    #[must_use]
    pub fn went(&self) -> Option<Duration> {
        self.went
    }

    /// When the last fetcher of the first ones was ready.
    #[must_use]
    pub fn last_ready(&self) -> Option<Duration> {
        self.last_ready
    }

    /// From Go to the last completion.
    #[must_use]
    pub fn makespan(&self) -> Option<Duration> {
        Some(self.last_completion?.saturating_sub(self.went?))
    }

    /// Every fetcher, lost ones too, with its worker.
    pub fn fetchers(&self) -> impl Iterator<Item = (FetcherId, WorkerId)> + '_ {
        self.fetchers.iter().map(|(id, f)| (*id, f.worker))
    }

    /// Whether fetchers of this trial run there, or did.
    #[must_use]
    pub fn takes_part(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Where a fetcher runs.
    #[must_use]
    pub fn worker_of(&self, fetcher: FetcherId) -> Option<WorkerId> {
        Some(self.fetchers.get(&fetcher)?.worker)
    }

    /// Takes an event and appends what is to be done.
    pub fn on(&mut self, now: Duration, event: Event, commands: &mut Vec<Command>) {
        if self.phase == Phase::Ended {
            return;
        }
        self.now = now;
        match event {
            Event::Ready(id) => self.ready(now, id, commands),
            Event::Completions(id, batch) => self.completions(now, id, batch, commands),
            Event::Exited(exited) => self.exited(now, *exited, commands),
            Event::Misbehaved(id, reason) => self.kill(now, id, reason, commands),
            Event::WorkerDone(worker) => {
                if let Some(life @ WorkerLife::Present) = self.workers.get_mut(&worker) {
                    *life = WorkerLife::Done;
                }
            }
            Event::WorkerLost(worker) => self.worker_lost(now, worker, commands),
            Event::Hosts(found) => self.found_hosts(found, commands),
            Event::Drain { deadline } => {
                self.stop_at = Some(self.stop_at.map_or(deadline, |at| at.min(deadline)));
            }
            Event::Cancel => self.abort(AbortReason::Cancelled, commands),
            Event::Tick => self.tick(now, commands),
            Event::Stalled => {
                for fetcher in self.fetchers.values_mut() {
                    fetcher.last_progress = now;
                }
            }
        }
        self.watch_recovery(now);
        self.advance(now, commands);
    }

    fn start_fetcher(
        &mut self,
        now: Duration,
        worker: WorkerId,
        shard: Option<u32>,
        commands: &mut Vec<Command>,
    ) {
        let id = FetcherId(self.next_fetcher);
        self.next_fetcher += 1;
        self.fetchers.insert(
            id,
            Fetcher {
                worker,
                shard,
                life: Life::Starting,
                outstanding: 0,
                rate_per_s: 0.0,
                rate_since: now,
                last_progress: now,
                held_since: now,
                solo: false,
                dying_until: None,
                leased: 0,
                started: 0,
            },
        );
        commands.push(Command::Prepare(worker, id));
    }

    fn ready(&mut self, now: Duration, id: FetcherId, commands: &mut Vec<Command>) {
        let running = self.phase == Phase::Running;
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        if fetcher.life != Life::Starting {
            return self.kill(now, id, "it said Ready twice".to_owned(), commands);
        }
        fetcher.last_progress = now;
        fetcher.rate_since = now;
        fetcher.life = Life::Ready;
        self.top_up(id, commands);
        if running {
            // A replacement does not wait for anybody.
            let fetcher = self.fetchers.get_mut(&id).expect("it was just there");
            fetcher.life = Life::Running;
            commands.push(Command::Go(fetcher.worker));
            self.top_up_by_host(commands);
        } else {
            self.last_ready = Some(now);
        }
    }

    fn completions(
        &mut self,
        now: Duration,
        id: FetcherId,
        batch: CompletionBatch,
        commands: &mut Vec<Command>,
    ) {
        let Some(fetcher) = self.fetchers.get(&id) else {
            return;
        };
        if fetcher.life != Life::Running {
            // From a fetcher that was given up: too late. From any other: too early.
            self.ledger.ignore(batch.completions.len() as u64);
            return self.kill(now, id, "it completed URLs before Go".to_owned(), commands);
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
                Booking::Counted { attempt } => accepted.push(Accepted {
                    completion,
                    attempt,
                    position,
                }),
                Booking::AskedAgain => asked_again += 1,
                Booking::Duplicate => {}
                Booking::NotHeld => {
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
            fetcher.last_progress = now;
            fetcher.observe(now, count);
            self.fruitless = 0;
        }
        if !accepted.is_empty() {
            self.last_completion = Some(now);
            commands.push(Command::Record(id, accepted, batch.details));
        }
        if let Some(reason) = broken {
            return self.kill(now, id, reason, commands);
        }
        if self.phase == Phase::Running {
            self.top_up(id, commands);
        }
    }

    /// Enters a completion; under limits per host, its host hears of the answer.
    fn book(
        &mut self,
        id: FetcherId,
        completion: &Completion,
        retry_after: Option<Duration>,
    ) -> Booking {
        let url = completion.id;
        let answer = Answer::of(completion.status, retry_after);
        if completion.outcome == Outcome::Ok
            && let Some(hosts) = &mut self.hosts
            && hosts.politeness.asks_again(url, answer)
        {
            return match self.ledger.put_back(id, url) {
                Booked::Counted { .. } => {
                    hosts.politeness.postpone(self.now, url, answer);
                    Booking::AskedAgain
                }
                Booked::Duplicate => Booking::Duplicate,
                Booked::NotHeld => Booking::NotHeld,
            };
        }
        match self.ledger.complete(id, url, completion.outcome) {
            Booked::Counted { mut attempt } => {
                if let Some(hosts) = &mut self.hosts {
                    attempt = attempt.saturating_add(hosts.politeness.asked_again(url));
                    hosts.politeness.done(self.now, url, answer);
                }
                Booking::Counted { attempt }
            }
            Booked::Duplicate => Booking::Duplicate,
            Booked::NotHeld => Booking::NotHeld,
        }
    }

    fn exited(&mut self, now: Duration, exited: FetcherExited, commands: &mut Vec<Command>) {
        let id = exited.fetcher;
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        let life = fetcher.life;
        let draining = matches!(self.phase, Phase::Draining { .. });
        if !fetcher.is_live() {
            if fetcher.dying_until.take().is_some() {
                let (worker, shard) = (fetcher.worker, fetcher.shard);
                self.replace(now, worker, shard, commands);
                self.top_up_all(commands);
            }
            return;
        }
        if draining && exited.report.is_some() {
            fetcher.life = Life::Exited;
            return;
        }
        let reason = if exited.reason.is_empty() {
            format!("it ended early ({:?})", exited.exit)
        } else {
            exited.reason
        };
        if life == Life::Starting && self.phase == Phase::Preparing {
            // Whoever was killed may get on the next time; a worker also kills
            // those that cannot be set up, and they do not.
            let killed = matches!(exited.exit, Exit::Signal(_) | Exit::OutOfMemory);
            self.killed_at_start += u32::from(killed);
            if !killed || self.killed_at_start > KILLED_AT_START_MAX {
                return self.abort(AbortReason::Setup(reason), commands);
            }
        }
        self.lose(now, id, reason, commands);
    }

    /// Gives a fetcher up that may still live.
    fn kill(&mut self, now: Duration, id: FetcherId, reason: String, commands: &mut Vec<Command>) {
        let Some(fetcher) = self.fetchers.get(&id).filter(|f| f.is_live()) else {
            return;
        };
        commands.push(Command::Kill(fetcher.worker, id));
        self.lose_until(now, id, reason, true, commands);
    }

    fn lose(&mut self, now: Duration, id: FetcherId, reason: String, commands: &mut Vec<Command>) {
        self.lose_until(now, id, reason, false, commands);
    }

    /// Gives a fetcher up; one that is `alive` is replaced when it is reaped.
    fn lose_until(
        &mut self,
        now: Duration,
        id: FetcherId,
        reason: String,
        alive: bool,
        commands: &mut Vec<Command>,
    ) {
        let Some(fetcher) = self.fetchers.get_mut(&id).filter(|f| f.is_live()) else {
            return;
        };
        fetcher.dying_until = alive.then_some(now + REAP_DEADLINE);
        let (worker, shard) = (fetcher.worker, fetcher.shard);
        self.fruitless += 1;
        self.hosts_lose(id, !alive);
        self.take_back(now, id, reason, commands);
        if !alive {
            self.replace(now, worker, shard, commands);
        }
        self.top_up_all(commands);
    }

    /// Takes a lost fetcher's leases back.
    fn take_back(
        &mut self,
        now: Duration,
        id: FetcherId,
        reason: String,
        commands: &mut Vec<Command>,
    ) {
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return;
        };
        fetcher.life = Life::Lost;
        fetcher.outstanding = 0;
        self.losses.fetchers += 1;
        let silence = now.saturating_sub(fetcher.last_progress);
        self.losses.notice = self.losses.notice.max(Some(silence));
        self.degraded = true;
        let abandoned = self.ledger.lose(id);
        for url in &abandoned {
            if let Some(hosts) = &mut self.hosts {
                hosts.politeness.give_up(now, *url);
            }
        }
        if !abandoned.is_empty() {
            self.last_completion = Some(now);
            commands.push(Command::Abandoned(abandoned));
        }
        self.last_loss.clone_from(&reason);
        commands.push(Command::Lost(id, reason));
    }

    /// Starts another fetcher in a lost one's place, if that leads anywhere.
    fn replace(
        &mut self,
        now: Duration,
        worker: WorkerId,
        shard: Option<u32>,
        commands: &mut Vec<Command>,
    ) {
        let wanted = matches!(self.phase, Phase::Preparing | Phase::Running)
            && self.stop_at.is_none()
            && self.ledger.remaining() > 0;
        let possible = self.workers.get(&worker) == Some(&WorkerLife::Present)
            && self.fruitless <= FRUITLESS_MAX;
        if wanted && possible {
            self.start_fetcher(now, worker, shard, commands);
        } else {
            self.ledger.release_shard(shard);
        }
    }

    fn worker_lost(&mut self, now: Duration, worker: WorkerId, commands: &mut Vec<Command>) {
        let Some(life) = self.workers.get_mut(&worker) else {
            return;
        };
        *life = WorkerLife::Lost;
        // All of them, before anything is leased again: what one held must not
        // go to another that is gone as well.
        let there: Vec<_> = self
            .fetchers
            .iter_mut()
            .filter(|(_, fetcher)| fetcher.worker == worker)
            .filter_map(|(id, fetcher)| {
                // Nobody will tell of those that were being killed there.
                let killed = fetcher.dying_until.take().is_some();
                (killed || fetcher.is_live()).then_some((*id, fetcher.is_live(), fetcher.shard))
            })
            .collect();
        self.fruitless += u32::from(!there.is_empty());
        for (id, is_live, shard) in there {
            if is_live {
                // Its fetchers may live on until it notices.
                self.hosts_lose(id, false);
                self.take_back(now, id, format!("worker {worker} was lost"), commands);
            }
            self.ledger.release_shard(shard);
        }
        self.top_up_all(commands);
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
        // What a lost one had is somebody else's by now.
        fetcher.started <= fetcher.leased
            && (!fetcher.is_live() || batch.starts.iter().all(|(url, _)| known(*url)))
    }

    fn tick(&mut self, now: Duration, commands: &mut Vec<Command>) {
        if self.phase == Phase::Running {
            let patience = self.plan.timeout + SILENCE_GRACE;
            let silent: Vec<_> = self
                .fetchers
                .iter()
                .filter(|(_, f)| match f.life {
                    Life::Running => {
                        // Who had nothing to do was idle, not silent.
                        let since = f.last_progress.max(f.held_since);
                        f.outstanding > 0 && now.saturating_sub(since) > patience
                    }
                    // A replacement that never gets ready.
                    Life::Starting => now.saturating_sub(f.last_progress) > PREPARE_DEADLINE,
                    _ => false,
                })
                .map(|(id, _)| *id)
                .collect();
            for id in silent {
                let reason = format!("it completed nothing for {} s", patience.as_secs());
                self.kill(now, id, reason, commands);
            }
            self.top_up_by_host(commands);
        }
        let mut given_up = false;
        for fetcher in self.fetchers.values_mut() {
            if fetcher.dying_until.is_some_and(|until| now > until) {
                fetcher.dying_until = None;
                self.ledger.release_shard(fetcher.shard);
                given_up = true;
            }
        }
        if given_up {
            self.top_up_all(commands);
        }
    }

    /// URLs that were lost are either all done again or they are not.
    fn watch_recovery(&mut self, now: Duration) {
        if self.ledger.recovering() > 0 {
            self.recovering_since.get_or_insert(now);
        } else if let Some(since) = self.recovering_since.take() {
            let took = now.saturating_sub(since);
            self.losses.recovery = self.losses.recovery.max(Some(took));
        }
    }

    /// Moves on to the next phase when the present one is over.
    fn advance(&mut self, now: Duration, commands: &mut Vec<Command>) {
        let coming = |f: &&Fetcher| f.is_live() || f.dying_until.is_some();
        let live = self.fetchers.values().filter(coming).count();
        match self.phase {
            Phase::Preparing | Phase::Running if self.ledger.remaining() == 0 => {
                self.drain(now, commands);
            }
            Phase::Preparing | Phase::Running if live == 0 => {
                let reason = self.last_loss.clone();
                self.abort(AbortReason::AllLost(reason), commands);
            }
            Phase::Preparing => {
                if self.stop_at.is_some() {
                    return self.abort(AbortReason::Cancelled, commands);
                }
                let missing = self
                    .fetchers
                    .values()
                    .filter(|f| f.life == Life::Starting)
                    .count();
                if missing == 0 {
                    self.go(now, commands);
                } else if now > PREPARE_DEADLINE {
                    self.start_without(now, missing, commands);
                }
            }
            Phase::Running => {
                if let Some(deadline) = self.stop_at
                    && (self.ledger.leased() == 0 || now >= deadline)
                {
                    self.abort(AbortReason::Cancelled, commands);
                }
            }
            Phase::Draining { deadline } => {
                let told = self.workers.values().all(|w| *w != WorkerLife::Present);
                if live == 0 && told {
                    self.phase = Phase::Ended;
                    commands.push(Command::Ended(End::Done));
                } else if now >= deadline {
                    // Every URL is done, so the account stands; only figures are missing.
                    self.degraded = true;
                    self.abort_workers(commands);
                    self.phase = Phase::Ended;
                    commands.push(Command::Ended(End::Done));
                }
            }
            Phase::Ended => {}
        }
    }

    /// Whoever is not ready in time holds nobody up, unless that is everybody.
    fn start_without(&mut self, now: Duration, missing: usize, commands: &mut Vec<Command>) {
        if !self.fetchers.values().any(|f| f.life == Life::Ready) {
            let all = self.plan.placement.len();
            return self.abort(AbortReason::NotReady { missing, all }, commands);
        }
        let late: Vec<_> = self
            .fetchers
            .iter()
            .filter(|(_, f)| f.life == Life::Starting)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let reason = format!("it was not ready within {} s", PREPARE_DEADLINE.as_secs());
            self.kill(now, id, reason, commands);
        }
        self.go(now, commands);
    }

    fn go(&mut self, now: Duration, commands: &mut Vec<Command>) {
        self.phase = Phase::Running;
        self.went = Some(now);
        for fetcher in self.fetchers.values_mut() {
            if fetcher.life == Life::Ready {
                fetcher.life = Life::Running;
                fetcher.last_progress = now;
                fetcher.rate_since = now;
            }
        }
        for (worker, _) in self
            .workers
            .iter()
            .filter(|(_, life)| **life == WorkerLife::Present)
        {
            commands.push(Command::Go(*worker));
        }
        self.top_up_by_host(commands);
    }

    fn drain(&mut self, now: Duration, commands: &mut Vec<Command>) {
        self.phase = Phase::Draining {
            deadline: now + FINISH_DEADLINE,
        };
        for (worker, _) in self
            .workers
            .iter()
            .filter(|(_, life)| **life == WorkerLife::Present)
        {
            commands.push(Command::Finish(*worker));
        }
    }

    fn abort(&mut self, reason: AbortReason, commands: &mut Vec<Command>) {
        self.abort_workers(commands);
        self.phase = Phase::Ended;
        commands.push(Command::Ended(End::Aborted(reason)));
    }

    fn abort_workers(&self, commands: &mut Vec<Command>) {
        for (worker, life) in &self.workers {
            if *life == WorkerLife::Present {
                commands.push(Command::Abort(*worker));
            }
        }
    }

    /// A fetcher was lost. Unless it is surely `gone`, its requests may be under
    /// way for the timeout, and those that waited within it for another.
    fn hosts_lose(&mut self, id: FetcherId, gone: bool) {
        if let Some(hosts) = &mut self.hosts {
            let until = match (gone, hosts.may_queue) {
                (true, _) => self.now,
                (false, false) => self.now + self.plan.timeout,
                (false, true) => self.now + 2 * self.plan.timeout,
            };
            hosts.politeness.lose(self.now, id, until);
        }
    }

    fn found_hosts(&mut self, found: Vec<(UrlId, HostName)>, commands: &mut Vec<Command>) {
        if let Some(hosts) = &mut self.hosts {
            hosts.looking = false;
            for (url, name) in found {
                hosts.politeness.add(self.now, url, name);
            }
        }
        self.top_up_by_host(commands);
    }

    /// Leases what the limits per host allow, if there are any. Free slots come
    /// first; only where no moment is to be kept may URLs wait within a fetcher.
    fn top_up_by_host(&mut self, commands: &mut Vec<Command>) {
        if self.hosts.is_none() || self.phase != Phase::Running {
            return;
        }
        let mut leases = BTreeMap::new();
        let slots = u64::from(self.plan.concurrency);
        let held = self.lease_by_host(slots, &mut leases, commands);
        let Some(hosts) = &mut self.hosts else { return };
        match hosts.held_since {
            None if held => hosts.held_since = Some(self.now),
            Some(since) if !held && !hosts.looking => {
                hosts.held += self.now.saturating_sub(since);
                hosts.held_since = None;
            }
            _ => {}
        }
        if hosts.may_queue && !held {
            self.lease_by_host(2 * slots, &mut leases, commands);
        }
        let most = match self.ledger.recovering() {
            0 => BATCH_MAX_URLS,
            _ => AGAIN_MAX,
        };
        for (id, mut urls) in leases {
            let Some(worker) = self.worker_of(id) else {
                continue;
            };
            urls.sort_unstable();
            for batch in urls.chunks(most) {
                commands.push(Command::Lease(worker, id, batch.to_vec()));
            }
        }
    }

    /// Adds leases until every fetcher holds `credit` URLs or no host may be
    /// asked. The fetchers take turns, and hosts too. Says whether hosts were
    /// lacking.
    fn lease_by_host(
        &mut self,
        credit: u64,
        leases: &mut BTreeMap<FetcherId, Vec<UrlId>>,
        commands: &mut Vec<Command>,
    ) -> bool {
        let mut free = self.free_fetchers(credit, commands);
        let Some(hosts) = &mut self.hosts else {
            return false;
        };
        hosts.politeness.advance(self.now);
        while let Some(id) = free.front().copied() {
            if let Some(url) = hosts.politeness.next(self.now, id) {
                self.ledger.lease_aside(id, url);
                leases.entry(id).or_default().push(url);
                hosts.turn = FetcherId(id.0.saturating_add(1));
                free.rotate_left(1);
                let Some(fetcher) = self.fetchers.get_mut(&id) else {
                    continue;
                };
                fetcher.hold(self.now, 1);
                if fetcher.outstanding >= credit {
                    free.pop_back();
                }
                continue;
            }
            // Nothing may be asked of the hosts that are known: look further ahead.
            if hosts.looking {
                return false;
            }
            if !hosts.politeness.has_room() {
                return true;
            }
            let ids = self.ledger.set_aside(LOOK_AHEAD_URLS);
            if ids.is_empty() {
                return hosts.politeness.waiting().hosts > 0;
            }
            let unknown = hosts.politeness.welcome(self.now, ids);
            if !unknown.is_empty() {
                hosts.looking = true;
                commands.push(Command::LookUp(unknown));
            }
        }
        false
    }

    /// Fetchers that hold less than `credit` URLs, beginning with the one whose
    /// turn it is.
    fn free_fetchers(&mut self, credit: u64, commands: &mut Vec<Command>) -> VecDeque<FetcherId> {
        if self.stop_at.is_some() {
            return VecDeque::new();
        }
        let turn = self.hosts.as_ref().map_or(FetcherId(0), |hosts| hosts.turn);
        let mut free: VecDeque<_> = self
            .fetchers
            .range(turn..)
            .chain(self.fetchers.range(..turn))
            .filter(|(_, f)| f.life == Life::Running)
            .filter(|(_, f)| f.outstanding < credit || f.solo)
            .map(|(id, _)| *id)
            .collect();
        let solo = self.fetchers.values().any(|f| f.solo);
        if solo || self.ledger.has_suspects() {
            free.retain(|id| !self.top_up_solo(*id, commands));
            let holds = |id: &FetcherId| self.fetchers.get(id).map_or(0, |f| f.outstanding);
            free.retain(|id| holds(id) < credit);
        }
        free
    }

    fn top_up_all(&mut self, commands: &mut Vec<Command>) {
        if self.hosts.is_some() {
            return self.top_up_by_host(commands);
        }
        // Also those that wait at the barrier: nobody would ask for them later.
        let able: Vec<_> = self
            .fetchers
            .iter()
            .filter(|(_, f)| matches!(f.life, Life::Ready | Life::Running))
            .map(|(id, _)| *id)
            .collect();
        for id in able {
            self.top_up(id, commands);
        }
    }

    /// Leases a fetcher what it may have beyond what it holds.
    fn top_up(&mut self, id: FetcherId, commands: &mut Vec<Command>) {
        if self.hosts.is_some() {
            return self.top_up_by_host(commands);
        }
        if self.stop_at.is_some() {
            return;
        }
        let alone = self.ledger.has_suspects() || self.fetchers.get(&id).is_some_and(|f| f.solo);
        if alone && self.top_up_solo(id, commands) {
            return;
        }
        let Some(fetcher) = self.fetchers.get(&id) else {
            return;
        };
        let target = self.target(fetcher);
        let missing = target.saturating_sub(fetcher.outstanding);
        // Not one by one: a message costs as much as a hundred URLs in it.
        let worthwhile = missing >= (target / 4).max(1)
            || fetcher.outstanding <= u64::from(self.plan.concurrency) / 2;
        if missing == 0 || !worthwhile {
            return;
        }
        let mut missing = usize::try_from(missing).unwrap_or(usize::MAX);
        let (worker, shard) = (fetcher.worker, fetcher.shard);
        while missing > 0 {
            let ids = self.ledger.lease(id, shard, missing.min(BATCH_MAX_URLS));
            if ids.is_empty() {
                return;
            }
            missing -= ids.len();
            let fetcher = self.fetchers.get_mut(&id).expect("it was just there");
            fetcher.hold(self.now, ids.len());
            commands.push(Command::Lease(worker, id, ids));
        }
    }

    /// One fetcher at a time tries suspects one by one, while it holds nothing
    /// else, so that one poisonous URL abandons only itself. Says whether this
    /// fetcher is the one.
    fn top_up_solo(&mut self, id: FetcherId, commands: &mut Vec<Command>) -> bool {
        let somebody = self
            .fetchers
            .iter()
            .any(|(other, f)| *other != id && f.solo && f.is_live());
        let suspects = self.ledger.has_suspects();
        let Some(fetcher) = self.fetchers.get_mut(&id) else {
            return false;
        };
        if somebody || (!suspects && fetcher.outstanding == 0) {
            fetcher.solo = false;
            return false;
        }
        fetcher.solo = true;
        let clear = fetcher.outstanding == 0;
        let may = |url| {
            let hosts = self.hosts.as_mut();
            hosts.is_none_or(|hosts| hosts.politeness.lease_this(self.now, url, id))
        };
        if clear
            && self.ledger.suspect().is_some_and(may)
            && let Some(url) = self.ledger.lease_suspect(id)
        {
            fetcher.hold(self.now, 1);
            commands.push(Command::Lease(fetcher.worker, id, vec![url]));
        }
        true
    }

    /// How many URLs a fetcher may hold: enough that it never waits for more,
    /// and near the list's end no more than its share, so that nobody is left
    /// with a long tail while others idle.
    fn target(&self, fetcher: &Fetcher) -> u64 {
        let double = 2 * u64::from(self.plan.concurrency);
        let window = fetcher.rate_per_s * CREDIT_WINDOW.as_secs_f64();
        let window = if window.is_finite() { window } else { 0.0 };
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to the credit limit"
        )]
        let window = window.clamp(0.0, f64::from(CREDIT_MAX_URLS)) as u64;
        let credit = (double + window)
            .min(self.plan.credit_max.into())
            .min(CREDIT_MAX_URLS.into());
        if self.plan.split == Split::Static {
            return credit;
        }
        let live = self.fetchers.values().filter(|f| f.is_live()).count() as u64;
        let remaining = self.ledger.remaining();
        let guided = (remaining / (4 * live.max(1))).max(double);
        let share = remaining.div_ceil(live.max(1));
        credit.min(guided).min(share).max(1)
    }
}

impl Fetcher {
    fn hold(&mut self, now: Duration, urls: usize) {
        if self.outstanding == 0 {
            self.held_since = now;
        }
        self.outstanding += urls as u64;
        self.leased += urls as u64;
    }

    /// Averages the rate exponentially; the first observation counts whole.
    fn observe(&mut self, now: Duration, completions: u64) {
        let elapsed = now.saturating_sub(self.rate_since).as_secs_f64();
        if elapsed <= 0.0 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let rate = completions as f64 / elapsed;
        let weight = if self.rate_per_s == 0.0 {
            1.0
        } else {
            -(-elapsed / RATE_WINDOW.as_secs_f64()).exp_m1()
        };
        self.rate_per_s += weight * (rate - self.rate_per_s);
        self.rate_since = now;
    }
}

#[cfg(test)]
mod tests;
