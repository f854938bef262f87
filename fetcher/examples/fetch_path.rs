//! Measures the fetch path alone: feeds a fetcher through its pipes as a
//! worker would, and prints what it did.
//!
//! ```text
//! cargo run --release -p fanout-fetcher --example fetch_path -- \
//!     --url http://127.0.0.1:8080/ --model async --concurrency 64 --count 1000000 --cpu 1
//! ```
//!
//! `--cpu` pins both the fetcher and this feeder. Memory is read once at Go,
//! before the first lease, and at its peak while URLs are in flight.

use std::{
    error::Error,
    fs,
    io::{self, Read, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use fanout_proto::{
    arm::{Client, Model},
    completion::{CompletionBatch, Outcome},
    frame,
    report::FetcherReport,
    setup::{HttpSettings, Setup},
    wire::{self, from_fetcher, to_fetcher},
};
use prost::Message as _;
use rustix::thread::{CpuSet, sched_setaffinity};

/// URLs per lease batch.
const BATCH: u64 = 1024;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Options {
    url: String,
    model: Model,
    client: Client,
    concurrency: u32,
    count: u64,
    cpu: Option<usize>,
    sample_memory: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            url: "http://127.0.0.1:8080/".into(),
            model: Model::Async,
            client: Client::CORE,
            concurrency: 64,
            count: 100_000,
            cpu: None,
            sample_memory: false,
        };
        while let Some(name) = args.next() {
            if name == "--memory" {
                options.sample_memory = true;
                continue;
            }
            let value = args.next().ok_or("a value is missing")?;
            match name.as_str() {
                "--url" => options.url = value,
                "--model" => options.model = value.parse()?,
                "--client" => options.client = value.parse()?,
                "--concurrency" => options.concurrency = value.parse()?,
                "--count" => options.count = value.parse()?,
                "--cpu" => options.cpu = Some(value.parse()?),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    if args.next_if(|first| first == "fetcher").is_some() {
        return fanout_fetcher::run();
    }
    match Options::parse(args).and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    if let Some(cpu) = options.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set)?;
    }
    let mut child = Command::new(std::env::current_exe()?)
        .arg("fetcher")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let result = drive(options, &mut child);
    if result.is_err() {
        child.kill()?;
    }
    child.wait()?;
    result
}

fn drive(options: &Options, child: &mut Child) -> Result<()> {
    let pid = child.id();
    let mut input = child.stdin.take().ok_or("no pipe")?;
    let mut output = Output::new(child.stdout.take().ok_or("no pipe")?);
    let setup = Setup {
        model: options.model,
        concurrency: options.concurrency.try_into()?,
        client: options.client,
        http: HttpSettings::default(),
        report_starts: false,
        cpu_work: Duration::ZERO,
        cpu_lock: false,
        pace: None,
        https: false,
    };
    send(&mut input, to_fetcher::Message::Setup((&setup).into()))?;
    match output.next()? {
        from_fetcher::Message::Ready(_) => {}
        from_fetcher::Message::Failed(failed) => return Err(failed.reason.into()),
        _ => return Err("expected Ready".into()),
    }
    let uss_before = uss_bytes(pid)?;
    send(&mut input, to_fetcher::Message::Go(wire::FetcherGo {}))?;
    let cpu_before = cpu_time(pid)?;
    let begin = Instant::now();
    // The feeder counts credit in batches.
    let (credit, granted) = mpsc::channel();
    for _ in 0..16 {
        credit.send(())?;
    }
    let feeder = {
        let (url, count) = (options.url.clone(), options.count);
        thread::spawn(move || feed(input, &granted, &url, count))
    };
    let mut done = 0;
    let mut failed = 0;
    let mut returned = 0;
    let mut uss_peak = 0;
    let mut sampled = Instant::now();
    while done < options.count {
        let from_fetcher::Message::Completions(batch) = output.next()? else {
            return Err("expected completions".into());
        };
        if options.sample_memory && sampled.elapsed() > Duration::from_millis(100) {
            uss_peak = uss_peak.max(uss_bytes(pid)?);
            sampled = Instant::now();
        }
        done += batch.outcomes.len() as u64;
        failed += batch.outcomes.iter().filter(|outcome| **outcome != Outcome::Ok.code()).count();
        if failed > 0 && done == options.count {
            let batch = CompletionBatch::try_from(batch)?;
            eprintln!("{:?}", batch.details.first());
        }
        while returned + BATCH <= done {
            returned += BATCH;
            // The feeder is through and away when the list is.
            let _ = credit.send(());
        }
    }
    let took = begin.elapsed();
    let cpu = cpu_time(pid)? - cpu_before;
    drop(credit);
    let mut input = feeder.join().map_err(|_| "the feeder panicked")??;
    send(&mut input, to_fetcher::Message::Hold(wire::Hold {}))?;
    let from_fetcher::Message::Report(report) = output.next()? else {
        return Err("expected the report".into());
    };
    let report = FetcherReport::try_from(report)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let threads = field(&status, "Threads:").unwrap_or_default();
    send(&mut input, to_fetcher::Message::Exit(wire::FetcherExit {}))?;
    #[allow(clippy::cast_precision_loss)]
    let count = options.count as f64;
    writeln!(
        io::stdout(),
        "{}:{}@{} requests_per_s={:.0} cpu_us_per_url={:.2} failed={failed} \
         connections={} peak_in_flight={} threads={threads} uss_before_kib={} uss_peak_kib={}",
        options.model,
        options.concurrency,
        options.client,
        count / took.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count,
        report.counts.connections_opened,
        report.in_flight_peak,
        uss_before / 1024,
        uss_peak / 1024,
    )?;
    Ok(())
}

fn feed(
    mut input: ChildStdin,
    granted: &mpsc::Receiver<()>,
    url: &str,
    count: u64,
) -> std::io::Result<ChildStdin> {
    let mut next = 0;
    while next < count && granted.recv().is_ok() {
        let size = BATCH.min(count - next);
        let length = u32::try_from(url.len()).unwrap_or(u32::MAX);
        let urls = usize::try_from(size).unwrap_or(0);
        send(
            &mut input,
            to_fetcher::Message::Leases(wire::LeaseBatch {
                first_id: next,
                ids: Vec::new(),
                lengths: vec![length; urls],
                text: Bytes::from(url.repeat(urls)),
            }),
        )?;
        next += size;
    }
    Ok(input)
}

fn send(input: &mut ChildStdin, message: to_fetcher::Message) -> std::io::Result<()> {
    let mut out = Vec::new();
    frame::encode(&wire::ToFetcher { message: Some(message) }, &mut out);
    input.write_all(&out)
}

struct Output {
    pipe: ChildStdout,
    buffer: BytesMut,
    scratch: Vec<u8>,
}

impl Output {
    fn new(pipe: ChildStdout) -> Self {
        Self { pipe, buffer: BytesMut::new(), scratch: vec![0; 64 * 1024] }
    }

    fn next(&mut self) -> Result<from_fetcher::Message> {
        loop {
            if let Some(message) = frame::take(&mut self.buffer)? {
                return Ok(wire::FromFetcher::decode(message)?
                    .message
                    .ok_or("an empty message")?);
            }
            match self.pipe.read(&mut self.scratch)? {
                0 => return Err("the fetcher ended early".into()),
                count => self.buffer.extend_from_slice(&self.scratch[..count]),
            }
        }
    }
}

/// CPU time of all threads so far.
fn cpu_time(pid: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let schedstat = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += schedstat.split_whitespace().next().ok_or("no schedstat")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Private pages, clean and dirty.
fn uss_bytes(pid: u32) -> Result<u64> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kib = |name| -> Result<u64> {
        Ok(field(&smaps, name).ok_or("no such field")?.trim_end_matches("kB").trim().parse()?)
    };
    Ok(1024 * (kib("Private_Clean:")? + kib("Private_Dirty:")?))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}
