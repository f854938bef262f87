//! Whatever is killed, every URL is recorded once and no process is left.

use rustix::process::{Signal, kill_process};

use crate::harness::{Place, assert_each_once, ids, read, records, wait_for};

/// URLs that take long enough to be interrupted.
const URLS: usize = 400;

fn slow_list(place: &Place, base: &str) {
    let list: String = (0..URLS).map(|i| format!("{base}/{i}?delay=50ms\n")).collect();
    place.write("urls.txt", list);
}

/// Waits until the results file holds a few records.
fn some_records(place: &Place, name: &str) {
    wait_for("some records", || {
        let text = std::fs::read_to_string(place.path(name)).ok()?;
        (text.lines().count() > 20).then_some(())
    });
}

#[test]
fn a_killed_fetcher_loses_nothing() {
    let place = Place::new();
    let origin = place.origin();
    slow_list(&place, &origin.base);
    let run = place.start(&["fetch", "urls.txt", "--arm", "2xthreads:4", "--out", "got.jsonl"]);
    some_records(&place, "got.jsonl.part");
    let victim = place.processes("fetcher")[0];
    kill_process(victim, Signal::KILL).unwrap();
    let ran = run.finish().expect(0);
    assert_each_once(ids(&read(&place.path("got.jsonl"))), URLS as u64);
    assert!(ran.stderr.contains("leases were lost"), "{}", ran.stderr);
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn a_killed_worker_loses_nothing_while_another_lives() {
    let place = Place::new();
    let origin = place.origin();
    slow_list(&place, &origin.base);
    let run = place.start(&[
        "fetch",
        "urls.txt",
        "--arm",
        "4xasync:2",
        "--local-workers",
        "2",
        "--out",
        "got.jsonl",
    ]);
    some_records(&place, "got.jsonl.part");
    let victim = place.processes("worker")[0];
    kill_process(victim, Signal::KILL).unwrap();
    run.finish().expect(0);
    assert_each_once(ids(&read(&place.path("got.jsonl"))), URLS as u64);
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn without_any_worker_a_fetch_ends_and_keeps_its_part() {
    let place = Place::new();
    let origin = place.origin();
    slow_list(&place, &origin.base);
    let run = place.start(&["fetch", "urls.txt", "--arm", "async:4", "--out", "got.jsonl"]);
    some_records(&place, "got.jsonl.part");
    kill_process(place.processes("worker")[0], Signal::KILL).unwrap();
    let ran = run.finish().expect(3);
    assert!(ran.stderr.contains("all fetchers are lost"), "{}", ran.stderr);
    assert!(!records(&read(&place.path("got.jsonl.part"))).is_empty());
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn a_killed_coordinator_leaves_no_process_behind() {
    let place = Place::new();
    let run = place.start(&["study", "--arm", "4xsequential", "--arm", "threads:8"]);
    wait_for("fetchers", || (place.processes("fetcher").len() >= 4).then_some(()));
    run.signal(Signal::KILL);
    drop(run);
    place.assert_nothing_left();
}

#[test]
fn a_killed_study_can_still_be_reported() {
    let place = Place::new();
    let run = place.start(&["study", "--arm", "async:32", "--blocks", "500", "--out", "kept"]);
    wait_for("a kept block", || {
        let part = std::fs::read_to_string(place.path("kept/study.json.part")).ok()?;
        part.contains(r#""block": 1"#).then_some(())
    });
    run.signal(Signal::KILL);
    drop(run);
    place.assert_nothing_left();
    let ran = place.run(&["report", "kept"]).expect(0);
    assert!(ran.stdout.contains("async:32"), "{}", ran.stdout);
    assert!(read(&place.path("kept/report.html")).contains("</html>"));
}

#[test]
fn an_interrupted_study_saves_its_trials() {
    let place = Place::new();
    let run = place.start(&["study", "--arm", "async:32", "--blocks", "500", "--out", "kept"]);
    wait_for("the first blocks", || place.path("kept/study.json.part").exists().then_some(()));
    run.signal(Signal::INT);
    let ran = run.finish().expect(130);
    let study: serde_json::Value =
        serde_json::from_str(&read(&place.path("kept/study.json"))).unwrap();
    assert_eq!(study["interrupted"], true);
    assert!(!study["trials"].as_array().unwrap().is_empty());
    assert!(ran.stdout.contains("async:32"), "{}", ran.stdout);
    place.assert_nothing_left();
}

#[test]
fn an_interrupted_fetch_finishes_what_is_in_hand() {
    let place = Place::new();
    let origin = place.origin();
    slow_list(&place, &origin.base);
    let run = place.start(&["fetch", "urls.txt", "--arm", "async:4", "--out", "got.jsonl"]);
    some_records(&place, "got.jsonl.part");
    run.signal(Signal::INT);
    let ran = run.finish().expect(130);
    let kept = records(&read(&place.path("got.jsonl.part")));
    assert!(kept.len() < URLS);
    assert!(kept.iter().all(|r| r["outcome"] == "ok"), "{}", ran.stderr);
    assert!(ran.stderr.contains("got.jsonl.part"), "{}", ran.stderr);
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn a_frozen_fetcher_is_given_up() {
    let place = Place::new();
    let origin = place.origin();
    slow_list(&place, &origin.base);
    let run = place.start(&[
        "fetch",
        "urls.txt",
        "--arm",
        "2xthreads:4",
        "--timeout",
        "1s",
        "--out",
        "got.jsonl",
    ]);
    some_records(&place, "got.jsonl.part");
    kill_process(place.processes("fetcher")[0], Signal::STOP).unwrap();
    run.finish().expect(0);
    assert_each_once(ids(&read(&place.path("got.jsonl"))), URLS as u64);
    drop(origin);
    place.assert_nothing_left();
}
