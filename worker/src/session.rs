//! One stream to the coordinator, from Hello to Goodbye.
//!
//! The session owns its trials and its fetchers' tasks: when it ends, however
//! it ends, every fetcher is killed and reaped before [`attach`] returns.

use std::{
    collections::{BTreeMap, VecDeque},
    future::ready,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fanout_proto::{
    WireError,
    id::{FetcherId, TrialId, WorkerId},
    report::{Exit, WorkerUsage},
    wire::{self, fleet_client::FleetClient, to_fetcher},
    worker::Hello,
};
use tokio::{
    sync::mpsc,
    task::{JoinSet, yield_now},
    time::{Instant, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming, metadata::AsciiMetadataValue, transport::Channel};

use crate::{
    measure::{
        cgroup::{Cgroups, PeakMeter},
        machine,
        process::ProcessDir,
        usage::{self, Cpu},
    },
    message::{self, FetcherSpec, MemorySample, Order, Prepare},
    supervise::{self, Ended, Event, FetcherCommand, Killer, Outbox, Outlet, Started, What},
    trial::{Action, Control, Input, Trial},
};

/// Messages on their way into the stream; past that, reading from fetchers waits.
const OUTGOING_MAX: usize = 32;
/// Events of fetchers on their way to the session.
const EVENTS_MAX: usize = 256;
/// Messages of the session's own that may wait before samples and heartbeats
/// are left out. All others are few: so many for each fetcher.
const WAITING_MAX: usize = 1024;
/// Largest message from the coordinator: a Prepare holds one setup a fetcher.
const MESSAGE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// From attaching to Welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// A peer that says nothing for so many heartbeat intervals is gone.
const SILENT_INTERVALS: u32 = 3;
/// Reading memory may take this part of one processor, and no more: the next
/// sample waits as long as it must.
const SAMPLING_SHARE: u32 = 10;
/// Killed fetchers are reaped within this time, if the kernel can.
const REAP_WITHIN: Duration = Duration::from_millis(700);
/// A Goodbye is on the wire, and the stream closed, within this time.
const GOODBYE_WITHIN: Duration = Duration::from_millis(200);

/// What a worker says of itself and how it starts fetchers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Told to the coordinator, for people.
    pub name: String,
    /// Fetchers at a time, 1 to 4,096.
    pub slots: u32,
    /// The `authorization` of the stream, if the coordinator asks for one.
    pub authorization: Option<AsciiMetadataValue>,
    /// How to start a fetcher.
    pub fetcher: FetcherCommand,
}

/// How a session ended on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parting {
    /// The coordinator said Goodbye, with this reason.
    Goodbye(String),
    /// This worker was told to stop.
    Stopped,
}

/// Why a session ended that should have gone on.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The coordinator answered Hello with Refused.
    #[error("the coordinator refuses this worker: {0}")]
    Refused(String),
    /// The coordinator asks for another token, or is none at all.
    #[error("the coordinator does not let this worker in: {0}")]
    Denied(String),
    /// No Welcome came in time.
    #[error("the coordinator did not answer Hello within {} s", WELCOME_WITHIN.as_secs())]
    NoWelcome,
    /// The stream ended without a Goodbye.
    #[error("the stream to the coordinator was cut: {0}")]
    Cut(String),
    /// No message, not even a heartbeat, came for this long.
    #[error("the coordinator has said nothing for {0:?}")]
    Silent(Duration),
    /// A message from the coordinator makes no sense.
    #[error("the coordinator said what makes no sense: {0}")]
    Protocol(#[from] WireError),
}

impl SessionError {
    fn without_goodbye() -> Self {
        Self::Cut("it ended without a Goodbye".to_owned())
    }

    /// Whether another try would end the same way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Denied(_))
    }
}

impl From<Status> for SessionError {
    fn from(status: Status) -> Self {
        let mut reason = status.message().to_owned();
        if reason.is_empty() {
            reason = status.code().description().to_owned();
        }
        if let Some(source) = std::error::Error::source(&status) {
            reason = format!("{reason}: {}", crate::causes(source));
        }
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied(reason),
            Code::Unimplemented => Self::Denied(format!(
                "{reason}; is a fanout coordinator listening at this address?"
            )),
            _ => Self::Cut(reason),
        }
    }
}

/// Attaches to the coordinator behind `channel` and serves it until it says
/// Goodbye, `stop` is cancelled, or something fails. No fetcher outlives this.
///
/// Must be called on a thread that lives as long as the fetchers should:
/// they ask the kernel to end with the thread that started them.
///
/// # Errors
///
/// [`SessionError`], and whether to try again is [`SessionError::is_final`].
pub async fn attach(
    channel: Channel,
    settings: &Settings,
    stop: &CancellationToken,
) -> Result<Parting, SessionError> {
    let cgroups = Cgroups::find();
    let cpus = machine::allowed_cpus();
    let (frames, outgoing) = mpsc::channel(OUTGOING_MAX);
    let hello = Hello {
        name: settings.name.clone(),
        slots: settings.slots,
        facts: machine::facts(&cgroups, cpus.clone()),
    };
    let mut request = Request::new(ReceiverStream::new(outgoing));
    if let Some(token) = &settings.authorization {
        request
            .metadata_mut()
            .insert("authorization", token.clone());
    }
    let welcome = async {
        // The channel is new and has room.
        let _ = frames.send(message::hello(&hello)).await;
        let mut client = FleetClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let mut orders = client.attach(request).await?.into_inner();
        let first = orders.message().await?;
        match Order::try_from(first.ok_or_else(SessionError::without_goodbye)?)? {
            Order::Welcome { worker, heartbeat } => Ok(Ok((orders, worker, heartbeat))),
            Order::Goodbye(reason) => Ok(Err(Parting::Goodbye(reason))),
            Order::Refused(reason) => Err(SessionError::Refused(reason)),
            _ => {
                Err(WireError::Inconsistent("the first message must be Welcome or Refused").into())
            }
        }
    };
    let welcomed = tokio::select! {
        () = stop.cancelled() => return Ok(Parting::Stopped),
        welcomed = timeout(WELCOME_WITHIN, welcome) => welcomed,
    };
    let (mut orders, worker, heartbeat) = match welcomed {
        Ok(Ok(Ok(welcomed))) => welcomed,
        Ok(Ok(Err(parting))) => return Ok(parting),
        Ok(Err(error)) => return Err(error),
        Err(_) => return Err(SessionError::NoWelcome),
    };
    let mut session = Session::new(settings, frames, heartbeat, cgroups, cpus);
    session.welcomed(worker);
    let ended = session.serve(&mut orders, stop).await;
    session.close(&ended, orders).await;
    ended
}

struct Session<'a> {
    settings: &'a Settings,
    cgroups: Cgroups,
    cpus: Vec<u32>,
    /// Into the stream; fetchers' tasks hold clones.
    frames: mpsc::Sender<wire::FromWorker>,
    /// The session's own messages, until there is room: it must go on
    /// listening to the coordinator while the stream is full.
    waiting: VecDeque<wire::FromWorker>,
    trials: BTreeMap<TrialId, Entry>,
    /// Done one between two events each, so that none holds frames up for long.
    jobs: VecDeque<Job>,
    events: mpsc::Receiver<Event>,
    tell: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    pulse: Pulse,
    /// Out-of-memory kills that have been accounted for.
    oom_kills_seen: u64,
}

/// A trial with its processes and meters.
struct Entry {
    trial: Trial,
    fetchers: BTreeMap<FetcherId, Live>,
    sampling: Sampling,
    pipe_bytes: usize,
    /// Cancelled when the trial's frames are wanted no more.
    unwanted: CancellationToken,
    cpu_before: Option<Cpu>,
    peak: PeakMeter,
    /// Socket buffers and kernel stacks at the hold.
    kernel_memory: (Option<u64>, Option<u64>),
    bytes_to_fetchers: u64,
    bytes_from_fetchers: u64,
}

/// A fetcher that has not been reaped.
struct Live {
    outbox: Arc<Outbox>,
    /// `None` until it is started.
    process: Option<(Killer, ProcessDir)>,
}

/// When memory is sampled, and how far the present sample is.
#[derive(Default)]
struct Sampling {
    interval: Option<Duration>,
    due: Option<Instant>,
    present: Option<Sample>,
}

struct Sample {
    started: Instant,
    sums: MemorySample,
    rest: VecDeque<FetcherId>,
    spent: Duration,
}

/// A piece of work that takes up to a millisecond.
enum Job {
    Start {
        trial: TrialId,
        fetcher: FetcherId,
        cpus: Vec<u32>,
    },
    /// Read the memory of the sample's next fetcher.
    Sample(TrialId),
    Measure(TrialId, FetcherId),
}

/// Heartbeats, both ways.
#[derive(Debug)]
struct Pulse {
    interval: Duration,
    next: Instant,
    sequence: u64,
    heard: Instant,
}

impl Pulse {
    fn silent_at(&self) -> Instant {
        self.heard + SILENT_INTERVALS * self.interval
    }

    fn deadline(&self) -> Instant {
        self.next.min(self.silent_at())
    }

    /// The number of the heartbeat to send now, if one is due.
    fn beat(&mut self, now: Instant) -> Option<u64> {
        if now < self.next {
            return None;
        }
        self.next = now + self.interval;
        self.sequence += 1;
        Some(self.sequence)
    }

    /// Whether the peer has been silent for too long. `due` is when this
    /// question was to be asked: if it is asked late, this process was frozen,
    /// and what the peer said meanwhile may still be in its socket.
    fn is_silent(&mut self, now: Instant, due: Instant) -> bool {
        if now < self.silent_at() {
            return false;
        }
        if now.saturating_duration_since(due) >= self.interval {
            self.heard = now - (SILENT_INTERVALS - 1) * self.interval;
            return false;
        }
        true
    }
}

impl<'a> Session<'a> {
    fn new(
        settings: &'a Settings,
        frames: mpsc::Sender<wire::FromWorker>,
        heartbeat: Duration,
        cgroups: Cgroups,
        cpus: Vec<u32>,
    ) -> Self {
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        let now = Instant::now();
        Self {
            settings,
            cgroups,
            cpus,
            frames,
            waiting: VecDeque::new(),
            trials: BTreeMap::new(),
            jobs: VecDeque::new(),
            events,
            tell,
            tasks: JoinSet::new(),
            pulse: Pulse {
                interval: heartbeat,
                next: now + heartbeat,
                sequence: 0,
                heard: now,
            },
            oom_kills_seen: 0,
        }
    }

    fn welcomed(&self, worker: WorkerId) {
        tracing::info!(
            worker = worker.0,
            slots = self.settings.slots,
            "attached to the coordinator"
        );
    }

    async fn serve(
        &mut self,
        orders: &mut Streaming<wire::ToWorker>,
        stop: &CancellationToken,
    ) -> Result<Parting, SessionError> {
        let timer = sleep_until(self.deadline());
        tokio::pin!(timer);
        loop {
            let due = self.deadline();
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(Parting::Stopped),
                order = orders.message() => {
                    let order = order?.ok_or_else(SessionError::without_goodbye)?;
                    self.pulse.heard = Instant::now();
                    if let Some(reason) = self.obey(order.try_into()?)? {
                        return Ok(Parting::Goodbye(reason));
                    }
                }
                Some(event) = self.events.recv() => self.note(event),
                sent = say_next(&self.frames, &mut self.waiting), if !self.waiting.is_empty() => sent?,
                () = &mut timer => self.on_time(due)?,
                () = ready(()), if !self.jobs.is_empty() => {}
            }
            if let Some(job) = self.jobs.pop_front() {
                self.work(job);
                yield_now().await;
            }
        }
    }

    /// Kills and reaps every fetcher, says Goodbye where the coordinator may
    /// still listen, and lets the stream go.
    async fn close(
        mut self,
        ended: &Result<Parting, SessionError>,
        mut orders: Streaming<wire::ToWorker>,
    ) {
        for entry in self.trials.values() {
            entry.unwanted.cancel();
            for live in entry.fetchers.values() {
                if let Some((killer, _)) = &live.process {
                    killer.kill();
                }
            }
        }
        self.events.close();
        let goodbye = match ended {
            Ok(Parting::Goodbye(_)) | Err(SessionError::Cut(_)) => None,
            Ok(Parting::Stopped) => Some("this worker was told to stop".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = goodbye {
            let goodbye = self.frames.send(message::goodbye(&reason));
            let _ = timeout(GOODBYE_WITHIN, goodbye).await;
        }
        drop(self.frames);
        let reaped = timeout(REAP_WITHIN, async {
            while self.tasks.join_next().await.is_some() {}
        });
        if reaped.await.is_err() {
            // Uninterruptible sleep; its task's end kills and waits once more.
            tracing::error!(left = self.tasks.len(), "killed fetchers do not end");
        }
        // The stream's sender is gone: the coordinator closes its side in turn.
        let _ = timeout(GOODBYE_WITHIN, async {
            while let Ok(Some(_)) = orders.message().await {}
        })
        .await;
    }

    fn deadline(&self) -> Instant {
        let trials = self.trials.values();
        trials
            .flat_map(|entry| [entry.trial.deadline(), entry.sampling.due])
            .flatten()
            .fold(self.pulse.deadline(), Instant::min)
    }

    fn on_time(&mut self, due: Instant) -> Result<(), SessionError> {
        let now = Instant::now();
        if self.pulse.is_silent(now, due) {
            return Err(SessionError::Silent(SILENT_INTERVALS * self.pulse.interval));
        }
        if let Some(sequence) = self.pulse.beat(now) {
            self.say_if_room(message::heartbeat_of(sequence));
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut late = Vec::new();
        for (trial, entry) in &mut self.trials {
            if is_due(entry.trial.deadline()) {
                late.push(*trial);
            }
            if is_due(entry.sampling.due) {
                entry.sampling.due = None;
                if let Some(sample) = Sample::begin(&entry.trial, now) {
                    entry.sampling.present = Some(sample);
                    self.jobs.push_back(Job::Sample(*trial));
                }
            }
        }
        for trial in late {
            self.apply(trial, Input::Tick);
        }
        Ok(())
    }

    /// Does what the coordinator says; answers with the reason of its Goodbye.
    fn obey(&mut self, order: Order) -> Result<Option<String>, SessionError> {
        match order {
            Order::Frame {
                trial,
                fetcher,
                frame,
            } => self.pass_on(trial, fetcher, frame),
            Order::Heartbeat => {}
            Order::Prepare(prepare) => self.prepare(prepare)?,
            Order::Go(trial) => self.apply(trial, Input::Go),
            Order::Finish(trial) => self.apply(trial, Input::Finish),
            Order::Kill(trial, fetcher) => self.apply(trial, Input::Kill(fetcher)),
            Order::Abort(trial) => {
                if let Some(entry) = self.trials.get(&trial) {
                    entry.unwanted.cancel();
                }
                self.apply(trial, Input::Abort);
            }
            Order::Goodbye(reason) => return Ok(Some(reason)),
            Order::Refused(reason) => return Err(SessionError::Refused(reason)),
            Order::Welcome { .. } => {
                return Err(WireError::Inconsistent("Welcome was said twice").into());
            }
        }
        Ok(None)
    }

    fn pass_on(&mut self, trial: TrialId, fetcher: FetcherId, frame: Bytes) {
        let live = self.trials.get(&trial).and_then(|entry| {
            let takes = entry.trial.takes_leases(fetcher);
            entry.fetchers.get(&fetcher).filter(|_| takes)
        });
        let Some(live) = live else {
            return tracing::debug!(%trial, %fetcher, "a frame for a fetcher that is gone");
        };
        if let Err(overfull) = live.outbox.push(frame, false) {
            self.apply(trial, Input::Broken(fetcher, overfull.to_string()));
        }
    }

    fn prepare(&mut self, prepare: Prepare) -> Result<(), SessionError> {
        let Prepare {
            trial,
            fetchers,
            memory_interval,
        } = prepare;
        let busy: usize = self.trials.values().map(|e| e.trial.living().count()).sum();
        let slots = usize::try_from(self.settings.slots).unwrap_or(usize::MAX);
        let free = slots.saturating_sub(busy);
        if self.trials.is_empty() {
            self.oom_kills_seen = self.cgroups.oom_kills().unwrap_or(0);
        }
        let entry = self.trials.entry(trial).or_insert_with(|| Entry {
            trial: Trial::new(),
            fetchers: BTreeMap::new(),
            sampling: Sampling::default(),
            pipe_bytes: supervise::pipe_bytes(fetchers.len()),
            unwanted: CancellationToken::new(),
            cpu_before: usage::own_cpu(),
            peak: self.cgroups.watch_peak(),
            kernel_memory: (None, None),
            bytes_to_fetchers: 0,
            bytes_from_fetchers: 0,
        });
        entry.sampling.interval = entry.sampling.interval.or(memory_interval);
        let mut refused = Vec::new();
        for (index, spec) in fetchers.into_iter().enumerate() {
            let FetcherSpec {
                fetcher,
                setup,
                cpus,
            } = spec;
            if !entry.trial.add(fetcher) {
                return Err(WireError::Inconsistent(
                    "a fetcher is prepared twice, or after its trial's Go",
                )
                .into());
            }
            let outbox = Arc::new(Outbox::default());
            // A new outbox holds any setup.
            let fits = outbox.push(setup, false).is_ok();
            if index >= free || !fits {
                refused.push(fetcher);
                continue;
            }
            let live = Live {
                outbox,
                process: None,
            };
            entry.fetchers.insert(fetcher, live);
            self.jobs.push_back(Job::Start {
                trial,
                fetcher,
                cpus,
            });
        }
        for fetcher in refused {
            let reason = format!(
                "this worker runs at most {slots} fetchers at a time; start it with more --slots"
            );
            self.apply(trial, Input::NotStarted(fetcher, reason));
        }
        Ok(())
    }

    /// Takes in what a fetcher did.
    fn note(&mut self, event: Event) {
        let Event {
            trial,
            fetcher,
            what,
        } = event;
        let input = match what {
            What::Ready(at) => Input::Ready(fetcher, at),
            What::GoWritten(at) => Input::GoWritten(fetcher, at),
            What::Report(report) => Input::Report(fetcher, report),
            What::SetupFailed(reason) => Input::SetupFailed(fetcher, reason),
            What::Broken(reason) => Input::Broken(fetcher, reason),
            What::Ended(ended) => self.reaped(trial, fetcher, ended),
        };
        self.apply(trial, input);
    }

    fn reaped(&mut self, trial: TrialId, fetcher: FetcherId, ended: Ended) -> Input {
        while let Some(task) = self.tasks.try_join_next() {
            if let Err(panicked) = task {
                tracing::error!(%panicked, "a fetcher's task");
            }
        }
        let mut condemned = true;
        if let Some(entry) = self.trials.get_mut(&trial) {
            entry.fetchers.remove(&fetcher);
            entry.bytes_to_fetchers += ended.bytes_to_fetcher;
            entry.bytes_from_fetchers += ended.bytes_from_fetcher;
            condemned = entry.trial.is_condemned(fetcher);
        }
        let (exit, usage, last_words) = match ended.reaped {
            Ok(reaped) => (exit_of(reaped.status), Some(reaped.usage), ended.last_words),
            // Somebody else has reaped it: how it ended is not known.
            Err(error) => (
                Exit::Code(-1),
                None,
                format!("{} (it could not be reaped: {error})", ended.last_words),
            ),
        };
        let exit = match exit {
            Exit::Signal(9) if !condemned && self.memory_ran_out() => Exit::OutOfMemory,
            exit => exit,
        };
        Input::Ended {
            fetcher,
            exit,
            usage,
            last_words,
        }
    }

    /// Whether the out-of-memory killer struck once more than was accounted for.
    fn memory_ran_out(&mut self) -> bool {
        let more = self
            .cgroups
            .oom_kills()
            .is_some_and(|kills| kills > self.oom_kills_seen);
        self.oom_kills_seen += u64::from(more);
        more
    }

    /// Tells the trial what happened and does what it answers.
    fn apply(&mut self, trial: TrialId, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let Some(entry) = self.trials.get_mut(&trial) else {
                return tracing::debug!(%trial, ?input, "about a trial that is over or unknown");
            };
            let mut actions = Vec::new();
            entry.trial.on(Instant::now(), input, &mut actions);
            for action in actions {
                inputs.extend(self.act(trial, action));
            }
        }
    }

    /// Does one thing; answers with what that led to.
    fn act(&mut self, trial: TrialId, action: Action) -> Option<Input> {
        let entry = self.trials.get_mut(&trial)?;
        match action {
            Action::Write(fetcher, control) => {
                let outbox = &entry.fetchers.get(&fetcher)?.outbox;
                let written = outbox.push(encoded(control), control == Control::Go);
                return written.err().map(|e| Input::Broken(fetcher, e.to_string()));
            }
            Action::Kill(fetcher) => {
                if let Some((killer, _)) = &entry.fetchers.get(&fetcher)?.process {
                    killer.kill();
                }
            }
            Action::Measure(fetcher) => {
                if entry.kernel_memory == (None, None) {
                    entry.kernel_memory = self.cgroups.kernel_memory();
                }
                self.jobs.push_back(Job::Measure(trial, fetcher));
            }
            Action::LetGo => {
                entry.sampling.due = entry.sampling.interval.and(entry.trial.gone_since());
            }
            Action::TellReady(fetcher, spawn) => {
                self.waiting
                    .push_back(message::ready(trial, fetcher, spawn));
            }
            Action::TellMemory(sample) => self.waiting.push_back(message::memory(trial, &sample)),
            Action::TellExited(exited) => {
                if !exited.reason.is_empty() {
                    tracing::warn!(%trial, fetcher = %exited.fetcher, "{}", exited.reason);
                }
                entry.fetchers.remove(&exited.fetcher);
                self.waiting.push_back(message::exited(trial, exited));
            }
            Action::Over => {
                let usage = entry.usage();
                self.trials.remove(&trial);
                self.waiting.push_back(message::usage(trial, &usage));
            }
        }
        None
    }

    fn work(&mut self, job: Job) {
        match job {
            Job::Start {
                trial,
                fetcher,
                cpus,
            } => self.start(trial, fetcher, &cpus),
            Job::Measure(trial, fetcher) => {
                let held = self.trials.get(&trial).and_then(|entry| {
                    let (_, directory) = entry.fetchers.get(&fetcher)?.process.as_ref()?;
                    Some(directory.held())
                });
                self.apply(trial, Input::Measured(fetcher, held.unwrap_or_default()));
            }
            Job::Sample(trial) => self.sample(trial),
        }
    }

    fn start(&mut self, trial: TrialId, fetcher: FetcherId, cpus: &[u32]) {
        let Some(entry) = self.trials.get_mut(&trial) else {
            return;
        };
        let Some(live) = entry.fetchers.get_mut(&fetcher) else {
            return;
        };
        if !entry.trial.is_queued(fetcher) {
            return;
        }
        let since = Instant::now();
        let how = &self.settings.fetcher;
        let input = match supervise::start(how, cpus, &self.cpus, entry.pipe_bytes) {
            Ok(Started { process, directory }) => {
                live.process = Some((process.killer(), directory));
                let outlet = Outlet {
                    trial,
                    fetcher,
                    frames: self.frames.clone(),
                    events: self.tell.clone(),
                    unwanted: entry.unwanted.clone(),
                };
                let outbox = Arc::clone(&live.outbox);
                self.tasks
                    .spawn(supervise::supervise(process, outbox, outlet));
                Input::Started(fetcher, since)
            }
            Err(error) => Input::NotStarted(fetcher, error.to_string()),
        };
        self.apply(trial, input);
    }

    fn sample(&mut self, trial: TrialId) {
        let Some(entry) = self.trials.get_mut(&trial) else {
            return;
        };
        let Some(sample) = &mut entry.sampling.present else {
            return;
        };
        if entry.trial.running().next().is_none() {
            // The hold came in between.
            entry.sampling.present = None;
            return;
        }
        if let Some(fetcher) = sample.rest.pop_front() {
            if let Some((_, directory)) = entry
                .fetchers
                .get(&fetcher)
                .and_then(|live| live.process.as_ref())
            {
                let before = Instant::now();
                let memory = directory.memory();
                sample.spent += before.elapsed();
                let sums = &mut sample.sums;
                sums.add(memory.pss_bytes, memory.uss_bytes, memory.threads);
            }
            self.jobs.push_back(Job::Sample(trial));
            return;
        }
        let pause = entry.sampling.interval.unwrap_or_default();
        let pause = pause.max(SAMPLING_SHARE * sample.spent);
        entry.sampling.due = Some(sample.started + pause);
        let message = message::memory(trial, &sample.sums);
        entry.sampling.present = None;
        entry.trial.count_memory_sample();
        self.say_if_room(message);
    }

    /// Queues a message that may be left out when the stream is stuck.
    fn say_if_room(&mut self, message: wire::FromWorker) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(message);
        }
    }
}

/// Says the first of the waiting messages once there is room; loses none when
/// it is dropped before that.
async fn say_next(
    frames: &mpsc::Sender<wire::FromWorker>,
    waiting: &mut VecDeque<wire::FromWorker>,
) -> Result<(), SessionError> {
    let room = frames.reserve().await;
    let room = room.map_err(|_| SessionError::without_goodbye())?;
    if let Some(message) = waiting.pop_front() {
        room.send(message);
    }
    Ok(())
}

impl Entry {
    fn usage(&mut self) -> WorkerUsage {
        let spent = self.cpu_before.zip(usage::own_cpu());
        let (sock, kernel_stack) = self.kernel_memory;
        WorkerUsage {
            cpu_user: spent.map(|(before, now)| now.user.saturating_sub(before.user)),
            cpu_system: spent.map(|(before, now)| now.system.saturating_sub(before.system)),
            pipe_bytes_to_fetchers: self.bytes_to_fetchers,
            pipe_bytes_from_fetchers: self.bytes_from_fetchers,
            barrier: self.trial.barrier(),
            memory_samples: self.trial.memory_samples(),
            cgroup_peak_bytes: self.peak.peak_bytes(),
            cgroup_sock_bytes: sock,
            cgroup_kernel_stack_bytes: kernel_stack,
        }
    }
}

impl Sample {
    /// A sample of the fetchers that run, if there are any.
    fn begin(trial: &Trial, now: Instant) -> Option<Self> {
        let rest: VecDeque<_> = trial.running().collect();
        let go = trial.gone_since()?;
        (!rest.is_empty()).then(|| Self {
            started: now,
            sums: MemorySample::at(now.saturating_duration_since(go)),
            rest,
            spent: Duration::ZERO,
        })
    }
}

fn exit_of(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

fn encoded(control: Control) -> Bytes {
    use to_fetcher::Message;
    supervise::to_fetcher(match control {
        Control::Go => Message::Go(wire::FetcherGo {}),
        Control::Hold => Message::Hold(wire::Hold {}),
        Control::Exit => Message::Exit(wire::FetcherExit {}),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulse(now: Instant) -> Pulse {
        Pulse {
            interval: Duration::from_secs(1),
            next: now + Duration::from_secs(1),
            sequence: 0,
            heard: now,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_are_numbered_and_never_pile_up() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        assert_eq!(pulse.beat(start), None);
        assert_eq!(pulse.beat(start + Duration::from_secs(1)), Some(1));
        assert_eq!(pulse.beat(start + Duration::from_secs(9)), Some(2));
        assert_eq!(pulse.beat(start + Duration::from_millis(9900)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_is_silent_after_three_intervals() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        let due = pulse.silent_at();
        assert_eq!(due, start + Duration::from_secs(3));
        assert!(!pulse.is_silent(due - Duration::from_millis(1), due));
        assert!(pulse.is_silent(due, due));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_frozen_itself_waits_one_interval_more() {
        let start = Instant::now();
        let mut pulse = pulse(start);
        let due = pulse.deadline();
        let thawed = start + Duration::from_secs(20);
        assert!(!pulse.is_silent(thawed, due));
        let due = pulse.silent_at();
        assert_eq!(due, thawed + Duration::from_secs(1));
        assert!(pulse.is_silent(due, due));
    }
}
