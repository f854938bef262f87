//! The `origin` executable.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command
        .args(args)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running origin, killed if a test fails before it ends.
struct Running(Child);

impl Running {
    fn start(args: &[&str], stdin: Stdio) -> (Self, Vec<String>) {
        let mut child = command(args).stdin(stdin).spawn().unwrap();
        let lines = 1 + usize::from(args.contains(&"--tls-listen"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let running = Self(child);
        let urls = stdout.lines().take(lines).collect::<Result<_, _>>().unwrap();
        (running, urls)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
    }

    /// The exit code, and what was logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        let mut stderr = self.0.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Fails for one that has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn fetch(base: &str) -> String {
    let mut stream = TcpStream::connect(base.strip_prefix("http://").unwrap()).unwrap();
    stream.write_all(b"GET /?size=3 HTTP/1.0\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all
}

#[test]
fn it_says_where_it_serves_and_a_signal_ends_it() {
    for signal in [Signal::TERM, Signal::INT] {
        let (origin, urls) = Running::start(&["--listen", "127.0.0.1:0"], Stdio::null());
        assert!(fetch(&urls[0]).ends_with("\r\n\r\nfan"));
        origin.signal(signal);
        assert_eq!(origin.end(), (Some(0), String::new()));
    }
}

#[test]
fn it_ends_with_its_input_if_asked() {
    let args = ["--listen", "127.0.0.1:0", "--exit-with-stdin"];
    let (mut origin, urls) = Running::start(&args, Stdio::piped());
    let mut input = origin.0.stdin.take().unwrap();
    input.write_all(b"something to ignore").unwrap();
    assert!(fetch(&urls[0]).ends_with("fan"));
    drop(input);
    assert_eq!(origin.end().0, Some(0));
}

#[test]
fn https_comes_with_its_certificate() {
    let name = format!("certificate-{}.pem", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let any = "127.0.0.1:0";
    let args = ["--listen", any, "--tls-listen", any, "--write-certificate"];
    let args = [&args[..], &[path.to_str().unwrap()]].concat();
    let (origin, urls) = Running::start(&args, Stdio::null());
    assert!(urls[0].starts_with("http://127.0.0.1:"), "{urls:?}");
    assert!(urls[1].starts_with("https://127.0.0.1:"), "{urls:?}");
    let pem = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"));
    origin.signal(Signal::TERM);
    assert_eq!(origin.end().0, Some(0));
}

#[test]
fn an_open_address_is_allowed_and_logged() {
    let (origin, urls) = Running::start(&["--listen", "0.0.0.0:0"], Stdio::null());
    assert!(fetch(&urls[0]).ends_with("fan"));
    origin.signal(Signal::TERM);
    let (code, log) = origin.end();
    assert_eq!(code, Some(0));
    assert!(log.contains("other machines can reach this origin"), "{log}");
}

fn failed(args: &[&str]) -> String {
    let Output { status, stderr, stdout } = command(args).output().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(stdout.is_empty());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn what_cannot_be_served_is_refused_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let log = failed(&["--listen", &address]);
    assert!(log.contains(&address) && log.contains("take another"), "{log}");
    let log = failed(&["--listen", "localhost"]);
    assert!(log.contains("give an IP address and a port"), "{log}");
    let log = failed(&["--listen", "127.0.0.1:0", "--threads", "1000"]);
    assert!(log.contains("more than the 256 allowed"), "{log}");
    let log = failed(&["--idle-timeout", "0s"]);
    assert!(log.contains("above zero"), "{log}");
    let any = "127.0.0.1:0";
    let file = "/nowhere/at/all.pem";
    let log = failed(&["--listen", any, "--tls-listen", any, "--write-certificate", file]);
    assert!(log.contains(file), "{log}");
}

#[test]
fn help_teaches_the_language() {
    let help = |flag| {
        let output = command(&[flag]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(help("-h").contains("/?redirect=3&gzip"));
    let long = help("--help");
    for part in ["lognormal:20ms:0.5", "truncate", "if-reused", "/stats/reset"] {
        assert!(long.contains(part), "{part}");
    }
    assert_eq!(help("--version"), format!("origin {}\n", fanout_program::LONG_VERSION));
}
