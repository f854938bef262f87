//! The stack on a swarm of one machine, from the outside: commands as a user
//! types them. It takes minutes and an image, so it runs when asked:
//!
//! ```text
//! docker build -t fanout .
//! cargo test -p fanout-coordinator --test swarm -- --ignored
//! ```
//!
//! The engine joins a swarm of its own for it, and leaves that again; one that
//! is in a swarm already is left alone.

// Everything here is a test, its helpers too.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing is waited for longer: machines may be slow, and engines too.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(500);
const TOKEN: &str = "a-token-of-this-test";
/// What a swarm leads out of containers through, and leaves behind.
const BRIDGE: &str = "docker_gwbridge";
/// As `deploy/swarm.yml` calls it.
const SECRET: &str = "fanout-token";

#[track_caller]
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = found() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(LOOK);
    }
}

/// Runs a docker command with this on its standard input.
fn try_docker(args: &[&str], variables: &[(&str, &str)], input: &str) -> Output {
    let mut child = Command::new("docker")
        .args(args)
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("docker starts");
    // A command that reads nothing may be over already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Standard output of a docker command that must succeed.
#[track_caller]
fn docker(args: &[&str]) -> String {
    succeeded(args, try_docker(args, &[], ""))
}

#[track_caller]
fn succeeded(args: &[&str], output: Output) -> String {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    let stderr = text(output.stderr);
    assert!(output.status.success(), "docker {args:?}: {stderr}");
    text(output.stdout)
}

/// Why this cannot run here; CI skips nothing.
fn missing() -> Option<String> {
    let info = ["info", "--format", "{{.Swarm.LocalNodeState}}"];
    let state = match Command::new("docker").args(info).output() {
        Ok(output) if output.status.success() => output.stdout,
        _ => return Some("no Docker engine".to_owned()),
    };
    match String::from_utf8_lossy(&state).trim() {
        "inactive" => None,
        state => Some(format!("the engine's swarm is {state}, and is not this test's to change")),
    }
}

/// A swarm and a stack of this test's own; they go when it is dropped.
struct Stack {
    name: String,
    image: String,
    port: String,
    directory: TempDir,
    made_bridge: bool,
}

impl Stack {
    fn new() -> Self {
        let bridged = try_docker(&["network", "inspect", BRIDGE], &[], "");
        docker(&["swarm", "init", "--advertise-addr", "127.0.0.1"]);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let stack = Self {
            name: format!("fanout-test-{}", std::process::id()),
            image: std::env::var("FANOUT_IMAGE").unwrap_or_else(|_| "fanout".to_owned()),
            port: free.local_addr().unwrap().port().to_string(),
            directory: TempDir::new().unwrap(),
            made_bridge: !bridged.status.success(),
        };
        let secret = ["secret", "create", SECRET, "-"];
        succeeded(&secret, try_docker(&secret, &[], TOKEN));
        stack
    }

    /// Deploys the files that users deploy, and `more` over them.
    fn deploy(&self, more: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let own = self.directory.path().join("more.yml");
        fs::write(&own, more).unwrap();
        let files = [root.join("docker-compose.yml"), root.join("deploy/swarm.yml"), own];
        let mut args = vec!["stack", "deploy", "--resolve-image", "never"];
        for file in &files {
            args.extend(["--compose-file", file.to_str().unwrap()]);
        }
        args.push(&self.name);
        let variables = [("FANOUT_IMAGE", &*self.image), ("FANOUT_PORT", &*self.port)];
        succeeded(&args, try_docker(&args, &variables, ""));
    }

    fn service(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    fn scale(&self, workers: usize) {
        let service = format!("{}={workers}", self.service("worker"));
        docker(&["service", "scale", "--detach", &service]);
    }

    /// The running container of a service, if there is one yet.
    fn container(&self, service: &str) -> Option<String> {
        self.containers(service, &[]).into_iter().next()
    }

    /// The newest first; with `--all` those that ended, too.
    fn containers(&self, service: &str, which: &[&str]) -> Vec<String> {
        let name = self.service(service);
        let filter = format!("label=com.docker.swarm.service.name={name}");
        let list = ["ps", "--quiet", "--filter", &filter];
        let ids = docker(&[&list[..], which].concat());
        ids.lines().map(str::to_owned).collect()
    }

    /// What the containers of a service have written.
    fn logs(&self, service: &str) -> String {
        let containers = self.containers(service, &["--all"]);
        let logs = containers.iter().map(|id| try_docker(&["logs", id], &[], ""));
        let both = logs.flat_map(|output| [output.stdout, output.stderr].concat());
        String::from_utf8_lossy(&both.collect::<Vec<_>>()).into_owned()
    }

    /// What the program says in the coordinator's container, if it does.
    fn coordinator(&self, args: &[&str]) -> Option<Vec<u8>> {
        let container = self.container("coordinator")?;
        let exec = ["exec", container.as_str(), "/coordinator"];
        let output = try_docker(&[&exec[..], args].concat(), &[], "");
        output.status.success().then_some(output.stdout)
    }

    /// What `coordinator status` says, once it does.
    fn status(&self) -> Value {
        wait_for("the coordinator's status", || {
            let said = self.coordinator(&["status", "--format", "json"])?;
            serde_json::from_slice(&said).ok()
        })
    }

    /// Starts a client beside the stack, as docs/fleet.md has it.
    fn client(&self, args: &[&str], input: &str) -> Client {
        let network = self.service("default");
        let mut child = Command::new("docker")
            .args(["run", "--rm", "--interactive", "--network", &network])
            .args(["--env", "FANOUT_TOKEN", "--env"])
            .arg("FANOUT_COORDINATOR=http://coordinator:7143")
            .args(["--env", "FANOUT_PAGES=http://localhost:8080", &self.image])
            .args(args)
            .env("FANOUT_TOKEN", TOKEN)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        Client(child)
    }

    fn wait_for_workers(&self, count: usize) {
        wait_for(&format!("{count} workers"), || {
            (self.status()["workers"].as_array()?.len() == count).then_some(())
        });
    }

    /// Waits until a job of the swarm has ended well; what it printed.
    fn wait_for_job(&self, service: &str) -> String {
        let name = self.service(service);
        wait_for(&format!("{service} to end"), || {
            let list = ["service", "ps", "--no-trunc", "--format"];
            let what = ["{{.CurrentState}} {{.Error}}", &name];
            let state = docker(&[&list[..], &what].concat());
            let bad = ["Failed", "Rejected"].iter().any(|s| state.contains(s));
            assert!(!bad, "{state}");
            state.starts_with("Complete").then(|| self.logs(service))
        })
    }

    /// The study that runs, as far as it is kept already.
    fn so_far(&self, study: &str) -> Option<Value> {
        let coordinator = self.container("coordinator")?;
        let from = format!("{coordinator}:/data/studies/{study}/study.json.part");
        let to = self.directory.path().join("so-far.json");
        let args = ["cp", "--follow-link", &from, to.to_str().unwrap()];
        let copied = try_docker(&args, &[], "").status.success();
        serde_json::from_slice(&fs::read(&to).ok().filter(|_| copied)?).ok()
    }

    /// A page, status line and headers included.
    fn page(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(format!("127.0.0.1:{}", self.port)).unwrap();
        let ask =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
        stream.write_all(ask.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Containers, networks and volumes that are still there.
    fn left(&self) -> String {
        let filter = format!("label=com.docker.stack.namespace={}", self.name);
        let lists: [&[&str]; 3] = [&["ps", "--all"], &["network", "ls"], &["volume", "ls"]];
        lists.map(|list| docker(&[list, &["--quiet", "--filter", &filter]].concat())).concat()
    }

    /// Takes everything away, in the order in which it lets go of the rest.
    fn away(&self) {
        docker(&["stack", "rm", &self.name]);
        let filter = format!("label=com.docker.stack.namespace={}", self.name);
        wait_for("the stack's containers to go", || {
            let still = docker(&["ps", "--quiet", "--filter", &filter]);
            still.is_empty().then_some(())
        });
        for id in docker(&["ps", "--all", "--quiet", "--filter", &filter]).lines() {
            // The engine may be at it as well.
            try_docker(&["rm", "--force", id], &[], "");
        }
        for volume in docker(&["volume", "ls", "--quiet", "--filter", &filter]).lines() {
            docker(&["volume", "rm", volume]);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if thread::panicking() {
            for service in ["coordinator", "worker", "study"] {
                let tasks = ["service", "ps", "--no-trunc", &self.service(service)];
                let tasks = try_docker(&tasks, &[], "").stdout;
                eprintln!("{service}:\n{}", String::from_utf8_lossy(&tasks));
                let look = std::panic::AssertUnwindSafe(|| eprintln!("{}", self.logs(service)));
                let _ = std::panic::catch_unwind(look);
            }
            // What a panic here would hide is worse than what it leaves behind.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.away()));
        }
        // Networks, services and the secret go with it.
        try_docker(&["swarm", "leave", "--force"], &[], "");
        if self.made_bridge {
            try_docker(&["network", "rm", BRIDGE], &[], "");
        }
    }
}

/// A client's container.
struct Client(Child);

impl Client {
    /// Its exit code and what it printed.
    fn end(self) -> (Option<i32>, String) {
        let output = self.0.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), said)
    }

    #[track_caller]
    fn output(self) -> String {
        let (code, said) = self.end();
        assert_eq!(code, Some(0), "{said}");
        said
    }
}

/// `count` URLs of the stack's origin.
fn list(count: usize) -> String {
    (0..count).map(|id| format!("http://origin:8080/{id}?delay=2ms\n")).collect()
}

#[test]
#[ignore = "takes minutes on a Docker engine, and puts it into a swarm meanwhile"]
fn the_stack_comes_up_runs_studies_scales_and_goes_away() {
    if let Some(reason) = missing() {
        assert!(std::env::var_os("FANOUT_CI").is_none(), "{reason}, and CI skips nothing");
        eprintln!("skipped: {reason}");
        return;
    }
    let stack = Stack::new();
    // The default study says no more about the stack, and takes longer.
    stack.deploy(
        "services:\n  study:\n    command: [--workers, '2', --arm, '2xasync:8', --blocks, '2']\n",
    );
    let said = stack.wait_for_job("study");
    assert!(said.contains("1,000 URLs (built-in)") && said.contains("2xasync:8"), "{said}");
    stack.wait_for_workers(2);

    // The pages ask for the token, and show the study.
    assert!(stack.page("/", "").starts_with("HTTP/1.1 401"));
    let bearer = format!("Authorization: Bearer {TOKEN}\r\n");
    let front = stack.page("/", &bearer);
    assert!(front.contains("/report.html"), "{front}");

    // A fetch and another study, from a container beside the stack; workers come and go meanwhile.
    let fetched = stack.client(&["fetch", "-"], &list(300)).output();
    let mut ids: Vec<_> = fetched
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..300).map(Some).collect::<Vec<_>>());
    let another = ["study", "--arm", "4xasync:4", "--blocks", "500"];
    let another = stack.client(&another, "");
    let study = wait_for("the study to run", || {
        let status = stack.status();
        let jobs = status["jobs"].as_array()?;
        let job = jobs.iter().find(|job| job["state"] == "running")?;
        job["study"].as_str().map(str::to_owned)
    });
    for count in [2, 4, 1] {
        stack.scale(count);
        wait_for(&format!("a trial on {count} workers"), || {
            let so_far = stack.so_far(&study)?;
            let last = so_far["trials"].as_array()?.last()?.clone();
            (last["workers"].as_array()?.len() == count).then_some(())
        });
    }
    stack.coordinator(&["cancel", "3"]).unwrap();
    let (code, said) = another.end();
    assert_eq!(code, Some(130), "what there is was saved");
    assert!(said.contains("4xasync:4"), "{said}");
    let page = stack.page(&format!("/studies/{study}/study.json"), &bearer);
    let (_, body) = page.split_once("\r\n\r\n").unwrap();
    let record: Value = serde_json::from_str(body).unwrap();
    for trial in record["trials"].as_array().unwrap() {
        let sound = trial["degraded"] == false && trial["invalid_reasons"] == json!([]);
        assert!(!sound || trial["completed"] == 1000, "{trial}");
    }
    let workers = record["manifest"]["workers"].as_array().unwrap();
    let with = |field: &str| workers.iter().filter(|w| w[field].is_u64()).count();
    assert_eq!((with("joined_block"), with("left_block")), (2, 3), "{workers:?}");

    stack.away();
    wait_for("the network to go", || (stack.left().is_empty()).then_some(()));
}
