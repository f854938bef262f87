//! Clocks of machines may differ by hours without changing a figure: wall
//! clocks are read for names and seeds only, and none goes over the wire.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Place, absent};

/// Where the time of day may be read, and what for.
const ALLOWED: [(&str, &str); 3] = [
    ("coordinator/src/study/manifest.rs", "when a study began, and a seed"),
    ("coordinator/src/study/store.rs", "the name of a study's directory"),
    ("coordinator/src/serve/plan.rs", "the name of a study"),
];
/// What reads it.
const READS: [&str; 5] =
    ["SystemTime::", "Timestamp::now", "Zoned::now", "ClockId::Realtime", "modified()"];

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_time_of_day_is_read_for_names_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for part in [
        "coordinator/src",
        "analysis/src",
        "engine/src",
        "origin/src",
        "proto/src",
        "worker/src",
        "fetcher/src",
    ] {
        sources(&root.join(part), &mut files);
    }
    assert!(files.len() > 100, "the sources are elsewhere");
    let mut readers = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        if READS.iter().any(|read| text.contains(read)) {
            let name = file.strip_prefix(&root).expect("below the root");
            readers.push(name.display().to_string());
        }
    }
    readers.sort_unstable();
    let mut allowed = ALLOWED.map(|(file, _)| file);
    allowed.sort_unstable();
    assert_eq!(readers, allowed);
    let proto = fs::read_to_string(root.join("proto/fanout.proto")).expect("the wire format");
    assert!(!proto.contains("Timestamp") && !proto.contains("import"));
}

/// More than any of these tests takes, and less than any two clocks differ by.
const ABSURD_S: f64 = 3600.0;
/// Between two jumps of a wall clock.
const STEP: Duration = Duration::from_millis(25);

/// A machine whose clocks are its own.
struct Machine {
    /// What libfaketime reads the wall clock's offset from.
    wall: PathBuf,
    /// What the dynamic linker is told, so that libfaketime is there.
    preload: String,
    /// Offset of the monotonic clock and of the time since boot.
    monotonic_s: u32,
}

impl Machine {
    /// `None` where something that this needs is missing; said then.
    fn new(place: &Place, name: &str, monotonic_s: u32) -> Option<Self> {
        let library =
            Command::new("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]).output();
        let library = match library {
            Ok(output) if output.status.success() => output.stdout,
            _ => return absent("faketime (Debian's package of that name)"),
        };
        let machine = Self {
            wall: place.path(&format!("{name}.clock")),
            preload: String::from_utf8(library).unwrap().trim().to_owned(),
            monotonic_s,
        };
        machine.set_wall("+7h").unwrap();
        // Both clocks must really be others than this test's own.
        let ask = |program: &str, argument: &str| {
            let mut command = machine.command(Command::new(program).arg(argument));
            let output = command.output().ok().filter(|o| o.status.success())?;
            let text = String::from_utf8(output.stdout).unwrap();
            text.split_whitespace().next()?.parse::<f64>().ok()
        };
        let Some(since_boot_s) = ask("cat", "/proc/uptime") else {
            return absent("a time namespace of one's own (unshare --time, as root)");
        };
        assert!(since_boot_s > f64::from(monotonic_s), "{since_boot_s}");
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let here_s = jiff::Timestamp::now().as_second() as f64;
        let ahead_s = ask("date", "+%s").unwrap() - here_s;
        assert!((ahead_s - 7.0 * 3600.0).abs() < ABSURD_S, "{ahead_s}");
        Some(machine)
    }

    /// Sets the wall clock, at once for whoever runs there.
    fn set_wall(&self, offset: &str) -> io::Result<()> {
        let fresh = self.wall.with_extension("new");
        fs::write(&fresh, offset)?;
        fs::rename(fresh, &self.wall)
    }

    /// The command, to be run there.
    fn command(&self, of: &Command) -> Command {
        let seconds = self.monotonic_s.to_string();
        let mut command = Command::new("unshare");
        command
            .args(["--time", "--monotonic", &seconds, "--boottime", &seconds])
            // From here on, not in unshare itself: what libfaketime keeps goes
            // when a program ends, not when another takes its place.
            .arg("env")
            .arg(format!("LD_PRELOAD={}", self.preload))
            .arg(of.get_program())
            .args(of.get_args());
        for (name, value) in of.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = of.get_current_dir() {
            command.current_dir(directory);
        }
        command
            .env("FAKETIME_TIMESTAMP_FILE", &self.wall)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        command
    }
}

/// Every duration in a study, with the names that lead to it. CPU times that the worker reads off a
/// process's own clock are left out: libfaketime moves that clock too, which no kernel does when the
/// time of day is set. `cpu_s` is not read there, and stays in.
fn durations(path: &str, value: &Value, found: &mut Vec<(String, f64)>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                durations(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                durations(path, item, found);
            }
        }
        Value::Number(number) => {
            let is_duration = |name: &str| {
                let others = ["per_s", "byte_s"];
                let of_cpu_clock = ["cpu_start_s", "cpu_run_s"].contains(&name);
                name.ends_with("_s")
                    && !of_cpu_clock
                    && !others.iter().any(|other| name.ends_with(other))
            };
            if path.split('.').any(is_duration) {
                found.push((path.to_owned(), number.as_f64().unwrap()));
            }
        }
        _ => {}
    }
}

#[test]
fn clocks_hours_apart_and_jumping_change_no_figure() {
    const URLS: u64 = 100;
    const DELAY_S: f64 = 0.005;
    let place = Place::new();
    let machines = [("ahead", 500_000), ("behind", 9_000_000)];
    let machines = machines
        .map(|(name, ahead_s)| Machine::new(&place, name, ahead_s).map(|machine| (name, machine)));
    let [Some(one), Some(two)] = machines else {
        return;
    };
    let machines = [one, two];
    let origin = place.origin();
    place.write("urls.txt", origin.list(100, "delay=5ms"));
    let serving = place.serve(&[]);
    let workers = machines.each_ref().map(|(name, machine)| {
        let arguments = ["worker", "--coordinator", &serving.url, "--name", name];
        let worker = place.start_as(machine.command(&place.command(&arguments)));
        serving.attached(&place, name);
        worker
    });
    let over = AtomicBool::new(false);
    let (study, fetch) = thread::scope(|scope| {
        scope.spawn(|| {
            let offsets = ["-9h", "+30h", "-400d", "+7h"].iter().cycle();
            for offset in offsets.take_while(|_| !over.load(Ordering::Relaxed)) {
                for (_, machine) in &machines {
                    // Without its place there is no clock any more, nor a test.
                    let _ = machine.set_wall(offset);
                }
                thread::sleep(STEP);
            }
        });
        let arms = ["2xasync:8", "2xthreads:8", "2xthreads:8@ureq", "2xasync:8@reqwest"];
        let on = ["urls.txt", "--workers", "2", "--coordinator", &serving.url];
        let mut study = [&["study", "--format", "json", "--blocks", "2"], &on[..]].concat();
        for arm in &arms {
            study.extend(["--arm", arm]);
        }
        let study = place.run(&study);
        let fetch = place.run(&[&["fetch", "--arm", "4xasync:2"], &on[..]].concat());
        over.store(true, Ordering::Relaxed);
        (study, fetch)
    });

    let study: Value = serde_json::from_str(&study.expect(0).stdout).unwrap();
    let mut found = Vec::new();
    durations("", &study, &mut found);
    assert!(found.len() > 200, "{found:?}");
    for (name, seconds) in found {
        assert!((0.0..ABSURD_S).contains(&seconds), "{name} {seconds}");
    }
    for trial in study["trials"].as_array().unwrap() {
        assert_eq!(trial["invalid_reasons"], serde_json::json!([]), "{trial}");
        assert_eq!(trial["completed"], URLS, "{trial}");
        let figure = |name: &str| trial[name].as_f64().unwrap();
        assert!(figure("makespan_s") > DELAY_S, "{trial}");
        assert!(figure("fetch_makespan_s") <= figure("makespan_s"), "{trial}");
        assert!(trial["latency_s"]["p50"].as_f64() >= Some(DELAY_S), "{trial}");
        assert_eq!(trial["workers"].as_array().unwrap().len(), 2, "{trial}");
    }
    let records = fetch.expect(0).records();
    assert_eq!(records.len() as u64, URLS);
    for record in records {
        let at = ["start_s", "first_byte_s", "end_s"].map(|name| record[name].as_f64().unwrap());
        assert!((0.0..ABSURD_S).contains(&at[0]), "{record}");
        assert!(at[0] + DELAY_S <= at[1] && at[1] <= at[2], "{record}");
        assert!(at[2] < ABSURD_S, "{record}");
    }
    for worker in serving.status(&place)["workers"].as_array().unwrap() {
        for name in ["attached_s", "silent_s"] {
            let seconds = worker[name].as_f64().unwrap();
            assert!((0.0..ABSURD_S).contains(&seconds), "{worker}");
        }
    }
    for worker in workers {
        worker.signal(Signal::TERM);
        worker.finish().expect(0);
    }
}
