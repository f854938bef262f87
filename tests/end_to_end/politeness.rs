//! Limits per host, over all workers together, and patience with busy hosts.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Origin, Place};

const WORKERS: [&str; 4] = ["--arm", "6xasync:16", "--local-workers", "3"];

#[track_caller]
fn once_each(records: &[Value], count: u64) {
    let mut ids: Vec<_> = records.iter().map(|r| r["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..count).collect::<Vec<_>>());
}

fn peak(origin: &Origin) -> u64 {
    origin.stats()["concurrency_peak"].as_u64().unwrap()
}

#[test]
fn no_host_gets_more_at_a_time_from_all_workers_together() {
    let place = Place::new();
    // Two ports are two hosts; every origin counts for itself.
    let (one, other) = (place.origin(), place.origin());
    let list: String = (0..150)
        .map(|i| match i % 3 {
            0 => format!("{}/{i}?delay=5ms\n", other.base),
            _ => format!("{}/{i}?delay=5ms\n", one.base),
        })
        .collect();
    place.write("urls.txt", list);
    let ran = place
        .run(&[&["fetch", "urls.txt", "--max-per-host", "3"], &WORKERS[..]].concat())
        .expect(0);
    once_each(&ran.records(), 150);
    assert!(ran.stderr.contains("150 ok"), "{}", ran.stderr);
    assert!(ran.stderr.contains("limits per host"), "{}", ran.stderr);
    for origin in [&one, &other] {
        assert!(peak(origin) <= 3, "{}", peak(origin));
    }
    // Names lead to the same machine and are hosts of their own all the same.
    let port = one.base.rsplit(':').next().unwrap();
    let list: String = (0..60)
        .map(|i| match i % 2 {
            0 => format!("http://localhost:{port}/{i}?delay=5ms\n"),
            _ => format!("http://127.0.0.1:{port}/{i}?delay=5ms\n"),
        })
        .collect();
    one.reset_stats();
    place.write("names.txt", list);
    let ran = place
        .run(&[&["fetch", "names.txt", "--max-per-host", "1"], &WORKERS[..]].concat())
        .expect(0);
    once_each(&ran.records(), 60);
    assert!(peak(&one) <= 2, "{}", peak(&one));
    drop((one, other));
    place.assert_nothing_left();
}

#[test]
fn urls_of_a_host_are_leased_no_faster_than_the_rate() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(21, "size=10"));
    let ran = place
        .run(&[&["fetch", "urls.txt", "--rate-per-host", "20"], &WORKERS[..]].concat())
        .expect(0);
    once_each(&ran.records(), 21);
    // 21 URLs are 20 intervals of 50 ms. Go and the first lease leave together,
    // and a worker may need a moment more for the one than for the other.
    let last = ran.records().iter().filter_map(|r| r["end_s"].as_f64()).fold(0.0, f64::max);
    let told = ran.stderr.split(" in ").nth(1).unwrap();
    let makespan_s: f64 = told.split(' ').next().unwrap().parse().unwrap();
    assert!(makespan_s >= 1.0, "{}", ran.stderr);
    assert!(last <= makespan_s + 1.0, "{last} {}", ran.stderr);
}

#[test]
fn a_busy_host_is_heeded_under_every_client() {
    let place = Place::new();
    let origin = place.origin();
    for (arm, status) in [("2xasync:4", 503), ("2xthreads:4@ureq", 429), ("2xasync:4@reqwest", 503)]
    {
        origin.reset_stats();
        let query = format!("busy=1&retry-after=1&status={status}");
        place.write("urls.txt", origin.list(3, &query));
        let args = ["fetch", "urls.txt", "--polite", "--max-per-host", "3"];
        let ran =
            place.run(&[&args[..], &["--arm", arm, "--local-workers", "2"]].concat()).expect(0);
        let records = ran.records();
        once_each(&records, 3);
        for record in &records {
            assert_eq!(record["status"], 200, "{arm}: {record}");
            assert_eq!(record["outcome"], "ok");
            assert_eq!(record["attempt"], 2);
        }
        assert!(
            ran.stderr.contains("3 answers of 429 or 503 were heeded"),
            "{arm}: {}",
            ran.stderr
        );
        // Each was asked for twice, and no sooner than the server said.
        let stats = origin.stats();
        assert_eq!(stats["requests"], 6, "{arm}");
        assert_eq!(stats["responses"][status.to_string()], 3, "{arm}");
        let told = ran.stderr.split(" in ").nth(1).unwrap();
        let makespan_s: f64 = told.split(' ').next().unwrap().parse().unwrap();
        assert!(makespan_s >= 1.0, "{arm}: {}", ran.stderr);
    }
}

#[test]
fn patience_has_an_end_and_then_the_answer_stands() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(1, "status=503&retry-after=0"));
    let ran = place.run(&["fetch", "urls.txt", "--polite"]).expect(0);
    let records = ran.records();
    once_each(&records, 1);
    assert_eq!(records[0]["status"], 503);
    assert_eq!(records[0]["outcome"], "ok");
    assert_eq!(records[0]["attempt"], 4);
    assert_eq!(origin.stats()["requests"], 4);
    // Who is not polite takes the first answer.
    origin.reset_stats();
    let ran = place.run(&["fetch", "urls.txt"]).expect(0);
    assert_eq!(ran.records()[0]["attempt"], 1);
    assert_eq!(origin.stats()["requests"], 1);
}

#[test]
fn the_flags_travel_to_a_fleet() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let workers = ["a", "b"].map(|name| serving.worker(&place, name));
    let origin = place.origin();
    place.write("urls.txt", origin.list(40, "delay=5ms"));
    let ran = place
        .run(&[
            "fetch",
            "urls.txt",
            "--max-per-host",
            "2",
            "--arm",
            "4xasync:8",
            "--workers",
            "2",
            "--coordinator",
            &serving.url,
        ])
        .expect(0);
    once_each(&ran.records(), 40);
    assert!(peak(&origin) <= 2, "{}", peak(&origin));
    drop((workers, serving, origin));
    place.assert_nothing_left();
}

#[test]
fn a_study_keeps_to_the_limit_and_says_who_felt_it() {
    let place = Place::new();
    let args = ["study", "--blocks", "1", "--format", "json", "--max-per-host", "12"];
    let arms = ["--arm", "async:32", "--arm", "async:8", "--baseline", "async:32"];
    let ran = place.run(&[&args[..], &arms].concat());
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(study["manifest"]["max_per_host"], 12);
    let mut waits: BTreeMap<&str, f64> = BTreeMap::new();
    for trial in study["trials"].as_array().unwrap() {
        let peak = trial["origin"]["concurrent_peak"].as_u64();
        assert!(peak.unwrap() <= 12, "{trial}");
        let wait = trial["host_wait_s"].as_f64().unwrap();
        waits.insert(trial["arm"].as_str().unwrap(), wait);
    }
    assert!(waits["async:32"] > waits["async:8"], "{waits:?}");
    let caveats = study["caveats"].to_string();
    assert!(caveats.contains("--max-per-host 12 held arms back"), "{caveats}");
}
