//! One stream to the coordinator, from Hello to Goodbye.
//!
//! The session owns its trials and its fetchers' tasks: when it ends, however
//! it ends, every fetcher is killed and reaped before [`attach`] returns.

mod context;
mod error;
mod heartbeats;
mod sampling;
mod trial_processes;

use std::{collections::BTreeMap, future::ready, time::Duration};

use fanout_proto::{
    WireError,
    declaration::NamedFetcher,
    id::TrialId,
    wire::{self, fleet_client::FleetClient, from_worker::Message as Said},
    worker::Hello,
};
use tokio::{
    sync::mpsc,
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming, metadata::AsciiMetadataValue, transport::Channel};

pub use error::{AttachError, SessionEnd};

use crate::{
    fetchers::NamedCommand,
    measure::{cgroup::Cgroups, machine},
    message::{self, Order, Prepare},
    supervise::{FetcherCommand, FetcherEvent},
    trial::TrialInput,
};
use context::SessionContext;
use error::WELCOME_WITHIN;
use heartbeats::Heartbeats;
use trial_processes::TrialProcesses;

/// Messages on their way into the stream; past that, reading from fetchers waits.
const OUTGOING_MAX: usize = 32;
/// Events of fetchers on their way to the session.
const EVENTS_MAX: usize = 256;
/// Largest message from the coordinator: a Prepare holds one setup a fetcher.
const MESSAGE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Trials at a time: one runs, and others are being reaped or measured.
const TRIALS_MAX: usize = 64;
/// Killed fetchers are waited for so long before the next session: freeing a
/// large process's memory takes its time.
const REAP_WITHIN: Duration = Duration::from_secs(10);
/// And so long when the worker is to stop.
const REAP_AT_STOP_WITHIN: Duration = Duration::from_millis(600);
/// A Goodbye is on its way, and then the stream closed, within this time each.
const GOODBYE_WITHIN: Duration = Duration::from_millis(150);

/// What a worker says of itself and how it starts fetchers.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Told to the coordinator, for people.
    pub name: String,
    /// Fetchers at a time, 1 to 4,096.
    pub slots: u32,
    /// The `authorization` of the stream, if the coordinator asks for one.
    pub authorization: Option<AsciiMetadataValue>,
    /// How to start a fetcher of fanout's own.
    pub fetcher: FetcherCommand,
    /// Fetchers of other makers.
    pub others: Vec<NamedCommand>,
    /// What those say of themselves.
    pub declared: Vec<NamedFetcher>,
}

impl SessionSettings {
    /// How to start the fetcher of that name; empty: fanout's own.
    fn command(&self, name: &str) -> Result<&FetcherCommand, String> {
        if name.is_empty() {
            return Ok(&self.fetcher);
        }
        let named = self.others.iter().find(|other| other.name == name);
        named.map(|other| &other.start).ok_or_else(|| {
            format!("this worker was not started with a fetcher '{name}': give it --fetcher {name}=COMMAND")
        })
    }
}

/// Attaches to the coordinator behind `channel` and serves it until it says
/// Goodbye, `stop` is cancelled, or something fails. No fetcher outlives this.
///
/// Needs a current-thread runtime on a thread that lives as long as the fetchers should: they ask
/// the kernel to end them with the thread that started them.
pub async fn attach(
    channel: Channel,
    settings: &SessionSettings,
    stop: &CancellationToken,
) -> Result<SessionEnd, AttachError> {
    let cgroups = Cgroups::find();
    let cpus = fanout_program::allowed_cpus();
    let hello = Hello {
        name: settings.name.clone(),
        slots: settings.slots,
        facts: machine::facts(&cgroups, cpus.clone()),
        fetchers: settings.declared.clone(),
    };
    let (frames, outgoing) = mpsc::channel(OUTGOING_MAX);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    if let Some(token) = &settings.authorization {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", token.clone());
    }
    let welcome = async {
        // The queue is new and has room.
        let _ = frames.send(message::from_worker(Said::Hello(hello.into()))).await;
        let mut client = FleetClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let mut orders = client.attach(request).await?.into_inner();
        let first = Order::try_from(next(&mut orders).await?)?;
        Ok::<_, AttachError>((orders, first))
    };
    let (mut orders, first) = tokio::select! {
        () = stop.cancelled() => return Ok(SessionEnd::Stopped),
        welcome = timeout(WELCOME_WITHIN, welcome) => match welcome {
            Ok(answer) => answer?,
            Err(_) => return Err(AttachError::NoWelcome),
        },
    };
    let (worker, heartbeat) = match first {
        Order::Welcome { worker, heartbeat } => (worker, heartbeat),
        Order::Refused(reason) => return Err(AttachError::Refused(reason)),
        Order::Goodbye(reason) => return Ok(SessionEnd::Goodbye(reason)),
        _ => {
            let must = "the first message must be Welcome or Refused";
            return Err(WireError::Inconsistent(must).into());
        }
    };
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let mut session = WorkerSession {
        context: SessionContext::new(settings, cgroups, cpus, frames, tell),
        trials: BTreeMap::new(),
        events,
        heartbeats: Heartbeats::new(heartbeat, Instant::now()),
    };
    let slots = settings.slots;
    tracing::info!(worker = worker.0, slots, "attached to the coordinator");
    let ended = session.serve(&mut orders, stop).await;
    session.close(&ended, orders, stop).await;
    ended
}

async fn next(orders: &mut Streaming<wire::ToWorker>) -> Result<wire::ToWorker, AttachError> {
    let order = orders.message().await?;
    order.ok_or_else(AttachError::without_goodbye)
}

struct WorkerSession<'a> {
    context: SessionContext<'a>,
    trials: BTreeMap<TrialId, TrialProcesses>,
    events: mpsc::Receiver<FetcherEvent>,
    heartbeats: Heartbeats,
}

impl WorkerSession<'_> {
    /// Handles one thing after the other. Nothing in here waits for the
    /// coordinator to listen, or for a fetcher to read.
    async fn serve(
        &mut self,
        orders: &mut Streaming<wire::ToWorker>,
        stop: &CancellationToken,
    ) -> Result<SessionEnd, AttachError> {
        let timer = sleep_until(self.deadline());
        tokio::pin!(timer);
        loop {
            let due = self.deadline();
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            let has_work = self.trials.values().any(TrialProcesses::has_work);
            tokio::select! {
                () = stop.cancelled() => return Ok(SessionEnd::Stopped),
                order = next(orders) => {
                    let order = order?;
                    self.heartbeats.heard(Instant::now());
                    if let Some(reason) = self.handle(order.try_into()?)? {
                        return Ok(SessionEnd::Goodbye(reason));
                    }
                    if self.context.is_overfull() {
                        let what = "orders come, and what comes of them is not read";
                        return Err(WireError::Inconsistent(what).into());
                    }
                }
                Some(event) = self.events.recv() => {
                    let FetcherEvent { trial, fetcher, what } = event;
                    self.with(trial, |trial_processes, context| trial_processes.note(fetcher, what, context));
                }
                said = self.context.send_next(), if self.context.has_queued() => said?,
                () = &mut timer => self.on_time(due)?,
                () = ready(()), if has_work => {}
            }
            self.work();
            self.context.collect_tasks();
            // The pipes have their turn before the next order: what was just
            // queued, Go above all, is written at once.
            yield_now().await;
        }
    }

    /// Kills and reaps every fetcher, says Goodbye where the coordinator may
    /// still listen, and lets the stream go.
    async fn close(
        mut self,
        ended: &Result<SessionEnd, AttachError>,
        mut orders: Streaming<wire::ToWorker>,
        stop: &CancellationToken,
    ) {
        self.trials.values().for_each(TrialProcesses::kill);
        self.events.close();
        let goodbye = match ended {
            Ok(SessionEnd::Goodbye(_)) => None,
            Ok(SessionEnd::Stopped) => Some("this worker was told to stop".to_owned()),
            // Also where the stream was cut: it may have been so one way only.
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = goodbye {
            let goodbye = message::from_worker(Said::Goodbye(wire::Goodbye { reason }));
            let goodbye = self.context.frames.send(goodbye);
            let _ = timeout(GOODBYE_WITHIN, goodbye).await;
        }
        let mut tasks = self.context.into_tasks();
        let patience = async {
            let _ = timeout(REAP_WITHIN, stop.cancelled()).await;
            sleep(REAP_AT_STOP_WITHIN).await;
        };
        let reaped = async { while tasks.join_next().await.is_some() {} };
        let in_time = tokio::select! {
            () = reaped => true,
            () = patience => false,
        };
        if !in_time {
            // In uninterruptible sleep: the signal waits for them there.
            tracing::error!(left = tasks.len(), "killed fetchers have not ended yet");
        }
        // Nothing more comes from here: the coordinator closes its side in turn.
        let closed = async { while next(&mut orders).await.is_ok() {} };
        let _ = timeout(GOODBYE_WITHIN, closed).await;
    }

    fn deadline(&self) -> Instant {
        let trials = self.trials.values().filter_map(TrialProcesses::deadline);
        trials.fold(self.heartbeats.deadline(), Instant::min)
    }

    /// Does what was due at `due` or is by now.
    fn on_time(&mut self, due: Instant) -> Result<(), AttachError> {
        let now = Instant::now();
        if let Some(silence) = self.heartbeats.silence(now, due) {
            return Err(AttachError::Silent(silence));
        }
        if let Some(sequence) = self.heartbeats.beat(now) {
            let heartbeat = Said::Heartbeat(wire::Heartbeat { sequence });
            self.context.send_if_room(message::from_worker(heartbeat));
        }
        self.trials.retain(|_, trial_processes| {
            trial_processes.on_time(now, &mut self.context);
            !trial_processes.is_over()
        });
        Ok(())
    }

    /// Does what the coordinator says; answers with the reason of its Goodbye.
    fn handle(&mut self, order: Order) -> Result<Option<String>, AttachError> {
        match order {
            Order::Frame { trial, fetcher, frame } => self
                .with(trial, |trial_processes, context| {
                    trial_processes.lease(fetcher, frame, context)
                }),
            Order::Heartbeat => {}
            Order::Prepare(prepare) => self.prepare(prepare)?,
            Order::Go(trial) => self.tell(trial, TrialInput::Go),
            Order::Finish(trial) => self.tell(trial, TrialInput::Finish),
            Order::Kill(trial, fetcher) => self.tell(trial, TrialInput::Kill(fetcher)),
            Order::Abort(trial) => self.tell(trial, TrialInput::Abort),
            Order::Goodbye(reason) => return Ok(Some(reason)),
            Order::Refused(reason) => return Err(AttachError::Refused(reason)),
            Order::Welcome { .. } => {
                return Err(WireError::Inconsistent("Welcome was said twice").into());
            }
        }
        Ok(None)
    }

    fn prepare(&mut self, prepare: Prepare) -> Result<(), AttachError> {
        let Prepare { trial, fetchers, memory_interval } = prepare;
        if self.trials.is_empty() {
            self.context.forget_oom_kills();
        }
        if self.trials.len() >= TRIALS_MAX && !self.trials.contains_key(&trial) {
            return Err(WireError::Inconsistent("more than 64 trials at a time").into());
        }
        let busy: usize = self.trials.values().map(TrialProcesses::size).sum();
        let slots = usize::try_from(self.context.settings.slots).unwrap_or(usize::MAX);
        let context = &mut self.context;
        self.trials
            .entry(trial)
            .or_insert_with(|| TrialProcesses::new(trial, fetchers.len(), memory_interval, context))
            .prepare(fetchers, slots.saturating_sub(busy), &mut self.context)?;
        Ok(())
    }

    fn tell(&mut self, trial: TrialId, input: TrialInput) {
        self.with(trial, |trial_processes, context| trial_processes.apply(input, context));
    }

    /// Does something with a trial, if it is there; it goes when it is over.
    fn with(
        &mut self,
        trial: TrialId,
        act: impl FnOnce(&mut TrialProcesses, &mut SessionContext<'_>),
    ) {
        let Some(trial_processes) = self.trials.get_mut(&trial) else {
            return tracing::debug!(%trial, "a message about a trial that is over or unknown");
        };
        act(trial_processes, &mut self.context);
        if trial_processes.is_over() {
            self.trials.remove(&trial);
        }
    }

    fn work(&mut self) {
        let mut trials = self.trials.iter();
        if let Some((&trial, _)) = trials.find(|(_, trial_processes)| trial_processes.has_work()) {
            self.with(trial, TrialProcesses::work);
        }
    }
}
