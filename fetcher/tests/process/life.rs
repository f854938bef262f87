//! A fetcher's life: order of messages, flushing, credit, the hold and the end.

use std::{
    collections::HashSet,
    fs,
    io::{self, BufRead, BufReader, Write},
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use fanout_proto::{
    arm::{Client, Model},
    completion::Outcome,
    setup::Pace,
    wire::{self, from_fetcher::Message as From, to_fetcher::Message as To},
};
use libtest_mimic::Trial;

use crate::{
    fetcher::{ALL, Arm, CORE, Fetcher, PATIENCE, fetch, name, setup, verdict},
    server::{After, Server, respond},
    trial,
};

const NULL: [Arm; 4] = [
    (Model::Sequential, 1, Client::NULL),
    (Model::Threads, 8, Client::NULL),
    (Model::Async, 8, Client::NULL),
    (Model::AsyncMt, 8, Client::NULL),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for arm in NULL {
        let of = |what: &str| format!("life::{what}::{}", name(arm));
        trials.push(trial(of("every_lease_once"), move || every_lease_once(arm)));
        trials.push(trial(of("one_by_one"), move || one_by_one(arm)));
        trials.push(trial(of("slow_reader"), move || slow_reader(arm)));
        trials.push(trial(of("work"), move || work(arm)));
    }
    for arm in ALL {
        let of = |what: &str| format!("life::{what}::{}", name(arm));
        trials.push(trial(of("threads"), move || threads(arm)));
        // A library in the only thread cannot be interrupted before its timeout.
        if (arm.0, arm.2) != (Model::Sequential, Client::UREQ) {
            trials.push(trial(of("end_of_input"), move || end_of_input(arm)));
        }
        trials.push(trial(of("exit_at_once"), move || exit_at_once(arm)));
    }
    for arm in CORE {
        let of = |what: &str| format!("life::{what}::{}", name(arm));
        trials.push(trial(of("starts"), move || starts(arm)));
        trials.push(trial(of("pace"), move || pace(arm)));
        trials.push(trial(of("credit_of_one"), move || credit_of_one(arm)));
        trials.push(trial(of("hold_with_urls_out"), move || hold_with_urls_out(arm)));
        trials.push(trial(of("unusable_setup"), move || unusable_setup(arm)));
        trials.push(trial(of("unfetchable"), move || unfetchable(arm)));
    }
    trials.push(trial("life::death_of_the_parent", death_of_the_parent));
    trials.push(trial("life::out_of_order", out_of_order));
    trials.push(trial("life::nonsense", nonsense));
    trials.push(trial("life::too_many_descriptors", too_many_descriptors));
    trials
}

fn ok(_: &str, out: &mut dyn Write) -> io::Result<After> {
    respond(out, "200 OK", "", b"x")
}

fn stall(_: &str, _: &mut dyn Write) -> io::Result<After> {
    Ok(After::Stall)
}

fn every_lease_once(arm: Arm) {
    let mut fetcher = Fetcher::ready(&setup(arm));
    // Ids out of order, some before Go and some after.
    let ids = |range: std::ops::Range<u64>| range.map(|n| (n * 7919 % 20_011, "http://h/".into()));
    fetcher.lease(ids(0..5000));
    fetcher.go();
    fetcher.lease(ids(5000..20_000));
    let gathered = fetcher.completions(20_000);
    let seen: HashSet<_> = gathered.completions.iter().map(|c| c.id.0).collect();
    assert_eq!(seen, ids(0..20_000).map(|(id, _)| id).collect());
    let (report, _) = fetcher.hold();
    assert!(report.in_flight_peak <= arm.1);
    assert!(report.first_start.is_some() && report.last_end.is_some());
    fetcher.exit();
}

/// A completion leaves although nothing follows it.
fn one_by_one(arm: Arm) {
    let mut fetcher = Fetcher::ready(&setup(arm));
    fetcher.go();
    for id in 0..200 {
        fetcher.lease([(id, "http://h/".to_owned())]);
        assert_eq!(fetcher.completions(1).completions[0].id.0, id);
    }
    fetcher.hold();
    fetcher.exit();
}

/// Nobody reads for a while: slots wait, and nothing is lost.
fn slow_reader(arm: Arm) {
    let mut fetcher = Fetcher::ready(&setup(arm));
    fetcher.go();
    // More than the output pipe and a full batch hold, in input that is read
    // as a whole, so that writing it does not wait for reading the output.
    fetcher.lease((0..40_000).map(|id| (id, "h".to_owned())));
    let gathered = fetcher.completions(40_000);
    assert_eq!(gathered.by_id().len(), 40_000);
    fetcher.hold();
    fetcher.exit();
}

fn work(arm: Arm) {
    let mut setup = setup(arm);
    setup.cpu_work = Duration::from_micros(500);
    setup.cpu_lock = true;
    let life = fetch(&setup, &vec!["http://h/".into(); 40]);
    let report = life.report;
    let took = report.last_end.unwrap() - report.first_start.unwrap();
    // Under one lock: the first 39 responses' work is over before the last URL ends.
    assert!(took >= Duration::from_micros(500) * (40 - arm.1), "{took:?}");
}

fn threads(arm: Arm) {
    let server = Server::start(ok);
    let life = fetch(&setup(arm), &vec![server.url_by_name("/"); 50]);
    assert!(life.gathered.by_id().values().all(|found| found.0 == Outcome::Ok));
    let processors = rustix::thread::sched_getaffinity(None).unwrap().count();
    assert_eq!(
        life.threads,
        match arm.0 {
            Model::Sequential | Model::Async => 1,
            Model::Threads => arm.1 + 1,
            Model::AsyncMt => processors + 1,
        }
    );
}

fn end_of_input(arm: Arm) {
    let server = Server::start(stall);
    let mut fetcher = Fetcher::ready(&setup(arm));
    fetcher.lease((0..10).map(|id| (id, server.url("/"))));
    fetcher.go();
    while server.heads().is_empty() {
        thread::yield_now();
    }
    fetcher.close_input();
    assert_eq!(fetcher.wait().code(), Some(11));
    assert!(fetcher.stderr().contains("closed the fetcher's input"));
}

/// A process between the test and a fetcher, which inherits its pipes.
pub(crate) fn be_parent() -> ExitCode {
    let mut child = Command::new(std::env::current_exe().unwrap()).arg("fetcher").spawn().unwrap();
    eprintln!("{}", child.id());
    let _ = child.wait();
    ExitCode::SUCCESS
}

/// The input stays open, held by this test, and yet the fetcher ends.
fn death_of_the_parent() {
    let server = Server::start(stall);
    let mut parent = Fetcher::spawn_as("parent");
    let mut pid = String::new();
    let stderr = parent.child.stderr.as_mut().unwrap();
    BufReader::new(stderr).read_line(&mut pid).unwrap();
    let setup = setup((Model::Sequential, 1, Client::CORE));
    parent.send(To::Setup((&setup).into()));
    assert!(matches!(parent.receive(), Some(From::Ready(_))));
    parent.lease([(0, server.url("/"))]);
    parent.go();
    while server.heads().is_empty() {
        thread::yield_now();
    }
    parent.child.kill().unwrap();
    let begin = Instant::now();
    // As long as it is there and no zombie that waits for its new parent.
    while fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
    {
        assert!(begin.elapsed() < PATIENCE, "the fetcher outlives its parent");
        thread::yield_now();
    }
}

fn exit_at_once(arm: Arm) {
    let mut fetcher = Fetcher::ready(&setup(arm));
    fetcher.lease([(0, "http://127.0.0.1:1/".to_owned())]);
    fetcher.exit();
}

fn starts(arm: Arm) {
    let server = Server::start(ok);
    let mut setup = setup(arm);
    setup.report_starts = true;
    let life = fetch(&setup, &vec![server.url("/"); 30]);
    let starts = &life.gathered.starts;
    assert_eq!(starts.len(), 30);
    for completion in &life.gathered.completions {
        assert!(starts.contains(&(completion.id, completion.start_us)));
    }
}

/// In an open loop URLs are taken up at their times, not before.
fn pace(arm: Arm) {
    let server = Server::start(ok);
    let mut setup = setup(arm);
    setup.report_starts = true;
    let pace = Pace { interval: Duration::from_millis(3), offset: Duration::from_millis(5) };
    setup.pace = Some(pace);
    let life = fetch(&setup, &vec![server.url("/"); 20]);
    assert_eq!(life.gathered.starts.len(), 20);
    for completion in &life.gathered.completions {
        // One after another by id, for each was taken from the front.
        let intended = pace.offset + pace.interval * u32::try_from(completion.id.0).unwrap();
        let start = Duration::from_micros(completion.start_us);
        // Times are told in whole microseconds.
        assert!(start + Duration::from_micros(1) >= intended, "{completion:?}");
        let wait = start.saturating_sub(intended);
        let told = Duration::from_micros(completion.wait_us.unwrap());
        assert!(wait.abs_diff(told) <= Duration::from_micros(2), "{completion:?}");
    }
}

fn credit_of_one(arm: Arm) {
    let server = Server::start(ok);
    let mut fetcher = Fetcher::ready(&setup(arm));
    fetcher.go();
    for id in 0..50 {
        fetcher.lease([(id, server.url("/"))]);
        assert_eq!(fetcher.completions(1).completions[0].outcome, Outcome::Ok);
    }
    fetcher.hold();
    fetcher.exit();
}

fn hold_with_urls_out(arm: Arm) {
    let server = Server::start(stall);
    let mut fetcher = Fetcher::ready(&setup(arm));
    fetcher.go();
    fetcher.lease((0..10).map(|id| (id, server.url("/"))));
    fetcher.send(To::Hold(wire::Hold {}));
    if arm.0 == Model::Sequential {
        // Its only thread is with the server, and takes this for later.
        fetcher.close_input();
        assert!(matches!(fetcher.wait().code(), Some(11 | 13)));
    } else {
        assert_eq!(fetcher.wait().code(), Some(13));
        assert!(fetcher.stderr().contains("Hold came while URLs were still out"));
    }
}

fn unusable_setup(arm: Arm) {
    let mut setup = setup(arm);
    setup.http.headers = vec![("no good".into(), String::new())];
    let mut fetcher = Fetcher::spawn();
    fetcher.send(To::Setup((&setup).into()));
    let Some(From::Failed(failed)) = fetcher.receive() else {
        panic!("it should have failed");
    };
    assert!(failed.reason.contains("'no good' is not a header name"));
    assert_eq!(fetcher.wait().code(), Some(10));
}

fn unfetchable(arm: Arm) {
    let setup = setup(arm);
    for url in ["ftp://127.0.0.1/", "nonsense", "http://127.0.0.1:0/"] {
        let found = verdict(&setup, url);
        assert_eq!((found.0, found.1), (Outcome::Protocol, None));
        assert!(found.3.starts_with("the URL cannot be fetched: "), "{}", found.3);
    }
}

fn out_of_order() {
    let mut fetcher = Fetcher::spawn();
    fetcher.go();
    assert_eq!(fetcher.wait().code(), Some(13));
    assert_eq!(fetcher.stderr(), "fetcher: Go came while the fetcher was waiting for its setup\n");
}

fn nonsense() {
    let mut fetcher = Fetcher::spawn();
    fetcher.write(b"\x05hello");
    assert_eq!(fetcher.wait().code(), Some(13));
    assert!(fetcher.stderr().contains("not understood"));
}

fn too_many_descriptors() {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let most = setup((Model::Async, 65_536, Client::CORE));
    let needed = fanout_fetcher::descriptors_needed(&most);
    if hard.is_none_or(|hard| hard >= needed) {
        // This machine can do with all that can be asked for.
        return;
    }
    let mut fetcher = Fetcher::spawn();
    fetcher.send(To::Setup((&most).into()));
    let Some(From::Failed(failed)) = fetcher.receive() else {
        panic!("it should have failed");
    };
    assert!(failed.reason.contains("ulimit -Hn"), "{}", failed.reason);
}
