//! A daemon among strangers: wrong tokens, wrong protocols, slow headers.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    process::Stdio,
    time::Duration,
};

use crate::harness::{Place, Serving, read, wait_for};

/// What comes back for these bytes, to the connection's end.
fn answer(url: &str, bytes: &[u8]) -> Vec<u8> {
    let (_, address) = url.split_once("://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    // A reset ends a connection as well.
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn logged(place: &Place) -> Vec<String> {
    let log = read(&place.path("log"));
    log.lines().map(str::to_owned).collect()
}

fn serve(place: &Place) -> Serving {
    place.write("token", "s3cret\n");
    let log = File::create(place.path("log")).unwrap();
    let args = ["--token-file", "token"];
    place.serve_logging("127.0.0.1:0", &args, Stdio::from(log))
}

#[test]
fn a_thousand_refused_peers_are_a_few_lines_in_the_log() {
    const EACH: usize = 250;
    let place = Place::new();
    let serving = serve(&place);
    for _ in 0..EACH {
        let http = answer(&serving.url, b"GET / HTTP/1.1\r\n\r\n");
        assert!(http.starts_with(b"HTTP/1.1 400 "));
        assert_eq!(answer(&serving.url, b"\x16\x03\x01\0\x05hello")[0], 0x15);
        assert_eq!(answer(&serving.url, b"\0\0garbage"), b"");
        let page = serving.get("/", "Authorization: Bearer wr0ng\r\n");
        assert!(page.starts_with("HTTP/1.1 401 "), "{page}");
    }
    let asked = place.run(&["status", "--coordinator", &serving.url]);
    assert!(asked.expect(3).stderr.contains("wrong or missing token"));
    let worker = ["worker", "--once", "--coordinator", &serving.url];
    assert!(place.run(&worker).expect(3).stderr.contains("token"));
    let lines = logged(&place);
    assert!(lines.len() <= 12, "{lines:#?}");
    for reason in [
        "HTTP/1 to the gRPC port",
        "TLS to a port that speaks plain text",
        "what came is no HTTP",
        "a page with a wrong token",
        "a client with a wrong or missing token",
        "a worker with a wrong or missing token",
    ] {
        let told = lines.iter().filter(|line| line.contains(reason)).count();
        assert!((1..=2).contains(&told), "{reason}: {lines:#?}");
    }
    let known = ["--token-file", "token"];
    let status = ["status", "--coordinator", &serving.url];
    place.run(&[&status[..], &known].concat()).expect(0);
    assert!(serving.get("/", "Authorization: Bearer s3cret\r\n").contains(" 200 OK"));
}

#[test]
fn the_pages_bound_a_header_in_size_and_time() {
    let place = Place::new();
    let serving = serve(&place);
    let endless = format!("GET / HTTP/1.1\r\nx: {}", "a".repeat(300_000));
    let said = String::from_utf8(answer(&serving.pages, endless.as_bytes())).unwrap();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 431 "), "{said}");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(500));
    let said = String::from_utf8(answer(&serving.pages, many.as_bytes())).unwrap();
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
    // A header that never ends, on many connections, while others are served.
    let (_, address) = serving.pages.split_once("://").unwrap();
    let slow: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: ").unwrap();
            stream
        })
        .collect();
    assert!(serving.get("/healthz", "").starts_with("HTTP/1.1 200 "));
    for mut stream in slow {
        let wait = Duration::from_millis(200);
        stream.set_read_timeout(Some(wait)).unwrap();
        wait_for("a slow header's connection to be closed", || match stream.read(&mut [0; 512]) {
            Ok(0) => Some(()),
            Ok(_) => None,
            Err(error) => (error.kind() == std::io::ErrorKind::ConnectionReset).then_some(()),
        });
    }
    assert!(serving.get("/healthz", "").starts_with("HTTP/1.1 200 "));
}
