//! A coordinator that does and expects what a test scripts.

use std::{fmt::Debug, io, pin::Pin, time::Duration};

use bytes::Bytes;
use fanout_proto::wire::{
    self,
    fleet_server::{Fleet, FleetServer},
    from_worker, to_worker,
};
use fanout_testkit::message;
use tokio::{io::DuplexStream, net::TcpListener, sync::mpsc};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    metadata::MetadataMap,
    transport::{
        Channel, Endpoint, Server,
        server::{Connected, TcpIncoming},
    },
};

use crate::fake::{self, Manner};

/// No step of a test takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A worker's stream, seen from the coordinator.
pub(crate) struct Attached {
    pub(crate) metadata: MetadataMap,
    pub(crate) from_worker: Streaming<wire::FromWorker>,
    to_worker: mpsc::Sender<Result<wire::ToWorker, Status>>,
    /// Frames that came while something else was awaited.
    pub(crate) frames: Vec<wire::FetcherFrame>,
    pub(crate) samples: Vec<wire::MemorySample>,
}

struct Service(mpsc::Sender<Attached>);

#[tonic::async_trait]
impl Fleet for Service {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<wire::ToWorker, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (to_worker, stream) = mpsc::channel(64);
        if request.metadata().get("authorization").is_some_and(|a| a == "Bearer wrong") {
            return Err(Status::unauthenticated("the token is not the coordinator's"));
        }
        let attached = Attached {
            metadata: request.metadata().clone(),
            from_worker: request.into_inner(),
            to_worker,
            frames: Vec::new(),
            samples: Vec::new(),
        };
        self.0.send(attached).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// Where workers come in.
pub(crate) struct Coordinator(mpsc::Receiver<Attached>);

impl Coordinator {
    fn serving<S, C>(connections: S) -> Self
    where
        S: Stream<Item = io::Result<C>> + Send + 'static,
        C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let (arrivals, workers) = mpsc::channel(4);
        let server = Server::builder().add_service(FleetServer::new(Service(arrivals)));
        tokio::spawn(server.serve_with_incoming(connections));
        Self(workers)
    }

    /// One that is reached over a pipe in memory, and the worker's end of it.
    pub(crate) async fn in_memory() -> (Self, Channel) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let once = tokio_stream::once(Ok::<DuplexStream, io::Error>(far));
        let coordinator = Self::serving(once.chain(tokio_stream::pending()));
        let mut near = Some(near);
        let connector = tower::service_fn(move |_| {
            let near = near.take().ok_or(io::ErrorKind::ConnectionRefused);
            async move { near.map(hyper_util::rt::TokioIo::new).map_err(io::Error::from) }
        });
        let endpoint = Endpoint::from_static("http://in.memory");
        let channel = endpoint.connect_with_connector(connector).await;
        (coordinator, channel.expect("a pipe connects"))
    }

    /// One that listens on a port of its own, and its URL.
    pub(crate) async fn on_tcp() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let coordinator = Self::serving(TcpIncoming::from(listener).with_nodelay(Some(true)));
        (coordinator, format!("http://{address}"))
    }

    /// The next worker that attaches.
    pub(crate) async fn attached(&mut self) -> Attached {
        let attached = patiently(self.0.recv()).await;
        attached.expect("the server goes on")
    }

    /// The next worker, welcomed.
    pub(crate) async fn welcomed(&mut self) -> (Attached, wire::Hello) {
        let mut worker = self.attached().await;
        let from_worker::Message::Hello(hello) = worker.next().await else {
            panic!("Hello comes first");
        };
        worker.welcome(Duration::from_secs(60)).await;
        (worker, hello)
    }
}

async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("this takes no longer than the test's patience")
}

impl Attached {
    pub(crate) async fn say(&self, message: to_worker::Message) {
        self.say_raw(wire::ToWorker { message: Some(message) }).await;
    }

    pub(crate) async fn say_raw(&self, message: wire::ToWorker) {
        // A worker that is leaving listens no more; the test sees what it does.
        let _ = self.to_worker.send(Ok(message)).await;
    }

    pub(crate) async fn welcome(&self, heartbeat: Duration) {
        self.say(to_worker::Message::Welcome(wire::Welcome {
            worker_id: 7,
            heartbeat_interval_ms: heartbeat.as_millis().try_into().expect("a short one"),
        }))
        .await;
    }

    /// Ends the stream without a Goodbye.
    pub(crate) fn cut(self) {}

    pub(crate) async fn next(&mut self) -> from_worker::Message {
        self.next_or_end().await.expect("the stream goes on")
    }

    /// The next message; `None` where the stream ends or breaks.
    pub(crate) async fn next_or_end(&mut self) -> Option<from_worker::Message> {
        let message = patiently(self.from_worker.message()).await.ok()??;
        Some(message.message.expect("a worker says known things"))
    }

    /// Waits for what `wanted` picks; frames and samples on the way are kept.
    pub(crate) async fn until<T: Debug>(
        &mut self,
        wanted: impl Fn(&from_worker::Message) -> Option<T>,
    ) -> T {
        loop {
            let message = self.next().await;
            if let Some(found) = wanted(&message) {
                return found;
            }
            match message {
                from_worker::Message::Frame(frame) => self.frames.push(frame),
                from_worker::Message::Memory(sample) => self.samples.push(sample),
                from_worker::Message::Heartbeat(_) => {}
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// Prepares trial 1 with a fetcher of each manner, numbered from 0.
    pub(crate) async fn prepare(&self, manners: &[Manner]) {
        let fetchers = manners.iter().zip(0..).map(|(manner, fetcher)| wire::FetcherSpec {
            fetcher,
            setup: fake::setup(*manner),
            cpus: vec![],
            program: String::new(),
        });
        self.say(to_worker::Message::Prepare(wire::Prepare {
            trial: 1,
            fetchers: fetchers.collect(),
            memory_interval_ms: 20,
        }))
        .await;
    }

    /// Prepares and waits until all are ready; answers with their process ids.
    pub(crate) async fn prepared(&mut self, manners: &[Manner]) -> Vec<u32> {
        self.prepare(manners).await;
        let mut pids = vec![0; manners.len()];
        for _ in manners {
            self.ready().await;
        }
        for _ in manners {
            let (fetcher, pid) = self.pid_of_a_fetcher().await;
            pids[fetcher as usize] = pid;
        }
        pids
    }

    pub(crate) async fn ready(&mut self) -> wire::FetcherReady {
        self.until(|message| match message {
            from_worker::Message::Ready(ready) => Some(*ready),
            _ => None,
        })
        .await
    }

    /// The next process id that a fetcher says.
    pub(crate) async fn pid_said(&mut self) -> u32 {
        self.pid_of_a_fetcher().await.1
    }

    async fn pid_of_a_fetcher(&mut self) -> (u32, u32) {
        loop {
            let found = self.frames.iter().position(|frame| pid_in(frame).is_some());
            if let Some(index) = found {
                let frame = self.frames.remove(index);
                return (frame.fetcher, pid_in(&frame).expect("it was there"));
            }
            let frame = self.next_frame().await;
            self.frames.push(frame);
        }
    }

    pub(crate) async fn next_frame(&mut self) -> wire::FetcherFrame {
        self.until(|message| match message {
            from_worker::Message::Frame(frame) => Some(frame.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn go(&self) {
        self.say(to_worker::Message::Go(wire::Go { trial: 1 })).await;
    }

    pub(crate) async fn finish(&self) {
        self.say(to_worker::Message::Finish(wire::Finish { trial: 1 })).await;
    }

    pub(crate) async fn lease(&self, fetcher: u32, ids: std::ops::Range<u64>) {
        let url = "http://origin.test/some/path?of=ordinary&length";
        let frame = message::to_fetcher(message::leases(ids, url));
        self.frame(fetcher, frame).await;
    }

    pub(crate) async fn frame(&self, fetcher: u32, frame: Bytes) {
        self.say(to_worker::Message::Frame(wire::FetcherFrame { trial: 1, fetcher, frame })).await;
    }

    pub(crate) async fn exited(&mut self) -> wire::FetcherExited {
        self.until(|message| match message {
            from_worker::Message::Exited(exited) => Some(exited.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn usage(&mut self) -> wire::WorkerUsage {
        self.until(|message| match message {
            from_worker::Message::Usage(usage) => Some(*usage),
            _ => None,
        })
        .await
    }

    /// Waits for the ends of so many fetchers, and for what their trial took.
    pub(crate) async fn finished(&mut self, fetchers: usize) -> wire::WorkerUsage {
        for _ in 0..fetchers {
            self.exited().await;
        }
        self.usage().await
    }

    pub(crate) async fn goodbye(&mut self) -> String {
        self.until(|message| match message {
            from_worker::Message::Goodbye(goodbye) => Some(goodbye.reason.clone()),
            _ => None,
        })
        .await
    }

    /// Ids completed by frames that came so far, by fetcher and in order.
    pub(crate) fn completed(&self) -> Vec<(u32, u64)> {
        let mut completed = Vec::new();
        for frame in &self.frames {
            let ids = message::completed(frame).into_iter();
            completed.extend(ids.map(|id| (frame.fetcher, id.0)));
        }
        completed
    }
}

fn pid_in(frame: &wire::FetcherFrame) -> Option<u32> {
    let first = message::started(frame).first().copied()?;
    Some(u32::try_from(first.0).expect("a process id"))
}
