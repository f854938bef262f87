use std::num::NonZeroU32;

use clap::Parser;
use fanout_engine::politeness::MODEST_MAX_PER_HOST;
use fanout_proto::{arm::Arm, setup::HttpSettings};

use super::*;
use crate::cli::{CommandLine, CoordinatorCommand};

fn study(args: &[&str]) -> Result<StudySettings, String> {
    let line = [&["coordinator", "study"], args].concat();
    match CommandLine::try_parse_from(line).map_err(|e| e.to_string())?.command {
        CoordinatorCommand::Study(args) => {
            StudySettings::new(&args, &[]).map_err(|e| e.to_string())
        }
        _ => unreachable!("study was typed"),
    }
}

#[test]
fn the_defaults_are_settled() {
    let settings = study(&[]).unwrap();
    let names: Vec<_> = settings.arms.iter().map(Arm::to_string).collect();
    assert_eq!(
        names,
        [
            "sequential",
            "threads:32",
            "async:32",
            "32xsequential",
            "2xasync:16",
            "threads:32@ureq",
            "async:32@reqwest",
        ]
    );
    assert_eq!(names[settings.baseline], "async:32");
    assert_eq!(settings.common.http, HttpSettings::default());
}

#[test]
fn the_default_arms_follow_the_concurrency() {
    let settings = study(&["--concurrency", "8"]).unwrap();
    let names: Vec<_> = settings.arms.iter().map(Arm::to_string).collect();
    assert_eq!(
        names,
        [
            "sequential",
            "threads:8",
            "async:8",
            "8xsequential",
            "2xasync:4",
            "threads:8@ureq",
            "async:8@reqwest"
        ]
    );
}

#[test]
fn a_baseline_is_added_if_it_is_not_an_arm() {
    let settings = study(&["--arm", "threads:4", "--baseline", "async:4"]).unwrap();
    assert_eq!(settings.arms.len(), 2);
    assert_eq!(settings.baseline, 1);
    assert_eq!(study(&["--arm", "threads:4"]).unwrap().baseline, 0);
}

#[test]
fn bad_values_name_the_flag_and_the_mend() {
    let error = |args: &[&str]| study(args).unwrap_err();
    assert_eq!(
        error(&["--timeout", "soon"]),
        "--timeout soon: write a duration as 500ms, 30s or 2m"
    );
    assert_eq!(error(&["--timeout", "2h"]), "--timeout 2h: at most 1h can be waited");
    assert_eq!(
        error(&["--max-body", "1T"]),
        "--max-body 1T: write a size in bytes as 4096, 64k or 1M"
    );
    assert_eq!(error(&["--concurrency", "0"]), "--concurrency 0: 1 to 65536 URLs can be in flight");
    assert_eq!(error(&["--blocks", "0"]), "--blocks 0: 1 to 10000 can be run");
    assert_eq!(error(&["--header", "nope"]), "--header nope: write it as 'Name: value'");
    assert_eq!(error(&["--header", "Host: x"]), "--header Host: x: fanout sets this one itself");
    assert_eq!(
        error(&["--header", "X: a\nb"]),
        "--header X: a\nb: the value may hold visible ASCII and spaces only"
    );
    assert!(error(&["--placement", "0"]).starts_with("--placement 0: write auto"));
    assert!(error(&["--cacert", "/nonexistent"]).starts_with("--cacert /nonexistent: "));
    assert!(error(&["--arm", "threads@reqwest"]).contains("use threads:32@ureq"));
    assert!(error(&["--repeat", "0"]).starts_with("--repeat 0"));
    assert!(error(&["--rate", "0"]).starts_with("--rate 0: 0.001 to"));
    assert!(error(&["--rate", "NaN"]).starts_with("--rate NaN"));
    for odd in ["5", "0%", "-5%", "101%", "NaN%", "%"] {
        let margin = format!("--margin={odd}");
        let told = format!("--margin {odd}: write a share from 0.001% to 100%, such as 5%");
        assert_eq!(error(&[&margin]), told);
    }
    assert_eq!(study(&["--margin", "2.5%"]).unwrap().margin, Some(0.025));
    assert!(error(&["--polite"]).starts_with("--polite in a study: pauses"));
    let both = ["--rate", "5", "--rate-per-host", "5"];
    assert!(error(&both).starts_with("--rate-per-host 5: with --rate"));
    let slope = ["--memory-slope", "--max-per-host", "5"];
    assert!(error(&slope).starts_with("--memory-slope with a limit"));
    assert!(error(&["--arm", "async:65536", "--arm", "x"]).contains("no model 'x'"));
}

fn fetch(args: &[&str]) -> Result<FetchSettings, String> {
    let line = [&["coordinator", "fetch", "urls.txt"], args].concat();
    match CommandLine::try_parse_from(line).map_err(|e| e.to_string())?.command {
        CoordinatorCommand::Fetch(args) => {
            FetchSettings::new(&args, &[]).map_err(|e| e.to_string())
        }
        _ => unreachable!("fetch was typed"),
    }
}

#[test]
fn politeness_is_settled() {
    let limits = |args: &[&str]| fetch(args).unwrap().common.hosts;
    assert!(!limits(&[]).any());
    assert_eq!(limits(&["--polite"]).max_per_host, Some(MODEST_MAX_PER_HOST));
    let own = limits(&["--polite", "--max-per-host", "2", "--rate-per-host", "0.5"]);
    assert_eq!(own.max_per_host.map(NonZeroU32::get), Some(2));
    assert_eq!(own.rate_per_host, Some(0.5));
    for (flag, bad) in [
        ("--max-per-host", "0"),
        ("--rate-per-host", "0"),
        ("--rate-per-host", "-1"),
        ("--rate-per-host", "NaN"),
        ("--rate-per-host", "inf"),
        ("--rate-per-host", "1e12"),
    ] {
        let error = fetch(&[flag, bad]).unwrap_err();
        assert!(error.starts_with(&format!("{flag} ")), "{error}");
    }
    let error = fetch(&["--polite", "--split", "static"]).unwrap_err();
    assert!(error.starts_with("--split static: "), "{error}");
}

#[test]
fn the_user_agent_names_fanout_and_a_contact() {
    let agent = |args: &[&str]| fetch(args).map(|settings| settings.common.http.user_agent);
    let own = HttpSettings::default().user_agent;
    assert_eq!(agent(&[]), Ok(own.clone()));
    for contact in ["you@example.org", "mailto:you@example.org", "https://example.org/bot"] {
        assert_eq!(agent(&["--contact", contact]), Ok(format!("{own} (+{contact})")));
    }
    for bad in ["", "me", "@", "a@", "https://", "a b@c", "a@b)", "ftp://a/", "mailto:x"] {
        let error = agent(&["--contact", bad]).unwrap_err();
        assert!(error.starts_with("--contact "), "{bad}: {error}");
    }
    assert_eq!(agent(&["--user-agent", "mine/1"]), Ok("mine/1".to_owned()));
    assert!(agent(&["--user-agent", "x", "--contact", "a@b"]).is_err());
}

#[test]
fn defaults_are_shown_as_they_are_typed() {
    use super::parse::{duration_text, size_text};
    let http = HttpSettings::default();
    assert_eq!(duration_text(http.timeout), "30s");
    assert_eq!(duration_text(http.connect_timeout), "10s");
    assert_eq!(size_text(http.max_body_bytes), "64M");
    assert_eq!(size_text(4097), "4097");
}

#[test]
fn without_a_list_both_servers_are_met_within_a_minute() {
    let server = |args: &[&str]| study(args).map(|settings| (settings.server, settings.blocks));
    assert_eq!(server(&[]), Ok((Server::Both, 6)));
    assert_eq!(server(&["--blocks", "8"]), Ok((Server::Both, 8)));
    assert_eq!(server(&["--server", "fast"]), Ok((Server::Fast, 10)));
    assert_eq!(server(&["--aa", "2"]), Ok((Server::Slow, 10)));
    assert_eq!(server(&["urls.txt"]).map(|(_, blocks)| blocks), Ok(10));
    let both = server(&["--aa", "2", "--server", "both"]).unwrap_err();
    assert!(both.contains("--server") && both.contains("--aa"), "{both}");
    for other in [&["urls.txt"][..], &["--memory-slope"]] {
        let error = server(&[&["--server", "fast"], other].concat()).unwrap_err();
        assert!(error.contains("--server"), "{error}");
    }
}

#[test]
fn a_map_has_twenty_cells_and_arms_of_one_size() {
    let settings = study(&["--map"]).unwrap();
    let names: Vec<_> = settings.arms.iter().map(Arm::to_string).collect();
    assert_eq!(names, ["async:32", "threads:32", "2xasync:16", "4xthreads:8", "32xsequential"]);
    assert_eq!((settings.kind, settings.blocks), (StudyKind::Map, 6));
    let cells: std::collections::BTreeSet<String> = map_cells().map(|c| c.to_string()).collect();
    assert_eq!(cells.len(), 20);
    assert!(cells.contains("delay 10ms work 200us lock"), "{cells:?}");
}

#[test]
fn a_map_refuses_what_would_make_another_study_of_it_and_names_the_flag() {
    let others: [&[&str]; 6] = [
        &["urls.txt"],
        &["--aa", "2"],
        &["--memory-slope"],
        &["--rate", "100"],
        &["--cpu-work", "1ms"],
        &["--max-per-host", "4"],
    ];
    for other in others {
        let error = study(&[&["--map"], other].concat()).unwrap_err();
        assert!(error.contains("--map"), "{other:?}: {error}");
    }
}
