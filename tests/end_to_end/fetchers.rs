//! Fetchers of other makers, by the one in Python.

use std::{path::Path, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Place, absent, assert_each_once};

const URLS: usize = 60;

/// `py=COMMAND`, with files of one's own.
fn python(name: &str, files: &[&Path]) -> Option<String> {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success());
    if !found {
        return absent("python3");
    }
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../fetchers/python/src");
    let files: Vec<_> = files.iter().map(|file| format!(" '{}'", file.display())).collect();
    let files = files.concat();
    Some(format!("{name}=env 'PYTHONPATH={source}' python3 -B -m fanout_fetcher{files}"))
}

const OWN: &str = "\
import urllib.request

def fetch(url):
    print('prints go to standard error')
    with urllib.request.urlopen(url) as response:
        return response.read()
";

const OWN_ASYNC: &str = "\
import asyncio
from urllib.parse import urlsplit

async def fetch(url):
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    request = f'GET {parts.path}?{parts.query} HTTP/1.1\\r\\nHost: {parts.netloc}\\r\\nConnection: close\\r\\n\\r\\n'
    writer.write(request.encode())
    head, _, body = (await reader.read()).partition(b'\\r\\n\\r\\n')
    writer.close()
    return body
";

#[test]
fn python_is_compared_with_rust_in_one_study() {
    let place = Place::new();
    let own = place.write("mine.py", OWN);
    let own_async = place.write("my_loop.py", OWN_ASYNC);
    let Some(fetcher) = python("py", &[&own, &own_async]) else { return };
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "delay=2ms&size=64"));
    let arms = ["async:8", "sequential@urllib", "2xthreads:4@urllib-keepalive", "threads:8@mine"];
    let mut study =
        vec!["study", "urls.txt", "--format", "json", "--blocks", "1", "--fetcher", &fetcher];
    for arm in arms {
        study.extend(["--arm", arm]);
    }
    let study = place.run(&[&study[..], &["--arm", "async:8@null-python"]].concat());
    let study: Value = serde_json::from_str(&study.expect(0).stdout).unwrap();
    let about = study["manifest"]["workers"][0]["fetchers"]["py"].as_str().unwrap();
    assert!(about.starts_with("fanout-fetcher") && about.contains("Python 3"), "{about}");
    // On a busy machine a trial may be turned away and repeated; exit code 0 says that each arm has one.
    for arm in arms {
        let of_arm = |t: &&Value| t["arm"] == arm && t["valid"] == true && t["discarded"] == false;
        let trial = study["trials"].as_array().unwrap().iter().find(of_arm).unwrap();
        assert_eq!(trial["completed"], URLS, "{trial}");
        assert_eq!(trial["bytes"], URLS * 64, "{trial}");
        assert!(trial["latency_s"]["p50"].as_f64() >= Some(0.002), "{trial}");
        assert!(trial["memory_peak_bytes"].as_u64() > Some(0), "{trial}");
    }
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn every_url_is_fetched_once_by_a_function_of_ones_own() {
    let place = Place::new();
    let own = place.write("mine.py", OWN);
    let own_async = place.write("my_loop.py", OWN_ASYNC);
    let failing = place.write("failing.py", "def fetch(url):\n    return 1 / 0\n");
    let Some(fetcher) = python("py", &[&own, &own_async, &failing]) else { return };
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "size=64"));
    for arm in ["3xsequential@mine", "threads:5@mine", "2xasync:7@my-loop"] {
        let records = place.run(&["fetch", "urls.txt", "--fetcher", &fetcher, "--arm", arm]);
        let records = records.expect(0).records();
        assert!(
            records.iter().all(|r| r["outcome"] == "ok" && r["bytes"] == 64),
            "{arm}: {records:?}"
        );
        assert_each_once(records.iter().map(|r| r["id"].as_u64().unwrap()).collect(), URLS as u64);
    }
    let args = ["fetch", "urls.txt", "--fetcher", &fetcher, "--arm", "threads:5@failing"];
    let ran = place.run(&args).expect(0);
    let records = ran.records();
    assert_each_once(records.iter().map(|r| r["id"].as_u64().unwrap()).collect(), URLS as u64);
    assert!(records.iter().all(|record| record["outcome"] == "protocol"), "{records:?}");
    let told = "ZeroDivisionError: division by zero (failing.py:2)";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
}

#[test]
fn a_fetcher_that_cannot_be_used_is_told_before_anything_is_fetched() {
    let place = Place::new();
    let broken = place.write("broken.py", "def fetch(url)\n    pass\n");
    let without = place.write("without.py", "x = 1\n");
    place.write("urls.txt", "http://127.0.0.1:9/\n");
    let said = |fetcher: &str, arm: &str| {
        let ran = place.run(&["study", "urls.txt", "--fetcher", fetcher, "--arm", arm]).expect(2);
        assert!(ran.stdout.is_empty(), "{}", ran.stdout);
        ran.stderr
    };
    let refused = said("py=/no/such/program -x", "async");
    assert!(
        refused.contains("--fetcher py=/no/such/program -x: it could not be started"),
        "{refused}"
    );
    assert!(said("py", "async").contains("NAME=COMMAND"));
    assert!(said("py='a", "async").contains("never closed"));
    let hello = said("py=echo Hello", "async");
    assert!(hello.contains("not this protocol ('Hello…')"), "{hello}");
    if let Some(fetcher) = python("py", &[&broken]) {
        let broken = said(&fetcher, "threads@broken");
        assert!(broken.contains("broken.py") && broken.contains("line 1"), "{broken}");
    }
    if let Some(fetcher) = python("py", &[&without]) {
        assert!(said(&fetcher, "threads@without").contains("has no function fetch"));
    }
    if let Some(fetcher) = python("py", &[]) {
        let unknown = said(&fetcher, "threads@urlib");
        assert!(unknown.contains("there is no client 'urlib'; there are core"), "{unknown}");
        assert!(unknown.contains("urllib"), "{unknown}");
        let wrong = said(&fetcher, "async:8@urllib");
        assert!(wrong.contains("use async:8@") && wrong.contains("threads:8@urllib"), "{wrong}");
        let twice = place.run(&[
            "study",
            "urls.txt",
            "--fetcher",
            &fetcher,
            "--fetcher",
            &fetcher.replacen("py=", "too=", 1),
        ]);
        let twice = twice.expect(2).stderr;
        assert!(twice.contains("it has a client 'urllib', as --fetcher py has"), "{twice}");
    }
    place.assert_nothing_left();
}

#[test]
fn a_fleet_runs_only_the_fetchers_that_its_workers_were_started_with() {
    let place = Place::new();
    let Some(fetcher) = python("py", &[]) else { return };
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "size=64"));
    let serving = place.serve(&[]);
    let fetch = ["fetch", "urls.txt", "--coordinator", &serving.url, "--arm", "threads:4@urllib"];
    let worker = ["worker", "--coordinator", &serving.url, "--name"];
    let plain = place.start(&[&worker[..], &["plain"]].concat());
    serving.attached(&place, "plain");
    let unknown = place.run(&fetch).expect(2).stderr;
    assert!(unknown.contains("there is no client 'urllib'"), "{unknown}");
    let typed = place.run(&[&fetch[..], &["--fetcher", &fetcher]].concat()).expect(2).stderr;
    assert!(typed.contains("give the flag to `worker`"), "{typed}");
    plain.signal(Signal::TERM);
    plain.finish().expect(0);
    let with = place.start(&[&worker[..], &["with-python", "--fetcher", &fetcher]].concat());
    serving.attached(&place, "with-python");
    let records = place.run(&fetch).expect(0).records();
    assert_each_once(records.iter().map(|r| r["id"].as_u64().unwrap()).collect(), URLS as u64);
    with.signal(Signal::TERM);
    with.finish().expect(0);
}
