//! What goes wrong when a URL asks for it.

use std::io::Read;

use crate::client::{Client, eventually, origin};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 20\r\n\r\n";
const BODY: &str = "fanout origin: a lin";

#[test]
fn a_stalled_response_stops_where_it_says_and_stays_open() {
    let origin = origin();
    for (stage, expected) in [
        ("stall", HEAD.to_owned()),
        ("stall=before", String::new()),
        ("stall=in-head", HEAD[..HEAD.len() / 2].to_owned()),
        ("stall=in-body", format!("{HEAD}{}", &BODY[..10])),
        ("stall=after", format!("{HEAD}{BODY}")),
    ] {
        let mut client = Client::new(&origin);
        client.ask(&format!("/?size=20&{stage}"));
        let mut came = vec![0; expected.len()];
        client.stream.read_exact(&mut came).unwrap();
        assert_eq!(String::from_utf8(came).unwrap(), expected, "{stage}");
        assert!(client.hears_nothing(), "{stage}");
        // Another request changes nothing.
        client.ask("/");
        assert!(client.hears_nothing(), "{stage}");
    }
    // A client that gives up is noticed.
    eventually(&origin, |stats| stats.connections_open == 0);
}

#[test]
fn a_reset_is_a_reset() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.ask("/?reset");
    assert_eq!(client.reset(), "");
    // Bytes before a reset may be lost with it, so they are a beginning.
    for stage in ["in-head", "after-head", "in-body", "after"] {
        let mut client = Client::new(&origin);
        client.ask(&format!("/?size=20&reset={stage}"));
        let came = client.reset();
        assert!(format!("{HEAD}{BODY}").starts_with(&came), "{came}");
    }
}

#[test]
fn a_truncated_response_ends_in_the_middle() {
    let origin = origin();
    for (stage, expected) in [
        ("truncate", format!("{HEAD}{}", &BODY[..10])),
        ("truncate=before", String::new()),
        ("truncate=in-head", HEAD[..HEAD.len() / 2].to_owned()),
        ("truncate=after-head", HEAD.to_owned()),
    ] {
        let mut client = Client::new(&origin);
        client.ask(&format!("/?size=20&{stage}"));
        assert_eq!(client.rest(), expected, "{stage}");
    }
    let mut chunked = Client::new(&origin);
    chunked.ask("/?size=20&chunked&truncate");
    chunked.head();
    assert_eq!(chunked.rest(), "14\r\nfanout orig");
}

#[test]
fn a_kept_alive_connection_may_close_unannounced() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.get("/");
    client.ask("/?size=20&idle-close");
    assert_eq!(client.rest(), format!("{HEAD}{BODY}"));
}

#[test]
fn a_fault_may_hit_reused_connections_only() {
    let origin = origin();
    let mut client = Client::new(&origin);
    assert_eq!(client.get("/?truncate=before&if-reused").status(), 200);
    client.ask("/?truncate=before&if-reused");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_content_length_may_lie() {
    let origin = origin();
    let mut client = Client::new(&origin);
    let response = client.get("/?size=20&length-lie");
    assert_eq!(response.text(), &BODY[..10]);
    let mut extra = [0; 10];
    client.stream.read_exact(&mut extra).unwrap();
    assert_eq!(extra[..], BODY.as_bytes()[10..]);
    // Or promise more than comes, and leave the client to wait for it.
    let mut client = Client::new(&origin);
    client.ask("/?size=10&length-lie=long");
    assert!(client.head().contains("Content-Length: 20\r\n"));
    let mut half = [0; 10];
    client.stream.read_exact(&mut half).unwrap();
    assert_eq!(half, BODY.as_bytes()[..10]);
    assert!(client.hears_nothing());
}

#[test]
fn a_second_response_may_follow() {
    let origin = origin();
    let mut client = Client::new(&origin);
    assert_eq!(client.get("/?size=20&extra").text(), BODY);
    assert_eq!(client.response().text(), "extra\n");
}

#[test]
fn broken_heads_and_chunks_arrive_as_they_are() {
    let origin = origin();
    let mut garbage = Client::new(&origin);
    garbage.ask("/?bad-head");
    assert_eq!(garbage.rest(), "SSH-2.0-origin this is no HTTP\r\n");
    let mut none = Client::new(&origin);
    none.ask("/?bad-head=none&size=20");
    assert_eq!(none.rest(), BODY);
    let mut nul = Client::new(&origin);
    assert!(nul.get("/?bad-head=nul").head.contains("a\0b"));
    let mut chunk = Client::new(&origin);
    chunk.send("GET /?bad-chunk HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    chunk.head();
    assert_eq!(chunk.rest(), "size\r\nbody\r\n0\r\n\r\n");
}

#[test]
fn many_long_and_interim_heads_arrive() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.ask("/?interim=2&size=20");
    for _ in 0..2 {
        assert_eq!(client.head(), "HTTP/1.1 102 Processing\r\n\r\n");
    }
    assert_eq!(client.response().text(), BODY);
    let response = client.get("/?headers=1000&header-size=50000");
    assert_eq!(response.head.matches("X-Filler: ").count(), 1000);
    assert_eq!(response.field("X-Long"), Some(&*"a".repeat(50_000)));
}

#[test]
fn what_is_endless_lasts_until_the_client_leaves() {
    let origin = origin();
    for query in
        ["endless", "endless&chunked", "endless=head", "bad-chunk=endless", "bad-chunk=trailers"]
    {
        let mut client = Client::new(&origin);
        client.ask(&format!("/?{query}"));
        let mut some = vec![0; 1 << 20];
        client.stream.read_exact(&mut some).unwrap();
    }
    let stats = eventually(&origin, |stats| stats.connections_open == 0);
    assert!(stats.sent_bytes >= 5 << 20);
    assert_eq!((stats.body_bytes, stats.concurrency), (0, 0));
}
