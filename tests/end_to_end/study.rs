use std::ops::Range;

use serde_json::Value;

use crate::harness::{Place, Server, read};

#[test]
fn a_study_compares_its_arms_and_keeps_everything() {
    let place = Place::new();
    let ran = place
        .run(&[
            "study",
            "--blocks",
            "2",
            "--seed",
            "5",
            "--margin",
            "2%",
            "--out",
            "kept",
            "--format",
            "json",
            "--arm",
            "async:32",
            "--arm",
            "threads:32",
            "--arm",
            "2xasync:16@reqwest",
        ])
        .expect(0);
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(study["manifest"]["seed"], 5);
    assert_eq!(study["manifest"]["urls"], 1000);
    assert_eq!(study["manifest"]["baseline"], "async:32");
    assert_eq!(study["arms"].as_array().unwrap().len(), 4, "with the control");
    let trials = study["trials"].as_array().unwrap();
    assert!(trials.len() >= 12, "{}", trials.len());
    for trial in trials {
        assert_eq!(trial["completed"], 1000, "{trial}");
        assert_eq!(trial["failed"], 0);
        assert_eq!(trial["discarded"], trial["block"] == 0);
        for known in [
            "makespan_s",
            "fetch_makespan_s",
            "spawn_s",
            "requests_per_s",
            "cpu_user_s",
            "cpu_system_s",
            "voluntary_switches",
            "involuntary_switches",
            "run_queue_wait_s",
            "threads_peak",
            "pss_peak_bytes",
            "uss_peak_bytes",
            "hwm_sum_bytes",
            "in_flight_mean",
        ] {
            assert!(trial[known].is_number(), "{known} of {}", trial["arm"]);
        }
        assert!(trial["latency_s"]["p50"].as_f64().unwrap() > 0.001);
        assert!(trial["makespan_s"].as_f64() >= trial["fetch_makespan_s"].as_f64());
        // The server's side of the same trial.
        assert_eq!(trial["origin"]["requests"], 1000, "{}", trial["arm"]);
        assert!(trial["origin"]["concurrent_peak"].as_u64().unwrap() <= 32);
        let threads = trial["threads_peak"].as_u64().unwrap();
        match trial["arm"].as_str().unwrap() {
            "async:32" | "async:32 (again)" => assert_eq!(threads, 1),
            "threads:32" => assert!((32..=34).contains(&threads), "{threads}"),
            "2xasync:16@reqwest" => assert_eq!(threads, 2),
            other => panic!("unexpected arm {other}"),
        }
    }
    for file in ["study.json", "trials.csv", "report.html"] {
        assert!(!read(&place.path("kept").join(file)).is_empty());
        assert!(!place.path("kept").join(format!("{file}.part")).exists());
    }
    assert_eq!(study["analysis"]["margin"], 0.02);
    let margin = |args: &[&str]| -> Value {
        let args = [&["report", "kept", "--format", "json"], args].concat();
        let again: Value = serde_json::from_str(&place.run(&args).expect(0).stdout).unwrap();
        assert_eq!(again["analysis"]["margin"], again["regimes"][0]["study"]["analysis"]["margin"]);
        again["analysis"]["margin"].clone()
    };
    assert_eq!(margin(&[]), 0.02, "as recorded");
    assert_eq!(margin(&["--margin", "10%"]), 0.1);
    let again = place.run(&["report", "kept", "--format", "csv"]).expect(0);
    let fast = &study["regimes"][0];
    assert_eq!((&fast["name"], &fast["delay_s"]), (&"fast".into(), &0.0.into()));
    assert_eq!(fast["study"]["manifest"]["urls"], 3000);
    let there = fast["study"]["trials"].as_array().unwrap();
    assert_eq!(there.len(), trials.len(), "every arm also meets the server that answers at once");
    assert!(there.iter().all(|trial| trial["completed"] == 3000), "{there:?}");
    assert_eq!(again.stdout.lines().count(), trials.len() + there.len() + 1);
    place.assert_nothing_left();
}

#[test]
fn a_map_has_a_record_of_every_cell_and_shows_its_grids() {
    let place = Place::new();
    let ran = place
        .run(&["study", "--map", "--blocks", "1", "--arm", "async:32", "--out", "kept"])
        .expect(0);
    assert!(ran.stderr.contains("a map of 20 cells and 1 arm takes about"), "{}", ran.stderr);
    assert!(ran.stdout.contains("delay 50.0 ms"), "{}", ran.stdout);
    let study: Value = serde_json::from_str(&read(&place.path("kept/study.json"))).unwrap();
    assert_eq!(study["trials"].as_array().unwrap().len(), 0);
    let cells = study["regimes"].as_array().unwrap();
    assert_eq!(cells.len(), 20);
    for cell in cells {
        let trials = cell["study"]["trials"].as_array().unwrap();
        let urls = &cell["study"]["manifest"]["urls"];
        assert!(trials.iter().all(|trial| trial["completed"] == *urls), "{cell}");
        // A map has no control: a trial to warm up, and one that counts.
        assert_eq!(trials.iter().filter(|trial| trial["valid"] == true).count(), 1, "{cell}");
        assert_eq!(cell["cpu_work_s"], cell["study"]["manifest"]["http"]["cpu_work_s"]);
    }
    // A cell with 2 ms of work in 50 ms takes longer than the work of all its URLs.
    let makespan_s = cells[19]["study"]["trials"][1]["makespan_s"].as_f64().unwrap();
    assert!(makespan_s > 96.0 * 0.002, "{makespan_s}");
    place.assert_nothing_left();
}

#[test]
fn the_table_says_who_is_faster_in_plain_words() {
    let place = Place::new();
    let ran = place
        .run(&["study", "--blocks", "2", "--arm", "async:{4,32}", "--baseline", "async:4"])
        .expect(0);
    assert!(ran.stdout.contains("async:32"), "{}", ran.stdout);
    assert!(ran.stderr.contains("report: studies/"), "{}", ran.stderr);
}

#[test]
fn a_slow_arm_runs_in_few_blocks_and_the_output_says_so() {
    let place = Place::new();
    let ran = place
        .run(&[
            "study", "--blocks", "4", "--format", "json", "--arm", "async:64", "--arm", "async:4",
        ])
        .expect(0);
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    let trials = |arm: &str| {
        let all = study["trials"].as_array().unwrap().iter();
        all.filter(|t| t["arm"] == arm && t["valid"] == true).count()
    };
    assert_eq!(trials("async:64"), 4);
    assert_eq!(trials("async:4"), 3);
    let arm = &study["arms"][1];
    assert!(arm["shortened"].as_str().unwrap().contains("3 of 4 blocks"), "{arm}");
}

#[test]
fn a_study_beyond_this_machine_asks_first() {
    let place = Place::new();
    place.write("urls.txt", "https://example.com/1\nhttps://example.com/2\nhttps://example.org/\n");
    let ran = place.run(&["study", "urls.txt"]).expect(2);
    assert!(ran.stderr.contains("2  example.com"), "{}", ran.stderr);
    assert!(ran.stderr.contains("pass --yes"), "{}", ran.stderr);
    assert!(!place.path("studies").exists());
}

#[test]
fn an_open_loop_tells_latency_from_the_intended_start_too() {
    let place = Place::new();
    let ran = place
        .run(&[
            "study",
            "--blocks",
            "1",
            "--rate",
            "2000",
            "--format",
            "json",
            "--arm",
            "2xasync:32",
            "--arm",
            "threads:32",
            "--arm",
            "sequential",
        ])
        .expect(0);
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(study["manifest"]["rate_per_s"], 2000.0);
    for trial in study["trials"].as_array().unwrap().iter().filter(|t| t["valid"] == true) {
        // 1,000 URLs at 2,000 a second: the last is taken up after half a second.
        assert!(trial["makespan_s"].as_f64().unwrap() > 0.49, "{trial}");
        let p50 = |name: &str| trial[name]["p50"].as_f64().unwrap();
        assert!(p50("sojourn_s") >= p50("latency_s"), "{trial}");
        let late = trial["late_starts"].as_u64().unwrap();
        if trial["arm"] == "sequential" {
            // It needs 8 ms for each, and one is due every half millisecond.
            assert!(late > 900 && p50("sojourn_s") > 1.0, "{trial}");
        }
    }
    let threads = study["trials"].as_array().unwrap().iter().find(|t| t["arm"] == "threads:32");
    assert_eq!(threads.unwrap()["queue_wait_s"]["count"], 1000);
}

#[test]
fn the_baseline_can_be_run_against_itself() {
    let place = Place::new();
    let ran = place
        .run(&["study", "--aa", "2", "--blocks", "1", "--arm", "async:64", "--out", "kept"])
        .expect(0);
    assert!(ran.stdout.contains("No study came to a verdict"), "{}", ran.stdout);
    assert!(place.path("kept/0001/study.json").exists());
    assert!(place.path("kept/0002/report.html").exists());
}

/// Two arms and the control over ten URLs: thirty requests a block.
fn study_of_changing_pages(larger: &[Range<usize>]) -> Value {
    let place = Place::new();
    let server = Server::start(larger.to_vec());
    let list: String = (0..10).map(|i| format!("{}/{i}\n", server.base)).collect();
    place.write("urls.txt", list);
    let ran = place
        .run(&[
            "study",
            "urls.txt",
            "--blocks",
            "2",
            "--format",
            "json",
            "--arm",
            "sequential",
            "--arm",
            "async:2",
        ])
        .expect(0);
    serde_json::from_str(&ran.stdout).unwrap()
}

fn of_block(study: &Value, block: u64) -> Vec<&Value> {
    let trials = study["trials"].as_array().unwrap();
    trials.iter().filter(|t| t["block"] == block).collect()
}

#[test]
fn a_trial_that_fetched_something_else_is_run_again() {
    // The last trial of the first block, then the first one of the second.
    let study = study_of_changing_pages(&[50..60, 70..80]);
    for (block, at) in [(1, 2), (2, 0)] {
        let trials = of_block(&study, block);
        assert_eq!(trials.len(), 4, "{trials:#?}");
        let (stray, again) = (trials[at], trials[at + 1]);
        assert_eq!(stray["valid"], false, "{stray}");
        let reason = stray["invalid_reasons"][0].as_str().unwrap();
        assert!(reason.starts_with("its bodies have 1000 B"), "{reason}");
        assert_eq!(again["arm"], stray["arm"]);
        assert_eq!(again["valid"], true, "{again}");
    }
}

#[test]
fn a_trial_that_is_outvoted_later_is_run_again() {
    // The very first trial: only the next ones show that it is the stray.
    let study = study_of_changing_pages(std::slice::from_ref(&(30..40)));
    let trials = of_block(&study, 1);
    let stray = trials[0];
    assert_eq!(stray["valid"], false, "{stray}");
    let valid = |arm: &Value| {
        let mut of_arm = trials.iter().filter(|t| t["arm"] == *arm);
        of_arm.any(|t| t["valid"] == true)
    };
    for arm in study["arms"].as_array().unwrap() {
        assert!(valid(&arm["name"]), "{} in {trials:#?}", arm["name"]);
    }
}
