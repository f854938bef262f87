//! `/metrics`, in Prometheus' text format.

use std::fmt::{Display, Write};

use fanout_proto::control::{JobState, Status};

use crate::run::usage::own_cpu;

pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ProcessUsage {
    pub(super) cpu_s: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
}

impl ProcessUsage {
    /// Reads it; what cannot be read stays unknown.
    pub(super) fn now() -> Self {
        let pages = std::fs::read_to_string("/proc/self/statm").ok();
        let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        let page_bytes = u64::try_from(rustix::param::page_size()).ok();
        Self {
            cpu_s: own_cpu().map(|cpu| cpu.as_secs_f64()),
            resident_bytes: pages.zip(page_bytes).map(|(pages, bytes)| pages * bytes),
        }
    }
}

/// The text; `finished` counts jobs that ended well and otherwise.
pub(super) fn text(status: &Status, finished: [u64; 2], process: ProcessUsage) -> String {
    let workers = &status.workers;
    let slots: u64 = workers.iter().map(|w| u64::from(w.slots)).sum();
    let silent = workers.iter().map(|w| w.silent).max().unwrap_or_default();
    let states = || status.jobs.iter().map(|job| &job.state);
    let running = states().filter_map(|state| match state {
        JobState::Running(progress) => Some(progress),
        _ => None,
    });
    let running: Vec<_> = running.collect();
    let waiting = states().filter(|state| matches!(state, JobState::Waiting(_)));
    let mut text = MetricsText::default();
    text.metric(
        "fanout_build_info",
        "gauge",
        "The version that serves.",
        &[(&format!("{{version=\"{}\"}}", status.version), 1)],
    );
    let uptime_s = status.uptime.as_secs_f64();
    let help = "Since the coordinator started.";
    text.gauge("fanout_uptime_seconds", help, uptime_s);
    text.gauge("fanout_workers", "Attached workers.", workers.len());
    text.gauge("fanout_slots", "Fetchers that the workers can run.", slots);
    text.gauge(
        "fanout_worker_silence_seconds_max",
        "Time since the last message of the worker that is silent longest.",
        silent.as_secs_f64(),
    );
    text.metric(
        "fanout_jobs",
        "gauge",
        "Jobs that run or wait.",
        &[("{state=\"running\"}", running.len()), ("{state=\"waiting\"}", waiting.count())],
    );
    text.metric(
        "fanout_jobs_finished_total",
        "counter",
        "Jobs that are over, since the coordinator started.",
        &[("{result=\"done\"}", finished[0]), ("{result=\"other\"}", finished[1])],
    );
    if let Some(progress) = running.first() {
        let help = "URLs of the trial that runs.";
        text.gauge("fanout_trial_urls", help, progress.total);
        let help = "Of those, the ones that are done.";
        text.gauge("fanout_trial_urls_done", help, progress.done());
    }
    if let Some(cpu_s) = process.cpu_s {
        text.metric(
            "process_cpu_seconds_total",
            "counter",
            "CPU time of the coordinator.",
            &[("", cpu_s)],
        );
    }
    if let Some(bytes) = process.resident_bytes {
        let help = "Resident memory of the coordinator.";
        text.gauge("process_resident_memory_bytes", help, bytes);
    }
    text.0
}

#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.metric(name, "gauge", help, &[("", value)]);
    }

    fn metric(&mut self, name: &str, kind: &str, help: &str, values: &[(&str, impl Display)]) {
        // Writing into a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(self.0, "{name}{labels} {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_metric_has_a_help_and_a_type() {
        let status = Status {
            version: "1.2.3".to_owned(),
            uptime: Duration::from_millis(1500),
            queue_max: 1,
            workers: Vec::new(),
            jobs: Vec::new(),
        };
        let process = ProcessUsage { cpu_s: Some(0.25), resident_bytes: None };
        insta::assert_snapshot!(text(&status, [2, 1], process), @r#"
        # HELP fanout_build_info The version that serves.
        # TYPE fanout_build_info gauge
        fanout_build_info{version="1.2.3"} 1
        # HELP fanout_uptime_seconds Since the coordinator started.
        # TYPE fanout_uptime_seconds gauge
        fanout_uptime_seconds 1.5
        # HELP fanout_workers Attached workers.
        # TYPE fanout_workers gauge
        fanout_workers 0
        # HELP fanout_slots Fetchers that the workers can run.
        # TYPE fanout_slots gauge
        fanout_slots 0
        # HELP fanout_worker_silence_seconds_max Time since the last message of the worker that is silent longest.
        # TYPE fanout_worker_silence_seconds_max gauge
        fanout_worker_silence_seconds_max 0
        # HELP fanout_jobs Jobs that run or wait.
        # TYPE fanout_jobs gauge
        fanout_jobs{state="running"} 0
        fanout_jobs{state="waiting"} 0
        # HELP fanout_jobs_finished_total Jobs that are over, since the coordinator started.
        # TYPE fanout_jobs_finished_total counter
        fanout_jobs_finished_total{result="done"} 2
        fanout_jobs_finished_total{result="other"} 1
        # HELP process_cpu_seconds_total CPU time of the coordinator.
        # TYPE process_cpu_seconds_total counter
        process_cpu_seconds_total 0.25
        "#);
    }
}
