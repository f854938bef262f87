//! What is served when nothing goes wrong.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use fanout_origin::ServerSettings;

use crate::client::{Client, connect, eventually, origin, origin_with, threads};

const LINE: &str = "fanout origin: a line of 64 bytes, all text, with a newline....\n";

#[test]
fn a_response_has_these_bytes_and_no_others() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.send("GET /?size=64 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(
        client.rest(),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\
             Content-Length: 64\r\n\r\n{LINE}"
        )
    );
}

#[test]
fn a_connection_serves_one_request_after_another() {
    let origin = origin();
    let mut client = Client::new(&origin);
    for size in [0, 1, 64, 5000, 100_000] {
        let response = client.get(&format!("/any/path?size={size}"));
        assert_eq!(response.status(), 200);
        let expected: String = LINE.chars().cycle().take(size).collect();
        assert_eq!(response.text(), expected);
    }
    assert_eq!(origin.stats().connections_accepted, 1);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let requests: String =
        (1..=50).map(|size| format!("GET /?size={size} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    client.send(&requests);
    for size in 1..=50 {
        assert_eq!(client.response().body.len(), size);
    }
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.stream.set_nodelay(true).unwrap();
    for byte in b"GET /?size=5 HTTP/1.1\r\nHost: x\r\n\r\n" {
        client.stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(client.response().text(), "fanou");
}

#[test]
fn head_gets_the_head_and_the_connection_goes_on() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.send("HEAD /?size=1k HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(client.head().contains("Content-Length: 1024\r\n"));
    assert_eq!(client.get("/?size=3").text(), "fan");
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let origin = origin();
    let mut old = Client::new(&origin);
    old.send("GET /?size=3&chunked HTTP/1.0\r\n\r\n");
    let all = old.rest();
    assert!(all.contains("Connection: close\r\n"), "{all}");
    assert!(all.ends_with("\r\n\r\nfan"), "{all}");
    let mut kept = Client::new(&origin);
    for _ in 0..2 {
        kept.send("GET /?size=3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = kept.response();
        assert_eq!(response.field("Connection"), Some("keep-alive"));
        assert_eq!(response.text(), "fan");
    }
}

#[test]
fn a_large_body_streams() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.ask("/?size=20M");
    assert!(client.head().contains("Content-Length: 20971520\r\n"));
    let mut line = [0; 64];
    for _ in 0..20 * 1024 * 1024 / 64 {
        client.stream.read_exact(&mut line).unwrap();
        assert_eq!(line, LINE.as_bytes());
    }
    assert_eq!(client.get("/?size=1").body, b"f");
}

#[test]
fn a_body_may_end_with_the_connection() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.ask("/?close&size=10");
    let head = client.head();
    assert!(head.contains("Connection: close\r\n") && !head.contains("Length"));
    assert_eq!(client.rest(), "fanout ori");
}

#[test]
fn content_codings_name_themselves_and_decode() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let plain = client.get("/?size=150000").body;
    let response = client.get("/?size=150000&gzip");
    assert_eq!(response.field("Content-Encoding"), Some("gzip"));
    let mut decoded = Vec::new();
    flate2::bufread::GzDecoder::new(&response.body[..]).read_to_end(&mut decoded).unwrap();
    assert!(decoded == plain);
    let response = client.get("/?size=150000&br");
    assert_eq!(response.field("Content-Encoding"), Some("br"));
    let mut decoded = Vec::new();
    brotli_decompressor::BrotliDecompress(&mut &response.body[..], &mut decoded).unwrap();
    assert!(decoded == plain);
    let response = client.get("/?size=150000&zstd");
    assert_eq!(response.field("Content-Encoding"), Some("zstd"));
    assert!(zstd::decode_all(&response.body[..]).unwrap() == plain);
}

#[test]
fn a_request_body_is_read_and_thrown_away() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.send("POST /?size=3 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
    client.stream.write_all(&[b'x'; 100_000]).unwrap();
    assert_eq!(client.response().text(), "fan");
    client.send("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("ab");
    assert_eq!(client.response().status(), 200);
    assert_eq!(client.get("/?size=1").body, b"f");
}

#[test]
fn what_cannot_be_taken_is_refused_and_the_refusal_arrives() {
    let origin = origin();
    let refused = |request: &str| {
        let mut client = Client::new(&origin);
        client.send(request);
        let response = client.response();
        assert_eq!(response.field("Connection"), Some("close"));
        assert_eq!(client.rest(), "");
        response
    };
    let large = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n".to_owned();
    // The refusal must survive what the client goes on to send.
    assert_eq!(refused(&(large + &"x".repeat(50_000))).status(), 413);
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(refused(chunked).status(), 411);
    assert_eq!(refused("hello\r\n\r\n").status(), 400);
    assert_eq!(refused("GET / HTTP/1.1\r\n\r\n").status(), 400);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(40_000));
    let response = refused(&long);
    assert_eq!(response.status(), 431);
    assert!(response.text().contains("32768 bytes"), "{response:?}");
}

#[test]
fn a_bad_parameter_is_named_and_the_connection_goes_on() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let response = client.get("/?delay=5ms&size=big");
    assert_eq!(response.status(), 400);
    assert!(response.text().starts_with("size: 'big' does not fit"));
    let response = client.get("/?colour=red");
    assert!(response.text().starts_with("there is no parameter 'colour'"));
    assert_eq!(client.get("/").body.len(), 64);
}

#[test]
fn a_redirect_chain_ends_where_it_should() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let mut target = "/a?size=3&redirect=3".to_owned();
    for left in [2, 1] {
        let response = client.get(&target);
        assert_eq!(response.status(), 302);
        target = response.field("Location").unwrap().to_owned();
        assert_eq!(target, format!("/a?size=3&redirect={left}"));
    }
    let last = client.get(&target);
    assert_eq!(last.field("Location"), Some("/a?size=3"));
    assert_eq!(client.get("/a?size=3").text(), "fan");
}

#[test]
fn random_sizes_depend_on_seed_and_url_only() {
    let seeded =
        |seed, threads| origin_with(&ServerSettings { seed, ..crate::client::threads(threads) });
    let sizes = |origin, indices: &mut dyn Iterator<Item = u32>| {
        let mut sizes: Vec<(u32, usize)> = indices
            .map(|i| {
                let body = Client::new(origin).get(&format!("/{i}?size=1k..8k")).body;
                (i, body.len())
            })
            .collect();
        sizes.sort_unstable();
        sizes
    };
    let (one, two, other) = (seeded(7, 1), seeded(7, 3), seeded(8, 1));
    let expected = sizes(&one, &mut (0..20));
    assert_eq!(sizes(&two, &mut (0..20).rev()), expected);
    assert_ne!(sizes(&other, &mut (0..20)), expected);
}

#[test]
fn a_delayed_response_is_never_early() {
    let origin = origin();
    let mut client = Client::new(&origin);
    for delay_us in [300, 1000, 2500, 7001] {
        let start = Instant::now();
        client.get(&format!("/?delay={delay_us}us"));
        assert!(start.elapsed() >= Duration::from_micros(delay_us));
    }
}

#[test]
fn delays_do_not_wait_for_each_other() {
    let origin = origin();
    let mut slow = Client::new(&origin);
    slow.ask("/?delay=60s");
    eventually(&origin, |stats| stats.concurrency == 1);
    let mut quick = Client::new(&origin);
    assert_eq!(quick.get("/?delay=1ms").status(), 200);
}

#[test]
fn slow_and_split_responses_are_whole() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let start = Instant::now();
    assert_eq!(client.get("/?slow=1000&size=30").body.len(), 30);
    // Ten bytes at once, then ten every 10 ms.
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(client.get("/?slow-head=100000&size=30").body.len(), 30);
    let whole = client.get("/?size=100");
    assert_eq!(client.get("/?split&size=100"), whole);
}

#[test]
fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let settings =
        ServerSettings { idle_timeout: Duration::from_millis(100), ..ServerSettings::default() };
    let origin = origin_with(&settings);
    let mut idle = Client::new(&origin);
    idle.get("/");
    assert_eq!(idle.rest(), "");
    let mut never_asked = Client::new(&origin);
    assert_eq!(never_asked.rest(), "");
    let mut half_asked = Client::new(&origin);
    half_asked.send("GET / HTTP/1.1\r\n");
    assert_eq!(half_asked.rest(), "");
    // A delay is not idleness.
    let mut delayed = Client::new(&origin);
    assert_eq!(delayed.get("/?delay=250ms").status(), 200);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let settings =
        ServerSettings { idle_timeout: Duration::from_millis(100), ..ServerSettings::default() };
    let origin = origin_with(&settings);
    let mut client = Client::new(&origin);
    client.ask("/?size=1G");
    eventually(&origin, |stats| stats.connections_open == 1);
    eventually(&origin, |stats| stats.connections_open == 0);
}

#[test]
fn several_threads_serve() {
    let origin = origin_with(&threads(4));
    let mut clients: Vec<Client> = (0..16).map(|_| Client::new(&origin)).collect();
    for _ in 0..10 {
        for client in &mut clients {
            client.ask("/?size=1k..2k&delay=100us..200us");
        }
        for client in &mut clients {
            assert_eq!(client.response().status(), 200);
        }
    }
    let stats = eventually(&origin, |stats| stats.body_bytes > 160 * 1024);
    assert_eq!((stats.requests, stats.connections_accepted), (160, 16));
    assert_eq!((stats.delays, stats.threads), (160, 4));
}

#[test]
fn an_origin_that_stops_takes_its_connections_along() {
    let origin = origin_with(&threads(2));
    let address = origin.http_addr();
    let mut idle = Client::new(&origin);
    idle.get("/");
    let mut waiting = Client::new(&origin);
    waiting.ask("/?delay=60s");
    // Bytes that nobody has read would turn the close into a reset.
    eventually(&origin, |stats| stats.requests == 2);
    let token = origin.stop_token();
    origin.stop().unwrap();
    assert!(token.is_cancelled());
    assert_eq!(idle.rest(), "");
    assert_eq!(waiting.rest(), "");
    std::net::TcpListener::bind(address).unwrap();
}

#[test]
fn a_cancelled_token_stops_it_too() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.get("/");
    origin.stop_token().cancel();
    assert_eq!(client.rest(), "");
    origin.stop().unwrap();
}

#[test]
fn connections_beyond_the_backlog_of_one_turn_are_all_served() {
    let origin = origin();
    let mut streams: Vec<_> = (0..300).map(|_| connect(&origin)).collect();
    for stream in &mut streams {
        stream.write_all(b"GET /?size=1&close HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    for stream in &mut streams {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        assert!(all.ends_with("\r\n\r\nf"));
    }
}

#[test]
fn a_url_is_busy_as_often_as_it_says_and_then_no_more() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let mut visit = |url: &str| {
        let response = client.get(url);
        let retry_after = response.field("Retry-After").map(str::to_owned);
        (response.status(), retry_after)
    };
    let url = "/1?busy=2&retry-after=3";
    assert_eq!(visit(url), (503, Some("3".to_owned())));
    assert_eq!(visit("/2?busy=1&status=429"), (429, None));
    assert_eq!(visit(url), (503, Some("3".to_owned())));
    assert_eq!(visit(url), (200, None));
    assert_eq!(visit("/2?busy=1&status=429"), (200, None));
    origin.reset_stats();
    assert_eq!(visit(url), (503, Some("3".to_owned())));
}
