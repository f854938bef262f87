//! One trial's fetchers on this worker, from Prepare to the last one reaped.
//!
//! Pure: [`WorkerTrial::on`] takes what happened and when, and answers with what is
//! to be done. Owns the invariants that each fetcher is told as exited exactly
//! once, and that the trial is over only when all of them are reaped. It is
//! public so that fault schedules can couple it with the coordinator's trial.

use std::{collections::BTreeMap, time::Duration};

use fanout_proto::{
    id::FetcherId,
    report::{Exit, FetcherExited, FetcherReport, HoldSnapshot, MemorySample, ResourceUsage},
};
use nix::sys::signal::Signal;
use tokio::time::Instant;

/// A fetcher says Ready within this time of its start.
pub const READY_WITHIN: Duration = Duration::from_secs(30);
/// A fetcher reports within this time of Hold.
pub const REPORT_WITHIN: Duration = Duration::from_secs(5);
/// A fetcher ends within this time of Exit.
pub const EXIT_WITHIN: Duration = Duration::from_secs(5);

/// Where a fetcher is in its life.
///
/// ```text
///         start       Ready        Go          Hold        Exit
///  Queued ────► Starting ───► Ready ───► Running ───► Holding ───► Exiting
///    │             │            │           │            │            │
///    │ never       └────────────┴─────┬─────┴────────────┘       ends │
///    │ started        ends by itself, or is killed                    │
///    └──────────────────────────► Reaped ◄────────────────────────────┘
/// ```
///
/// A fetcher that is not yet Running can be told to hold as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FetcherStage {
    #[default]
    Queued,
    Starting {
        since: Instant,
    },
    Ready,
    Running,
    Holding,
    Exiting,
    Reaped,
}

impl FetcherStage {
    fn doing(self) -> &'static str {
        match self {
            Self::Queued | Self::Starting { .. } => "while it was starting",
            Self::Ready => "while it waited for Go",
            Self::Running => "while it ran",
            Self::Holding => "while it held",
            Self::Exiting => "after it was told to exit",
            Self::Reaped => "after its end",
        }
    }
}

#[derive(Debug, Default)]
struct Member {
    stage: FetcherStage,
    go_written: bool,
    report: Option<FetcherReport>,
    held: Option<HoldSnapshot>,
    /// Why it is being killed; it is waited for no more, except to be reaped.
    kill_reason: Option<String>,
}

impl Member {
    fn is(&self, stage: FetcherStage) -> bool {
        self.kill_reason.is_none() && self.stage == stage
    }
}

/// Where the trial is: each phase but the first two ends by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum TrialPhase {
    #[default]
    Preparing,
    Running,
    /// Hold was sent; reports are awaited.
    Holding {
        until: Instant,
    },
    /// All that live hold; /proc is being read.
    Measuring,
    /// Exit was sent.
    Exiting {
        until: Instant,
    },
    Reaping,
    Over,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum TrialInput {
    /// The coordinator opens the barrier.
    Go,
    /// The coordinator wants the fetchers held, measured, ended and reaped.
    Finish,
    /// The coordinator gives a fetcher up.
    Kill(FetcherId),
    /// The coordinator gives the trial up.
    Abort,
    /// A fetcher's process was started, at this moment.
    Started(FetcherId, Instant),
    /// A fetcher's process could not be started, for this reason.
    NotStarted(FetcherId, String),
    /// A fetcher's model was set up at this moment.
    Ready(FetcherId, Instant),
    /// Go was in a fetcher's pipe at this moment.
    GoWritten(FetcherId, Instant),
    /// A fetcher holds, and reports.
    Report(FetcherId, FetcherReport),
    /// A fetcher cannot work as it was told to, for this reason.
    SetupFailed(FetcherId, String),
    /// What a fetcher writes makes no sense, for this reason.
    Broken(FetcherId, String),
    /// What was asked for with [`Action::Measure`].
    Measured(FetcherId, HoldSnapshot),
    /// A fetcher was reaped.
    Ended {
        /// Which one.
        fetcher: FetcherId,
        /// How.
        exit: Exit,
        /// What the kernel says that it used.
        usage: Option<ResourceUsage>,
        /// The end of what it wrote to stderr.
        last_words: String,
    },
    /// Time went by.
    Tick,
}

/// A message to a fetcher that the trial decides on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetcherControl {
    /// Start.
    Go,
    /// Report, and stay as you are.
    Hold,
    /// End.
    Exit,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Write this into a fetcher's pipe.
    Write(FetcherId, FetcherControl),
    /// End a fetcher's process.
    Kill(FetcherId),
    /// Read /proc of a fetcher that holds, then say [`TrialInput::Measured`].
    Measure(FetcherId),
    /// Tell the coordinator that a fetcher is ready, so long after its spawn.
    TellReady(FetcherId, Duration),
    /// Go is in every fetcher's pipe.
    LetGo,
    /// Tell the coordinator of memory.
    TellMemory(MemorySample),
    /// Tell the coordinator that a fetcher was reaped.
    TellExited(Box<FetcherExited>),
    /// Nothing is left of the trial; always the last.
    Over,
}

/// See the module.
#[derive(Debug, Default)]
pub struct WorkerTrial {
    phase: TrialPhase,
    members: BTreeMap<FetcherId, Member>,
    go: Option<Instant>,
    let_go: bool,
    barrier: Duration,
    /// The first start and the last Ready before Go.
    first_start: Option<Instant>,
    last_ready: Option<Instant>,
}

impl WorkerTrial {
    /// A trial without fetchers yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fetcher that is yet to be started; `false` if there is one of
    /// that id, or if the trial is coming to its end. While the trial runs, it
    /// is a replacement, and waits at no barrier.
    #[must_use]
    pub fn add(&mut self, fetcher: FetcherId) -> bool {
        if !matches!(self.phase, TrialPhase::Preparing | TrialPhase::Running)
            || self.members.contains_key(&fetcher)
        {
            return false;
        }
        self.members.insert(fetcher, Member::default());
        true
    }

    /// Whether `fetcher` is being killed by this worker.
    pub fn is_being_killed(&self, fetcher: FetcherId) -> bool {
        self.members.get(&fetcher).is_some_and(|member| member.kill_reason.is_some())
    }

    /// Whether `fetcher` may be given more leases.
    pub fn takes_leases(&self, fetcher: FetcherId) -> bool {
        matches!(self.phase, TrialPhase::Preparing | TrialPhase::Running)
            && self.members.get(&fetcher).is_some_and(|member| {
                member.kill_reason.is_none() && member.stage != FetcherStage::Reaped
            })
    }

    /// Fetchers that have not been reaped, also those yet to be started.
    pub fn living(&self) -> impl Iterator<Item = FetcherId> {
        self.members
            .iter()
            .filter(|(_, member)| member.stage != FetcherStage::Reaped)
            .map(|(fetcher, _)| *fetcher)
    }

    /// Fetchers whose memory is sampled: those that were let go and live.
    pub fn running(&self) -> impl Iterator<Item = FetcherId> {
        let running = self.phase == TrialPhase::Running;
        self.members
            .iter()
            .filter(move |(_, member)| running && member.is(FetcherStage::Running))
            .map(|(fetcher, _)| *fetcher)
    }

    /// When Go arrived.
    pub fn gone_since(&self) -> Option<Instant> {
        self.go
    }

    /// From Go's arrival to its being in the last fetcher's pipe.
    pub fn barrier(&self) -> Duration {
        self.barrier
    }

    /// From the first fetcher's start to the last one's Ready before Go.
    pub fn start(&self) -> Option<Duration> {
        Some(self.last_ready?.saturating_duration_since(self.first_start?))
    }

    /// When [`TrialInput::Tick`] is due next.
    pub fn deadline(&self) -> Option<Instant> {
        let phase = match self.phase {
            TrialPhase::Holding { until } | TrialPhase::Exiting { until } => Some(until),
            _ => None,
        };
        let starting = self.members.values().filter_map(|member| match member.stage {
            FetcherStage::Starting { since } if member.kill_reason.is_none() => {
                Some(since + READY_WITHIN)
            }
            _ => None,
        });
        starting.chain(phase).min()
    }

    /// Takes in what happened at `now`; appends what is to be done to `actions`.
    pub fn on(&mut self, now: Instant, input: TrialInput, actions: &mut Vec<Action>) {
        match input {
            TrialInput::Go => self.go(now, actions),
            TrialInput::Finish => self.finish(now, actions),
            TrialInput::Abort => self.abort(actions),
            TrialInput::Kill(fetcher) => {
                self.kill(fetcher, "killed as the coordinator asked", actions);
            }
            TrialInput::Tick => self.tick(now, actions),
            TrialInput::Started(fetcher, since) => {
                if let Some(member) = self.members.get_mut(&fetcher) {
                    member.stage = FetcherStage::Starting { since };
                    self.first_start = Some(self.first_start.map_or(since, |at| at.min(since)));
                }
            }
            TrialInput::NotStarted(fetcher, reason) => {
                self.never_started(fetcher, &reason, actions)
            }
            TrialInput::Ready(fetcher, at) => self.ready(fetcher, at, actions),
            TrialInput::GoWritten(fetcher, at) => {
                if let (Some(member), Some(go)) = (self.members.get_mut(&fetcher), self.go) {
                    member.go_written = true;
                    if !self.let_go {
                        self.barrier = self.barrier.max(at.saturating_duration_since(go));
                    }
                }
            }
            TrialInput::Report(fetcher, report) => match self.members.get_mut(&fetcher) {
                Some(member) if member.is(FetcherStage::Holding) && member.report.is_none() => {
                    member.report = Some(report);
                }
                _ => self.kill(fetcher, "it reported without being told to hold", actions),
            },
            TrialInput::SetupFailed(fetcher, reason) => {
                self.kill(fetcher, &format!("its setup failed: {reason}"), actions);
            }
            TrialInput::Broken(fetcher, reason) => self.kill(fetcher, &reason, actions),
            TrialInput::Measured(fetcher, held) => {
                if let Some(member) = self.members.get_mut(&fetcher) {
                    member.held = Some(held);
                }
            }
            TrialInput::Ended { fetcher, exit, usage, last_words } => {
                self.ended(fetcher, exit, usage, &last_words, actions)
            }
        }
        self.settle(now, actions);
    }

    fn go(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase != TrialPhase::Preparing {
            return;
        }
        self.phase = TrialPhase::Running;
        self.go = Some(now);
        for (fetcher, member) in &mut self.members {
            if member.is(FetcherStage::Ready) {
                member.stage = FetcherStage::Running;
                actions.push(Action::Write(*fetcher, FetcherControl::Go));
            }
        }
    }

    fn ready(&mut self, fetcher: FetcherId, at: Instant, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(&fetcher) else {
            return;
        };
        let FetcherStage::Starting { since } = member.stage else {
            return self.kill(fetcher, "it said Ready twice", actions);
        };
        if member.kill_reason.is_some() {
            return;
        }
        member.stage = FetcherStage::Ready;
        let spawn = at.saturating_duration_since(since);
        actions.push(Action::TellReady(fetcher, spawn));
        if self.phase == TrialPhase::Running {
            // Go did not wait for it.
            member.stage = FetcherStage::Running;
            actions.push(Action::Write(fetcher, FetcherControl::Go));
        } else {
            self.last_ready = self.last_ready.max(Some(at));
        }
    }

    fn finish(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !matches!(self.phase, TrialPhase::Preparing | TrialPhase::Running) {
            return;
        }
        self.phase = TrialPhase::Holding { until: now + REPORT_WITHIN };
        for fetcher in self.ids() {
            let Some(member) = self.members.get_mut(&fetcher) else {
                continue;
            };
            match member.stage {
                FetcherStage::Queued | FetcherStage::Starting { .. } => {
                    self.kill(fetcher, "it was not ready when the trial finished", actions);
                }
                FetcherStage::Ready | FetcherStage::Running if member.kill_reason.is_none() => {
                    member.stage = FetcherStage::Holding;
                    actions.push(Action::Write(fetcher, FetcherControl::Hold));
                }
                _ => {}
            }
        }
    }

    fn abort(&mut self, actions: &mut Vec<Action>) {
        if self.phase == TrialPhase::Over {
            return;
        }
        self.phase = TrialPhase::Reaping;
        for fetcher in self.ids() {
            self.kill(fetcher, "the trial was aborted", actions);
        }
    }

    fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for fetcher in self.ids() {
            let late = self.members.get(&fetcher).is_some_and(|member| {
                matches!(member.stage, FetcherStage::Starting { since } if since + READY_WITHIN <= now)
            });
            if late {
                let reason = format!("it was not ready within {} s", READY_WITHIN.as_secs());
                self.kill(fetcher, &reason, actions);
            }
        }
        match self.phase {
            TrialPhase::Holding { until } if until <= now => {
                let reason = format!("it did not report within {} s", REPORT_WITHIN.as_secs());
                for fetcher in self.ids() {
                    let silent = self.members.get(&fetcher).is_some_and(|m| m.report.is_none());
                    if silent {
                        self.kill(fetcher, &reason, actions);
                    }
                }
            }
            TrialPhase::Exiting { until } if until <= now => {
                self.phase = TrialPhase::Reaping;
                let reason = format!("it did not end within {} s of Exit", EXIT_WITHIN.as_secs());
                for fetcher in self.ids() {
                    self.kill(fetcher, &reason, actions);
                }
            }
            _ => {}
        }
    }

    /// Kills a fetcher, unless that was done before or it is gone.
    fn kill(&mut self, fetcher: FetcherId, reason: &str, actions: &mut Vec<Action>) {
        let Some(member) = self.members.get_mut(&fetcher) else {
            return;
        };
        match member.stage {
            FetcherStage::Queued => self.never_started(fetcher, reason, actions),
            FetcherStage::Reaped => {}
            _ if member.kill_reason.is_some() => {}
            _ => {
                member.kill_reason = Some(reason.to_owned());
                actions.push(Action::Kill(fetcher));
            }
        }
    }

    fn never_started(&mut self, fetcher: FetcherId, reason: &str, actions: &mut Vec<Action>) {
        let is_queued = |member: &Member| member.stage == FetcherStage::Queued;
        if self.members.get(&fetcher).is_some_and(is_queued) {
            self.reaped(fetcher, Exit::NotStarted, None, reason.to_owned(), actions);
        }
    }

    fn ended(
        &mut self,
        fetcher: FetcherId,
        exit: Exit,
        usage: Option<ResourceUsage>,
        last_words: &str,
        actions: &mut Vec<Action>,
    ) {
        let Some(member) = self.members.get(&fetcher) else {
            return;
        };
        if !matches!(member.stage, FetcherStage::Queued | FetcherStage::Reaped) {
            let killed = member.kill_reason.as_deref();
            let reason = reason(member.stage, killed, exit, last_words);
            self.reaped(fetcher, exit, usage, reason, actions);
        }
    }

    fn reaped(
        &mut self,
        fetcher: FetcherId,
        exit: Exit,
        usage: Option<ResourceUsage>,
        reason: String,
        actions: &mut Vec<Action>,
    ) {
        if let Some(member) = self.members.get_mut(&fetcher) {
            member.stage = FetcherStage::Reaped;
            actions.push(Action::TellExited(Box::new(FetcherExited {
                fetcher,
                exit,
                report: member.report,
                held: member.held.unwrap_or_default(),
                usage,
                reason,
            })));
        }
    }

    /// Goes on to the next phase as soon as nothing holds it back.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.phase == TrialPhase::Running && !self.let_go {
            self.let_go = self.members.values().all(|member| {
                member.go_written
                    || member.kill_reason.is_some()
                    || member.stage == FetcherStage::Reaped
            });
            if self.let_go {
                actions.push(Action::LetGo);
            }
        }
        if matches!(self.phase, TrialPhase::Holding { .. })
            && !self.any_holding(|m| m.report.is_none())
        {
            self.phase = TrialPhase::Measuring;
            for (fetcher, member) in &self.members {
                if member.is(FetcherStage::Holding) {
                    actions.push(Action::Measure(*fetcher));
                }
            }
        }
        if self.phase == TrialPhase::Measuring && !self.any_holding(|m| m.held.is_none()) {
            self.phase = TrialPhase::Exiting { until: now + EXIT_WITHIN };
            self.sum_up_memory(now, actions);
            for (fetcher, member) in &mut self.members {
                if member.is(FetcherStage::Holding) {
                    member.stage = FetcherStage::Exiting;
                    actions.push(Action::Write(*fetcher, FetcherControl::Exit));
                }
            }
        }
        let leaving = matches!(self.phase, TrialPhase::Exiting { .. } | TrialPhase::Reaping);
        if leaving && self.members.values().all(|m| m.stage == FetcherStage::Reaped) {
            self.phase = TrialPhase::Over;
            actions.push(Action::Over);
        }
    }

    fn any_holding(&self, lacking: impl Fn(&Member) -> bool) -> bool {
        self.members.values().any(|member| member.is(FetcherStage::Holding) && lacking(member))
    }

    /// The memory sample at the hold is the sum of what was read there.
    fn sum_up_memory(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some(go) = self.go else {
            return;
        };
        let mut sample = MemorySample::at(now.saturating_duration_since(go));
        for member in self.members.values().filter(|m| m.is(FetcherStage::Holding)) {
            let held = member.held.unwrap_or_default();
            sample.add(&held.memory);
        }
        if sample.fetchers > 0 {
            actions.push(Action::TellMemory(sample));
        }
    }

    fn ids(&self) -> Vec<FetcherId> {
        self.members.keys().copied().collect()
    }
}

/// Why a fetcher ended, in plain words; empty when all went as it should.
fn reason(stage: FetcherStage, kill_reason: Option<&str>, exit: Exit, last_words: &str) -> String {
    let why = match (kill_reason, exit) {
        (Some(reason), _) => reason.to_owned(),
        (None, Exit::Code(0)) if stage == FetcherStage::Exiting => return String::new(),
        (None, Exit::Code(code)) => {
            format!("it ended by itself with exit code {code} {}", stage.doing())
        }
        (None, Exit::Signal(signal)) => {
            format!("it was ended by {} {}", signal_name(signal), stage.doing())
        }
        (None, Exit::OutOfMemory) => format!(
            "the kernel's out-of-memory killer ended it {}; give it more memory or lower the concurrency",
            stage.doing()
        ),
        (None, Exit::NotStarted) => "it was not started".to_owned(),
    };
    if last_words.is_empty() { why } else { format!("{why}; its last words: {last_words}") }
}

fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(known) => format!("signal {signal} ({known})"),
        Err(_) => format!("signal {signal}"),
    }
}

#[cfg(test)]
mod tests;
