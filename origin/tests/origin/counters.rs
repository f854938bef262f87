//! The server's side of a trial: `/stats`.

use std::collections::BTreeMap;

use fanout_origin::{OriginServer, Stats};

use crate::client::{Client, eventually, origin};

fn stats(origin: &OriginServer, path: &str) -> Stats {
    let response = Client::new(origin).get(path);
    assert_eq!(response.field("Content-Type"), Some("application/json"));
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn what_was_served_is_counted() {
    let origin = origin();
    let mut client = Client::new(&origin);
    client.get("/?size=100");
    client.get("/?size=50&status=503");
    client.get("/?nonsense");
    client.get("/?size=20&gzip&delay=2ms");
    let coded = client.get("/?size=20&gzip").body.len();
    let bad = client.get("/?nonsense").body.len();
    let stats = stats(&origin, "/stats");
    assert_eq!(stats.requests, 6);
    assert_eq!(stats.responses, BTreeMap::from([(200, 3), (400, 2), (503, 1)]));
    let body_bytes = u64::try_from(150 + 2 * coded + 2 * bad).unwrap();
    assert_eq!(stats.body_bytes, body_bytes);
    assert!(stats.sent_bytes > body_bytes);
    assert_eq!(stats.delays, 1);
    assert!((stats.delay_requested_s - 0.002).abs() < 1e-9);
    assert!(stats.delay_actual_s >= stats.delay_requested_s);
    assert!(stats.delay_overshoot_mean_us <= stats.delay_overshoot_max_us + 1e-3);
    assert_eq!((stats.connections_accepted, stats.connections_open), (1, 1));
    assert_eq!((stats.concurrency, stats.concurrency_peak), (0, 1));
    assert!(stats.uptime_s >= stats.counting_s && stats.counting_s > 0.0);
}

#[test]
fn asking_for_the_counters_changes_none_of_them() {
    let origin = origin();
    Client::new(&origin).get("/");
    eventually(&origin, |stats| stats.connections_open == 0);
    let count = |stats: Stats| {
        (
            stats.requests,
            stats.connections_accepted,
            stats.connections_unused,
            stats.connections_peak,
            stats.concurrency_peak,
            stats.sent_bytes,
        )
    };
    let before = count(stats(&origin, "/stats"));
    for _ in 0..3 {
        assert_eq!(count(stats(&origin, "/stats?")), before);
    }
    assert_eq!(count(origin.stats()), before);
}

#[test]
fn peaks_are_those_of_the_clients() {
    let origin = origin();
    let mut clients: Vec<Client> = (0..5).map(|_| Client::new(&origin)).collect();
    for client in &mut clients {
        client.ask("/?stall");
        client.head();
    }
    let mut idle = Client::new(&origin);
    idle.get("/");
    let seen = stats(&origin, "/stats");
    assert_eq!((seen.connections_open, seen.connections_peak), (6, 6));
    // A stalled response is one that is not done.
    assert_eq!((seen.concurrency, seen.concurrency_peak), (5, 6));
    clients.clear();
    eventually(&origin, |stats| stats.connections_open == 1);
    let reset = stats(&origin, "/stats/reset");
    assert_eq!((reset.connections_peak, reset.requests), (6, 6));
    let after = stats(&origin, "/stats");
    assert_eq!((after.connections_open, after.connections_peak), (1, 1));
    assert_eq!((after.requests, after.connections_accepted), (0, 0));
    assert!(after.responses.is_empty());
    origin.reset_stats();
    assert_eq!(origin.stats().connections_peak, 1);
}

#[test]
fn concurrent_requests_are_counted_while_they_wait() {
    let origin = origin();
    let mut clients: Vec<Client> = (0..7).map(|_| Client::new(&origin)).collect();
    for client in &mut clients {
        client.ask("/?delay=60s");
    }
    let seen = eventually(&origin, |stats| stats.concurrency == 7);
    assert_eq!((seen.concurrency_peak, seen.requests), (7, 7));
    assert!(seen.responses.is_empty());
}

#[test]
fn unused_connections_are_told_apart() {
    let origin = origin();
    drop(Client::new(&origin));
    let seen = eventually(&origin, |stats| stats.connections_unused == 1);
    assert_eq!((seen.connections_accepted, seen.connections_peak), (0, 0));
}

#[test]
fn connections_that_the_origin_closes_are_told_from_those_that_clients_close() {
    let origin = origin();
    let mut closed = Client::new(&origin);
    closed.get("/?idle-close");
    closed.rest();
    drop(closed);
    Client::new(&origin).get("/");
    let seen = eventually(&origin, |stats| stats.connections_open == 0);
    assert_eq!((seen.connections_accepted, seen.connections_closed), (2, 1));
}
