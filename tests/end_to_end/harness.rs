//! Runs the coordinator as a user would, and looks after what it starts.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// No test waits longer than this for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How often a condition is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(10);
/// A variable by which the processes of one test are told from all others.
const MARK: &str = "FANOUT_TEST_MARK";

/// Waits until `found` has an answer.
pub(crate) fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = found() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(LOOK);
    }
}

/// Says that a test cannot run for want of `what`, which must be there in CI.
pub(crate) fn absent<T>(what: &str) -> Option<T> {
    assert!(std::env::var_os("FANOUT_CI").is_none(), "{what} is missing, and CI skips nothing");
    eprintln!("skipped: needs {what}");
    None
}

/// A directory of its own, and the processes that were started there.
pub(crate) struct Place {
    directory: TempDir,
    mark: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            directory: TempDir::new().expect("a temporary directory"),
            mark: format!("{}-{count}", std::process::id()),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("a file in the temporary directory");
        path
    }

    /// Starts a coordinator that serves, on ports of its own.
    pub(crate) fn serve(&self, args: &[&str]) -> Serving {
        self.serve_at("127.0.0.1:0", args)
    }

    pub(crate) fn serve_at(&self, listen: &str, args: &[&str]) -> Serving {
        self.serve_logging(listen, args, Stdio::inherit())
    }

    pub(crate) fn serve_logging(&self, listen: &str, args: &[&str], log: Stdio) -> Serving {
        let fixed = ["serve", "--listen", listen, "--http-listen", "127.0.0.1:0", "--data", "data"];
        let mut command = self.command(&[&fixed, args].concat());
        command.stderr(log);
        Self::serving(command)
    }

    /// Waits until a coordinator says where it serves.
    pub(crate) fn serving(mut command: Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the coordinator starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut address = |what: &str| {
            let line = lines.next().expect("a line").expect("text");
            let url = line.strip_prefix(what).expect("it says where it is");
            url.trim().to_owned()
        };
        Serving {
            url: address("coordinator "),
            pages: address("pages "),
            process: Started { child },
        }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinator"));
        command
            .args(args)
            .current_dir(self.directory.path())
            .env(MARK, &self.mark)
            .env_remove("RUST_LOG")
            .env_remove("FANOUT_COORDINATOR")
            .env_remove("FANOUT_ORIGIN")
            .env_remove("FANOUT_PAGES")
            .env_remove("FANOUT_WAIT")
            .env_remove("FANOUT_TOKEN")
            .env_remove("FANOUT_TOKEN_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs the coordinator to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.run_with_input(args, b"")
    }

    pub(crate) fn run_with_input(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child =
            self.command(args).stdin(Stdio::piped()).spawn().expect("the coordinator starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_vec();
        let writer = thread::spawn(move || {
            // A coordinator that refuses its input does not read it all.
            let _ = stdin.write_all(&input);
        });
        let output = Started { child }.output();
        writer.join().expect("the writer ends");
        Ran::new(output)
    }

    /// Starts the coordinator in the background.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        self.start_as(self.command(args))
    }

    /// Starts what was made of a [`command`](Self::command).
    pub(crate) fn start_as(&self, mut command: Command) -> Started {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Started { child: command.spawn().expect("the coordinator starts") }
    }

    /// Starts one whose words nobody reads.
    pub(crate) fn start_quietly(&self, args: &[&str]) -> Started {
        let mut command = self.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Started { child: command.spawn().expect("the coordinator starts") }
    }

    /// A coordinator whose files, and its children's, cannot grow beyond so many
    /// blocks of 512 bytes: a full disk for everybody, without root.
    pub(crate) fn limited(&self, blocks: u32, args: &[&str]) -> Command {
        let command = self.command(args);
        let mut limited = Command::new("sh");
        limited
            .args(["-c", r#"ulimit -f "$1"; shift; exec "$@""#, "sh"])
            .arg(blocks.to_string())
            .arg(command.get_program())
            .args(command.get_args())
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        limited
    }

    /// Starts an origin; it ends with the value that is returned.
    pub(crate) fn origin(&self) -> Origin {
        let mut child = self
            .command(&["origin", "--listen", "127.0.0.1:0", "--exit-with-stdin"])
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the origin starts");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut url).expect("the origin says where it is");
        Origin { child, base: url.trim().trim_end_matches('/').to_owned() }
    }

    /// Processes of this test whose command line contains `word`.
    pub(crate) fn processes(&self, word: &str) -> Vec<Pid> {
        let mark = format!("{MARK}={}", self.mark);
        let entries = fs::read_dir("/proc").expect("/proc can be read");
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
                let ours = read("environ").split(|o| *o == 0).any(|v| v == mark.as_bytes());
                let args = read("cmdline");
                ours && args.split(|o| *o == 0).any(|arg| arg == word.as_bytes())
            })
            .filter_map(Pid::from_raw)
            .collect()
    }

    /// Waits until no process of this test is left.
    pub(crate) fn assert_nothing_left(&self) {
        self.assert_nothing_left_but("");
    }

    /// Waits until no process of this test is left, except those named `word`.
    pub(crate) fn assert_nothing_left_but(&self, word: &str) {
        wait_for("every process to end", || {
            let left: usize = ["worker", "origin", "fetcher", "study", "fetch", "serve", "attach"]
                .iter()
                .filter(|kind| **kind != word)
                .map(|word| self.processes(word).len())
                .sum();
            (left == 0).then_some(())
        });
    }
}

/// A coordinator in the background; killed if it is dropped.
pub(crate) struct Started {
    child: Child,
}

impl Started {
    pub(crate) fn of(mut command: Command) -> Self {
        Self { child: command.spawn().expect("the coordinator starts") }
    }

    /// What /proc says of it.
    pub(crate) fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).unwrap_or_default()
    }

    /// Its standard output, to be read by the test.
    pub(crate) fn take_stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("stdout is piped")
    }

    /// Its standard error, to be read by the test.
    pub(crate) fn take_stderr(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().expect("stderr is piped")
    }

    /// Ends it at once, as a power loss would, and waits for that.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it can be waited for");
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    pub(crate) fn pid(&self) -> Pid {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.expect("a process id")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    pub(crate) fn finish(self) -> Ran {
        Ran::new(self.output())
    }

    /// For one whose output was taken over.
    pub(crate) fn finish_quietly(mut self) -> Ran {
        let status = wait_for("the coordinator to end", || {
            self.child.try_wait().expect("it can be waited for")
        });
        Ran::new(Output { status, stdout: Vec::new(), stderr: Vec::new() })
    }

    fn output(mut self) -> Output {
        let read = |pipe: Option<Box<dyn Read + Send>>| {
            thread::spawn(move || {
                let mut content = Vec::new();
                if let Some(mut pipe) = pipe {
                    pipe.read_to_end(&mut content).expect("the pipe can be read");
                }
                content
            })
        };
        let stdout = read(self.child.stdout.take().map(|p| Box::new(p) as _));
        let stderr = read(self.child.stderr.take().map(|p| Box::new(p) as _));
        let status: ExitStatus = wait_for("the coordinator to end", || {
            self.child.try_wait().expect("it can be waited for")
        });
        Output {
            status,
            stdout: stdout.join().expect("the reader ends"),
            stderr: stderr.join().expect("the reader ends"),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A coordinator that serves; killed if it is dropped.
pub(crate) struct Serving {
    pub(crate) url: String,
    pub(crate) pages: String,
    pub(crate) process: Started,
}

impl Serving {
    /// What `status --format json` says.
    pub(crate) fn status(&self, place: &Place) -> serde_json::Value {
        let args = ["status", "--format", "json", "--coordinator", &self.url];
        serde_json::from_str(&place.run(&args).expect(0).stdout).expect("JSON")
    }

    /// Starts a worker, and waits until it is attached.
    pub(crate) fn worker(&self, place: &Place, name: &str) -> Started {
        let worker = place.start(&["worker", "--coordinator", &self.url, "--name", name]);
        self.attached(place, name);
        worker
    }

    /// Waits until a worker of this name is attached.
    pub(crate) fn attached(&self, place: &Place, name: &str) {
        wait_for("the worker", || {
            let status = self.status(place);
            let workers = status["workers"].as_array()?;
            workers.iter().any(|w| w["name"] == name).then_some(())
        });
    }

    /// Waits until a job is in this state.
    pub(crate) fn job(&self, place: &Place, id: u64, state: &str) -> serde_json::Value {
        wait_for("the job's state", || {
            let status = self.status(place);
            let jobs = status["jobs"].as_array()?;
            let job = jobs.iter().find(|job| job["id"] == id)?;
            (job["state"] == state).then(|| job.clone())
        })
    }

    /// Waits until the first block of the study that is job 1 is kept.
    pub(crate) fn first_block(&self, place: &Place) {
        let job = self.job(place, 1, "running");
        let study = job["study"].as_str().expect("a study");
        let part = place.path(&format!("data/studies/{study}/study.json.part"));
        wait_for("the first block", || part.exists().then_some(()));
    }

    /// The answer to a GET of a path on the pages: status line, header, body.
    pub(crate) fn get(&self, path: &str, headers: &str) -> String {
        let address = self.pages.strip_prefix("http://").expect("plain HTTP");
        let mut stream = std::net::TcpStream::connect(address).expect("the pages are there");
        let host = match headers.contains("Host:") {
            true => String::new(),
            false => format!("Host: {address}\r\n"),
        };
        write!(stream, "GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n")
            .expect("it can be asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

/// What a coordinator said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The JSON objects on standard output, one a line.
    pub(crate) fn records(&self) -> Vec<serde_json::Value> {
        records(&self.stdout)
    }
}

pub(crate) fn records(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// The ids of records in JSON, one a line.
pub(crate) fn ids(text: &str) -> Vec<u64> {
    let ids = records(text).into_iter().map(|record| record["id"].as_u64());
    ids.map(|id| id.expect("an id")).collect()
}

/// Every id from 0 up to `count` is there, and none twice.
#[track_caller]
pub(crate) fn assert_each_once(ids: Vec<u64>, count: u64) {
    assert_eq!(ids.len() as u64, count);
    let distinct: BTreeSet<_> = ids.into_iter().collect();
    assert_eq!(distinct, (0..count).collect());
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the file is there")
}

/// A running origin.
pub(crate) struct Origin {
    child: Child,
    pub(crate) base: String,
}

impl Origin {
    /// A list of `count` URLs with this query.
    pub(crate) fn list(&self, count: usize, query: &str) -> String {
        (0..count).map(|i| format!("{}/{i}?{query}\n", self.base)).collect()
    }

    /// What it served.
    pub(crate) fn stats(&self) -> serde_json::Value {
        self.ask("/stats")
    }

    /// It starts counting anew.
    pub(crate) fn reset_stats(&self) {
        self.ask("/stats/reset");
    }

    fn ask(&self, path: &str) -> serde_json::Value {
        let address = self.base.strip_prefix("http://").expect("plain HTTP");
        let mut stream = std::net::TcpStream::connect(address).expect("the origin is there");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .expect("it can be asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        serde_json::from_str(body).expect("JSON")
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A server that is not fanout's own: every page has 10 bytes, those of some
/// requests, by their number, have 100.
pub(crate) struct Server {
    pub(crate) base: String,
}

impl Server {
    /// It ends with the test's process.
    pub(crate) fn start(larger: Vec<Range<usize>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let (larger, count) = (Arc::new(larger), Arc::new(AtomicUsize::new(0)));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, larger) = (stream.expect("a connection"), Arc::clone(&larger));
                let count = Arc::clone(&count);
                // Ends when the client closes the connection.
                thread::spawn(move || {
                    let mut to = stream.try_clone().expect("a second handle");
                    for line in BufReader::new(stream).lines() {
                        if !line.is_ok_and(|line| line.is_empty()) {
                            continue;
                        }
                        let number = count.fetch_add(1, Ordering::SeqCst);
                        let size = match larger.iter().any(|range| range.contains(&number)) {
                            true => 100,
                            false => 10,
                        };
                        let page = "x".repeat(size);
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
                        if to.write_all((head + &page).as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { base }
    }
}
