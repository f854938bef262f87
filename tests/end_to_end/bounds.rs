//! Nothing grows without bound: whoever is slow slows the source, and a full
//! disk ends a run with what was written intact.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io::{BufRead, BufReader, Write},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use crate::harness::{Place, Started, read, records};

/// Longer than any side waits for a heartbeat of the other, and than a fetcher
/// may complete nothing under the timeout that the test sets.
const STALL: Duration = Duration::from_secs(12);

/// Peak resident memory.
fn peak_kib(run: &Started) -> u64 {
    let status = run.proc("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.expect("it lives").parse().expect("a number")
}

#[test]
fn a_reader_that_stops_holds_the_source_and_loses_nobody() {
    const URLS: usize = 600_000;
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(1000));
    let repeat = (URLS / 1000).to_string();
    let mut run = place.start(&[
        "fetch",
        "urls.txt",
        "--repeat",
        &repeat,
        "--arm",
        "2xasync:64@null",
        "--timeout",
        "1s",
    ]);
    let mut lines = BufReader::new(run.take_stdout()).lines();
    let mut ids: Vec<u64> = Vec::new();
    let mut take = |count: usize| {
        for _ in 0..count {
            let Some(line) = lines.next() else { break };
            let record = &records(&line.unwrap())[0];
            assert_eq!(record["attempt"], 1);
            ids.push(record["id"].as_u64().unwrap());
        }
        ids.len()
    };
    take(1000);
    // All the records together would take more memory than that.
    let since = Instant::now();
    while since.elapsed() < STALL {
        let peak = peak_kib(&run);
        assert!(peak < 64 * 1024, "{peak} KiB");
        assert!(!run.is_over(), "it has nowhere to write");
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(take(URLS), URLS, "every record comes, and then no more");
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), URLS);
    let ran = run.finish().expect(0);
    assert!(ran.stderr.contains("600000 ok, 0 failed, 0 abandoned"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("leases were lost"), "{}", ran.stderr);
    place.assert_nothing_left();
}

#[test]
fn somebody_who_stops_reading_what_v_tells_loses_nobody() {
    const URLS: usize = 60_000;
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(URLS));
    let args = [
        "fetch",
        "urls.txt",
        "-v",
        "--arm",
        "async:64@null",
        "--timeout",
        "1s",
        "--out",
        "got.jsonl",
    ];
    let mut run = place.start(&args);
    let mut lines = BufReader::new(run.take_stderr()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("start"));
    let since = Instant::now();
    while since.elapsed() < STALL {
        assert!(peak_kib(&run) < 64 * 1024);
        assert!(!run.is_over(), "it has nowhere to write");
        thread::sleep(Duration::from_millis(100));
    }
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    run.finish_quietly().expect(0);
    let told = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((told("start"), told("done")), (URLS - 1, URLS));
    assert!(lines.iter().any(|line| line.contains("60000 ok, 0 failed")));
    assert!(!lines.iter().any(|line| line.contains("leases were lost")));
    place.assert_nothing_left();
}

#[test]
fn a_client_that_stops_reading_loses_nothing_and_holds_nobody_up() {
    const URLS: usize = 200_000;
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(1000));
    place.write("few.txt", "http://127.0.0.1:9/never-asked\n".repeat(20));
    let serving = place.serve(&[]);
    let worker = serving.worker(&place, "one");
    let at = ["--coordinator", &serving.url, "--arm", "async:64@null"];
    let repeat = (URLS / 1000).to_string();
    let slow = ["fetch", "urls.txt", "--repeat", &repeat];
    let mut client = place.start(&[&slow[..], &at].concat());
    let mut lines = BufReader::new(client.take_stdout()).lines();
    let mut ids = BTreeSet::new();
    ids.insert(records(&lines.next().unwrap().unwrap())[0]["id"].as_u64());
    // Its job comes to an end, and others after it.
    serving.job(&place, 1, "finished");
    let few = ["fetch", "few.txt"];
    let ran = place.run(&[&few[..], &at].concat()).expect(0);
    assert_eq!(ran.records().len(), 20);
    let since = Instant::now();
    while since.elapsed() < STALL {
        let peak = peak_kib(&client);
        assert!(peak < 40 * 1024, "{peak} KiB");
        assert!(!client.is_over(), "it has nowhere to write");
        thread::sleep(Duration::from_millis(100));
    }
    for line in lines {
        assert!(ids.insert(records(&line.unwrap())[0]["id"].as_u64()));
    }
    assert_eq!(ids.len(), URLS);
    client.finish_quietly().expect(0);
    drop((serving, worker));
    place.assert_nothing_left();
}

#[test]
fn a_reader_that_never_reads_on_does_not_keep_the_second_ctrl_c_waiting() {
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(1000));
    let mut run = place.start(&["fetch", "urls.txt", "--repeat", "300", "--arm", "async:64@null"]);
    let mut stdout = BufReader::new(run.take_stdout());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let before = Instant::now();
    run.signal(rustix::process::Signal::INT);
    run.signal(rustix::process::Signal::TERM);
    run.finish_quietly().expect(130);
    assert!(before.elapsed() < Duration::from_secs(60));
    drop(stdout);
    place.assert_nothing_left();
}

#[test]
fn a_full_disk_ends_a_fetch_which_goes_on_when_there_is_room() {
    const URLS: usize = 2000;
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(URLS));
    for name in ["got.jsonl", "got.csv"] {
        let args = ["fetch", "urls.txt", "--arm", "async:64@null", "--out", name];
        // The list has 62,000 bytes, which were written without the limit.
        let ran = Started::of(place.limited(100, &args)).finish().expect(1);
        let part = format!("{name}.part");
        let words = [&part, "File too large", "raise the limit", "--resume"];
        for word in words {
            assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
        }
        let kept = read(&place.path(&part));
        assert!(kept.ends_with('\n') && kept.len() > 10_000, "{} bytes", kept.len());
        let ran = place.run(&[&args[..], &["--resume"]].concat()).expect(0);
        assert!(ran.stderr.contains("from before"), "{}", ran.stderr);
        let whole = read(&place.path(name));
        assert!(whole.starts_with(&kept));
        let id = |line: &str| match name {
            "got.csv" => line.split(',').next().unwrap().parse::<usize>().ok(),
            _ => Some(usize::try_from(records(line)[0]["id"].as_u64().unwrap()).unwrap()),
        };
        let ids: Vec<_> = whole.lines().filter_map(id).collect();
        assert_eq!(ids.len(), URLS);
        assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), (0..URLS).collect());
    }
    place.assert_nothing_left();
}

#[test]
fn a_full_standard_output_ends_a_fetch_and_says_so() {
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(500));
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = place.command(&["fetch", "urls.txt", "--arm", "async:64@null"]);
    command.stdout(Stdio::from(full));
    let ran = Started::of(command).finish().expect(1);
    assert!(
        ran.stderr.contains("cannot write to standard output: No space left"),
        "{}",
        ran.stderr
    );
    place.assert_nothing_left();
}

#[test]
fn a_list_that_finds_no_room_to_be_copied_is_refused() {
    let place = Place::new();
    let mut command = place.limited(8, &["fetch", "-", "--out", "got.jsonl"]);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        // It does not read it all.
        let _ = stdin.write_all("http://127.0.0.1:9/\n".repeat(100_000).as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("TMPDIR"), "{said}");
    assert!(!place.path("got.jsonl.part").exists());
    place.assert_nothing_left();
}

#[test]
fn a_daemon_with_a_full_disk_ends_the_job_and_serves_on() {
    const URLS: usize = 2000;
    let place = Place::new();
    place.write("urls.txt", "http://127.0.0.1:9/never-asked\n".repeat(URLS));
    place.write("few.txt", "http://127.0.0.1:9/never-asked\n".repeat(20));
    place.write("many.txt", "http://127.0.0.1:9/never-asked\n".repeat(10 * URLS));
    let serve =
        ["serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--data", "data"];
    // Room for the list's 62,000 bytes, and not for its results.
    let mut serve = place.limited(140, &serve);
    serve.stderr(Stdio::inherit());
    let serving = Place::serving(serve);
    let worker = serving.worker(&place, "one");
    let args = ["fetch", "urls.txt", "--arm", "async:64@null", "--out", "got.jsonl"];
    let at = ["--coordinator", &serving.url];
    let ran = place.run(&[&args[..], &at].concat()).expect(1);
    for word in ["on the coordinator's machine", "File too large", "--resume"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    let kept = read(&place.path("got.jsonl.part"));
    assert!(kept.ends_with('\n') && !kept.is_empty());
    // A list that has no room is refused.
    let ran = place.run(&[&["fetch", "many.txt", "--out", "many.jsonl"][..], &at].concat());
    assert!(ran.stderr.contains("cannot keep the list"), "{}", ran.stderr);
    assert!(!place.path("many.jsonl.part").exists());
    let few = ["fetch", "few.txt", "--arm", "async:64@null"];
    let ran = place.run(&[&few[..], &at].concat()).expect(0);
    assert_eq!(ran.records().len(), 20);
    drop((serving, worker));
    std::fs::remove_dir_all(place.path("data")).unwrap();
    let serving = place.serve(&[]);
    let worker = serving.worker(&place, "two");
    let at = ["--coordinator", &serving.url, "--resume"];
    place.run(&[&args[..], &at].concat()).expect(0);
    let whole = read(&place.path("got.jsonl"));
    assert!(whole.starts_with(&kept));
    let ids: BTreeSet<_> = records(&whole).iter().map(|r| r["id"].as_u64()).collect();
    assert_eq!((whole.lines().count(), ids.len()), (URLS, URLS));
    drop((serving, worker));
    place.assert_nothing_left();
}
