//! One stream to the coordinator, from Hello to Goodbye.
//!
//! The session owns its trials and its fetchers' tasks: when it ends, however
//! it ends, every fetcher is killed and reaped before [`attach`] returns.

mod error;
mod fetchers;
mod heartbeat;
mod host;
mod sampling;

use std::{collections::BTreeMap, future::ready, time::Duration};

use fanout_proto::{
    WireError,
    id::{TrialId, WorkerId},
    wire::{self, fleet_client::FleetClient},
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

pub use error::{Parting, SessionError};

use crate::{
    measure::{cgroup::Cgroups, machine},
    message::{self, Order, Prepare},
    supervise::{Event, FetcherCommand},
    trial::Input,
};
use fetchers::Crew;
use heartbeat::Pulse;
use host::Host;

/// Messages on their way into the stream; past that, reading from fetchers waits.
const OUTGOING_MAX: usize = 32;
/// Events of fetchers on their way to the session.
const EVENTS_MAX: usize = 256;
/// Largest message from the coordinator: a Prepare holds one setup a fetcher.
const MESSAGE_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Trials at a time: one runs, and others are being reaped or measured.
const TRIALS_MAX: usize = 64;
/// From attaching to Welcome.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// Killed fetchers are waited for so long before the next session: freeing a
/// large process's memory takes its time.
const REAP_WITHIN: Duration = Duration::from_secs(10);
/// And so long when the worker is to stop.
const REAP_AT_STOP_WITHIN: Duration = Duration::from_millis(600);
/// A Goodbye is on its way, and then the stream closed, within this time each.
const GOODBYE_WITHIN: Duration = Duration::from_millis(150);

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

/// Attaches to the coordinator behind `channel` and serves it until it says
/// Goodbye, `stop` is cancelled, or something fails. No fetcher outlives this.
///
/// Needs a current-thread runtime on a thread that lives as long as the
/// fetchers should: they ask the kernel to end them with the thread that
/// started them.
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
    let cpus = fanout_program::allowed_cpus();
    let hello = Hello {
        name: settings.name.clone(),
        slots: settings.slots,
        facts: machine::facts(&cgroups, cpus.clone()),
    };
    let (frames, outgoing) = mpsc::channel(OUTGOING_MAX);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    if let Some(token) = &settings.authorization {
        let metadata = request.metadata_mut();
        metadata.insert("authorization", token.clone());
    }
    let welcome = async {
        // The queue is new and has room.
        let _ = frames.send(message::hello(&hello)).await;
        let mut client = FleetClient::new(channel).max_decoding_message_size(MESSAGE_MAX_BYTES);
        let mut orders = client.attach(request).await?.into_inner();
        let first = Order::try_from(next(&mut orders).await?)?;
        Ok::<_, SessionError>((orders, first))
    };
    let (mut orders, first) = tokio::select! {
        () = stop.cancelled() => return Ok(Parting::Stopped),
        welcome = timeout(WELCOME_WITHIN, welcome) => match welcome {
            Ok(answer) => answer?,
            Err(_) => return Err(SessionError::NoWelcome),
        },
    };
    let (worker, heartbeat) = match first {
        Order::Welcome { worker, heartbeat } => (worker, heartbeat),
        Order::Refused(reason) => return Err(SessionError::Refused(reason)),
        Order::Goodbye(reason) => return Ok(Parting::Goodbye(reason)),
        _ => {
            let must = "the first message must be Welcome or Refused";
            return Err(WireError::Inconsistent(must).into());
        }
    };
    let (tell, events) = mpsc::channel(EVENTS_MAX);
    let mut session = Session {
        host: Host::new(settings, cgroups, cpus, frames, tell),
        crews: BTreeMap::new(),
        events,
        pulse: Pulse::new(heartbeat, Instant::now()),
    };
    session.log_welcome(worker);
    let ended = session.serve(&mut orders, stop).await;
    session.close(&ended, orders, stop).await;
    ended
}

async fn next(orders: &mut Streaming<wire::ToWorker>) -> Result<wire::ToWorker, SessionError> {
    let order = orders.message().await?;
    order.ok_or_else(SessionError::without_goodbye)
}

struct Session<'a> {
    host: Host<'a>,
    crews: BTreeMap<TrialId, Crew>,
    events: mpsc::Receiver<Event>,
    pulse: Pulse,
}

impl Session<'_> {
    fn log_welcome(&self, worker: WorkerId) {
        let slots = self.host.settings.slots;
        tracing::info!(worker = worker.0, slots, "attached to the coordinator");
    }

    /// Handles one thing after the other. Nothing in here waits for the
    /// coordinator to listen, or for a fetcher to read.
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
            let has_work = self.crews.values().any(Crew::has_work);
            tokio::select! {
                () = stop.cancelled() => return Ok(Parting::Stopped),
                order = next(orders) => {
                    let order = order?;
                    self.pulse.heard(Instant::now());
                    if let Some(reason) = self.obey(order.try_into()?)? {
                        return Ok(Parting::Goodbye(reason));
                    }
                    if self.host.is_unread() {
                        let what = "orders come, and what comes of them is not read";
                        return Err(WireError::Inconsistent(what).into());
                    }
                }
                Some(event) = self.events.recv() => {
                    let Event { trial, fetcher, what } = event;
                    self.with(trial, |crew, host| crew.note(fetcher, what, host));
                }
                said = self.host.say_next(), if self.host.has_to_say() => said?,
                () = &mut timer => self.on_time(due)?,
                () = ready(()), if has_work => {}
            }
            self.work();
            self.host.collect_tasks();
            // The pipes have their turn before the next order: what was just
            // queued, Go above all, is written at once.
            yield_now().await;
        }
    }

    /// Kills and reaps every fetcher, says Goodbye where the coordinator may
    /// still listen, and lets the stream go.
    async fn close(
        mut self,
        ended: &Result<Parting, SessionError>,
        mut orders: Streaming<wire::ToWorker>,
        stop: &CancellationToken,
    ) {
        self.crews.values().for_each(Crew::kill);
        self.events.close();
        let goodbye = match ended {
            Ok(Parting::Goodbye(_)) => None,
            Ok(Parting::Stopped) => Some("this worker was told to stop".to_owned()),
            // Also where the stream was cut: it may have been so one way only.
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = goodbye {
            let goodbye = self.host.frames.send(message::goodbye(&reason));
            let _ = timeout(GOODBYE_WITHIN, goodbye).await;
        }
        let mut tasks = self.host.fall_silent();
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
        let crews = self.crews.values().filter_map(Crew::deadline);
        crews.fold(self.pulse.deadline(), Instant::min)
    }

    /// Does what was due at `due` or is by now.
    fn on_time(&mut self, due: Instant) -> Result<(), SessionError> {
        let now = Instant::now();
        if let Some(silence) = self.pulse.silence(now, due) {
            return Err(SessionError::Silent(silence));
        }
        if let Some(sequence) = self.pulse.beat(now) {
            self.host.say_if_room(message::heartbeat_of(sequence));
        }
        self.crews.retain(|_, crew| {
            crew.on_time(now, &mut self.host);
            !crew.is_over()
        });
        Ok(())
    }

    /// Does what the coordinator says; answers with the reason of its Goodbye.
    fn obey(&mut self, order: Order) -> Result<Option<String>, SessionError> {
        match order {
            Order::Frame {
                trial,
                fetcher,
                frame,
            } => self.with(trial, |crew, host| crew.lease(fetcher, frame, host)),
            Order::Heartbeat => {}
            Order::Prepare(prepare) => self.prepare(prepare)?,
            Order::Go(trial) => self.tell(trial, Input::Go),
            Order::Finish(trial) => self.tell(trial, Input::Finish),
            Order::Kill(trial, fetcher) => self.tell(trial, Input::Kill(fetcher)),
            Order::Abort(trial) => self.tell(trial, Input::Abort),
            Order::Goodbye(reason) => return Ok(Some(reason)),
            Order::Refused(reason) => return Err(SessionError::Refused(reason)),
            Order::Welcome { .. } => {
                return Err(WireError::Inconsistent("Welcome was said twice").into());
            }
        }
        Ok(None)
    }

    fn prepare(&mut self, prepare: Prepare) -> Result<(), SessionError> {
        let Prepare {
            trial,
            fetchers,
            memory_interval,
        } = prepare;
        if self.crews.is_empty() {
            self.host.forget_oom_kills();
        }
        if self.crews.len() >= TRIALS_MAX && !self.crews.contains_key(&trial) {
            return Err(WireError::Inconsistent("more than 64 trials at a time").into());
        }
        let busy: usize = self.crews.values().map(Crew::size).sum();
        let slots = usize::try_from(self.host.settings.slots).unwrap_or(usize::MAX);
        let host = &mut self.host;
        self.crews
            .entry(trial)
            .or_insert_with(|| Crew::new(trial, fetchers.len(), memory_interval, host))
            .prepare(fetchers, slots.saturating_sub(busy), &mut self.host)?;
        Ok(())
    }

    fn tell(&mut self, trial: TrialId, input: Input) {
        self.with(trial, |crew, host| crew.apply(input, host));
    }

    /// Does something with a trial's crew, if it is there; it goes when it is over.
    fn with(&mut self, trial: TrialId, act: impl FnOnce(&mut Crew, &mut Host<'_>)) {
        let Some(crew) = self.crews.get_mut(&trial) else {
            return tracing::debug!(%trial, "a message about a trial that is over or unknown");
        };
        act(crew, &mut self.host);
        if crew.is_over() {
            self.crews.remove(&trial);
        }
    }

    /// Does one piece of work, if there is any.
    fn work(&mut self) {
        let mut crews = self.crews.iter();
        if let Some((&trial, _)) = crews.find(|(_, crew)| crew.has_work()) {
            self.with(trial, Crew::work);
        }
    }
}
