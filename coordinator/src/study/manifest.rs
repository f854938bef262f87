//! Under which conditions a study runs.

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use fanout_analysis::record::{Http, Manifest, Origin, Worker};
use fanout_engine::ledger::Split;
use fanout_proto::worker::Hello;

use crate::{
    local::environment::{Environment, machine},
    settings::{StudySettings, cpus::list_text},
    study::part::Part,
    terminal::command::without_secrets,
};

pub(super) fn fresh_seed() -> u64 {
    let now = jiff::Timestamp::now();
    // Readable, and different in every run; it is recorded, not secret.
    now.as_millisecond().unsigned_abs() % 1_000_000_000
}

/// How long this machine has been suspended since it started, if the system tells.
pub(super) fn suspended() -> Option<Duration> {
    use rustix::time::{ClockId, clock_gettime};
    let boot = Duration::try_from(clock_gettime(ClockId::Boottime)).ok()?;
    let monotonic = Duration::try_from(clock_gettime(ClockId::Monotonic)).ok()?;
    Some(boot.saturating_sub(monotonic))
}

pub(super) fn describe(
    part: &Part,
    seed: u64,
    environment: &Environment<'_>,
    command: &[String],
) -> Manifest {
    let Part { settings, list, .. } = part;
    let common = &settings.common;
    let workers: Vec<_> = environment
        .fleet
        .workers()
        .iter()
        .map(|(id, attached)| worker(id.0, &attached.hello))
        .collect();
    Manifest {
        version: fanout_program::VERSION.to_owned(),
        started: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        elapsed_s: 0.0,
        command: with_seed(command, settings, seed),
        list: list.source.to_string(),
        urls: list.len(),
        list_sha256: list.sha256.clone(),
        delay_s: part.delay.map(|delay| delay.as_secs_f64()),
        skipped_lines: list.skipped_lines(),
        repeat: common.repeat,
        seed,
        blocks: settings.blocks,
        split: match common.split {
            Split::Dynamic => "dynamic",
            Split::Static => "static",
        }
        .to_owned(),
        rate_per_s: common.rate_per_s,
        max_per_host: common.hosts.max_per_host.map(NonZeroU32::get),
        rate_per_host: common.hosts.rate_per_host,
        baseline: settings.arms.get(settings.baseline).map(ToString::to_string).unwrap_or_default(),
        concurrency: settings.concurrency,
        placement: common.placement.to_string(),
        http: Http {
            settings: common.http.without_secrets(),
            cpu_work_s: common.cpu_work.as_secs_f64(),
            cpu_lock: common.cpu_lock,
        },
        coordinator: environment.machine.clone(),
        workers,
        origin: environment.origin.as_ref().map(|origin| Origin {
            urls: vec![origin.url.clone()],
            threads: u32::try_from(origin.threads).unwrap_or(u32::MAX),
            embedded: origin.embedded,
        }),
        facts: facts(settings),
    }
}

/// The command that repeats the study, the seed included.
fn with_seed(command: &[String], settings: &StudySettings, seed: u64) -> Vec<String> {
    let mut command = command.to_vec();
    if settings.seed.is_none() {
        command.push("--seed".to_owned());
        command.push(seed.to_string());
    }
    command
}

/// This process's own command line, without where the program lies.
pub(super) fn own_command() -> Vec<String> {
    let typed: Vec<_> =
        std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    std::iter::once("coordinator".to_owned()).chain(without_secrets(&typed)).collect()
}

fn facts(settings: &StudySettings) -> BTreeMap<String, String> {
    let cpus = &settings.common.cpus;
    let mut facts = BTreeMap::from([
        ("allocator".to_owned(), "the system's".to_owned()),
        ("tls".to_owned(), "rustls with ring".to_owned()),
        ("build".to_owned(), build().to_owned()),
        ("target".to_owned(), fanout_program::TARGET.to_owned()),
    ]);
    let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    if let Ok(text) = std::fs::read_to_string(governor) {
        facts.insert("cpu_governor".to_owned(), text.trim().to_owned());
    }
    if !cpus.origin.is_empty() {
        facts.insert("cpus_origin".to_owned(), list_text(&cpus.origin));
    }
    if !cpus.fetchers.is_empty() {
        facts.insert("cpus_fetchers".to_owned(), list_text(&cpus.fetchers));
    }
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    if let Some(limit) = files.maximum {
        facts.insert("open_files_hard_limit".to_owned(), limit.to_string());
    }
    facts
}

const fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

pub(super) fn worker(id: u32, hello: &Hello) -> Worker {
    Worker {
        id,
        name: hello.name.clone(),
        version: hello.facts.version.clone(),
        slots: hello.slots,
        machine: machine(&hello.facts),
        fetchers: hello
            .fetchers
            .iter()
            .map(|f| (f.name.clone(), f.declaration.about.clone()))
            .collect(),
        joined_block: None,
        left_block: None,
    }
}
