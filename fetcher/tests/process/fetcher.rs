//! The worker's side of a fetcher, as far as tests need it.

use std::{
    collections::HashMap,
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use fanout_proto::{
    arm::{Client, Model},
    completion::{Completion, CompletionBatch, Outcome, StartedBatch},
    frame,
    id::UrlId,
    lease::LeaseBatchBuilder,
    report::FetcherReport,
    setup::{HttpSettings, Setup},
    wire::{self, from_fetcher::Message as From, to_fetcher::Message as To},
};
use prost::Message as _;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A model and a client that runs under it, as `model:C@client`.
pub(crate) type Arm = (Model, u32, Client);

pub(crate) const CORE: [Arm; 4] = [
    (Model::Sequential, 1, Client::CORE),
    (Model::Threads, 4, Client::CORE),
    (Model::Async, 4, Client::CORE),
    (Model::AsyncMt, 4, Client::CORE),
];

pub(crate) const ALL: [Arm; 8] = [
    CORE[0],
    CORE[1],
    CORE[2],
    CORE[3],
    (Model::Sequential, 1, Client::UREQ),
    (Model::Threads, 4, Client::UREQ),
    (Model::Async, 4, Client::REQWEST),
    (Model::AsyncMt, 4, Client::REQWEST),
];

pub(crate) fn name((model, concurrency, client): Arm) -> String {
    format!("{model}:{concurrency}@{client}")
}

pub(crate) fn setup((model, concurrency, client): Arm) -> Setup {
    Setup {
        model,
        concurrency: concurrency.try_into().unwrap(),
        client,
        http: HttpSettings {
            timeout: PATIENCE,
            connect_timeout: PATIENCE,
            user_agent: "fanout/test".into(),
            ..HttpSettings::default()
        },
        report_starts: false,
        cpu_work: Duration::ZERO,
        cpu_lock: false,
        pace: None,
        https: false,
    }
}

/// A fetcher and the pipes to it.
pub(crate) struct Fetcher {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
    buffer: BytesMut,
}

impl Fetcher {
    pub(crate) fn spawn() -> Self {
        Self::spawn_as("fetcher")
    }

    /// This program in another of its roles, with a fetcher's pipes.
    pub(crate) fn spawn_as(role: &str) -> Self {
        Self::spawn_with(Command::new(std::env::current_exe().unwrap()).arg(role))
    }

    fn spawn_with(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take(),
            output: child.stdout.take().unwrap(),
            buffer: BytesMut::new(),
            child,
        }
    }

    /// A fetcher that is set up and ready.
    pub(crate) fn ready(setup: &Setup) -> Self {
        Self::spawn().set_up(setup)
    }

    /// One whose system has its certificates in this file.
    pub(crate) fn ready_where_roots_are(roots: &Path, setup: &Setup) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("fetcher").env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        Self::spawn_with(&mut command).set_up(setup)
    }

    fn set_up(mut self, setup: &Setup) -> Self {
        self.send(To::Setup(setup.into()));
        match self.receive() {
            Some(From::Ready(_)) => self,
            other => panic!("not ready: {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, message: To) {
        let mut out = Vec::new();
        let message = Some(message);
        frame::encode(&wire::ToFetcher { message }, &mut out);
        self.write(&out);
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub(crate) fn lease(&mut self, urls: impl IntoIterator<Item = (u64, String)>) {
        let mut batch = LeaseBatchBuilder::default();
        for (id, url) in urls {
            if !batch.fits(url.as_bytes()) {
                self.send(To::Leases(std::mem::take(&mut batch).finish()));
            }
            batch.push(UrlId(id), url.as_bytes());
        }
        self.send(To::Leases(batch.finish()));
    }

    pub(crate) fn go(&mut self) {
        self.send(To::Go(wire::FetcherGo {}));
    }

    /// The next message; `None` at the end of the output.
    pub(crate) fn receive(&mut self) -> Option<From> {
        let mut bytes = [0; 65536];
        loop {
            if let Some(message) = frame::take(&mut self.buffer).unwrap() {
                return Some(wire::FromFetcher::decode(message).unwrap().message.unwrap());
            }
            match self.output.read(&mut bytes).unwrap() {
                0 => return None,
                count => self.buffer.extend_from_slice(&bytes[..count]),
            }
        }
    }

    /// Completions, details and starts until there are `count` completions.
    pub(crate) fn completions(&mut self, count: usize) -> Gathered {
        let mut gathered = Gathered::default();
        while gathered.completions.len() < count {
            match self.receive() {
                Some(From::Completions(batch)) => {
                    let batch = CompletionBatch::try_from(batch).unwrap();
                    let first = gathered.completions.len();
                    for (index, text) in batch.details {
                        gathered.details.insert(first + index as usize, text);
                    }
                    for (index, after) in batch.retry_afters {
                        gathered.retry_afters.insert(first + index as usize, after);
                    }
                    gathered.completions.extend(batch.completions);
                }
                Some(From::Started(batch)) => {
                    let batch = StartedBatch::try_from(batch).unwrap();
                    gathered.starts.extend(batch.starts);
                }
                None => panic!("after {}: {}", gathered.completions.len(), self.stderr()),
                other => panic!("after {}: {other:?}", gathered.completions.len()),
            }
        }
        assert_eq!(gathered.completions.len(), count);
        gathered
    }

    /// Holds: the report, and the threads that are alive then.
    pub(crate) fn hold(&mut self) -> (FetcherReport, u32) {
        self.send(To::Hold(wire::Hold {}));
        let Some(From::Report(report)) = self.receive() else {
            panic!("no report");
        };
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
        (report.try_into().unwrap(), threads.trim().parse().unwrap())
    }

    pub(crate) fn exit(mut self) {
        self.send(To::Exit(wire::FetcherExit {}));
        assert_eq!(self.receive(), None);
        assert_eq!(self.wait().code(), Some(0));
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    /// Its exit status; a fetcher that does not end fails the test.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "the fetcher does not end");
            thread::yield_now();
        }
    }

    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        // After a failed test; an error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub(crate) completions: Vec<Completion>,
    /// By position among the completions.
    pub(crate) details: HashMap<usize, String>,
    /// By position among the completions.
    pub(crate) retry_afters: HashMap<usize, Duration>,
    pub(crate) starts: Vec<(UrlId, u64)>,
}

impl Gathered {
    /// How long the server of this URL asks to be left alone.
    pub(crate) fn retry_after_s(&self, id: u64) -> Option<u64> {
        let position = self.completions.iter().position(|c| c.id.0 == id);
        let after = self.retry_afters.get(&position.expect("it is done"))?;
        Some(after.as_secs())
    }

    /// By id: outcome, status, bytes, detail. Panics if an id stands twice.
    pub(crate) fn by_id(&self) -> HashMap<u64, (Outcome, Option<u16>, u64, String)> {
        let mut by_id = HashMap::new();
        for (position, completion) in self.completions.iter().enumerate() {
            let detail = self.details.get(&position).cloned().unwrap_or_default();
            let found = (completion.outcome, completion.status, completion.body_bytes, detail);
            assert_eq!(by_id.insert(completion.id.0, found), None, "completed twice");
        }
        by_id
    }
}

/// What a whole life came to.
pub(crate) struct Life {
    pub(crate) gathered: Gathered,
    pub(crate) report: FetcherReport,
    pub(crate) threads: u32,
}

/// Fetches these URLs, all leased before Go, and ends well.
pub(crate) fn fetch(setup: &Setup, urls: &[String]) -> Life {
    let mut fetcher = Fetcher::ready(setup);
    fetcher.lease(urls.iter().cloned().enumerate().map(|(id, url)| (id as u64, url)));
    fetcher.go();
    let gathered = fetcher.completions(urls.len());
    let (report, threads) = fetcher.hold();
    fetcher.exit();
    Life { gathered, report, threads }
}

/// The one verdict on one URL.
pub(crate) fn verdict(setup: &Setup, url: &str) -> (Outcome, Option<u16>, u64, String) {
    let life = fetch(setup, &[url.to_owned()]);
    life.gathered.by_id().remove(&0).unwrap()
}
