//! What comes over plain HTTP means the same under every model and client.

use std::io::{self, Write};

use fanout_proto::{
    arm::Client,
    completion::Outcome,
    setup::{Method, Setup},
};
use libtest_mimic::Trial;

use crate::{
    fetcher::{ALL, CORE, fetch, name, setup, verdict},
    server::{After, Server, path, respond},
    trial,
};

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for arm in ALL {
        let of = |what: &str| format!("http::{what}::{}", name(arm));
        trials.push(trial(of("responses"), move || responses(&setup(arm))));
        trials.push(trial(of("head"), move || head(setup(arm))));
        trials.push(trial(of("redirects"), move || redirects(setup(arm))));
        trials.push(trial(of("secrets"), move || secrets(setup(arm))));
        trials.push(trial(of("codings"), move || codings(setup(arm))));
        trials.push(trial(of("keep_alive"), move || keep_alive(setup(arm))));
        trials.push(trial(of("retry_after"), move || retry_after(&setup(arm))));
    }
    for arm in CORE {
        let of = |what: &str| format!("http::{what}::{}", name(arm));
        trials.push(trial(of("request"), move || request(&setup(arm))));
        trials.push(trial(of("stale"), move || stale(&setup(arm))));
        trials.push(trial(of("excess"), move || excess(&setup(arm))));
        trials.push(trial(of("many_hosts"), move || many_hosts(&setup(arm))));
        trials.push(trial(of("ipv6"), move || ipv6(&setup(arm))));
    }
    trials
}

fn answer(head: &str, out: &mut dyn Write) -> io::Result<After> {
    match path(head) {
        "/ok" => respond(out, "200 OK", "", &[b'x'; 64]),
        "/missing" => respond(out, "404 Not Found", "", b"nothing"),
        "/large" => respond(out, "200 OK", "", &vec![b'x'; 200_000]),
        "/none" => {
            write!(out, "HTTP/1.1 204 No Content\r\n\r\n")?;
            Ok(After::Keep)
        }
        "/interim" => {
            write!(out, "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")?;
            respond(out, "200 OK", "", b"final")
        }
        "/chunked" => {
            write!(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            for _ in 0..1000 {
                write!(out, "a;x=y\r\n0123456789\r\n")?;
            }
            write!(out, "0\r\ntrailer: x\r\n\r\n")?;
            Ok(After::Keep)
        }
        "/until-close" => {
            write!(out, "HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(5000))?;
            Ok(After::Close)
        }
        "/old" => {
            write!(out, "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nold")?;
            Ok(After::Close)
        }
        "/cut" => {
            write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort")?;
            Ok(After::Close)
        }
        "/cut-chunk" => {
            write!(out, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab")?;
            Ok(After::Close)
        }
        "/reset" => Ok(After::Reset),
        "/closed" => Ok(After::Close),
        "/garbage" => {
            write!(out, "220 mail.example ESMTP\r\n\r\n")?;
            Ok(After::Close)
        }
        _ => respond(out, "400 Bad Request", "", b""),
    }
}

fn responses(setup: &Setup) {
    let server = Server::start(answer);
    let expected = [
        ("/ok", Outcome::Ok, Some(200), 64),
        ("/missing", Outcome::Ok, Some(404), 7),
        ("/large", Outcome::Ok, Some(200), 200_000),
        ("/none", Outcome::Ok, Some(204), 0),
        ("/interim", Outcome::Ok, Some(200), 5),
        ("/chunked", Outcome::Ok, Some(200), 10_000),
        ("/until-close", Outcome::Ok, Some(200), 5000),
        ("/old", Outcome::Ok, Some(200), 3),
        ("/cut", Outcome::Closed, Some(200), 5),
        ("/cut-chunk", Outcome::Closed, Some(200), 2),
        ("/reset", Outcome::Closed, None, 0),
        ("/closed", Outcome::Closed, None, 0),
        ("/garbage", Outcome::Protocol, None, 0),
    ];
    let urls: Vec<_> = expected.iter().map(|(path, ..)| server.url(path)).collect();
    let life = fetch(setup, &urls);
    let found = life.gathered.by_id();
    for (id, (path, outcome, status, bytes)) in (0..).zip(expected) {
        let (found_outcome, found_status, found_bytes, detail) = &found[&id];
        assert_eq!((*found_outcome, *found_status), (outcome, status), "{path}: {detail}");
        // A library may hand out less of what it could not finish.
        if outcome == Outcome::Ok || setup.client == Client::CORE {
            assert_eq!(*found_bytes, bytes, "{path}");
        }
        assert_eq!(detail.is_empty(), outcome == Outcome::Ok, "{path}: {detail}");
    }
    assert!(life.report.in_flight_peak <= setup.concurrency.get());
    assert!(life.report.counts.requests_sent >= urls.len() as u64);
    assert!(life.report.last_end >= life.report.first_start);
    for completion in &life.gathered.completions {
        assert!(completion.slot < setup.concurrency.get());
        assert!(completion.first_byte_us.unwrap_or(0) <= completion.duration_us);
        assert!(completion.connect_us <= completion.duration_us);
    }
}

fn request(setup: &Setup) {
    let server = Server::start(answer);
    let mut setup = setup.clone();
    setup.http.headers = vec![("X-Own".into(), "1".into())];
    verdict(&setup, &server.url("/ok?a=b#c"));
    assert_eq!(
        server.heads(),
        [format!(
            "GET /ok?a=b HTTP/1.1\r\nhost: {}\r\nx-own: 1\r\nuser-agent: fanout/test\r\naccept: */*\r\n\r\n",
            server.address
        )]
    );
}

/// How long a busy server asks to be left alone is told with its answer.
fn retry_after(setup: &Setup) {
    let server = Server::start(|head, out| match path(head) {
        "/seconds" => respond(out, "503 Busy", "retry-after: 7\r\n", b"no"),
        "/date" => respond(
            out,
            "429 Too Many Requests",
            "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nretry-after: Sun, 06 Nov 1994 08:51:07 GMT\r\n",
            b"no",
        ),
        "/silent" => respond(out, "503 Busy", "", b"no"),
        "/nonsense" => respond(out, "503 Busy", "retry-after: soon\r\n", b"no"),
        _ => respond(out, "200 OK", "retry-after: 7\r\n", b"yes"),
    });
    let expected = [
        ("/seconds", Some(7)),
        ("/date", Some(90)),
        ("/silent", None),
        ("/nonsense", None),
        ("/ok", None),
    ];
    let urls: Vec<_> = expected.iter().map(|(path, _)| server.url(path)).collect();
    let life = fetch(setup, &urls);
    for (id, (path, seconds)) in (0..).zip(expected) {
        assert_eq!(life.gathered.retry_after_s(id), seconds, "{path}");
    }
}

fn head(mut setup: Setup) {
    let server = Server::start(|head, out| {
        let body: &[u8] = if head.starts_with("HEAD ") { b"" } else { b"body" };
        write!(out, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")?;
        out.write_all(body)?;
        Ok(After::Keep)
    });
    setup.http.method = Method::Head;
    let life = fetch(&setup, &vec![server.url("/"); 20]);
    for found in life.gathered.by_id().values() {
        assert_eq!((found.0, found.1, found.2), (Outcome::Ok, Some(200), 0), "{}", found.3);
    }
    assert!(server.connections() <= most_connections(&setup));
}

fn redirects(mut setup: Setup) {
    let server = Server::start(|head, out| {
        let to = |status, location: &str, out| {
            respond(out, status, &format!("location: {location}\r\n"), b"moved")
        };
        match path(head) {
            "/301" => to("301 x", "/302", out),
            "/302" => to("302 x", "303?q", out),
            "/303?q" => to("303 x", "?307", out),
            "/303?307" => to("307 x", "./a/../308", out),
            "/308" => to("308 x", "/end", out),
            "/end" => respond(out, "200 OK", "", b"the end"),
            "/loop" => to("302 x", "/loop", out),
            "/ftp" => to("302 x", "ftp://127.0.0.1/", out),
            "/nowhere" => respond(out, "302 x", "", b"lost"),
            _ => respond(out, "404 x", "", b""),
        }
    });
    setup.http.redirects = 5;
    let urls = ["/301", "/loop", "/ftp", "/nowhere"].map(|path| server.url(path));
    let life = fetch(&setup, &urls);
    let found = life.gathered.by_id();
    let short = |id: u64| (found[&id].0, found[&id].1, found[&id].2);
    assert_eq!(short(0), (Outcome::Ok, Some(200), 7));
    assert_eq!(short(1), (Outcome::RedirectLimit, Some(302), 5));
    assert_eq!(found[&1].3, "more than 5 redirects");
    assert_eq!(short(2), (Outcome::BadRedirect, Some(302), 5));
    assert_eq!(short(3), (Outcome::Ok, Some(302), 4));
    assert_eq!(life.report.counts.redirects_followed, 10);
    assert_eq!(life.report.counts.requests_sent, 14);

    setup.http.redirects = 0;
    let found = verdict(&setup, &server.url("/loop"));
    assert_eq!((found.0, found.1, found.2), (Outcome::Ok, Some(302), 5));
}

fn secrets(mut setup: Setup) {
    let elsewhere = Server::start(answer);
    let there = elsewhere.url_by_name("/ok");
    let server =
        Server::start(move |_, out| respond(out, "302 x", &format!("location: {there}\r\n"), b""));
    setup.http.headers = vec![
        ("Authorization".into(), "secret".into()),
        ("Cookie".into(), "secret".into()),
        ("X-Public".into(), "yes".into()),
    ];
    let found = verdict(&setup, &server.url("/"));
    assert_eq!((found.0, found.1), (Outcome::Ok, Some(200)), "{}", found.3);
    assert!(server.heads()[0].contains("secret"));
    let told = elsewhere.heads().remove(0);
    assert!(!told.contains("secret") && told.contains("x-public: yes"), "{told}");
}

fn codings(mut setup: Setup) {
    let text = b"so much text ".repeat(1000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&text).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::stream::encode_all(&text[..], 3).unwrap();
    // One uncompressed metablock of "abc" and the empty last one (RFC 7932).
    let brotli = [0x20, 0x00, 0x10, b'a', b'b', b'c', 0x03];
    let lengths = [gzip.len(), zstd.len(), brotli.len()].map(|length| length as u64);
    let server = Server::start(move |head, out| {
        let (coding, body) = match path(head) {
            "/gzip" => ("gzip", &gzip[..]),
            "/zstd" => ("zstd", &zstd[..]),
            "/br" => ("br", &brotli[..]),
            "/cut" => ("gzip", &gzip[..gzip.len() - 5]),
            _ => ("gzip", &b"nonsense"[..]),
        };
        respond(out, "200 OK", &format!("content-encoding: {coding}\r\n"), body)
    });
    let urls = ["/gzip", "/zstd", "/br", "/cut", "/bad"].map(|path| server.url(path));

    let as_they_are = fetch(&setup, &urls).gathered.by_id();
    assert!(as_they_are.values().all(|found| found.0 == Outcome::Ok));
    assert!(server.heads().iter().all(|head| !head.contains("accept-encoding")));

    setup.http.decompress = true;
    let undone = fetch(&setup, &urls).gathered.by_id();
    for (id, length) in (0..).zip(lengths) {
        let found = &undone[&id];
        assert_eq!((found.0, found.2), (Outcome::Ok, length), "{}", found.3);
    }
    assert_eq!(undone[&3].0, Outcome::Decode);
    assert_eq!(undone[&4].0, Outcome::Decode);
    let last = server.heads().pop().unwrap();
    assert!(last.contains("accept-encoding: gzip, br, zstd\r\n"), "{last}");

    // What unfolds past the limit.
    setup.http.max_body_bytes = 12_999;
    let found = verdict(&setup, &urls[0]);
    assert_eq!(found.0, Outcome::TooLarge, "{}", found.3);
}

fn keep_alive(mut setup: Setup) {
    let server = Server::start(answer);
    let urls = vec![server.url("/ok"); 200];
    let life = fetch(&setup, &urls);
    assert!(life.gathered.by_id().values().all(|found| found.0 == Outcome::Ok));
    assert!(server.connections() <= most_connections(&setup));
    assert_eq!(life.report.counts.connections_opened, server.connections() as u64);

    setup.http.no_keepalive = true;
    let server = Server::start(answer);
    let urls = vec![server.url("/ok"); 20];
    let life = fetch(&setup, &urls);
    assert!(life.gathered.by_id().values().all(|found| found.0 == Outcome::Ok));
    assert_eq!(server.connections(), 20);
    assert_eq!(life.report.counts.connections_opened, 20);
    assert!(server.heads()[0].contains("connection: close\r\n"));
}

/// A pool may open a connection for a request that then gets one which another
/// request has just given back.
pub(crate) fn most_connections(setup: &Setup) -> usize {
    let slots = setup.concurrency.get() as usize;
    match setup.client {
        Client::REQWEST => 4 * slots,
        _ => slots,
    }
}

/// The server closes every connection after its response, without a word.
fn stale(setup: &Setup) {
    let server = Server::start(|_, out| {
        respond(out, "200 OK", "", b"x")?;
        Ok(After::Close)
    });
    let life = fetch(setup, &vec![server.url("/"); 50]);
    for found in life.gathered.by_id().values() {
        assert_eq!(found.0, Outcome::Ok, "{}", found.3);
    }
    assert_eq!(server.heads().len(), 50, "each was answered once");
    assert_eq!(life.report.counts.connections_opened, 50);
    assert_eq!(
        life.report.counts.requests_sent,
        50 + life.report.counts.stale_retries,
        "what was sent into a closed connection was sent again"
    );
}

/// Bytes that nobody asked for follow each response.
fn excess(setup: &Setup) {
    let server = Server::start(|_, out| {
        // In one piece, so that both are read together.
        out.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxHTTP/1.1 500 x\r\n\r\n")?;
        Ok(After::Keep)
    });
    let life = fetch(setup, &vec![server.url("/"); 20]);
    for found in life.gathered.by_id().values() {
        assert_eq!((found.0, found.1), (Outcome::Ok, Some(200)), "{}", found.3);
    }
    assert_eq!(server.connections(), 20);
}

/// By its address, and by a name whose first address does not answer.
fn ipv6(setup: &Setup) {
    let Some(server) = Server::start_on("[::1]:0", answer) else {
        // There is no IPv6 here.
        return;
    };
    for url in [server.url("/ok"), server.url_by_name("/ok")] {
        let found = verdict(setup, &url);
        assert_eq!((found.0, found.1), (Outcome::Ok, Some(200)), "{}", found.3);
    }
}

/// A slot keeps connections to a few hosts.
fn many_hosts(setup: &Setup) {
    let servers: Vec<_> = (0..3).map(|_| Server::start(answer)).collect();
    let urls: Vec<_> = (0..60).map(|n| servers[n % 3].url("/ok")).collect();
    let life = fetch(setup, &urls);
    assert!(life.gathered.by_id().values().all(|found| found.0 == Outcome::Ok));
    for server in servers {
        assert!(server.connections() <= setup.concurrency.get() as usize);
    }
}
