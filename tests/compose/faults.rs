//! What engines and networks do to containers.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    project::{Project, Scenario, Started, docker, inspect, wait_for},
    usage::{assert_sound, list},
};

pub(crate) fn tests() -> Vec<Scenario> {
    vec![
        ("a_worker_killed_during_a_fetch_loses_nothing", killed_in_fetch),
        ("a_worker_killed_during_a_study_degrades_a_trial", killed_in_study),
        ("a_paused_worker_is_lost_and_comes_back", paused),
        ("a_worker_cut_off_is_lost_and_comes_back", cut_off),
        ("workers_and_studies_outlive_a_coordinator", restarted),
        ("every_service_stops_when_told", stopped),
    ]
}

/// A pause that is longer than the coordinator's patience with a silent worker.
const PAUSE: Duration = Duration::from_secs(20);
const URLS: u64 = 3000;

/// A fetch on both workers that takes several seconds, well under way.
fn fetch_under_way(project: &Project) -> Started {
    project.up();
    let args = ["-", "--arm", "4xasync:8"];
    let mut fetch = project.run_service("fetch", &args, &list(URLS, "delay=60ms"));
    fetch.wait_for_lines(100);
    fetch
}

fn killed_in_fetch(project: &Project) {
    let mut fetch = fetch_under_way(project);
    docker(&["kill", "--signal", "KILL", &project.container("worker")]);
    assert!(fetch.is_running());
    fetch.finish().expect(0).assert_each_once(URLS);
    project.wait_for_workers(1);
}

fn killed_in_study(project: &Project) {
    project.up();
    let args = ["--arm", "2xasync:4", "--blocks", "3", "--format", "json", "--yes", "-"];
    // A trial takes five seconds: time enough to strike in the middle of one.
    let study = project.run_service("study", &args, &list(400, "delay=100ms"));
    let name = project.running_job()["study"].as_str().unwrap().to_owned();
    wait_for("a block", || project.study_so_far(&name));
    wait_for("a trial under way", || {
        let done = project.running_job()["urls_done"].as_u64();
        done.filter(|done| (20..120).contains(done))
    });
    docker(&["kill", "--signal", "KILL", &project.container("worker")]);
    let study = study.finish().expect(0).study();
    assert_sound(&study, 400);
    let trials = study["trials"].as_array().unwrap();
    let degraded = trials.iter().filter(|trial| trial["degraded"] == true);
    let valid = trials.iter().filter(|t| t["valid"] == true && t["discarded"] == false);
    // Each of three blocks has the arm and its control.
    assert_eq!((degraded.count(), valid.count()), (1, 6));
    let workers = study["manifest"]["workers"].as_array().unwrap();
    assert_eq!(workers.iter().filter(|w| w["left_block"].is_u64()).count(), 1, "{workers:?}");
}

fn paused(project: &Project) {
    let mut fetch = fetch_under_way(project);
    let worker = project.container("worker");
    let began = Instant::now();
    docker(&["pause", &worker]);
    assert!(fetch.is_running());
    // It ends while the worker is silent: nothing waits for its return.
    fetch.finish().expect(0).assert_each_once(URLS);
    thread::sleep(PAUSE.saturating_sub(began.elapsed()));
    docker(&["unpause", &worker]);
    project.wait_for_workers(2);
}

fn cut_off(project: &Project) {
    let mut fetch = fetch_under_way(project);
    let worker = project.container("worker");
    docker(&["network", "disconnect", &project.network(), &worker]);
    assert!(fetch.is_running());
    fetch.finish().expect(0).assert_each_once(URLS);
    docker(&["network", "connect", &project.network(), &worker]);
    project.wait_for_workers(2);
}

fn restarted(project: &Project) {
    project.up();
    let study = ["--arm", "async:8", "--blocks", "2"];
    project.run_service("study", &study, "").finish().expect(0);
    let studies = || {
        let page = project.page("/");
        page.matches("/report.html").count()
    };
    let before = studies();
    assert!(before > 0);
    project.compose(&["restart", "coordinator"]).expect(0);
    project.wait_for_workers(2);
    assert_eq!(studies(), before);
    project.run_service("study", &study, "").finish().expect(0);
    assert_eq!(studies(), before + 1);
}

/// As process 1, for which the kernel has no default: not one is left for the
/// engine to kill after ten seconds.
fn stopped(project: &Project) {
    project.up();
    for service in ["worker", "coordinator", "origin"] {
        let container = project.container(service);
        docker(&["stop", &container]);
        assert_eq!(inspect(&container)["State"]["ExitCode"], 0, "{service}");
        docker(&["start", &container]);
    }
    project.wait_for_workers(2);
}
