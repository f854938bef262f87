//! A worker on the simulated network: the real client and the real decisions,
//! with tasks in place of fetchers' processes.

use std::{collections::BTreeMap, collections::VecDeque, error::Error, time::Duration};

use fanout_proto::{
    id::{FetcherId, UrlId},
    report::{Exit, FetcherExited, FetcherReport, HoldSnapshot},
    wire::{self, from_fetcher, from_worker, to_worker},
};
use fanout_testkit::{ScriptedWorker, message};
use fanout_worker::trial::{Action, FetcherControl, TrialInput, WorkerTrial};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, interval, sleep, sleep_until, timeout},
};
use tonic::transport::Endpoint;

use crate::{CONCURRENCY, PORT, wire::Wire};

type Failure = Box<dyn Error + Send + Sync>;

/// A coordinator that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(6);
/// One URL in so many ends its fetcher.
const DEADLY: u32 = 150;

/// Attaches again and again.
pub(crate) async fn run(name: &'static str, seed: u64) -> turmoil::Result {
    // It starts again as another.
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ u64::from(turmoil::elapsed().subsec_nanos()));
    loop {
        // However it ended, the next one is new.
        let _ = session(name, &mut rng).await;
        sleep(Duration::from_millis(rng.random_range(100..1_000))).await;
    }
}

/// What a fetcher did.
enum Did {
    Ready,
    Completed(Vec<UrlId>),
    Report,
    Ended(Exit),
}

struct Event(FetcherId, Did);

enum ToFetcher {
    Leases(Vec<UrlId>),
    Control(FetcherControl),
}

struct Session {
    trial: u64,
    machine: WorkerTrial,
    fetchers: BTreeMap<FetcherId, (mpsc::UnboundedSender<ToFetcher>, AbortHandle)>,
    tasks: JoinSet<()>,
    events: mpsc::UnboundedSender<Event>,
    outbox: mpsc::UnboundedSender<from_worker::Message>,
    rng: ChaCha8Rng,
}

async fn session(name: &str, rng: &mut ChaCha8Rng) -> Result<(), Failure> {
    let connector = tower::service_fn(|_| async {
        let stream = turmoil::net::TcpStream::connect(("coordinator", PORT)).await?;
        Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(Wire(stream)))
    });
    let endpoint = Endpoint::from_static("http://coordinator");
    let channel = timeout(SILENCE, endpoint.connect_with_connector(connector)).await??;
    let hello = from_worker::Message::Hello(message::hello(name, 8));
    let attached = ScriptedWorker::attach(channel, message::from_worker(hello));
    let mut peer = timeout(SILENCE, attached).await??;
    let (events, mut happened) = mpsc::unbounded_channel();
    let (outbox, mut to_say) = mpsc::unbounded_channel();
    let mut session = Session {
        trial: 0,
        machine: WorkerTrial::new(),
        fetchers: BTreeMap::new(),
        tasks: JoinSet::new(),
        events,
        outbox,
        rng: ChaCha8Rng::seed_from_u64(rng.random()),
    };
    let mut beats = interval(Duration::from_secs(2));
    let mut heard = Instant::now();
    loop {
        let due = session.machine.deadline();
        tokio::select! {
            order = peer.heard.message() => {
                heard = Instant::now();
                let Some(order) = order?.and_then(|order| order.message) else {
                    return Ok(());
                };
                if session.obey(order)? {
                    return Ok(());
                }
            }
            Some(event) = happened.recv() => session.note(event),
            Some(message) = to_say.recv() => peer.say(message).await,
            _ = beats.tick() => {
                peer.say(from_worker::Message::Heartbeat(wire::Heartbeat { sequence: 0 })).await;
            }
            () = sleep_until(due.unwrap_or(heard + SILENCE)), if due.is_some() => {
                session.decide(TrialInput::Tick);
            }
            () = sleep_until(heard + SILENCE) => return Err("the coordinator is silent".into()),
        }
    }
}

impl Session {
    /// Does what the coordinator says; says whether this is the end.
    fn obey(&mut self, order: to_worker::Message) -> Result<bool, Failure> {
        match order {
            to_worker::Message::Prepare(prepare) => {
                self.trial = prepare.trial;
                for spec in prepare.fetchers {
                    let id = FetcherId(spec.fetcher);
                    assert!(self.machine.add(id), "it can be prepared");
                    self.start(id);
                }
            }
            to_worker::Message::Frame(frame) => {
                let id = FetcherId(frame.fetcher);
                let urls = message::leased(&frame);
                if !urls.is_empty() && self.machine.takes_leases(id) {
                    self.write(id, ToFetcher::Leases(urls));
                }
            }
            to_worker::Message::Go(_) => self.decide(TrialInput::Go),
            to_worker::Message::Finish(_) => self.decide(TrialInput::Finish),
            to_worker::Message::Abort(_) => self.decide(TrialInput::Abort),
            to_worker::Message::Kill(kill) => {
                self.decide(TrialInput::Kill(FetcherId(kill.fetcher)))
            }
            to_worker::Message::Goodbye(_) | to_worker::Message::Refused(_) => return Ok(true),
            to_worker::Message::Welcome(_) | to_worker::Message::Heartbeat(_) => {}
        }
        Ok(false)
    }

    fn start(&mut self, id: FetcherId) {
        let (to, from) = mpsc::unbounded_channel();
        let rng = ChaCha8Rng::seed_from_u64(self.rng.random());
        let task = fetcher(id, from, self.events.clone(), rng);
        let abort = self.tasks.spawn(task);
        self.fetchers.insert(id, (to, abort));
        self.decide(TrialInput::Started(id, Instant::now()));
    }

    fn write(&self, id: FetcherId, message: ToFetcher) {
        if let Some((to, _)) = self.fetchers.get(&id) {
            // One that has ended reads no more.
            let _ = to.send(message);
        }
    }

    fn note(&mut self, Event(id, did): Event) {
        match did {
            Did::Ready => self.decide(TrialInput::Ready(id, Instant::now())),
            Did::Completed(urls) => self.forward(id, &urls),
            Did::Report => self.decide(TrialInput::Report(id, FetcherReport::default())),
            Did::Ended(exit) => self.decide(TrialInput::Ended {
                fetcher: id,
                exit,
                usage: None,
                last_words: String::new(),
            }),
        }
    }

    fn say(&self, message: from_worker::Message) {
        // The session is over when nobody takes it.
        let _ = self.outbox.send(message);
    }

    fn forward(&self, id: FetcherId, urls: &[UrlId]) {
        let batch = message::completions(urls.iter().copied(), 0);
        let done = from_fetcher::Message::Completions(batch);
        self.say(from_worker::Message::Frame(message::frame(self.trial, id.0, done)));
    }

    fn decide(&mut self, input: TrialInput) {
        let mut actions = Vec::new();
        self.machine.on(Instant::now(), input, &mut actions);
        for action in actions {
            match action {
                Action::Write(id, control) => {
                    self.write(id, ToFetcher::Control(control));
                    if control == FetcherControl::Go {
                        self.decide(TrialInput::GoWritten(id, Instant::now()));
                    }
                }
                Action::Kill(id) => {
                    if let Some((_, abort)) = self.fetchers.get(&id) {
                        abort.abort();
                    }
                    let events = self.events.clone();
                    let takes = Duration::from_millis(self.rng.random_range(0..20));
                    self.tasks.spawn(async move {
                        sleep(takes).await;
                        let _ = events.send(Event(id, Did::Ended(Exit::Signal(9))));
                    });
                }
                Action::Measure(id) => {
                    self.decide(TrialInput::Measured(id, HoldSnapshot::default()));
                }
                Action::TellReady(id, spawn) => {
                    self.say(from_worker::Message::Ready(wire::FetcherReady {
                        trial: self.trial,
                        fetcher: id.0,
                        spawn_us: u64::try_from(spawn.as_micros()).unwrap(),
                    }));
                }
                Action::TellExited(exited) => self.tell_exited(*exited),
                Action::Over => self.say(message::usage(self.trial)),
                Action::LetGo | Action::TellMemory(_) => {}
            }
        }
    }

    fn tell_exited(&mut self, exited: FetcherExited) {
        self.fetchers.remove(&exited.fetcher);
        let how = match exited.exit {
            Exit::Signal(signal) => wire::exit::How::Signal(signal),
            Exit::Code(code) => wire::exit::How::Code(code),
            Exit::OutOfMemory | Exit::NotStarted => unreachable!("tasks have memory"),
        };
        self.say(from_worker::Message::Exited(wire::FetcherExited {
            trial: self.trial,
            fetcher: exited.fetcher.0,
            exit: Some(wire::Exit { how: Some(how), out_of_memory: false }),
            report: exited.report.map(Into::into),
            held: Some(wire::HoldSnapshot::default()),
            usage: None,
            reason: exited.reason,
        }));
    }
}

/// A fetcher that takes some time for each URL, and dies of some.
async fn fetcher(
    id: FetcherId,
    mut from: mpsc::UnboundedReceiver<ToFetcher>,
    events: mpsc::UnboundedSender<Event>,
    mut rng: ChaCha8Rng,
) {
    // A session that is over listens no more, and ends this task.
    let tell = |did| drop(events.send(Event(id, did)));
    sleep(Duration::from_millis(rng.random_range(1..30))).await;
    tell(Did::Ready);
    let mut leases = VecDeque::new();
    let mut under_way = JoinSet::new();
    let mut going = false;
    loop {
        while going
            && under_way.len() < usize::try_from(CONCURRENCY).unwrap()
            && let Some(url) = leases.pop_front()
        {
            let takes = Duration::from_millis(rng.random_range(5..60));
            let deadly = rng.random_ratio(1, DEADLY);
            under_way.spawn(async move {
                sleep(takes).await;
                (url, deadly)
            });
        }
        tokio::select! {
            message = from.recv() => match message {
                Some(ToFetcher::Leases(urls)) => leases.extend(urls),
                Some(ToFetcher::Control(FetcherControl::Go)) => going = true,
                Some(ToFetcher::Control(FetcherControl::Hold)) => tell(Did::Report),
                Some(ToFetcher::Control(FetcherControl::Exit)) => return tell(Did::Ended(Exit::Code(0))),
                None => return,
            },
            Some(done) = under_way.join_next() => match done {
                Ok((_, true)) => return tell(Did::Ended(Exit::Signal(11))),
                Ok((url, false)) => tell(Did::Completed(vec![url])),
                Err(_) => return,
            },
        }
    }
}
