//! Which build of fanout it was stands wherever a version stands.

use serde_json::Value;

use crate::harness::Place;

#[test]
fn the_build_is_told_by_the_program_the_fleet_and_the_study() {
    let place = Place::new();
    let told = place.run(&["--version"]).expect(0).stdout;
    let (version, build) = told
        .strip_prefix("coordinator ")
        .and_then(|told| told.trim_end().strip_suffix(')'))
        .and_then(|told| told.split_once(" ("))
        .expect("a version and a build");
    let mut build: Vec<_> = build.split(", ").collect();
    let (number, commit) = version.split_once('+').unwrap_or((version, ""));
    assert_eq!(number, env!("CARGO_PKG_VERSION"));
    if commit.is_empty() {
        assert_eq!(build.remove(0), "unknown commit");
    }
    let [target, profile] = build[..] else {
        panic!("{told}");
    };
    assert!(target.starts_with(std::env::consts::ARCH), "{told}");
    assert_eq!(profile == "debug", cfg!(debug_assertions), "{told}");

    let origin = place.origin();
    place.write("urls.txt", origin.list(20, ""));
    let serving = place.serve(&[]);
    let _worker = serving.worker(&place, "one");
    let status = serving.status(&place);
    assert_eq!(status["version"], version);
    assert_eq!(status["workers"][0]["version"], version);
    let metrics = serving.get("/metrics", "");
    assert!(metrics.contains(&format!("fanout_build_info{{version=\"{version}\"}} 1")));
    let study = place
        .run(&[
            "study",
            "urls.txt",
            "--arm",
            "async:8",
            "--blocks",
            "1",
            "--format",
            "json",
            "--coordinator",
            &serving.url,
        ])
        .expect(0);
    let study: Value = serde_json::from_str(&study.stdout).unwrap();
    let manifest = &study["manifest"];
    assert_eq!(manifest["version"], version);
    assert_eq!(manifest["workers"][0]["version"], version);
    assert_eq!(manifest["facts"]["target"], target);
    assert_eq!(manifest["facts"]["build"], profile);
}
