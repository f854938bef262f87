//! One compose project of its own name and port, and what is asked of it.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    panic,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::engine::Engine;

/// A name and what it tries.
pub(crate) type Scenario = (&'static str, fn(&Project));

/// Nothing is waited for longer: machines may be slow, and engines too.
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(200);
/// Tries to take a project down.
const TRIES: usize = 5;

/// The image under test: as the compose file names it, unless told.
fn image() -> String {
    std::env::var("FANOUT_IMAGE").unwrap_or_else(|_| "fanout".to_owned())
}

/// Waits until `found` has an answer.
#[track_caller]
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

pub(crate) struct Project {
    engine: Engine,
    name: String,
    port: u16,
    /// Stands for the directory that the compose file would be in.
    directory: TempDir,
    /// Whether it was brought up, and by that may have to be taken down.
    up: OnceLock<()>,
    /// Who takes it down; nobody else has it do anything any more.
    ended: OnceLock<ThreadId>,
}

impl Project {
    /// Lives as long as the process, so that signals find it too.
    pub(crate) fn new(engine: Engine) -> &'static Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let directory = TempDir::new().unwrap();
        // The containers' user is another one.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(directory.path(), readable).unwrap();
        Box::leak(Box::new(Self {
            engine,
            name: format!("fanout-test-{}", std::process::id()),
            port: free.local_addr().unwrap().port(),
            directory,
            up: OnceLock::new(),
            ended: OnceLock::new(),
        }))
    }

    pub(crate) fn image(&self) -> String {
        image()
    }

    /// Writes a file into the project's directory.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docker-compose.yml")
    }

    /// A Compose command on this project, with more compose files if any.
    fn command(&self, more: &[&Path], args: &[&str]) -> Command {
        let mut command = self.engine.compose();
        command
            .args(["--project-name", &self.name, "--project-directory"])
            .arg(self.directory.path())
            .arg("--file")
            .arg(Self::file());
        for file in more {
            command.arg("--file").arg(file);
        }
        command
            .args(args)
            .env("FANOUT_IMAGE", image())
            .env("FANOUT_PORT", self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Brings the project up, once, as `docker compose up` does; whatever the
    /// scenario before left, there are two workers as they should be.
    pub(crate) fn up(&self) {
        if self.up.set(()).is_ok() {
            self.compose(&["up", "--detach", "--no-build"]).expect(0);
        } else {
            self.scale(2);
        }
        self.wait_for_workers(2);
    }

    pub(crate) fn compose(&self, args: &[&str]) -> Ran {
        self.start(args, "").finish()
    }

    pub(crate) fn compose_with(&self, more: &Path, args: &[&str]) -> Ran {
        Started::new(self.command(&[more], args), "").finish()
    }

    /// Starts a Compose command in the background.
    pub(crate) fn start(&self, args: &[&str], input: &str) -> Started {
        while self.ended.get().is_some_and(|by| *by != thread::current().id()) {
            thread::park();
        }
        Started::new(self.command(&[], args), input)
    }

    pub(crate) fn run_service(&self, service: &str, args: &[&str], input: &str) -> Started {
        let run = ["run", "--rm", "-T", service];
        self.start(&[&run, args].concat(), input)
    }

    pub(crate) fn scale(&self, count: usize) {
        let scale = format!("worker={count}");
        let args = ["up", "--detach", "--no-build", "--no-deps", "--scale", &scale, "worker"];
        let ran = self.compose(&args);
        assert_eq!(ran.code, Some(0), "{ran}");
    }

    /// The containers of a service, the oldest first.
    pub(crate) fn containers(&self, service: &str) -> Vec<String> {
        let project = format!("label=com.docker.compose.project={}", self.name);
        let service = format!("label=com.docker.compose.service={service}");
        let list = ["ps", "--all", "--quiet", "--no-trunc", "--filter"];
        let text = docker(&[&list[..], &[&project, "--filter", &service]].concat());
        let mut ids: Vec<_> = text.lines().map(str::to_owned).collect();
        ids.reverse();
        ids
    }

    pub(crate) fn container(&self, service: &str) -> String {
        self.containers(service).into_iter().next().unwrap()
    }

    pub(crate) fn network(&self) -> String {
        format!("{}_default", self.name)
    }

    /// What `coordinator status` says, once it does.
    pub(crate) fn status(&self) -> Value {
        wait_for("the coordinator's status", || {
            let coordinator = self.containers("coordinator").into_iter().next()?;
            let ran = Started::new(
                docker_command(&[
                    "exec",
                    &coordinator,
                    "/coordinator",
                    "status",
                    "--format",
                    "json",
                ]),
                "",
            )
            .finish();
            serde_json::from_str(&ran.stdout).ok()
        })
    }

    /// Waits until exactly so many workers are attached; gives their names.
    #[track_caller]
    pub(crate) fn wait_for_workers(&self, count: usize) -> BTreeSet<String> {
        wait_for(&format!("{count} workers"), || {
            let status = self.status();
            let workers = status["workers"].as_array().unwrap();
            let name = |worker: &Value| worker["name"].as_str().unwrap().to_owned();
            (workers.len() == count).then(|| workers.iter().map(name).collect())
        })
    }

    /// The job that runs now.
    pub(crate) fn running_job(&self) -> Value {
        wait_for("a running job", || {
            let status = self.status();
            let jobs = status["jobs"].as_array().unwrap();
            jobs.iter().find(|job| job["state"] == "running").cloned()
        })
    }

    /// What the coordinator has kept of a study that still runs, once there is something.
    pub(crate) fn study_so_far(&self, name: &str) -> Option<Value> {
        let from =
            format!("{}:/data/studies/{name}/study.json.part", self.container("coordinator"));
        let to = self.directory.path().join("so-far.json");
        let copy = docker_command(&["cp", "--follow-link", &from, to.to_str().unwrap()]);
        if Started::new(copy, "").finish().code != Some(0) {
            return None;
        }
        serde_json::from_slice(&fs::read(&to).ok()?).ok()
    }

    /// A page, status line and headers included.
    pub(crate) fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The address that a study's client tells.
    pub(crate) fn pages(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    pub(crate) fn show_logs(&self) {
        if self.up.get().is_some() {
            let ran = self.compose(&["logs", "--no-color", "--tail", "50"]);
            println!("{}", ran.stdout);
        }
    }

    /// Takes down whatever there is of it, and says whether nothing is left.
    pub(crate) fn down(&self) -> bool {
        if self.ended.set(thread::current().id()).is_err() {
            return true;
        }
        let gone = self.up.get().is_none() || self.take_down();
        // What is leaked is not dropped.
        let _ = fs::remove_dir_all(self.directory.path());
        gone
    }

    fn take_down(&self) -> bool {
        let label = format!("label=com.docker.compose.project={}", self.name);
        let list = |what: &[&str]| docker(&[what, &["--quiet", "--filter", &label]].concat());
        // On Ctrl-C a scenario's own commands may still be at it.
        for _ in 0..TRIES {
            // What `run` started is nobody's service.
            for container in list(&["ps", "--all"]).lines() {
                for command in [&["unpause"][..], &["rm", "--force"]] {
                    let args = [command, &[container]].concat();
                    let _ = Started::new(docker_command(&args), "").finish();
                }
            }
            self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]);
            let left = [list(&["ps", "--all"]), list(&["volume", "ls"]), list(&["network", "ls"])];
            if left.iter().all(String::is_empty) {
                println!("took {} down", self.name);
                return true;
            }
            println!("{} is not quite down: {left:?}", self.name);
            thread::sleep(LOOK);
        }
        false
    }

    /// Ctrl-C takes the project down, too.
    pub(crate) fn down_on_signals(&'static self) {
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                use tokio::signal::unix::{SignalKind, signal};
                let mut interrupt = signal(SignalKind::interrupt()).unwrap();
                let mut terminate = signal(SignalKind::terminate()).unwrap();
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            });
            // The process ends, whatever becomes of that.
            let _ = panic::catch_unwind(panic::AssertUnwindSafe(|| self.down()));
            std::process::exit(130);
        });
    }
}

fn docker_command(args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a docker command that must succeed; gives its standard output.
#[track_caller]
pub(crate) fn docker(args: &[&str]) -> String {
    let ran = Started::new(docker_command(args), "").finish();
    assert_eq!(ran.code, Some(0), "docker {args:?}: {ran}");
    ran.stdout.trim().to_owned()
}

/// What a container is set to or does.
#[track_caller]
pub(crate) fn inspect(id: &str) -> Value {
    let text = docker(&["inspect", id]);
    let value: Value = serde_json::from_str(&text).unwrap();
    value[0].clone()
}

/// A command in the background; killed if it is dropped.
pub(crate) struct Started {
    child: Child,
    stdout: Option<thread::JoinHandle<String>>,
    stderr: Option<thread::JoinHandle<String>>,
    lines: Arc<AtomicUsize>,
}

impl Started {
    fn new(mut command: Command, input: &str) -> Self {
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_owned();
            // A command that refuses its input does not read it all.
            thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        let lines = Arc::new(AtomicUsize::new(0));
        let stdout = collect(child.stdout.take().unwrap(), lines.clone());
        let stderr = collect(child.stderr.take().unwrap(), Arc::default());
        Self { child, stdout: Some(stdout), stderr: Some(stderr), lines }
    }

    /// Waits until it has written so many lines.
    #[track_caller]
    pub(crate) fn wait_for_lines(&mut self, count: usize) {
        let lines = self.lines.clone();
        wait_for(&format!("{count} lines of output"), || {
            let ended = self.child.try_wait().unwrap().is_some();
            let there = lines.load(Ordering::SeqCst) >= count;
            assert!(there || !ended, "it ended before that");
            there.then_some(())
        });
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    #[track_caller]
    pub(crate) fn finish(mut self) -> Ran {
        let status = wait_for("a command to end", || self.child.try_wait().unwrap());
        let text = |reader: Option<thread::JoinHandle<String>>| reader.unwrap().join().unwrap();
        Ran {
            code: status.code(),
            stdout: text(self.stdout.take()),
            stderr: text(self.stderr.take()),
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

fn collect(
    from: impl Read + Send + 'static,
    lines: Arc<AtomicUsize>,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut all = Vec::new();
        while from.read_until(b'\n', &mut all).unwrap() > 0 {
            lines.fetch_add(1, Ordering::SeqCst);
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}

/// A command that is over.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    #[track_caller]
    pub(crate) fn study(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// Every id from 0 has exactly one record, and each is a whole response.
    #[track_caller]
    pub(crate) fn assert_each_once(&self, count: u64) {
        let mut ids = BTreeSet::new();
        for line in self.stdout.lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["outcome"], "ok", "{line}");
            let id = record["id"].as_u64().unwrap();
            assert!(ids.insert(id), "{id} has two records");
        }
        assert_eq!(ids, (0..count).collect(), "{}", self.stderr);
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {:?}\n{}\n{}", self.code, self.stdout, self.stderr)
    }
}
