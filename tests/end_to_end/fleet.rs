//! A coordinator that serves, workers that come and go, clients that submit.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Place, assert_each_once, ids, read, records, wait_for};

#[test]
fn a_study_on_a_fleet_is_like_one_here() {
    let place = Place::new();
    let origin = place.origin();
    let serving = place.serve(&["--origin", &origin.base]);
    let workers = [serving.worker(&place, "one"), serving.worker(&place, "two")];
    let ran = place
        .run(&[
            "study",
            "--coordinator",
            &serving.url,
            "--workers",
            "2",
            "--blocks",
            "2",
            "--out",
            "kept",
            "--format",
            "json",
            "--arm",
            "2xasync:8",
            "--arm",
            "2xasync:8/1w",
        ])
        .expect(0);
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(study["manifest"]["origin"]["embedded"], false);
    assert_eq!(study["manifest"]["origin"]["threads"], 1);
    let names: Vec<_> =
        study["manifest"]["workers"].as_array().unwrap().iter().map(|w| &w["name"]).collect();
    assert_eq!(names, ["one", "two"]);
    for trial in study["trials"].as_array().unwrap() {
        assert_eq!(trial["completed"], 1000, "{trial}");
        assert_eq!(trial["origin"]["requests"], 1000);
        let workers = trial["workers"].as_array().unwrap().len();
        assert_eq!(workers, if trial["arm"] == "2xasync:8/1w" { 1 } else { 2 });
    }
    for file in ["study.json", "trials.csv", "report.html"] {
        assert!(!read(&place.path("kept").join(file)).is_empty());
    }
    assert!(ran.stderr.contains("report: kept/report.html"), "{}", ran.stderr);
    // The coordinator keeps it too, shows it, and hands it out by its name.
    let job = serving.job(&place, 1, "finished");
    let name = job["study"].as_str().unwrap();
    assert!(serving.get("/", "").contains(&format!("/studies/{name}/report.html")));
    let page = serving.get(&format!("/studies/{name}/report.html"), "");
    assert!(
        page.starts_with("HTTP/1.1 200") && page.contains("Content-Security-Policy")
            || page.contains("content-security-policy")
    );
    assert!(serving.get(&format!("/studies/{name}/job.json"), "").starts_with("HTTP/1.1 404"));
    let again =
        place.run(&["report", name, "--coordinator", &serving.url, "--format", "csv"]).expect(0);
    assert_eq!(again.stdout, read(&place.path("kept/trials.csv")));
    drop((workers, serving, origin));
    place.assert_nothing_left();
}

#[test]
fn a_study_may_stay_with_the_coordinator() {
    let place = Place::new();
    let serving = place.serve(&[]);
    let _worker = serving.worker(&place, "one");
    let origin = place.origin();
    let pages = ["--pages", "http://localhost:1", "--origin", &origin.base];
    let study = ["study", "--arm", "async:8@null", "--blocks", "1"];
    let here = ["--coordinator", serving.url.as_str()];
    let ran = place.run(&[&study[..], &here, &pages].concat()).expect(0);
    assert!(ran.stdout.contains("async:8@null"), "{}", ran.stdout);
    let name = ran
        .stderr
        .split_once("report: http://localhost:1/studies/")
        .and_then(|(_, rest)| rest.split_once("/report.html"))
        .expect("a link")
        .0;
    assert!(!place.path("studies").exists(), "no copy here");
    let page = serving.get(&format!("/studies/{name}/report.html"), "");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
}

#[test]
fn a_fetch_on_a_fleet_is_like_one_here() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(300, "size=10"));
    let serving = place.serve(&[]);
    let _workers = [serving.worker(&place, "one"), serving.worker(&place, "two")];
    let url = ["--coordinator", &serving.url];
    let fetch = |args: &[&str]| place.run(&[&["fetch", "urls.txt"], args, &url].concat());
    let ran = fetch(&["--arm", "4xasync:8"]).expect(0);
    assert_each_once(ids(&ran.stdout), 300);
    assert!(ran.stderr.contains("300 URLs: 300 ok"), "{}", ran.stderr);
    let workers: BTreeSet<_> =
        records(&ran.stdout).iter().map(|r| r["worker"].as_str().unwrap().to_owned()).collect();
    assert_eq!(workers.len(), 2);
    fetch(&["--out", "got.csv"]).expect(0);
    let csv = read(&place.path("got.csv"));
    assert!(csv.starts_with("id,url,outcome"));
    assert_eq!(csv.lines().count(), 301);
    assert!(!place.path("got.csv.part").exists());
    // A list from standard input, told as it goes.
    let list = format!("{}/a\n{}/b\n", origin.base, origin.base);
    let ran = place
        .run_with_input(&["fetch", "-", "-v", "--coordinator", &serving.url], list.as_bytes())
        .expect(0);
    assert_eq!(ran.records().len(), 2);
    assert_eq!(ran.stderr.lines().filter(|l| l.starts_with("done")).count(), 2, "{}", ran.stderr);
}

#[test]
fn what_cannot_be_run_is_refused_with_the_words_of_a_local_run() {
    let place = Place::new();
    place.write("bad.txt", "http://127.0.0.1:1/\nnope\n");
    place.write("far.txt", "https://example.com/\n");
    let serving = place.serve(&[]);
    let url = serving.url.as_str();
    let refused = |args: &[&str]| {
        let ran = place.run(&[args, &["--coordinator", url]].concat()).expect(2);
        ran.stderr
    };
    assert!(refused(&["study"]).contains("--origin URL or FANOUT_ORIGIN"));
    assert!(
        refused(&["study", "--local-workers", "2"])
            .contains("--local-workers 2: with --coordinator")
    );
    assert!(refused(&["study", "--placement", "shared"]).contains("on a fleet each worker"));
    assert!(refused(&["fetch", "bad.txt"]).contains("the URL list bad.txt holds 1 line"));
    assert!(refused(&["fetch", "missing.txt"]).contains("cannot read the URL list missing.txt"));
    assert!(refused(&["fetch", "bad.txt", "--arm", "fibers"]).contains("fibers"));
    let far = refused(&["study", "far.txt"]);
    assert!(far.contains("1  example.com") && far.contains("pass --yes"), "{far}");
    assert!(refused(&["attach", "7"]).contains("there is no job 7"));
    assert!(refused(&["cancel", "7"]).contains("there is no job 7"));
    // None of it left anything.
    assert!(!place.path("studies").exists());
    assert_eq!(std::fs::read_dir(place.path("data/jobs")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(place.path("data/studies")).unwrap().count(), 0);
    assert_eq!(serving.status(&place)["jobs"].as_array().unwrap().len(), 0);
}

#[test]
fn a_second_job_waits_and_a_cancelled_one_ends() {
    let place = Place::new();
    let origin = place.origin();
    place.write("slow.txt", origin.list(2000, "delay=50ms"));
    place.write("fast.txt", origin.list(5, ""));
    let serving = place.serve(&["--queue", "1"]);
    let _worker = serving.worker(&place, "one");
    let url = ["--coordinator", serving.url.as_str()];
    let start = |args: &[&str]| place.start(&[args, &url].concat());
    let slow = start(&["fetch", "slow.txt", "--arm", "async:2", "--out", "slow.jsonl"]);
    serving.job(&place, 1, "running");
    let second = start(&["fetch", "fast.txt", "--out", "fast.jsonl"]);
    assert_eq!(serving.job(&place, 2, "waiting")["ahead"], 1);
    let third = place.run(&[&["fetch", "fast.txt"][..], &url].concat()).expect(3);
    assert!(third.stderr.contains("1 jobs wait already"), "{}", third.stderr);
    place.run(&["cancel", "1", url[0], url[1]]).expect(0);
    let slow = slow.finish().expect(130);
    assert!(slow.stderr.contains("slow.jsonl.part"), "{}", slow.stderr);
    let kept = ids(&read(&place.path("slow.jsonl.part")));
    assert!(kept.len() < 2000);
    second.finish().expect(0);
    assert_each_once(ids(&read(&place.path("fast.jsonl"))), 5);
}

#[test]
fn a_client_that_goes_away_leaves_its_job_and_finds_it_again() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(200, "delay=20ms"));
    let serving = place.serve(&[]);
    let _worker = serving.worker(&place, "one");
    let client = place.start(&[
        "fetch",
        "urls.txt",
        "--arm",
        "async:4",
        "--out",
        "got.jsonl",
        "--coordinator",
        &serving.url,
    ]);
    wait_for("some records", || {
        let text = std::fs::read_to_string(place.path("got.jsonl.part")).ok()?;
        (text.lines().count() > 8).then_some(())
    });
    client.signal(Signal::KILL);
    drop(client);
    let attach = ["attach", "1", "--coordinator", &serving.url];
    place.run(&attach).expect(0);
    assert_each_once(ids(&read(&place.path("got.jsonl"))), 200);
    // And once more, when it is long over, to another place.
    place.run(&[&attach[..], &["--out", "again.jsonl"]].concat()).expect(0);
    assert_eq!(read(&place.path("again.jsonl")), read(&place.path("got.jsonl")));
    let wrong = place.run(&[&attach[..], &["--out", "again.csv"]].concat()).expect(2);
    assert!(wrong.stderr.contains("JSON lines"), "{}", wrong.stderr);
}

#[test]
fn ctrl_c_cancels_a_study_and_keeps_what_there_is() {
    let place = Place::new();
    let origin = place.origin();
    let serving = place.serve(&[]);
    let _worker = serving.worker(&place, "one");
    let client = place.start(&[
        "study",
        "--arm",
        "async:32",
        "--blocks",
        "500",
        "--out",
        "kept",
        "--origin",
        &origin.base,
        "--coordinator",
        &serving.url,
    ]);
    serving.first_block(&place);
    client.signal(Signal::INT);
    let ran = client.finish().expect(130);
    let study: Value = serde_json::from_str(&read(&place.path("kept/study.json"))).unwrap();
    assert_eq!(study["interrupted"], true);
    assert!(ran.stdout.contains("async:32"), "{}", ran.stdout);
}

#[test]
fn a_killed_worker_loses_nothing_and_comes_back_in_the_next_block() {
    let place = Place::new();
    let origin = place.origin();
    let serving = place.serve(&["--origin", &origin.base]);
    let _one = serving.worker(&place, "one");
    let two = serving.worker(&place, "two");
    let client = place.start(&[
        "study",
        "--arm",
        "2xasync:16",
        "--blocks",
        "6",
        "--out",
        "kept",
        "--format",
        "json",
        "--coordinator",
        &serving.url,
    ]);
    serving.first_block(&place);
    two.signal(Signal::KILL);
    drop(two);
    let _again = serving.worker(&place, "again");
    let ran = client.finish().expect(0);
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    let workers = study["manifest"]["workers"].as_array().unwrap();
    let of = |name: &str| workers.iter().find(|w| w["name"] == name).unwrap();
    assert!(of("two")["left_block"].is_u64(), "{workers:?}");
    assert!(
        of("again")["joined_block"].as_u64() >= of("two")["left_block"].as_u64(),
        "{workers:?}"
    );
    assert_eq!(of("one")["joined_block"], Value::Null);
    for trial in study["trials"].as_array().unwrap() {
        assert_eq!(trial["completed"], 1000, "{trial}");
        assert!(!(trial["degraded"] == true && trial["valid"] == true), "{trial}");
    }
}

#[test]
fn the_last_worker_may_come_back_during_a_study() {
    let place = Place::new();
    let origin = place.origin();
    let serving = place.serve(&["--origin", &origin.base]);
    let only = serving.worker(&place, "only");
    let client = place.start(&[
        "study",
        "--arm",
        "async:16",
        "--blocks",
        "3",
        "--format",
        "json",
        "--coordinator",
        &serving.url,
    ]);
    serving.job(&place, 1, "running");
    only.signal(Signal::KILL);
    drop(only);
    let _again = serving.worker(&place, "again");
    let ran = client.finish().expect(0);
    let study: Value = serde_json::from_str(&ran.stdout).unwrap();
    let valid = study["trials"].as_array().unwrap().iter().filter(|t| t["valid"] == true);
    assert!(valid.count() >= 6, "{}", ran.stderr);
}

#[test]
fn workers_come_back_to_a_coordinator_that_was_started_again() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(5, ""));
    place.write("slow.txt", origin.list(2000, "delay=50ms"));
    let serving = place.serve(&[]);
    let _worker = serving.worker(&place, "one");
    let url = serving.url.clone();
    let client = place.start(&[
        "fetch",
        "slow.txt",
        "--arm",
        "async:2",
        "--out",
        "slow.jsonl",
        "--coordinator",
        &url,
    ]);
    wait_for("some records", || {
        let text = std::fs::read_to_string(place.path("slow.jsonl.part")).ok()?;
        (text.lines().count() > 8).then_some(())
    });
    serving.process.signal(Signal::TERM);
    serving.process.finish_quietly().expect(0);
    // Its jobs end with it, and say so.
    let ran = client.finish().expect(130);
    assert!(ran.stderr.contains("slow.jsonl.part"), "{}", ran.stderr);
    let serving = place.serve_at(url.strip_prefix("http://").unwrap(), &[]);
    serving.attached(&place, "one");
    assert_eq!(serving.job(&place, 1, "finished")["exit_code"], 130);
    let ran = place.run(&["fetch", "urls.txt", "--coordinator", &url]).expect(0);
    assert_each_once(ids(&ran.stdout), 5);
    assert_eq!(serving.job(&place, 2, "finished")["exit_code"], 0);
}

#[test]
fn without_workers_or_coordinator_the_exit_code_says_so() {
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/\n");
    let nobody = ["--coordinator", "http://127.0.0.1:9"];
    for args in [&["health"][..], &["status"], &["fetch", "urls.txt"], &["cancel", "1"]] {
        let ran = place.run(&[args, &nobody].concat()).expect(3);
        assert!(ran.stderr.contains("no coordinator at http://127.0.0.1:9"), "{}", ran.stderr);
    }
    let serving = place.serve(&[]);
    let here = ["--coordinator", serving.url.as_str()];
    assert_eq!(place.run(&[&["health"][..], &here].concat()).expect(0).stdout, "serving\n");
    let one = [&["health", "--worker", "one"][..], &here].concat();
    assert!(place.run(&one).expect(3).stderr.contains("no worker one"),);
    let _worker = serving.worker(&place, "one");
    assert_eq!(place.run(&one).expect(0).stdout, "attached\n");
    let table = place.run(&[&["status"][..], &here].concat()).expect(0).stdout;
    assert!(table.contains("one") && table.contains("64"), "{table}");
    // Whoever waits for workers can be cancelled.
    let client = place.start(&[&["fetch", "urls.txt", "--workers", "2"][..], &here].concat());
    serving.job(&place, 1, "running");
    client.signal(Signal::INT);
    let ran = client.finish().expect(130);
    assert!(ran.stderr.contains("waited for workers"), "{}", ran.stderr);
}

#[test]
fn an_open_address_needs_a_token_and_a_token_is_asked_for() {
    let place = Place::new();
    let open = ["serve", "--listen", "0.0.0.0:0", "--http-listen", "127.0.0.1:0"];
    let ran = place.run(&open).expect(2);
    assert!(ran.stderr.contains("--allow-unauthenticated"), "{}", ran.stderr);
    place.write("token", "s3cret\n");
    let serving = place.serve(&["--token-file", "token"]);
    let url = ["--coordinator", serving.url.as_str()];
    let ran = place.run(&[&["status"][..], &url].concat()).expect(3);
    assert!(ran.stderr.contains("wrong or missing token"), "{}", ran.stderr);
    place.write("other", "guess\n");
    place.run(&[&["status", "--token-file", "other"][..], &url].concat()).expect(3);
    let worker = place.run(&[&["worker", "--token-file", "other"][..], &url].concat()).expect(3);
    assert!(worker.stderr.contains("wrong or missing token"), "{}", worker.stderr);
    let status = place.run(&[&["status", "--token-file", "token"][..], &url].concat()).expect(0);
    assert!(status.stdout.contains("no workers"), "{}", status.stdout);
    // A probe needs none; browsers and Prometheus do.
    place.run(&[&["health"][..], &url].concat()).expect(0);
    assert!(serving.get("/healthz", "").starts_with("HTTP/1.1 200"));
    assert!(serving.get("/metrics", "").starts_with("HTTP/1.1 401"));
    let metrics = serving.get("/metrics", "Authorization: Bearer s3cret\r\n");
    assert!(metrics.contains("\nfanout_workers 0\n"), "{metrics}");
    // A name that somebody else made point here gets nothing.
    let elsewhere = serving.get("/", "Host: evil.example\r\nAuthorization: Bearer s3cret\r\n");
    assert!(elsewhere.starts_with("HTTP/1.1 421"), "{elsewhere}");
}

#[test]
fn one_directory_serves_one_coordinator() {
    let place = Place::new();
    let _serving = place.serve(&[]);
    let ran = place
        .run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--http-listen",
            "127.0.0.1:0",
            "--data",
            "data",
        ])
        .expect(2);
    assert!(ran.stderr.contains("another coordinator uses data"), "{}", ran.stderr);
}

/// A certificate and its key, signed by `authority` or by itself.
fn certificate(
    name: &str,
    authority: Option<&rcgen::Issuer<'_, rcgen::KeyPair>>,
) -> (String, rcgen::KeyPair, rcgen::CertificateParams) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let certificate = match authority {
        Some(authority) => params.signed_by(&key, authority).unwrap(),
        None => {
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.self_signed(&key).unwrap()
        }
    };
    (certificate.pem(), key, params)
}

#[test]
fn tls_shows_who_is_who_on_both_sides() {
    let place = Place::new();
    let (ca, ca_key, ca_params) = certificate("an authority", None);
    let authority = rcgen::Issuer::new(ca_params, ca_key);
    place.write("ca.pem", ca);
    for (file, name) in [("server", "localhost"), ("client", "a worker")] {
        let (pem, key, _) = certificate(name, Some(&authority));
        place.write(&format!("{file}.pem"), pem);
        place.write(&format!("{file}.key"), key.serialize_pem());
    }
    let serving =
        place.serve(&["--tls-cert", "server.pem", "--tls-key", "server.key", "--tls-ca", "ca.pem"]);
    let port = serving.url.rsplit(':').next().unwrap();
    let url = format!("https://localhost:{port}");
    let known = [
        "--coordinator",
        &url,
        "--tls-ca",
        "ca.pem",
        "--tls-cert",
        "client.pem",
        "--tls-key",
        "client.key",
    ];
    let origin = place.origin();
    place.write("urls.txt", origin.list(20, ""));
    let _worker = place.start(&[&["worker", "--name", "one"], &known[..]].concat());
    let ran = place.run(&[&["fetch", "urls.txt"], &known[..]].concat()).expect(0);
    assert_each_once(ids(&ran.stdout), 20);
    // Without a certificate of one's own, or without the authority, nothing goes.
    place.run(&["status", "--coordinator", &url, "--tls-ca", "ca.pem"]).expect(3);
    place.run(&["status", "--coordinator", &url]).expect(3);
    let plain = format!("http://localhost:{port}");
    place.run(&["status", "--coordinator", &plain]).expect(3);
}

#[test]
fn a_worker_may_keep_to_public_addresses() {
    let place = Place::new();
    let origin = place.origin();
    let port = origin.base.rsplit(':').next().unwrap();
    place.write(
        "urls.txt",
        format!(
            "{}/a\nhttp://localhost:{port}/b\nhttp://[::1]:{port}/c\nhttp://2130706433:{port}/d\n\
             http://169.254.169.254/latest/meta-data\nhttp://10.0.0.1/\n",
            origin.base
        ),
    );
    let serving = place.serve(&[]);
    let _worker = place.start(&["worker", "--coordinator", &serving.url, "--deny-private"]);
    for arm in ["async:2", "threads:2", "threads:2@ureq", "async:2@reqwest"] {
        let ran = place
            .run(&["fetch", "urls.txt", "--arm", arm, "--coordinator", &serving.url])
            .expect(0);
        let records = ran.records();
        assert_eq!(records.len(), 6);
        for record in records {
            assert_eq!(record["outcome"], "forbidden", "{arm}: {record}");
        }
        assert!(ran.stderr.contains("private addresses"), "{}", ran.stderr);
    }
    let stats = body_of(&origin.base, "/stats");
    assert!(stats.contains("\"requests\":0"), "{stats}");
}

#[test]
fn probes_tell_who_is_well() {
    let place = Place::new();
    let origin = place.origin();
    let serving = place.serve(&[]);
    let _worker = serving.worker(&place, "one");
    serving.attached(&place, "one");
    let health = |args: &[&str]| {
        let fixed = ["health", "--coordinator", &serving.url];
        place.run(&[&fixed, args].concat())
    };
    assert_eq!(health(&[]).expect(0).stdout, "serving\n");
    assert_eq!(health(&["--worker", "one"]).expect(0).stdout, "attached\n");
    let absent = health(&["--worker", "two"]).expect(3);
    assert!(absent.stderr.contains("no worker two"), "{}", absent.stderr);
    // By default the one that is named after this host, and there is none.
    health(&["--worker"]).expect(3);
    health(&["--origin", &origin.base]).expect(0);
    let stats = body_of(&origin.base, "/stats");
    for uncounted in ["\"requests\":0", "\"connections_accepted\":0"] {
        assert!(stats.contains(uncounted), "{stats}");
    }
    let pages = health(&["--origin", &serving.pages]).expect(3);
    assert!(pages.stderr.contains("the origin at"), "{}", pages.stderr);
    health(&["--origin", "origin"]).expect(2);
}

#[test]
fn a_client_waits_for_its_coordinator_and_leaves_the_study_there() {
    let place = Place::new();
    let origin = place.origin();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let url = format!("http://{address}");
    let study = [
        "study",
        "--arm",
        "async:8",
        "--blocks",
        "1",
        "--origin",
        &origin.base,
        "--coordinator",
        &url,
        "--pages",
        "http://pages.example/",
    ];
    let early = place.run(&study).expect(3);
    assert!(early.stderr.contains("no coordinator at"), "{}", early.stderr);
    let client = place.start(&[&study[..], &["--wait", "90s"]].concat());
    let serving = place.serve_at(&address, &[]);
    let _worker = serving.worker(&place, "one");
    let ran = client.finish();
    let name = serving.job(&place, 1, "finished")["study"].clone();
    let told =
        format!("report: http://pages.example/studies/{}/report.html", name.as_str().unwrap());
    assert!(ran.stderr.contains(&told), "{}", ran.stderr);
    assert!(ran.stdout.contains("async:8"), "{}", ran.stdout);
    assert!(!place.path("studies").exists());
    let bad = place.run(&[&study[..], &["--wait", "soon"]].concat());
    assert!(bad.expect(2).stderr.contains("--wait soon"));
}

/// The body of a GET over plain HTTP.
fn body_of(base: &str, path: &str) -> String {
    use std::io::{Read, Write};
    let address = base.strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
