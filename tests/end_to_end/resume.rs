//! A fetch that was cut short goes on: no record is lost, none comes twice.

use std::{collections::BTreeSet, fs, path::Path};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rustix::process::Signal;

use crate::harness::{self, Place, Started, read, wait_for};

/// URLs that take long enough to be interrupted.
const URLS: usize = 400;

/// The ids of a results file's records, in its order; a part may end anywhere.
fn ids(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    match path.to_str().unwrap().contains(".csv") {
        true => whole
            .lines()
            .skip(1)
            .map(|line| line.split(',').next().unwrap().parse().unwrap())
            .collect(),
        false => harness::ids(whole),
    }
}

#[track_caller]
fn assert_each_once(path: &Path, count: usize) {
    harness::assert_each_once(ids(path), count as u64);
}

/// Waits until the part holds so many records, or the coordinator has ended.
fn grown(run: &mut Started, part: &Path, count: usize) {
    wait_for("records", || (ids(part).len() >= count || run.is_over()).then_some(()));
}

#[test]
fn a_fetch_that_is_killed_again_and_again_comes_to_its_end() {
    let seed = match std::env::var("FANOUT_TEST_SEED") {
        Ok(seed) => seed.parse().expect("a number"),
        Err(_) => 20_261_122,
    };
    println!("FANOUT_TEST_SEED={seed}");
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    for (name, more) in [
        ("got.jsonl", &["--arm", "async:8"][..]),
        ("got.csv", &["--arm", "2xthreads:4", "--split", "static"]),
    ] {
        let place = Place::new();
        let origin = place.origin();
        place.write("urls.txt", origin.list(URLS, "delay=20ms"));
        let args = [&["fetch", "urls.txt", "--out", name, "--resume"], more].concat();
        let part = place.path(&format!("{name}.part"));
        let (mut before, mut kills) = (0, 0);
        while kills < 6 && before < URLS {
            let mut run = place.start(&args);
            grown(&mut run, &part, before + rng.random_range(0..80));
            if run.is_over() {
                break;
            }
            run.kill();
            kills += 1;
            // As after a crash of the machine: not all of the last records came to be.
            let mut bytes = fs::read(&part).unwrap_or_default();
            let known = ids(&part);
            assert_eq!(known.len(), known.iter().collect::<BTreeSet<_>>().len());
            match rng.random_range(0..3) {
                0 => bytes.extend_from_slice(&vec![0; rng.random_range(1..5000)]),
                1 => bytes.extend_from_slice(br#"{"id":1,"url":"http"#),
                _ => {}
            }
            if !bytes.is_empty() {
                fs::write(&part, bytes).unwrap();
            }
            place.assert_nothing_left_but("origin");
            let now = known.len();
            assert!(now >= before, "records are gone: {now} of {before}");
            before = now;
        }
        let ran = place.run(&args).expect(0);
        assert!(kills >= 3, "{kills}");
        assert_each_once(&place.path(name), URLS);
        let there = if before == URLS { "all".to_owned() } else { before.to_string() };
        let said = format!("{URLS} URLs: {there} from before");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert!(!part.exists());
        assert!(!place.path(&format!("{name}.part.journal")).exists());
        drop(origin);
        place.assert_nothing_left();
    }
}

/// A part of a fetch of `urls.txt` that was killed.
fn killed(place: &Place, args: &[&str]) -> usize {
    let mut run = place.start(&[&["fetch", "urls.txt", "--out", "got.jsonl"], args].concat());
    let part = place.path("got.jsonl.part");
    grown(&mut run, &part, 20);
    run.kill();
    ids(&part).len()
}

#[test]
fn what_cannot_be_gone_on_from_is_refused_and_stays_as_it_is() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "delay=50ms"));
    let begun = killed(&place, &["--arm", "async:4"]);
    assert!(begun < URLS);
    let part = place.path("got.jsonl.part");
    let kept = fs::read(&part).unwrap();
    let refused = |args: &[&str], words: &[&str]| {
        let ran = place.run(&[&["fetch"], args].concat()).expect(2);
        for word in words {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
        assert_eq!(fs::read(&part).unwrap(), kept);
    };
    refused(
        &["urls.txt", "--out", "got.jsonl"],
        &["got.jsonl.part holds the records", "--resume", "remove it"],
    );
    place.write("other.txt", origin.list(URLS + 1, ""));
    refused(
        &["other.txt", "--out", "got.jsonl", "--resume"],
        &["another list", "urls.txt (400 URLs", "other.txt (401 URLs"],
    );
    refused(
        &["urls.txt", "--repeat", "2", "--out", "got.jsonl", "--resume"],
        &["urls.txt (400 URLs,", "urls.txt (800 URLs with --repeat 2"],
    );
    refused(&["urls.txt", "--resume"], &["--out"]);
    let journal = place.path("got.jsonl.part.journal");
    let good = fs::read(&journal).unwrap();
    fs::remove_file(&journal).unwrap();
    refused(
        &["urls.txt", "--out", "got.jsonl", "--resume"],
        &["got.jsonl.part.journal is missing"],
    );
    fs::write(&journal, good).unwrap();
    // The same URLs under another name and on standard input are the same list.
    let list = read(&place.path("urls.txt"));
    let args = ["fetch", "-", "--out", "got.jsonl", "--resume", "--arm", "async:64"];
    place.run_with_input(&args, list.as_bytes()).expect(0);
    assert_each_once(&place.path("got.jsonl"), URLS);
    let ran = place.run(&["fetch", "urls.txt", "--out", "got.jsonl", "--resume"]).expect(0);
    assert!(ran.stderr.contains("got.jsonl is complete already"), "{}", ran.stderr);
    let ran = place.run(&["fetch", "other.txt", "--out", "new.jsonl", "--resume"]).expect(0);
    assert!(ran.stderr.contains("nothing to go on from"), "{}", ran.stderr);
    assert_each_once(&place.path("new.jsonl"), URLS + 1);
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn a_part_has_one_writer() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "delay=50ms"));
    let args = ["fetch", "urls.txt", "--arm", "async:4", "--out", "got.jsonl"];
    let mut run = place.start(&args);
    grown(&mut run, &place.path("got.jsonl.part"), 1);
    for more in [&[][..], &["--resume"]] {
        let ran = place.run(&[&args[..], more].concat()).expect(2);
        assert!(ran.stderr.contains("another fetch writes got.jsonl.part"), "{}", ran.stderr);
    }
    run.finish().expect(0);
    assert_each_once(&place.path("got.jsonl"), URLS);
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn ctrl_c_says_how_to_go_on_and_twice_it_ends_at_once() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "delay=50ms"));
    // So slow that what is in hand takes longer than the test waits.
    let slow = format!("{0}/a?delay=60s\n{0}/b?delay=60s\n", origin.base);
    place.write("slow.txt", origin.list(100, "delay=10ms") + &slow);
    let part = place.path("got.jsonl.part");
    let mut run = place.start(&["fetch", "urls.txt", "--arm", "async:4", "--out", "got.jsonl"]);
    grown(&mut run, &part, 20);
    run.signal(Signal::INT);
    let ran = run.finish().expect(130);
    let hint = "fetch urls.txt --arm async:4 --out got.jsonl --resume";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let args: Vec<_> = hint.split(' ').collect();
    place.run(&args).expect(0);
    assert_each_once(&place.path("got.jsonl"), URLS);

    let args = ["fetch", "slow.txt", "--arm", "async:4", "--out", "slow.jsonl", "--timeout", "5m"];
    let mut run = place.start(&args);
    let part = place.path("slow.jsonl.part");
    grown(&mut run, &part, 100);
    run.signal(Signal::INT);
    run.signal(Signal::TERM);
    let ran = run.finish().expect(130);
    assert!(ran.stderr.contains("--resume"), "{}", ran.stderr);
    assert_eq!(ids(&part).len(), 100);
    let mut run = place.start(&[&args[..], &["--resume"]].concat());
    wait_for("fetchers", || {
        (!place.processes("fetcher").is_empty() || run.is_over()).then_some(())
    });
    assert!(!run.is_over());
    run.signal(Signal::INT);
    run.signal(Signal::TERM);
    run.finish().expect(130);
    assert_eq!(ids(&part).len(), 100);
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn a_fetch_on_a_fleet_goes_on_after_the_coordinator_died() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "delay=50ms"));
    for name in ["got.jsonl", "got.csv"] {
        let part = place.path(&format!("{name}.part"));
        let serving = place.serve(&[]);
        let worker = serving.worker(&place, "one");
        let args = ["fetch", "urls.txt", "--arm", "async:4", "--out", name];
        let mut client = place.start(&[&args[..], &["--coordinator", &serving.url]].concat());
        grown(&mut client, &part, 20);
        serving.process.kill();
        client.kill();
        worker.kill();
        let before = ids(&part).len();
        assert!((20..URLS).contains(&before));

        fs::remove_dir_all(place.path("data")).unwrap();
        let serving = place.serve(&[]);
        let worker = serving.worker(&place, "two");
        let at = ["--coordinator", &serving.url];
        let ran = place.run(&[&args[..], &at].concat()).expect(2);
        assert!(ran.stderr.contains("--resume"), "{}", ran.stderr);
        place.write("other.txt", origin.list(3, ""));
        let other = ["fetch", "other.txt", "--out", name, "--resume"];
        let ran = place.run(&[&other[..], &at].concat()).expect(2);
        assert!(ran.stderr.contains("urls.txt (400 URLs"), "{}", ran.stderr);
        assert_eq!(ids(&part).len(), before);
        let ran = place.run(&[&args[..], &at, &["--resume"]].concat()).expect(0);
        assert_each_once(&place.path(name), URLS);
        let there = if before == URLS { "all".to_owned() } else { before.to_string() };
        let said = format!("{URLS} URLs: {there} from before");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        let header = read(&place.path(name));
        assert_eq!(header.matches("start_s,").count(), usize::from(name == "got.csv"));
        drop((serving, worker));
        fs::remove_dir_all(place.path("data")).unwrap();
    }
    drop(origin);
    place.assert_nothing_left();
}

#[test]
fn whoever_attaches_gets_the_records_that_are_not_there_yet() {
    let place = Place::new();
    let origin = place.origin();
    place.write("urls.txt", origin.list(URLS, "delay=50ms"));
    let serving = place.serve(&[]);
    let worker = serving.worker(&place, "one");
    let url = ["--coordinator", &serving.url];
    let args = ["fetch", "urls.txt", "--arm", "async:4", "--out", "got.jsonl"];
    let mut client = place.start(&[&args[..], &url].concat());
    let part = place.path("got.jsonl.part");
    grown(&mut client, &part, 20);
    client.kill();
    let before = fs::read(&part).unwrap();
    place.run(&[&["attach", "1"][..], &url].concat()).expect(0);
    assert_each_once(&place.path("got.jsonl"), URLS);
    let whole = fs::read(place.path("got.jsonl")).unwrap();
    let kept = before.iter().rposition(|byte| *byte == b'\n').unwrap();
    assert_eq!(whole[..=kept], before[..=kept]);
    drop((serving, worker, origin));
    place.assert_nothing_left();
}
