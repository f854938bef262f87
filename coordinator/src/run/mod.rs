//! The drive loop: the one owner of a running trial. It carries events from
//! the fleet to the pure [`Trial`] and its commands back, and hands what counts
//! to the metrics and the sink. Every way out ends the trial on every worker.

pub mod machines;
pub mod metrics;
mod sink;
pub(crate) mod usage;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, RandomState},
    io,
    num::NonZeroU32,
    time::Duration,
};

use bytes::Bytes;
use fanout_analysis::record;
use fanout_engine::{
    id_set::IdSet,
    ledger::{Counts, Split},
    politeness::{HostName, Limits},
    trial::{Accepted, Command, Event, Trial, TrialEnd, TrialPlan},
};
use fanout_proto::{
    control::HostsWaited,
    id::{FetcherId, TrialId, UrlId, WorkerId},
    lease::LeaseBatchBuilder,
    setup::{Pace, Setup},
    wire::{self, to_fetcher, to_worker},
};
use prost::Message;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use self::sink::{Progress, Sink, Who};
use crate::{
    fleet::{Fleet, FleetEvent, TrialMessage},
    run::{machines::Machines, metrics::TrialMetrics, usage::own_cpu},
    url_list::{ListCursor, ListError, UrlList},
};

/// How often deadlines are looked at and progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// Time between two memory samples.
pub const MEMORY_INTERVAL: Duration = Duration::from_millis(100);
/// Longest time that an interrupted run waits for the URLs in hand.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(10);
/// Cursors into the list that are kept open; a static split reads at many places.
const CURSORS_MAX: usize = 256;

/// How a trial can be ended from outside.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// End at once.
    pub cancel: CancellationToken,
    /// Lease no more, and end when the URLs in hand are done.
    pub drain: CancellationToken,
}

/// What one trial needs.
pub struct TrialRequest<'a> {
    /// Its number.
    pub id: TrialId,
    /// The URLs.
    pub list: &'a UrlList,
    /// What every fetcher is told.
    pub setup: &'a Setup,
    /// The intended starts of each fetcher, in an open loop.
    pub pace: &'a dyn Fn(FetcherId) -> Option<Pace>,
    /// The worker of every fetcher.
    pub placement: Vec<WorkerId>,
    /// Processors for the fetchers; empty: any.
    pub cpus: &'a [u32],
    /// How the URLs are handed out.
    pub split: Split,
    /// URLs that an earlier run has done.
    pub done: Option<IdSet>,
    /// Time between two memory samples; `None` takes none but at the hold.
    pub memory_interval: Option<Duration>,
    /// Cancel it when it runs longer than this.
    pub limit: Option<Duration>,
    /// What each host is to be spared.
    pub hosts: Limits,
    /// Is told about ten times a second how far the trial is; an error ends it.
    pub observe: &'a dyn Fn(&Progress) -> io::Result<()>,
}

/// What became of a trial.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub end: TrialEnd,
    /// Its metrics.
    pub trial: record::TrialRecord,
    /// The account.
    pub counts: Counts,
    /// What the machines that fetch did; the record does not hold it yet.
    pub machines: Machines,
}

/// The coordinator itself could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The list.
    #[error(transparent)]
    List(#[from] ListError),
    /// The results.
    #[error("cannot write the results: {0}; what was written so far is whole")]
    Sink(#[from] io::Error),
}

/// Runs a trial to its end.
///
/// # Errors
///
/// [`DriveError`]; the trial has then been ended on every worker.
pub async fn run(
    fleet: &mut Fleet,
    request: TrialRequest<'_>,
    stop: &Stop,
    sink: &mut impl Sink,
) -> Result<Outcome, DriveError> {
    let mut drive = Drive::new(fleet, request, sink);
    let result = drive.run(stop).await;
    if result.is_err() {
        drive.abort_everywhere();
    }
    let end = result?;
    Ok(drive.finish(end))
}

struct Drive<'a, S> {
    fleet: &'a mut Fleet,
    request: TrialRequest<'a>,
    sink: &'a mut S,
    trial: Trial,
    first: Vec<Command>,
    metrics: TrialMetrics,
    cursors: Vec<ListCursor<'a>>,
    went: BTreeMap<FetcherId, Duration>,
    names: BTreeMap<WorkerId, String>,
    /// Which workers share one; see [`Machines`].
    machine_of: BTreeMap<WorkerId, String>,
    began: Instant,
    cpu_at_first: Option<Duration>,
    cpu_at_go: Option<Duration>,
    /// Whether a failure of another maker's fetcher was told: its author wants to see one.
    told_failure: bool,
    cpu_at_finish: Option<Duration>,
    traffic: crate::fleet::Traffic,
}

impl<'a, S: Sink> Drive<'a, S> {
    fn new(fleet: &'a mut Fleet, mut request: TrialRequest<'a>, sink: &'a mut S) -> Self {
        let concurrency = request.setup.concurrency;
        let plan = TrialPlan {
            urls: request.list.len(),
            split: request.split,
            concurrency: concurrency.get(),
            credit_max: credit_max(request.list, concurrency),
            timeout: request.setup.http.timeout,
            placement: request.placement.clone(),
        };
        let (mut trial, first) = match request.done.take() {
            Some(done) => Trial::resumed(plan, done),
            None => Trial::new(plan),
        };
        trial.limit_hosts(request.hosts, RandomState::new().hash_one(request.id.0));
        let names =
            fleet.workers().iter().map(|(id, worker)| (*id, worker.hello.name.clone())).collect();
        let machine_of = fleet.workers().iter().map(|(id, worker)| {
            let known = Some(&worker.hello.facts.boot_id).filter(|machine| !machine.is_empty());
            (*id, known.cloned().unwrap_or_else(|| format!("worker {id}")))
        });
        let machine_of = machine_of.collect();
        Self {
            trial,
            first,
            metrics: TrialMetrics::new(concurrency.get()),
            cursors: Vec::new(),
            went: BTreeMap::new(),
            names,
            machine_of,
            began: Instant::now(),
            cpu_at_first: own_cpu(),
            cpu_at_go: None,
            told_failure: false,
            cpu_at_finish: None,
            traffic: fleet.traffic(),
            fleet,
            request,
            sink,
        }
    }

    async fn run(&mut self, stop: &Stop) -> Result<TrialEnd, DriveError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = std::mem::take(&mut self.first);
        if let Some(end) = self.obey(first)? {
            return Ok(end);
        }
        let mut draining = false;
        loop {
            // Once every URL is done no record comes any more, and fetchers are let go in time.
            let full = self.sink.full();
            let full = full.filter(|_| self.trial.ledger().remaining() > 0);
            let wake_at = self.trial.wake_at().map(|at| self.began + at);
            let event = tokio::select! {
                biased;
                () = stop.cancel.cancelled() => Some(Event::Cancel),
                () = stop.drain.cancelled(), if !draining => {
                    draining = true;
                    Some(Event::Drain { deadline: self.began.elapsed() + DRAIN_DEADLINE })
                }
                () = room(full.as_deref()) => continue,
                event = self.fleet.next(), if full.is_none() => self.translate(event)?,
                () = until(wake_at), if full.is_none() => Some(Event::Tick),
                _ = ticks.tick() => {
                    let progress = self.progress();
                    (self.request.observe)(&progress)?;
                    self.sink.flush()?;
                    let over = self.request.limit.zip(progress.elapsed);
                    if over.is_some_and(|(limit, elapsed)| elapsed > limit) {
                        Some(Event::Cancel)
                    } else if full.is_some() {
                        Some(Event::Stalled)
                    } else {
                        Some(Event::Tick)
                    }
                }
            };
            if let Some(event) = event
                && let Some(end) = self.step(event)?
            {
                return Ok(end);
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            counts: self.trial.counts(),
            total: self.request.list.len(),
            bytes: self.metrics.bytes(),
            elapsed: self.trial.went().map(|went| self.began.elapsed().saturating_sub(went)),
            waiting: self.trial.waiting_for_hosts().map(|waiting| HostsWaited {
                hosts: u32::try_from(waiting.hosts).unwrap_or(u32::MAX),
                next: waiting.next_at.map(|at| at.saturating_sub(self.began.elapsed())),
            }),
        }
    }

    fn step(&mut self, event: Event) -> Result<Option<TrialEnd>, DriveError> {
        let commands = self.trial.on(self.began.elapsed(), event);
        self.obey(commands)
    }

    /// What a fleet's event means to this trial, if anything.
    fn translate(&mut self, event: FleetEvent) -> Result<Option<Event>, DriveError> {
        let (worker, trial, message) = match event {
            // It may take part in the next trial.
            FleetEvent::Joined(_) => return Ok(None),
            FleetEvent::Left(id, reason) => {
                if !self.trial.takes_part(id) {
                    return Ok(None);
                }
                warn!(worker = %id, reason, "a worker left during a trial");
                self.metrics.worker_lost(id);
                return Ok(Some(Event::WorkerLost(id)));
            }
            FleetEvent::Message(id, trial, message) => (id, trial, message),
        };
        // Messages of earlier trials come late.
        if trial != self.request.id {
            debug!(worker = %worker, ?message, "ignored: of an earlier trial");
            return Ok(None);
        }
        // One about this trial is about a fetcher that the worker was told to start.
        if !self.speaks_for(worker, &message) {
            let reason = "it speaks for a fetcher that is not its own";
            self.fleet.cut_off(worker, reason);
            return Ok(self.trial.takes_part(worker).then(|| {
                self.metrics.worker_lost(worker);
                Event::WorkerLost(worker)
            }));
        }
        Ok(match message {
            TrialMessage::Ready(fetcher, spawn) => {
                self.metrics.ready(fetcher, spawn);
                Some(Event::Ready(fetcher))
            }
            TrialMessage::Completions(fetcher, batch) => Some(Event::Completions(fetcher, batch)),
            TrialMessage::Started(fetcher, batch) => {
                if !self.trial.may_start(fetcher, &batch) {
                    let reason = "it took up URLs that it was not given".to_owned();
                    return Ok(Some(Event::Misbehaved(fetcher, reason)));
                }
                self.sink.started(&who(&self.names, &self.went, worker, fetcher), &batch)?;
                None
            }
            TrialMessage::Misbehaved(fetcher, reason) => Some(Event::Misbehaved(fetcher, reason)),
            TrialMessage::Memory(sample) => {
                self.metrics.memory(worker, sample);
                None
            }
            TrialMessage::Exited(exited) => {
                self.metrics.exited((*exited).clone());
                Some(Event::Exited(exited))
            }
            TrialMessage::Usage(usage) => {
                self.metrics.usage(worker, usage);
                Some(Event::WorkerDone(worker))
            }
        })
    }

    /// A worker speaks for its own fetchers only.
    fn speaks_for(&self, worker: WorkerId, message: &TrialMessage) -> bool {
        match message.fetcher() {
            Some(fetcher) => self.trial.worker_of(fetcher) == Some(worker),
            None => self.trial.takes_part(worker),
        }
    }

    fn obey(&mut self, commands: Vec<Command>) -> Result<Option<TrialEnd>, DriveError> {
        let trial = self.request.id.0;
        let mut gone = Vec::new();
        let mut commands = VecDeque::from(commands);
        while let Some(command) = commands.pop_front() {
            let sent = match command {
                Command::LookUp(ids) => {
                    let mut found = Vec::with_capacity(ids.len());
                    self.request
                        .list
                        .look_up(ids, |id, url| found.push((id, HostName::of(url))))?;
                    let event = Event::Hosts(found);
                    commands.extend(self.trial.on(self.began.elapsed(), event));
                    continue;
                }
                Command::Prepare(worker, fetcher) => (worker, self.prepare(worker, fetcher)),
                Command::Lease(worker, fetcher, ids) => {
                    (worker, self.lease(worker, fetcher, &ids)?)
                }
                Command::Go(worker) => (worker, self.go(worker)),
                Command::Finish(worker) => {
                    self.cpu_at_finish = self.cpu_at_finish.or_else(own_cpu);
                    let finish = to_worker::Message::Finish(wire::Finish { trial });
                    (worker, self.fleet.send(worker, finish))
                }
                Command::Kill(worker, fetcher) => {
                    let fetcher = fetcher.0;
                    let kill = to_worker::Message::Kill(wire::Kill { trial, fetcher });
                    (worker, self.fleet.send(worker, kill))
                }
                Command::Abort(worker) => (worker, self.abort(worker)),
                Command::Record(fetcher, accepted, details) => {
                    self.record(fetcher, &accepted, &details)?;
                    continue;
                }
                Command::Abandoned(ids) => {
                    self.metrics.abandoned(&ids);
                    self.sink.abandoned(&ids)?;
                    continue;
                }
                Command::Lost(fetcher, reason) => {
                    let worker = self.trial.worker_of(fetcher).unwrap_or_default();
                    let worker = who(&self.names, &self.went, worker, fetcher).worker;
                    warn!(worker, %fetcher, reason, "a fetcher was lost");
                    continue;
                }
                Command::Ended(end) => {
                    (self.request.observe)(&self.progress())?;
                    self.sink.flush()?;
                    return Ok(Some(end));
                }
            };
            if let (worker, false) = sent {
                gone.push(worker);
            }
        }
        gone.dedup();
        for worker in gone {
            self.metrics.worker_lost(worker);
            if let Some(end) = self.step(Event::WorkerLost(worker))? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    fn prepare(&mut self, worker: WorkerId, fetcher: FetcherId) -> bool {
        self.metrics.started(fetcher, worker);
        let client = self.request.setup.client;
        let interval_ms = |i: Duration| u32::try_from(i.as_millis()).unwrap_or(u32::MAX);
        let prepare = wire::Prepare {
            trial: self.request.id.0,
            fetchers: vec![wire::FetcherSpec {
                fetcher: fetcher.0,
                setup: self.setup_frame(fetcher),
                cpus: self.request.cpus.to_vec(),
                program: client.properties().fetcher.unwrap_or_default().to_owned(),
            }],
            memory_interval_ms: self.request.memory_interval.map_or(0, interval_ms),
        };
        self.fleet.send(worker, to_worker::Message::Prepare(prepare))
    }

    fn go(&mut self, worker: WorkerId) -> bool {
        self.cpu_at_go = self.cpu_at_go.or_else(own_cpu);
        let now = self.began.elapsed();
        let went = now.saturating_sub(self.trial.went().unwrap_or(now));
        for (fetcher, of) in self.trial.fetchers() {
            if of == worker {
                self.went.entry(fetcher).or_insert(went);
            }
        }
        let trial = self.request.id.0;
        self.fleet.send(worker, to_worker::Message::Go(wire::Go { trial }))
    }

    fn abort(&mut self, worker: WorkerId) -> bool {
        let trial = self.request.id.0;
        self.fleet.send(worker, to_worker::Message::Abort(wire::Abort { trial }))
    }

    fn record(
        &mut self,
        fetcher: FetcherId,
        accepted: &[Accepted],
        details: &[(u32, String)],
    ) -> io::Result<()> {
        let went = self.went.get(&fetcher).copied().unwrap_or_default();
        let went = self.trial.went().unwrap_or_default() + went;
        let since_go = self.began.elapsed().saturating_sub(went);
        self.metrics.record(fetcher, accepted, since_go);
        let worker = self.trial.worker_of(fetcher).unwrap_or_default();
        let who = who(&self.names, &self.went, worker, fetcher);
        let client = self.request.setup.client;
        if let Some((_, detail)) = details.first()
            && client.properties().fetcher.is_some()
            && !self.told_failure
        {
            self.told_failure = true;
            warn!(worker = who.worker, %fetcher, %client, "a URL failed, the first of this trial: {detail}");
        }
        self.sink.record(&who, accepted, details)
    }

    fn setup_frame(&self, fetcher: FetcherId) -> Bytes {
        let setup = Setup {
            pace: (self.request.pace)(fetcher),
            https: self.request.list.has_https,
            ..self.request.setup.clone()
        };
        let message =
            wire::ToFetcher { message: Some(to_fetcher::Message::Setup((&setup).into())) };
        message.encode_to_vec().into()
    }

    /// Reads URLs and sends them, in as many batches as they need.
    fn lease(
        &mut self,
        worker: WorkerId,
        fetcher: FetcherId,
        ids: &[UrlId],
    ) -> Result<bool, DriveError> {
        let mut batch = LeaseBatchBuilder::default();
        let mut full = Vec::new();
        let mut add = |id: UrlId, url: &[u8]| {
            if !batch.fits(url) {
                full.push(std::mem::take(&mut batch).finish());
            }
            batch.push(id, url);
        };
        let in_order = ids
            .first()
            .zip(ids.last())
            .is_some_and(|(first, last)| last.0 - first.0 + 1 == ids.len() as u64);
        if let (true, Some(first)) = (in_order, ids.first()) {
            let known = self.cursors.iter().position(|c| c.position() == *first);
            let index = match known {
                Some(index) => index,
                None => {
                    if self.cursors.len() >= CURSORS_MAX {
                        self.cursors.remove(0);
                    }
                    self.cursors.push(self.request.list.cursor(*first)?);
                    self.cursors.len() - 1
                }
            };
            for _ in ids {
                self.cursors[index].read(&mut add)?;
            }
        } else {
            self.request.list.look_up(ids.iter().copied(), &mut add)?;
        }
        full.push(batch.finish());
        let mut sent = true;
        for leases in full {
            let frame = wire::ToFetcher { message: Some(to_fetcher::Message::Leases(leases)) };
            let message = to_worker::Message::Frame(wire::FetcherFrame {
                trial: self.request.id.0,
                fetcher: fetcher.0,
                frame: frame.encode_to_vec().into(),
            });
            sent = sent && self.fleet.send(worker, message);
        }
        Ok(sent)
    }

    fn abort_everywhere(&mut self) {
        let workers: BTreeSet<_> = self.request.placement.iter().copied().collect();
        for worker in workers {
            self.abort(worker);
        }
    }

    fn finish(self, end: TrialEnd) -> Outcome {
        let counts = self.trial.counts();
        let makespan_s = self.trial.makespan().map(|m| m.as_secs_f64());
        let names = self.names;
        let machine_of = |worker| self.machine_of.get(&worker).map_or("", String::as_str);
        let mut machines = self.metrics.machines(machine_of);
        if let Some((go, finish)) = self.cpu_at_go.zip(self.cpu_at_finish) {
            let cpu = finish.saturating_sub(go);
            machines.process(&fanout_program::boot_id(), cpu);
        }
        let mut trial = self
            .metrics
            .finish(|worker| names.get(&worker).cloned().unwrap_or_default(), machine_of);
        trial.degraded = self.trial.is_degraded();
        trial.makespan_s = makespan_s.filter(|s| *s > 0.0);
        trial.completed = counts.completed;
        trial.failed = counts.failed;
        trial.abandoned = counts.abandoned;
        trial.requeued = counts.requeued;
        trial.duplicates_ignored = counts.duplicates_ignored;
        let losses = self.trial.losses();
        trial.fetchers_lost = losses.fetchers;
        trial.notice_s = losses.notice.map(|time| time.as_secs_f64());
        trial.recovery_s = losses.recovery.map(|time| time.as_secs_f64());
        trial.asked_again = counts.asked_again;
        if self.request.hosts.any() || (self.request.pace)(FetcherId(0)).is_some() {
            // There slots wait because they are meant to.
            trial.starved_s = None;
        }
        trial.host_wait_s = self.trial.held_by_hosts().map(|held| held.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let completed = counts.completed as f64;
        trial.requests_per_s = trial.makespan_s.map(|s| completed / s);
        let coordination = &mut trial.coordination;
        coordination.overhead_s =
            trial.makespan_s.zip(trial.fetch_makespan_s).map(|(whole, fetch)| whole - fetch);
        coordination.coordinator_cpu_s = own_cpu()
            .zip(self.cpu_at_first)
            .map(|(now, first)| now.saturating_sub(first).as_secs_f64());
        let traffic = self.fleet.traffic() - self.traffic;
        coordination.grpc_bytes_sent = traffic.bytes_sent;
        coordination.grpc_bytes_received = traffic.bytes_received;
        coordination.grpc_messages_sent = traffic.messages_sent;
        coordination.grpc_messages_received = traffic.messages_received;
        Outcome { end, trial, counts, machines }
    }
}

/// Never, without a moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn room(full: Option<&Notify>) {
    match full {
        Some(full) => full.notified().await,
        None => std::future::pending().await,
    }
}

fn who<'a>(
    names: &'a BTreeMap<WorkerId, String>,
    went: &BTreeMap<FetcherId, Duration>,
    worker: WorkerId,
    fetcher: FetcherId,
) -> Who<'a> {
    Who {
        worker: names.get(&worker).map_or("", String::as_str),
        fetcher,
        went: went.get(&fetcher).copied().unwrap_or_default(),
    }
}

/// The credit that keeps the URLs on their way to one fetcher within a few
/// megabytes, however long they are.
fn credit_max(list: &UrlList, concurrency: NonZeroU32) -> u32 {
    const BYTES_MAX: usize = 8 * 1024 * 1024;
    let urls = BYTES_MAX / list.longest_bytes.max(1);
    u32::try_from(urls).unwrap_or(u32::MAX).max(concurrency.get().saturating_mul(2))
}
