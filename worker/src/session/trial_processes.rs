//! One trial on this worker: its fetchers' processes, what is decided about
//! them, and what is measured of them.

use std::{
    collections::{BTreeMap, VecDeque},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use fanout_proto::{
    WireError,
    id::{FetcherId, TrialId},
    report::{Exit, MachineLoad, ResourceUsage, WorkerUsage},
    time::micros,
    wire::{self, from_worker, to_fetcher},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{context::SessionContext, sampling::Sampling};
use crate::{
    measure::{
        cgroup::PeakMeter,
        load::{ProcessorTime, kernel_stack_bytes},
        process::ProcessDir,
        usage::{self, Cpu},
    },
    message::{self, FetcherSpec},
    supervise::{self, FetcherEnd, FetcherEventKind, FetcherOutput, Killer, PipeQueue, Started},
    trial::{Action, FetcherControl, TrialInput, WorkerTrial},
};

/// See the module. Carries out what [`WorkerTrial`] decides.
#[derive(Default)]
pub(super) struct TrialProcesses {
    id: TrialId,
    trial: WorkerTrial,
    fetchers: BTreeMap<FetcherId, Live>,
    /// Done one at a time, so that none holds frames up for long.
    work: VecDeque<WorkItem>,
    sampling: Sampling,
    pipe_bytes: usize,
    /// Cancelled when the trial's frames are wanted no more.
    unwanted: CancellationToken,
    cpu_before: Option<Cpu>,
    peak: PeakMeter,
    reaped_cpu: Duration,
    at_go: Option<LoadPoint>,
    at_hold: Option<AtHold>,
    bytes_to_fetchers: u64,
    bytes_from_fetchers: u64,
    is_over: bool,
}

struct Live {
    queue: Arc<PipeQueue>,
    process: Option<(Killer, ProcessDir)>,
    /// Just before Go was written.
    cpu_start: Option<Duration>,
}

/// CPU time at one moment: of the machine, and of what this trial runs on it.
#[derive(Debug, Clone, Copy)]
struct LoadPoint {
    machine: ProcessorTime,
    own: Duration,
}

/// What is read once at the hold, before the fetchers one by one.
#[derive(Debug)]
struct AtHold {
    load: Option<LoadPoint>,
    /// Socket buffers and kernel stacks of the cgroup.
    cgroup_kernel_memory: (Option<u64>, Option<u64>),
    stack_bytes: Option<u64>,
    /// Of the fetchers read so far; `None` once one could not be read.
    threads: Option<u64>,
}

/// A piece of work that takes about a millisecond.
enum WorkItem {
    Start {
        fetcher: FetcherId,
        cpus: Vec<u32>,
        program: String,
    },
    /// Read the memory of the sample's next fetcher.
    Sample,
    Measure(FetcherId),
}

impl TrialProcesses {
    /// A trial that will have about `size` fetchers.
    pub(super) fn new(
        id: TrialId,
        size: usize,
        memory_interval: Option<Duration>,
        context: &SessionContext<'_>,
    ) -> Self {
        Self {
            id,
            sampling: Sampling::every(memory_interval),
            pipe_bytes: supervise::pipe_bytes(size),
            cpu_before: usage::own_cpu(),
            peak: context.cgroups.watch_peak(),
            ..Self::default()
        }
    }

    /// Queues fetchers to be started, `free` of them at most. Fails where one is
    /// there already, or the trial has gone on.
    pub(super) fn prepare(
        &mut self,
        fetchers: Vec<FetcherSpec>,
        free: usize,
        context: &mut SessionContext<'_>,
    ) -> Result<(), WireError> {
        for (index, spec) in fetchers.into_iter().enumerate() {
            let FetcherSpec { fetcher, setup, cpus, program } = spec;
            if !self.trial.add(fetcher) {
                return Err(WireError::Inconsistent(
                    "a fetcher is prepared twice, or when its trial is ending",
                ));
            }
            if index >= free {
                let reason = format!(
                    "this worker runs at most {} fetchers at a time; start it with more --slots",
                    context.settings.slots
                );
                self.apply(TrialInput::NotStarted(fetcher, reason), context);
                continue;
            }
            let queue = Arc::new(PipeQueue::default());
            let live = Live { queue, process: None, cpu_start: None };
            self.fetchers.insert(fetcher, live);
            // The setup comes before any lease.
            self.write(fetcher, setup, false, context);
            self.work.push_back(WorkItem::Start { fetcher, cpus, program });
        }
        Ok(())
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) fn size(&self) -> usize {
        self.trial.living().count()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.trial.deadline(), self.sampling.due()].into_iter().flatten().min()
    }

    pub(super) fn on_time(&mut self, now: Instant, context: &mut SessionContext<'_>) {
        if self.sampling.begin_if_due(now, &self.trial) {
            self.work.push_back(WorkItem::Sample);
        }
        if self.trial.deadline().is_some_and(|deadline| deadline <= now) {
            self.apply(TrialInput::Tick, context);
        }
    }

    pub(super) fn lease(
        &mut self,
        fetcher: FetcherId,
        frame: Bytes,
        context: &mut SessionContext<'_>,
    ) {
        if self.trial.takes_leases(fetcher) {
            self.write(fetcher, frame, false, context);
        } else {
            tracing::debug!(trial = %self.id, %fetcher, "a frame for a fetcher that is gone");
        }
    }

    fn write(
        &mut self,
        fetcher: FetcherId,
        frame: Bytes,
        marked: bool,
        context: &mut SessionContext<'_>,
    ) {
        let Some(live) = self.fetchers.get(&fetcher) else {
            return;
        };
        if let Err(overfull) = live.queue.push(frame, marked) {
            self.apply(TrialInput::Broken(fetcher, overfull.to_string()), context);
        }
    }

    /// Ends all fetchers at once, without a word to the coordinator.
    pub(super) fn kill(&self) {
        self.unwanted.cancel();
        for live in self.fetchers.values() {
            if let Some((killer, _)) = &live.process {
                killer.kill();
            }
        }
    }

    pub(super) fn note(
        &mut self,
        fetcher: FetcherId,
        what: FetcherEventKind,
        context: &mut SessionContext<'_>,
    ) {
        let input = match what {
            FetcherEventKind::Did(input) => input,
            FetcherEventKind::Ended(ended) => self.ended(fetcher, ended, context),
        };
        self.apply(input, context);
    }

    fn ended(
        &mut self,
        fetcher: FetcherId,
        ended: FetcherEnd,
        context: &mut SessionContext<'_>,
    ) -> TrialInput {
        let cpu_start = self.fetchers.remove(&fetcher).and_then(|live| live.cpu_start);
        self.bytes_to_fetchers += ended.bytes_to_fetcher;
        self.bytes_from_fetchers += ended.bytes_from_fetcher;
        let last_words = ended.last_words;
        match ended.reaped {
            Ok(reaped) => {
                let ours = self.trial.is_being_killed(fetcher);
                let exit = match exit(reaped.status) {
                    Exit::Signal(9) if !ours && context.memory_ran_out() => Exit::OutOfMemory,
                    exit => exit,
                };
                let usage = ResourceUsage { cpu_start, ..reaped.usage };
                self.reaped_cpu += usage.cpu_user + usage.cpu_system;
                TrialInput::Ended { fetcher, exit, usage: Some(usage), last_words }
            }
            // How it ended is not known.
            Err(error) => TrialInput::Ended {
                fetcher,
                exit: Exit::Code(-1),
                usage: None,
                last_words: format!("{last_words} (it could not be reaped: {error})"),
            },
        }
    }

    /// Tells the trial what happened, and does what it answers.
    pub(super) fn apply(&mut self, input: TrialInput, context: &mut SessionContext<'_>) {
        if matches!(input, TrialInput::Abort) {
            self.unwanted.cancel();
        }
        let mut actions = Vec::new();
        self.trial.on(Instant::now(), input, &mut actions);
        for action in actions {
            self.act(action, context);
        }
    }

    fn act(&mut self, action: Action, context: &mut SessionContext<'_>) {
        match action {
            Action::Write(fetcher, control) => {
                if control == FetcherControl::Go
                    && let Some(live) = self.fetchers.get_mut(&fetcher)
                {
                    live.cpu_start = live.cpu();
                }
                let frame = encoded(control);
                self.write(fetcher, frame, control == FetcherControl::Go, context);
            }
            Action::Kill(fetcher) => {
                let live = self.fetchers.get(&fetcher);
                if let Some((killer, _)) = live.and_then(|live| live.process.as_ref()) {
                    killer.kill();
                }
            }
            Action::Measure(fetcher) => {
                if self.at_hold.is_none() {
                    self.at_hold = Some(AtHold {
                        load: self.load_point(),
                        cgroup_kernel_memory: context.cgroups.kernel_memory(),
                        stack_bytes: kernel_stack_bytes(),
                        threads: Some(0),
                    });
                }
                self.work.push_back(WorkItem::Measure(fetcher));
            }
            Action::LetGo => {
                self.at_go = self.load_point();
                self.sampling.start(Instant::now());
            }
            Action::TellReady(fetcher, spawn) => {
                let (trial, fetcher, spawn_us) = (self.id.0, fetcher.0, micros(spawn));
                let ready = wire::FetcherReady { trial, fetcher, spawn_us };
                context.send(message::from_worker(from_worker::Message::Ready(ready)));
            }
            Action::TellMemory(sample) => context.send(message::memory(self.id, sample)),
            Action::TellExited(exited) => {
                if !exited.reason.is_empty() {
                    let fetcher = exited.fetcher;
                    tracing::info!(trial = %self.id, %fetcher, "{}", exited.reason);
                }
                self.fetchers.remove(&exited.fetcher);
                context.send(message::exited(self.id, *exited));
            }
            Action::Over => {
                self.is_over = true;
                let usage = self.usage();
                context.send(message::usage(self.id, usage));
            }
        }
    }

    pub(super) fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    pub(super) fn work(&mut self, context: &mut SessionContext<'_>) {
        match self.work.pop_front() {
            Some(WorkItem::Start { fetcher, cpus, program }) => {
                self.start(fetcher, &cpus, &program, context);
            }
            Some(WorkItem::Measure(fetcher)) => {
                let held = self.directory(fetcher).map(ProcessDir::held).unwrap_or_default();
                if let Some(at_hold) = &mut self.at_hold {
                    let threads = at_hold.threads.zip(held.memory.threads);
                    at_hold.threads = threads.map(|(sum, more)| sum + u64::from(more));
                }
                self.apply(TrialInput::Measured(fetcher, held), context);
            }
            Some(WorkItem::Sample) => self.sample(context),
            None => {}
        }
    }

    fn directory(&self, fetcher: FetcherId) -> Option<&ProcessDir> {
        let (_, directory) = self.fetchers.get(&fetcher)?.process.as_ref()?;
        Some(directory)
    }

    fn start(
        &mut self,
        fetcher: FetcherId,
        cpus: &[u32],
        program: &str,
        context: &mut SessionContext<'_>,
    ) {
        // It may have been called off.
        let Some(live) = self.fetchers.get_mut(&fetcher) else {
            return;
        };
        let since = Instant::now();
        let started = context
            .settings
            .command(program)
            .and_then(|how| supervise::start(how, cpus, &context.cpus, self.pipe_bytes));
        let input = match started {
            Ok(Started { process, directory }) => {
                live.process = Some((process.killer(), directory));
                let output = FetcherOutput {
                    trial: self.id,
                    fetcher,
                    frames: context.frames.clone(),
                    events: context.events.clone(),
                    unwanted: self.unwanted.clone(),
                };
                let queue = Arc::clone(&live.queue);
                context.spawn(supervise::supervise(process, queue, output));
                TrialInput::Started(fetcher, since)
            }
            Err(reason) => TrialInput::NotStarted(fetcher, reason),
        };
        self.apply(input, context);
    }

    fn sample(&mut self, context: &mut SessionContext<'_>) {
        if self.trial.running().next().is_none() {
            // The hold came in between.
            return self.sampling.give_up();
        }
        if let Some(fetcher) = self.sampling.next() {
            let before = Instant::now();
            if let Some(memory) = self.directory(fetcher).map(ProcessDir::memory) {
                self.sampling.add(&memory, before.elapsed());
            }
            self.work.push_back(WorkItem::Sample);
        } else if let Some(sums) = self.sampling.finish() {
            context.send_if_room(message::memory(self.id, sums));
        }
    }

    /// CPU time now. A fetcher that cannot be read is about to be reaped; its trial is degraded.
    fn load_point(&self) -> Option<LoadPoint> {
        let machine = ProcessorTime::now()?;
        let worker = usage::own_cpu()?;
        let fetchers: Duration = self.fetchers.values().filter_map(Live::cpu).sum();
        let own = worker.user + worker.system + fetchers + self.reaped_cpu;
        Some(LoadPoint { machine, own })
    }

    fn load(&self) -> Option<MachineLoad> {
        let (before, after) = (self.at_go?, self.at_hold.as_ref()?.load?);
        let (capacity, busy, steal) = after.machine.since(&before.machine);
        Some(MachineLoad { capacity, busy, steal, own: after.own.saturating_sub(before.own) })
    }

    fn usage(&mut self) -> WorkerUsage {
        let spent = self.cpu_before.zip(usage::own_cpu());
        let at_hold = self.at_hold.as_ref();
        let (sock, kernel_stack) = at_hold.map(|at| at.cgroup_kernel_memory).unwrap_or_default();
        WorkerUsage {
            cpu_user: spent.map(|(before, now)| now.user.saturating_sub(before.user)),
            cpu_system: spent.map(|(before, now)| now.system.saturating_sub(before.system)),
            pipe_bytes_to_fetchers: self.bytes_to_fetchers,
            pipe_bytes_from_fetchers: self.bytes_from_fetchers,
            barrier: self.trial.barrier(),
            cgroup_peak_bytes: self.peak.peak_bytes(),
            cgroup_sock_bytes: sock,
            cgroup_kernel_stack_bytes: kernel_stack,
            start: self.trial.start(),
            kernel_stacks_bytes: at_hold.and_then(|at| at.threads?.checked_mul(at.stack_bytes?)),
            load: self.load(),
        }
    }
}

impl Live {
    fn cpu(&self) -> Option<Duration> {
        let (_, directory) = self.process.as_ref()?;
        directory.cpu()
    }
}

fn exit(status: ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        // Not of a process that has ended.
        (None, None) => Exit::Code(-1),
    }
}

fn encoded(control: FetcherControl) -> Bytes {
    use to_fetcher::Message;
    supervise::to_fetcher(match control {
        FetcherControl::Go => Message::Go(wire::FetcherGo {}),
        FetcherControl::Hold => Message::Hold(wire::Hold {}),
        FetcherControl::Exit => Message::Exit(wire::FetcherExit {}),
    })
}
