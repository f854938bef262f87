//! Made-up workers and a real coordinator, in one process, over loopback.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use fanout_coordinator::{
    fleet::{Fleet, FleetServer, ServeError, assign::assign},
    run::{self, DriveError, Outcome, Sink, Stop, TrialRequest, Who},
    url_list::{Source, UrlList},
};
use fanout_engine::{ledger::Split, trial::Accepted};
use fanout_proto::{
    id::UrlId,
    setup::Setup,
    wire::{self, from_fetcher, from_worker, to_worker},
};
use fanout_testkit::{ScriptedWorker, message};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Channel, Endpoint, ServerTlsConfig, Uri},
};

pub(crate) use fanout_testkit::message::{exited, from_worker, ready};
pub(crate) use from_worker::Message as Say;
pub(crate) use to_worker::Message as Order;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const CONCURRENCY: u32 = 4;

/// A coordinator's side: the real server, with the real limits.
pub(crate) struct Coordinator {
    pub(crate) url: String,
    pub(crate) fleet: Fleet,
    shutdown: CancellationToken,
    serve: JoinHandle<Result<(), ServeError>>,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tls: Option<ServerTlsConfig>) -> Self {
        let server = FleetServer::bind(([127, 0, 0, 1], 0).into(), None);
        let mut server = server.await.unwrap();
        if let Some(tls) = tls {
            server = server.with_tls(tls);
        }
        let url = format!("http://{}", server.address().unwrap());
        let shutdown = CancellationToken::new();
        let (fleet, serve) = server.start(Routes::default(), shutdown.clone());
        Self { url, fleet, shutdown, serve: tokio::spawn(serve) }
    }

    pub(crate) async fn gather(&mut self, workers: usize) {
        self.fleet.gather(workers, PATIENCE).await.unwrap();
    }

    /// Ends it, and sees to it that every session ends.
    pub(crate) async fn end(self) {
        drop(self.fleet);
        self.shutdown.cancel();
        let ended = timeout(PATIENCE, self.serve).await;
        ended.expect("every session ends").unwrap().unwrap();
    }

    /// Runs a trial with a fetcher on each of the workers that are there.
    pub(crate) async fn trial(
        &mut self,
        urls: u64,
        sink: &mut impl Sink,
    ) -> Result<Outcome, DriveError> {
        let lines = (0..urls).map(|i| format!("http://origin.example/{i}"));
        let list = UrlList::from_lines(Source::BuiltIn, lines, 1).unwrap();
        let setup = Setup { report_starts: true, ..fanout_testkit::setup(CONCURRENCY) };
        let processes = u32::try_from(self.fleet.workers().len()).unwrap();
        let request = TrialRequest {
            id: self.fleet.next_trial(),
            list: &list,
            setup: &setup,
            pace: &|_| None,
            placement: assign(&self.fleet, processes, None, |_| true).unwrap(),
            cpus: &[],
            split: Split::Dynamic,
            memory_interval: None,
            limit: None,
            done: None,
            hosts: fanout_engine::politeness::Limits::default(),
            observe: &|_| Ok(()),
        };
        let stop = Stop::default();
        let run = run::run(&mut self.fleet, request, &stop, sink);
        timeout(PATIENCE, run).await.expect("the trial ends")
    }
}

/// How often each URL was recorded or given up.
#[derive(Debug, Default)]
pub(crate) struct Account(pub(crate) BTreeMap<u64, u32>);

impl Sink for Account {
    fn full(&self) -> Option<std::sync::Arc<tokio::sync::Notify>> {
        None
    }

    fn record(
        &mut self,
        _: &Who<'_>,
        accepted: &[Accepted],
        _: &[(u32, String)],
    ) -> io::Result<()> {
        for one in accepted {
            *self.0.entry(one.completion.id.0).or_default() += 1;
        }
        Ok(())
    }

    fn abandoned(&mut self, ids: &[UrlId]) -> io::Result<()> {
        for id in ids {
            *self.0.entry(id.0).or_default() += 1;
        }
        Ok(())
    }
}

/// A connection that tells of its end.
struct Watched {
    stream: TcpStream,
    ended: CancellationToken,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let over = match &read {
            Poll::Ready(Ok(())) => buffer.filled().len() == before,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if over {
            self.ended.cancel();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(written, Poll::Ready(Err(_))) {
            self.ended.cancel();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A connection of one's own, and what tells that it has ended.
pub(crate) async fn connect(url: &str) -> (Channel, CancellationToken) {
    let ended = CancellationToken::new();
    let watch = ended.clone();
    let connector = tower::service_fn(move |uri: Uri| {
        let ended = watch.clone();
        async move {
            if ended.is_cancelled() {
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
            }
            let address = uri.authority().expect("an address").to_string();
            let stream = TcpStream::connect(address).await?;
            Ok(TokioIo::new(Watched { stream, ended }))
        }
    });
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    (channel, ended)
}

/// A scripted worker on a connection of its own.
pub(crate) struct MadeUp {
    pub(crate) worker: ScriptedWorker,
    pub(crate) ended: CancellationToken,
}

pub(crate) fn hello(name: &str) -> wire::Hello {
    message::hello(name, 1)
}

impl MadeUp {
    /// Opens a stream and says this first.
    pub(crate) async fn with_first(url: &str, first: wire::FromWorker) -> Self {
        Self::try_with_first(url, first).await.unwrap()
    }

    async fn try_with_first(url: &str, first: wire::FromWorker) -> Result<Self, Status> {
        let (channel, ended) = connect(url).await;
        let worker = ScriptedWorker::attach(channel, first).await?;
        Ok(Self { worker, ended })
    }

    /// Tries again as long as there are too many others, as a worker does.
    pub(crate) async fn attach_in_time(url: &str, name: &str) -> Self {
        let tries = async {
            loop {
                let first = from_worker(Say::Hello(hello(name)));
                match Self::try_with_first(url, first).await {
                    Ok(worker) => return worker.welcomed().await,
                    Err(status) => assert_eq!(status.code(), Code::ResourceExhausted),
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, tries).await.expect("there is room")
    }

    /// Attaches like any other worker.
    pub(crate) async fn attach(url: &str, name: &str) -> Self {
        let worker = Self::with_first(url, from_worker(Say::Hello(hello(name)))).await;
        worker.welcomed().await
    }

    async fn welcomed(mut self) -> Self {
        let Some(Order::Welcome(_)) = self.next().await else {
            panic!("no Welcome");
        };
        self
    }

    /// Says something; the coordinator may be gone.
    pub(crate) async fn say(&self, message: Say) {
        self.worker.say(message).await;
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Order> {
        let message = timeout(PATIENCE, self.worker.next()).await;
        message.expect("something is said")
    }

    /// Reads on until something is found.
    pub(crate) async fn until<T>(&mut self, mut found: impl FnMut(&Order) -> Option<T>) -> T {
        loop {
            let order = self.next().await.expect("the stream goes on");
            if let Some(answer) = found(&order) {
                return answer;
            }
        }
    }

    /// Expects to be refused and to lose its connection; answers with the reason.
    pub(crate) async fn refused(mut self) -> String {
        let reason = self
            .until(|order| match order {
                Order::Refused(refused) => Some(refused.reason.clone()),
                _ => None,
            })
            .await;
        while self.next().await.is_some() {}
        let closed = timeout(PATIENCE, self.ended.cancelled()).await;
        closed.expect("the connection is closed");
        reason
    }
}

/// The URLs that a frame leases.
pub(crate) fn leased(frame: &wire::FetcherFrame) -> Vec<u64> {
    message::leased(frame).iter().map(|id| id.0).collect()
}

/// A batch that says these URLs went well.
pub(crate) fn completions(ids: &[u64]) -> wire::CompletionBatch {
    message::completions(ids.iter().map(|id| UrlId(*id)), 1)
}

pub(crate) fn starts(ids: &[u64]) -> wire::StartedBatch {
    message::starts(&ids.iter().map(|id| UrlId(*id)).collect::<Vec<_>>())
}

pub(crate) fn frame(trial: u64, fetcher: u32, message: from_fetcher::Message) -> Say {
    Say::Frame(message::frame(trial, fetcher, message))
}

pub(crate) fn bytes(trial: u64, fetcher: u32, frame: Vec<u8>) -> Say {
    Say::Frame(wire::FetcherFrame { trial, fetcher, frame: frame.into() })
}

/// A worker with one fetcher at a time that does at once what it is given.
pub(crate) async fn honest(url: String) {
    MadeUp::attach(&url, "honest").await.worker.oblige().await;
}
