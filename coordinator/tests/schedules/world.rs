//! The world around a trial: the coordinator's trial and the workers' trials
//! are the real ones; processes, pipes, connections and time are made up.
//!
//! Messages of one direction of a connection keep their order, as TCP's do;
//! everything else may overtake everything else.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    time::Duration,
};

use fanout_engine::{
    politeness::HostName,
    trial::{Command, Event, Trial, TrialEnd},
};
use fanout_proto::{
    completion::{Completion, CompletionBatch, Outcome},
    id::{FetcherId, UrlId, WorkerId},
    report::{Exit, FetcherExited, FetcherReport, HoldSnapshot},
};
use fanout_worker::trial::{Action, FetcherControl, TrialInput, WorkerTrial};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::{
    judge::{Judge, Told},
    schedule::{Direction, Fault, MS, SECOND, Schedule},
};

/// The coordinator takes a worker as gone after this silence.
const SILENCE_HERE: u64 = 8 * SECOND;
/// A worker takes the coordinator as gone after this silence.
const SILENCE_THERE: u64 = 6 * SECOND;
/// How often the coordinator looks at its deadlines.
const TICK: u64 = 100 * MS;
/// Whatever happened, a run is over so long after its last fault.
const PATIENCE: u64 = 20 * 60 * SECOND;

/// Nor does it take more steps than this.
const STEPS_MAX: u64 = 500_000;

/// What the coordinator says to a worker.
#[derive(Debug, Clone)]
enum Order {
    Prepare(FetcherId),
    Lease(FetcherId, Vec<UrlId>),
    Go,
    Finish,
    Kill(FetcherId),
    Abort,
}

/// What a worker says to the coordinator.
#[derive(Debug, Clone)]
enum Report {
    Ready(FetcherId),
    Completions(FetcherId, Vec<(UrlId, Outcome)>),
    Misbehaved(FetcherId),
    Exited(Box<FetcherExited>),
    Done,
}

/// What happens at some moment.
#[derive(Debug)]
enum What {
    Fault(Fault),
    Tick,
    ThawCoordinator,
    /// At the coordinator.
    Arrives(WorkerId, Report),
    NoticesLoss(WorkerId),
    /// At a worker.
    At(WorkerId, AtWorker),
    ThawWorker(WorkerId),
    ThawFetcher(WorkerId, FetcherId),
}

#[derive(Debug)]
enum AtWorker {
    Order(Order),
    /// The connection is known to be gone.
    Closed,
    Start(FetcherId),
    Due,
    Measured(FetcherId),
    Frame(FetcherId, Vec<(UrlId, Outcome)>),
    Babble(FetcherId),
    IsReady(FetcherId),
    Reports(FetcherId),
    Ended(FetcherId, Exit),
    /// In a fetcher.
    In(FetcherId, InFetcher),
}

#[derive(Debug)]
enum InFetcher {
    SetUp,
    Leases(Vec<UrlId>),
    Control(FetcherControl),
    Does(UrlId),
    Flush,
}

struct Moment {
    at: u64,
    /// Of two things at the same time the earlier one is first.
    order: u64,
    what: What,
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Line {
    /// Nothing arrives before what was sent earlier.
    last: u64,
    /// Nothing arrives from then on.
    cut: Option<u64>,
}

/// A fetcher's process.
#[derive(Debug)]
struct Process {
    ready: bool,
    runs: bool,
    dead: bool,
    frozen: bool,
    waiting: VecDeque<InFetcher>,
    leases: VecDeque<UrlId>,
    in_flight: u32,
    outbox: Vec<(UrlId, Outcome)>,
    never_ready: bool,
}

/// A worker's process.
struct Worker {
    fetchers: WorkerTrial,
    slots: usize,
    /// Prepared, and not started yet.
    queued: BTreeSet<FetcherId>,
    processes: BTreeMap<FetcherId, Process>,
    to_worker: Line,
    to_coordinator: Line,
    /// The session is over here.
    closed: bool,
    /// The session is over there.
    lost: bool,
    frozen: bool,
    waiting: VecDeque<AtWorker>,
    double: bool,
    overflow: bool,
}

/// What a run was like, to see that schedules reach what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) done: u64,
    pub(crate) cancelled: u64,
    pub(crate) all_lost: u64,
    pub(crate) setup: u64,
    pub(crate) not_ready: u64,
    pub(crate) lost: u64,
    pub(crate) requeued: u64,
    pub(crate) ignored: u64,
    pub(crate) abandoned: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.done += other.done;
        self.cancelled += other.cancelled;
        self.all_lost += other.all_lost;
        self.setup += other.setup;
        self.not_ready += other.not_ready;
        self.lost += other.lost;
        self.requeued += other.requeued;
        self.ignored += other.ignored;
        self.abandoned += other.abandoned;
    }
}

pub(crate) struct World {
    schedule: Schedule,
    rng: ChaCha8Rng,
    start: Instant,
    now: u64,
    queue: BinaryHeap<Reverse<Moment>>,
    count: u64,
    trial: Trial,
    judge: Judge,
    workers: BTreeMap<WorkerId, Worker>,
    frozen: bool,
    waiting: VecDeque<What>,
    slow_death: Option<u64>,
    never_ready: bool,
    never_started: bool,
    plague: bool,
    /// Everybody goes on by then.
    calm: u64,
    steps: u64,
}

impl World {
    /// Runs a schedule to its end; panics where a promise is broken.
    pub(crate) fn run(schedule: Schedule) -> Tally {
        let (mut trial, commands) = Trial::new(schedule.plan.clone());
        trial.limit_hosts(schedule.limits, schedule.seed);
        let mut slots: BTreeMap<WorkerId, usize> = BTreeMap::new();
        for worker in &schedule.plan.placement {
            *slots.entry(*worker).or_default() += 1;
        }
        let workers = slots.into_iter().map(|(id, slots)| (id, Worker::new(slots))).collect();
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(!schedule.seed),
            start: Instant::now(),
            now: 0,
            queue: BinaryHeap::new(),
            count: 0,
            judge: Judge::new(&schedule),
            trial,
            workers,
            frozen: false,
            waiting: VecDeque::new(),
            slow_death: None,
            never_ready: false,
            never_started: false,
            plague: false,
            calm: 0,
            steps: 0,
            schedule,
        };
        world.judge.see(Duration::ZERO, &commands, &world.trial);
        world.obey(commands);
        for (at, fault) in world.schedule.faults.clone() {
            world.calm = world.calm.max(at);
            world.later(at, What::Fault(fault));
        }
        world.later(TICK, What::Tick);
        while let Some(Reverse(moment)) = world.queue.pop() {
            world.now = moment.at;
            world.steps += 1;
            assert!(world.steps < STEPS_MAX, "no end: {:?}", world.trial);
            assert!(
                world.judge.end.is_some() || world.now <= world.calm + PATIENCE,
                "no end: {:?}",
                world.trial
            );
            world.handle(moment.what);
        }
        world.conclude()
    }

    fn conclude(self) -> Tally {
        self.judge.conclude();
        for (id, worker) in &self.workers {
            for (fetcher, process) in &worker.processes {
                assert!(process.dead, "fetcher {fetcher} on {id} outlives the trial");
            }
        }
        let end = self.judge.end.expect("it has ended");
        use fanout_engine::trial::AbortReason as Reason;
        let is = |yes| u64::from(yes);
        let aborted =
            |reason: fn(&Reason) -> bool| is(matches!(&end, TrialEnd::Aborted(why) if reason(why)));
        Tally {
            steps: self.steps,
            done: is(end == TrialEnd::Done),
            cancelled: aborted(|why| matches!(why, Reason::Cancelled)),
            all_lost: aborted(|why| matches!(why, Reason::AllLost(_))),
            setup: aborted(|why| matches!(why, Reason::Setup(_))),
            not_ready: aborted(|why| matches!(why, Reason::NotReady { .. })),
            lost: self.judge.lost,
            requeued: self.judge.requeued,
            ignored: self.judge.ignored,
            abandoned: self.judge.abandoned,
        }
    }

    fn at(&self) -> Duration {
        Duration::from_micros(self.now)
    }

    fn instant(&self) -> Instant {
        self.start + self.at()
    }

    fn later(&mut self, at: u64, what: What) {
        self.count += 1;
        let order = self.count;
        self.queue.push(Reverse(Moment { at, order, what }));
    }

    fn soon(&mut self, (least, most): (u64, u64), worker: WorkerId, what: AtWorker) {
        let at = self.now + self.rng.random_range(least..=most);
        self.later(at, What::At(worker, what));
    }

    fn handle(&mut self, what: What) {
        match what {
            What::Fault(fault) => self.strike(fault),
            What::ThawCoordinator => {
                self.frozen = false;
                for what in std::mem::take(&mut self.waiting) {
                    self.handle(what);
                }
            }
            What::Tick | What::Arrives(..) | What::NoticesLoss(_) if self.frozen => {
                self.waiting.push_back(what);
            }
            What::Tick => {
                if self.judge.end.is_none() {
                    self.tell(Event::Tick, &Told::Else);
                    let at = self.now + TICK;
                    self.later(at, What::Tick);
                }
            }
            What::Arrives(worker, report) => self.arrives(worker, report),
            What::NoticesLoss(worker) => self.loses(worker),
            What::At(worker, what) => self.at_worker(worker, what),
            What::ThawWorker(id) => {
                self.worker(id).frozen = false;
                for what in std::mem::take(&mut self.worker(id).waiting) {
                    self.at_worker(id, what);
                }
            }
            What::ThawFetcher(id, fetcher) => {
                let Some(process) = self.worker(id).processes.get_mut(&fetcher) else {
                    return;
                };
                process.frozen = false;
                for what in std::mem::take(&mut process.waiting) {
                    self.in_fetcher(id, fetcher, what);
                }
            }
        }
    }

    fn worker(&mut self, id: WorkerId) -> &mut Worker {
        self.workers.get_mut(&id).expect("a worker of the plan")
    }

    // At the coordinator.

    fn tell(&mut self, event: Event, told: &Told) {
        self.judge.hear(told);
        let now = self.at();
        let commands = self.trial.on(now, event);
        self.judge.see(now, &commands, &self.trial);
        self.obey(commands);
    }

    fn obey(&mut self, commands: Vec<Command>) {
        let mut gone = Vec::new();
        let mut look_up = Vec::new();
        for command in commands {
            let (worker, order) = match command {
                Command::LookUp(ids) => {
                    look_up.extend(ids);
                    continue;
                }
                Command::Prepare(worker, id) => (worker, Order::Prepare(id)),
                Command::Lease(worker, id, urls) => (worker, Order::Lease(id, urls)),
                Command::Go(worker) => (worker, Order::Go),
                Command::Finish(worker) => (worker, Order::Finish),
                Command::Kill(worker, id) => (worker, Order::Kill(id)),
                Command::Abort(worker) => (worker, Order::Abort),
                Command::Record(..)
                | Command::Abandoned(_)
                | Command::Lost(..)
                | Command::Ended(_) => continue,
            };
            if self.worker(worker).lost {
                continue;
            }
            if std::mem::take(&mut self.worker(worker).overflow) {
                // Cut off: the stream to it ends.
                self.worker(worker).lost = true;
                self.soon((0, 50 * MS), worker, AtWorker::Closed);
                gone.push(worker);
                continue;
            }
            self.send(worker, Direction::ToWorker, |at, world| {
                world.later(at, What::At(worker, AtWorker::Order(order)));
            });
        }
        if !look_up.is_empty() {
            let hosts = self.schedule.hosts;
            let name = |id: UrlId| HostName::of(format!("http://h{}/", id.0 % hosts).as_bytes());
            let found = look_up.into_iter().map(|id| (id, name(id))).collect();
            self.tell(Event::Hosts(found), &Told::Else);
        }
        for worker in gone {
            self.tell(Event::WorkerLost(worker), &Told::WorkerLost(worker));
        }
    }

    /// Puts a message on a line, if it still leads anywhere.
    fn send(&mut self, id: WorkerId, to: Direction, arrive: impl FnOnce(u64, &mut Self)) {
        let (least, most) = self.schedule.delay;
        let at = self.now + self.rng.random_range(least..=most);
        let line = self.worker(id).line(to);
        let at = at.max(line.last);
        line.last = at;
        if line.cut.is_none_or(|cut| at < cut) {
            arrive(at, self);
        }
    }

    fn arrives(&mut self, worker: WorkerId, report: Report) {
        if self.worker(worker).lost {
            return;
        }
        let double = std::mem::take(&mut self.worker(worker).double);
        for _ in 0..=u8::from(double) {
            let (event, told) = match report.clone() {
                Report::Ready(id) => (Event::Ready(id), Told::Ready(id)),
                Report::Completions(id, urls) => {
                    let batch = batch(&urls);
                    (Event::Completions(id, batch), Told::Completions(id, urls))
                }
                Report::Misbehaved(id) => {
                    (Event::Misbehaved(id, "it babbles".to_owned()), Told::Else)
                }
                Report::Exited(exited) => {
                    let id = exited.fetcher;
                    (Event::Exited(exited), Told::Exited(id))
                }
                Report::Done => (Event::WorkerDone(worker), Told::Else),
            };
            self.tell(event, &told);
        }
    }

    fn loses(&mut self, worker: WorkerId) {
        if std::mem::replace(&mut self.worker(worker).lost, true) {
            return;
        }
        self.tell(Event::WorkerLost(worker), &Told::WorkerLost(worker));
        // The coordinator lets the stream go, and the worker hears of it, at
        // the latest because nothing comes any more.
        self.soon((0, SILENCE_THERE), worker, AtWorker::Closed);
    }

    // At a worker.

    fn at_worker(&mut self, id: WorkerId, what: AtWorker) {
        let worker = self.worker(id);
        if let AtWorker::In(fetcher, what) = what {
            return self.in_fetcher(id, fetcher, what);
        }
        if worker.frozen {
            worker.waiting.push_back(what);
            return;
        }
        if worker.closed {
            return;
        }
        match what {
            AtWorker::Order(order) => self.order(id, order),
            AtWorker::Closed => self.close(id),
            AtWorker::Start(fetcher) => self.start(id, fetcher),
            AtWorker::Due => self.due(id),
            AtWorker::Measured(fetcher) => {
                self.decide(id, TrialInput::Measured(fetcher, HoldSnapshot::default()));
            }
            AtWorker::Frame(fetcher, urls) => self.say(id, Report::Completions(fetcher, urls)),
            AtWorker::Babble(fetcher) => {
                // Half of it is for the worker to see, half for the coordinator.
                if self.rng.random() {
                    self.say(id, Report::Misbehaved(fetcher));
                } else {
                    self.decide(id, TrialInput::Broken(fetcher, "it babbles".to_owned()));
                }
            }
            AtWorker::IsReady(fetcher) => {
                let now = self.instant();
                self.decide(id, TrialInput::Ready(fetcher, now));
            }
            AtWorker::Reports(fetcher) => {
                self.decide(id, TrialInput::Report(fetcher, FetcherReport::default()));
            }
            AtWorker::Ended(fetcher, exit) => self.decide(
                id,
                TrialInput::Ended { fetcher, exit, usage: None, last_words: String::new() },
            ),
            AtWorker::In(..) => unreachable!("it went to its fetcher"),
        }
    }

    fn order(&mut self, id: WorkerId, order: Order) {
        match order {
            Order::Prepare(fetcher) => {
                let worker = self.worker(id);
                let added = worker.fetchers.add(fetcher);
                assert!(added, "worker {id} would refuse to prepare {fetcher}");
                assert!(
                    worker.fetchers.living().count() <= worker.slots,
                    "worker {id} has no slot for {fetcher}"
                );
                worker.queued.insert(fetcher);
                self.soon((MS / 2, 3 * MS), id, AtWorker::Start(fetcher));
            }
            Order::Lease(fetcher, urls) => {
                if self.worker(id).fetchers.takes_leases(fetcher) {
                    self.write(id, fetcher, InFetcher::Leases(urls));
                }
            }
            Order::Go => self.decide(id, TrialInput::Go),
            Order::Finish => self.decide(id, TrialInput::Finish),
            Order::Kill(fetcher) => self.decide(id, TrialInput::Kill(fetcher)),
            Order::Abort => self.decide(id, TrialInput::Abort),
        }
    }

    /// A pipe takes what is written before its fetcher reads it.
    fn write(&mut self, id: WorkerId, fetcher: FetcherId, what: InFetcher) {
        if self.worker(id).queued.contains(&fetcher) {
            // Its outbox keeps this until it is started; it cannot go on
            // before it is set up, so that the order is the same.
            self.later(self.now + 3 * MS, What::At(id, AtWorker::In(fetcher, what)));
            return;
        }
        self.in_fetcher(id, fetcher, what);
    }

    fn decide(&mut self, id: WorkerId, input: TrialInput) {
        let now = self.instant();
        let mut actions = Vec::new();
        self.worker(id).fetchers.on(now, input, &mut actions);
        for action in actions {
            match action {
                Action::Write(fetcher, control) => {
                    self.write(id, fetcher, InFetcher::Control(control));
                    if control == FetcherControl::Go {
                        self.decide(id, TrialInput::GoWritten(fetcher, now));
                    }
                }
                Action::Kill(fetcher) => {
                    let reap = self.slow_death.take().unwrap_or(20 * MS);
                    self.die(id, fetcher, Exit::Signal(9), reap);
                }
                Action::Measure(fetcher) => {
                    self.soon((100, MS), id, AtWorker::Measured(fetcher));
                }
                Action::TellReady(fetcher, _) => self.say(id, Report::Ready(fetcher)),
                Action::TellExited(exited) => {
                    self.worker(id).queued.remove(&exited.fetcher);
                    self.say(id, Report::Exited(exited));
                }
                Action::Over => self.say(id, Report::Done),
                Action::LetGo | Action::TellMemory(_) => {}
            }
        }
        if let Some(deadline) = self.worker(id).fetchers.deadline() {
            let since = deadline.saturating_duration_since(self.start);
            let at = u64::try_from(since.as_micros()).expect("a short run");
            let at = at.max(self.now + 1);
            self.later(at, What::At(id, AtWorker::Due));
        }
    }

    fn due(&mut self, id: WorkerId) {
        let now = self.instant();
        let deadline = self.worker(id).fetchers.deadline();
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.decide(id, TrialInput::Tick);
        }
    }

    fn say(&mut self, id: WorkerId, report: Report) {
        self.send(id, Direction::ToCoordinator, |at, world| {
            world.later(at, What::Arrives(id, report));
        });
    }

    fn start(&mut self, id: WorkerId, fetcher: FetcherId) {
        if !self.worker(id).queued.remove(&fetcher) {
            return; // It was called off.
        }
        if std::mem::take(&mut self.never_started) {
            let reason = "no such program".to_owned();
            return self.decide(id, TrialInput::NotStarted(fetcher, reason));
        }
        let process = Process {
            ready: false,
            runs: false,
            dead: false,
            frozen: false,
            waiting: VecDeque::new(),
            leases: VecDeque::new(),
            in_flight: 0,
            outbox: Vec::new(),
            never_ready: std::mem::take(&mut self.never_ready),
        };
        self.worker(id).processes.insert(fetcher, process);
        let now = self.instant();
        self.decide(id, TrialInput::Started(fetcher, now));
        if self.plague {
            self.die(id, fetcher, Exit::Signal(11), 5 * MS);
        }
        let set_up = AtWorker::In(fetcher, InFetcher::SetUp);
        self.soon((4 * MS, 30 * MS), id, set_up);
    }

    /// The session ends: no fetcher outlives it.
    fn close(&mut self, id: WorkerId) {
        let worker = self.worker(id);
        worker.closed = true;
        for process in worker.processes.values_mut() {
            process.dead = true;
        }
        if !worker.lost {
            // It says goodbye if it can, and comes back as another.
            let cut = worker.to_coordinator.cut.is_some();
            let wait = if cut { SILENCE_HERE } else { 100 * MS };
            let at = self.now + self.rng.random_range(0..=wait);
            self.later(at, What::NoticesLoss(id));
        }
    }

    // In a fetcher.

    fn in_fetcher(&mut self, id: WorkerId, fetcher: FetcherId, what: InFetcher) {
        let Some(process) = self.worker(id).processes.get_mut(&fetcher) else {
            return;
        };
        if process.dead {
            return;
        }
        if process.frozen {
            process.waiting.push_back(what);
            return;
        }
        match what {
            InFetcher::SetUp => {
                if !process.never_ready {
                    process.ready = true;
                    self.at_worker(id, AtWorker::IsReady(fetcher));
                }
            }
            InFetcher::Leases(urls) => {
                process.leases.extend(urls);
                self.take_up(id, fetcher);
            }
            InFetcher::Control(FetcherControl::Go) => {
                process.runs = true;
                self.take_up(id, fetcher);
            }
            InFetcher::Control(FetcherControl::Hold) => {
                self.flush(id, fetcher);
                self.at_worker(id, AtWorker::Reports(fetcher));
            }
            InFetcher::Control(FetcherControl::Exit) => {
                self.flush(id, fetcher);
                self.die(id, fetcher, Exit::Code(0), 5 * MS);
            }
            InFetcher::Does(url) => {
                process.in_flight -= 1;
                let (poison, failing) = (&self.schedule.poison, &self.schedule.failing);
                if poison.contains(&url) {
                    return self.die(id, fetcher, Exit::Signal(11), 5 * MS);
                }
                let outcome = match failing.contains(&url) {
                    true => Outcome::Timeout,
                    false => Outcome::Ok,
                };
                self.completes(id, fetcher, url, outcome);
                self.take_up(id, fetcher);
            }
            InFetcher::Flush => self.flush(id, fetcher),
        }
    }

    fn completes(&mut self, id: WorkerId, fetcher: FetcherId, url: UrlId, outcome: Outcome) {
        let Some(process) = self.worker(id).processes.get_mut(&fetcher) else {
            return;
        };
        let first = process.outbox.is_empty();
        process.outbox.push((url, outcome));
        if first {
            let flush = AtWorker::In(fetcher, InFetcher::Flush);
            self.soon((0, 20 * MS), id, flush);
        }
    }

    fn take_up(&mut self, id: WorkerId, fetcher: FetcherId) {
        let concurrency = self.schedule.plan.concurrency;
        let exchange = self.schedule.exchange;
        loop {
            let Some(process) = self.worker(id).processes.get_mut(&fetcher) else {
                return;
            };
            if !process.runs || process.in_flight >= concurrency {
                return;
            }
            let Some(url) = process.leases.pop_front() else {
                return;
            };
            process.in_flight += 1;
            let does = AtWorker::In(fetcher, InFetcher::Does(url));
            self.soon(exchange, id, does);
        }
    }

    fn flush(&mut self, id: WorkerId, fetcher: FetcherId) {
        let Some(process) = self.worker(id).processes.get_mut(&fetcher) else {
            return;
        };
        let urls = std::mem::take(&mut process.outbox);
        if !urls.is_empty() {
            self.at_worker(id, AtWorker::Frame(fetcher, urls));
        }
    }

    fn die(&mut self, id: WorkerId, fetcher: FetcherId, exit: Exit, reap: u64) {
        let Some(process) = self.worker(id).processes.get_mut(&fetcher) else {
            return;
        };
        if std::mem::replace(&mut process.dead, true) {
            return;
        }
        self.soon((0, reap), id, AtWorker::Ended(fetcher, exit));
    }

    // Faults.

    fn strike(&mut self, fault: Fault) {
        let (now, open) = (self.now, self.open());
        let of = |who: u32| {
            let index = usize::try_from(who).expect("a small number");
            (!open.is_empty()).then(|| open[index % open.len()])
        };
        match fault {
            Fault::KillFetcher(who) => {
                if let Some((id, fetcher)) = self.running(who) {
                    self.die(id, fetcher, Exit::Signal(9), 20 * MS);
                }
            }
            Fault::FreezeFetcher(who, time) => {
                if let Some((id, fetcher)) = self.running(who)
                    && let Some(process) = self.worker(id).processes.get_mut(&fetcher)
                    && !process.frozen
                {
                    process.frozen = true;
                    self.later_calm(now + time, What::ThawFetcher(id, fetcher));
                }
            }
            Fault::SlowDeath(time) => self.slow_death = Some(time),
            Fault::Plague => self.plague = true,
            Fault::NeverReady => self.never_ready = true,
            Fault::NeverStarted => self.never_started = true,
            Fault::Invent(who, url) => {
                if let Some((id, fetcher)) = self.running(who) {
                    let url = UrlId(url % self.schedule.plan.urls);
                    self.completes(id, fetcher, url, Outcome::Ok);
                }
            }
            Fault::Babble(who) => {
                if let Some((id, fetcher)) = self.running(who) {
                    self.at_worker(id, AtWorker::Babble(fetcher));
                }
            }
            Fault::KillWorker(who) => {
                if let Some(id) = of(who) {
                    self.cut(id, now, now + 50 * MS);
                    self.worker(id).frozen = false;
                    self.close(id);
                }
            }
            Fault::FreezeWorker(who, time) => {
                if let Some(id) = of(who)
                    && !self.worker(id).frozen
                {
                    self.worker(id).frozen = true;
                    self.later_calm(now + time, What::ThawWorker(id));
                    if time > SILENCE_HERE {
                        self.later(now + SILENCE_HERE, What::NoticesLoss(id));
                    }
                }
            }
            Fault::Cut(who) => {
                if let Some(id) = of(who) {
                    self.cut(id, now, now + SILENCE_HERE);
                    self.soon((0, SILENCE_THERE), id, AtWorker::Closed);
                }
            }
            Fault::Stall(who, to, time) => {
                if let Some(id) = of(who) {
                    let (line, silence) = match to {
                        Direction::ToWorker => (to, SILENCE_THERE),
                        Direction::ToCoordinator => (to, SILENCE_HERE),
                    };
                    let line = self.worker(id).line(line);
                    line.last = line.last.max(now + time);
                    self.calm = self.calm.max(now + time);
                    if time > silence {
                        match to {
                            Direction::ToWorker => {
                                self.later(now + silence, What::At(id, AtWorker::Closed));
                            }
                            Direction::ToCoordinator => {
                                self.later(now + silence, What::NoticesLoss(id));
                            }
                        }
                    }
                }
            }
            Fault::Double(who) => {
                if let Some(id) = of(who) {
                    self.worker(id).double = true;
                }
            }
            Fault::Overflow(who) => {
                if let Some(id) = of(who) {
                    self.worker(id).overflow = true;
                }
            }
            Fault::FreezeCoordinator(time) => {
                if !self.frozen {
                    self.frozen = true;
                    self.later_calm(now + time, What::ThawCoordinator);
                    if time > SILENCE_THERE {
                        for id in open {
                            self.later(now + SILENCE_THERE, What::At(id, AtWorker::Closed));
                        }
                    }
                }
            }
            Fault::Drain(within) => {
                let deadline = Duration::from_micros(now + within);
                self.tell(Event::Drain { deadline }, &Told::Drain);
            }
            Fault::Cancel => self.tell(Event::Cancel, &Told::Cancel),
        }
    }

    fn later_calm(&mut self, at: u64, what: What) {
        self.calm = self.calm.max(at);
        self.later(at, what);
    }

    /// Nothing arrives any more from now on; the coordinator notices by `by`.
    fn cut(&mut self, id: WorkerId, now: u64, by: u64) {
        let there = now + self.rng.random_range(0..=self.schedule.delay.1);
        let worker = self.worker(id);
        worker.to_worker.cut.get_or_insert(now);
        worker.to_coordinator.cut.get_or_insert(there);
        let at = self.rng.random_range(there..=by.max(there));
        self.later(at, What::NoticesLoss(id));
    }

    /// Workers whose session is not over.
    fn open(&self) -> Vec<WorkerId> {
        let open = |worker: &Worker| !worker.closed;
        self.workers.iter().filter_map(|(id, worker)| open(worker).then_some(*id)).collect()
    }

    /// One of the fetchers that live.
    fn running(&self, who: u32) -> Option<(WorkerId, FetcherId)> {
        let all: Vec<_> = self
            .workers
            .iter()
            .flat_map(|(id, worker)| {
                let alive = worker.processes.iter().filter(|(_, p)| !p.dead);
                alive.map(|(fetcher, _)| (*id, *fetcher))
            })
            .collect();
        let index = usize::try_from(who).expect("a small number");
        (!all.is_empty()).then(|| all[index % all.len()])
    }
}

impl Worker {
    fn new(slots: usize) -> Self {
        Self {
            fetchers: WorkerTrial::new(),
            slots,
            queued: BTreeSet::new(),
            processes: BTreeMap::new(),
            to_worker: Line::default(),
            to_coordinator: Line::default(),
            closed: false,
            lost: false,
            frozen: false,
            waiting: VecDeque::new(),
            double: false,
            overflow: false,
        }
    }

    fn line(&mut self, to: Direction) -> &mut Line {
        match to {
            Direction::ToWorker => &mut self.to_worker,
            Direction::ToCoordinator => &mut self.to_coordinator,
        }
    }
}

fn batch(urls: &[(UrlId, Outcome)]) -> CompletionBatch {
    let completion = |(id, outcome): &(UrlId, Outcome)| Completion {
        id: *id,
        outcome: *outcome,
        status: None,
        body_bytes: 1,
        start_us: 0,
        connect_us: 0,
        first_byte_us: None,
        duration_us: 2,
        slot: 0,
        wait_us: None,
    };
    CompletionBatch {
        completions: urls.iter().map(completion).collect(),
        ..CompletionBatch::default()
    }
}
