//! Time and size limits, and what cannot be connected to.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use fanout_proto::completion::Outcome;
use libtest_mimic::Trial;
use rustix::{
    net::{AddressFamily, SocketType, bind, getsockname, listen, socket},
    process::{Pid, Resource, Rlimit, prlimit},
};

use crate::{
    fetcher::{ALL, Arm, Fetcher, PATIENCE, fetch, name, setup, verdict},
    server::{After, Server, path, respond},
    trial,
};

/// Short, but long enough for a busy machine to begin an exchange.
const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for arm in ALL {
        let of = |what: &str| format!("limits::{what}::{}", name(arm));
        trials.push(trial(of("time"), move || time(arm)));
        trials.push(trial(of("size"), move || size(arm)));
        trials.push(trial(of("unreachable"), move || unreachable_hosts(arm)));
        trials.push(trial(of("silent"), move || silent(arm)));
        trials.push(trial(of("no_descriptors"), move || no_descriptors(arm)));
    }
    trials
}

fn time(arm: Arm) {
    let server = Server::start(|head, out| match path(head) {
        "/stall" => Ok(After::Stall),
        "/stall-in-body" => {
            write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")?;
            Ok(After::Stall)
        }
        // An byte now and then must not keep an exchange alive.
        _ => {
            write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
            loop {
                out.write_all(b"x")?;
                thread::sleep(SHORT / 10);
            }
        }
    });
    let mut setup = setup(arm);
    setup.http.timeout = SHORT;
    let urls = ["/stall", "/stall-in-body", "/dribble"].map(|path| server.url(path));
    let begin = Instant::now();
    let life = fetch(&setup, &urls);
    assert!(begin.elapsed() < PATIENCE);
    let found = life.gathered.by_id();
    for (id, status) in [(0, None), (1, Some(200)), (2, Some(200))] {
        let found = &found[&id];
        assert_eq!((found.0, found.1), (Outcome::Timeout, status), "{}", found.3);
        assert_eq!(found.3, "no whole response within 300ms");
    }
    for completion in &life.gathered.completions {
        let took = Duration::from_micros(completion.duration_us);
        assert!(took >= SHORT - Duration::from_millis(20), "{took:?}");
    }
}

fn size(arm: Arm) {
    let server = Server::start(|head, out| match path(head) {
        "/length" => respond(out, "200 OK", "", &[b'x'; 5001]),
        "/chunked" => {
            write!(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            for _ in 0..501 {
                write!(out, "a\r\n0123456789\r\n")?;
            }
            write!(out, "0\r\n\r\n")?;
            Ok(After::Keep)
        }
        "/close" => {
            write!(out, "HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5001))?;
            Ok(After::Close)
        }
        "/head" => {
            write!(out, "HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(1 << 20))?;
            Ok(After::Close)
        }
        "/headers" => {
            write!(out, "HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200))?;
            Ok(After::Close)
        }
        _ => respond(out, "200 OK", "", &[b'x'; 5000]),
    });
    let mut setup = setup(arm);
    setup.http.max_body_bytes = 5000;
    let urls = ["/length", "/chunked", "/close", "/head", "/headers", "/fits"];
    let life = fetch(&setup, &urls.map(|path| server.url(path)));
    let found = life.gathered.by_id();
    let expected = [
        Outcome::TooLarge,
        Outcome::TooLarge,
        Outcome::TooLarge,
        Outcome::Protocol,
        Outcome::Protocol,
        Outcome::Ok,
    ];
    for (id, (path, outcome)) in (0..).zip(urls.iter().zip(expected)) {
        let found = &found[&id];
        assert_eq!(found.0, outcome, "{path}: {}", found.3);
    }
}

fn unreachable_hosts(arm: Arm) {
    // Bound, so that nobody else takes it, but nobody listens.
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&held, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let gone = std::net::SocketAddr::try_from(getsockname(&held).unwrap()).unwrap();
    let setup = setup(arm);
    let urls = [
        format!("http://{gone}/"),
        format!("https://{gone}/"),
        format!("http://localhost:{}/", gone.port()),
        format!("http://no_such.localhost:{}/", gone.port()),
        format!("http://{}.test/", "a".repeat(64)),
    ];
    let life = fetch(&setup, &urls);
    let found = life.gathered.by_id();
    for id in 0..4 {
        assert_eq!(found[&id].0, Outcome::Connect, "{:?}", found[&id]);
        assert!(found[&id].3.contains("refused"), "{}", found[&id].3);
    }
    assert_eq!(found[&4].0, Outcome::Dns, "{:?}", found[&4]);
}

/// What this process lacks is not blamed on the server.
fn no_descriptors(arm: Arm) {
    let server = Server::start(|_, out| respond(out, "200 OK", "", b"x"));
    let mut fetcher = Fetcher::ready(&setup(arm));
    // No new one can have a lower number than the standard streams, which stay usable.
    let none = Rlimit { current: Some(3), maximum: Some(3) };
    prlimit(Some(Pid::from_child(&fetcher.child)), Resource::Nofile, none).unwrap();
    fetcher.lease((0..3).map(|id| (id, server.url("/"))));
    fetcher.go();
    for found in fetcher.completions(3).by_id().values() {
        assert_eq!(found.0, Outcome::Resource, "{}", found.3);
    }
    fetcher.hold();
    fetcher.exit();
}

/// A listener whose queue is full does not answer.
fn silent(arm: Arm) {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&listener, 0).unwrap();
    let address = std::net::SocketAddr::try_from(getsockname(&listener).unwrap()).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, SHORT) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue does not fill");
    }
    let mut setup = setup(arm);
    setup.http.connect_timeout = SHORT;
    let found = verdict(&setup, &format!("http://{address}/"));
    assert_eq!(found.0, Outcome::Connect, "{}", found.3);
    assert_eq!(found.3, "connecting took longer than 300ms");

    setup.http.timeout = SHORT / 2;
    let found = verdict(&setup, &format!("http://{address}/"));
    assert_eq!(found.0, Outcome::Timeout, "{}", found.3);
}
