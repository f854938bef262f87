//! A study for programs.

use std::collections::BTreeMap;

use crate::record::{Percentiles, Study, Trial};

/// The whole record as `study.json` holds it: indented, keys in the order of
/// the record, a newline at the end.
#[must_use]
pub fn json(study: &Study) -> String {
    let mut text = serde_json::to_string_pretty(study)
        .expect("the record has string keys only, and writing into memory cannot fail");
    text.push('\n');
    text
}

/// A column of `trials.csv`.
type Field = (&'static str, fn(&Trial) -> String);

fn text<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn counts(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<String> = counts
        .iter()
        .map(|(name, n)| format!("{name}={n}"))
        .collect();
    parts.join(" ")
}

macro_rules! fields {
    // A plain figure of the trial, or of a part of it that is always there.
    (plain $name:literal $($path:ident).+) => {
        ($name, |trial| trial.$($path).+.to_string())
    };
    // A figure that may be unknown.
    (maybe $name:literal $($path:ident).+) => {
        ($name, |trial| text(trial.$($path).+))
    };
    // A figure of a part that may be missing.
    (of $name:literal $part:ident $field:ident) => {
        ($name, |trial| text(trial.$part.map(|part| part.$field)))
    };
    // A figure that may be unknown, of a part that may be missing.
    (maybe_of $name:literal $part:ident $field:ident) => {
        ($name, |trial| text(trial.$part.and_then(|part| part.$field)))
    };
}

macro_rules! percentiles {
    ($part:ident) => {
        [
            (concat!(stringify!($part), "_p50"), |t| {
                of(t.$part, |p| Some(p.p50))
            }),
            (concat!(stringify!($part), "_p90"), |t| {
                of(t.$part, |p| p.p90)
            }),
            (concat!(stringify!($part), "_p99"), |t| {
                of(t.$part, |p| p.p99)
            }),
            (concat!(stringify!($part), "_max"), |t| {
                of(t.$part, |p| Some(p.max))
            }),
            (concat!(stringify!($part), "_mean"), |t| {
                of(t.$part, |p| Some(p.mean))
            }),
            (concat!(stringify!($part), "_count"), |t| {
                text(t.$part.map(|p| p.count))
            }),
        ]
    };
}

fn of(percentiles: Option<Percentiles>, figure: fn(Percentiles) -> Option<f64>) -> String {
    text(percentiles.and_then(figure))
}

const HEAD: &[Field] = &[
    ("arm", |trial| trial.arm.clone()),
    fields!(plain "block" block),
    fields!(plain "order" order),
    fields!(plain "discarded" discarded),
    fields!(plain "valid" valid),
    ("invalid_reasons", |trial| trial.invalid_reasons.join("; ")),
    fields!(plain "degraded" degraded),
    fields!(maybe "makespan_s" makespan_s),
    fields!(maybe "fetch_makespan_s" fetch_makespan_s),
    fields!(maybe "spawn_s" spawn_s),
    fields!(plain "completed" completed),
    fields!(plain "failed" failed),
    fields!(plain "abandoned" abandoned),
    fields!(plain "requeued" requeued),
    fields!(plain "duplicates_ignored" duplicates_ignored),
    fields!(plain "fetchers_lost" fetchers_lost),
    fields!(maybe "notice_s" notice_s),
    fields!(maybe "recovery_s" recovery_s),
    fields!(plain "asked_again" asked_again),
    fields!(plain "bytes" bytes),
    fields!(maybe "requests_per_s" requests_per_s),
    fields!(maybe "cpu_user_s" cpu_user_s),
    fields!(maybe "cpu_system_s" cpu_system_s),
    fields!(maybe "voluntary_switches" voluntary_switches),
    fields!(maybe "involuntary_switches" involuntary_switches),
    fields!(maybe "run_queue_wait_s" run_queue_wait_s),
    fields!(maybe "threads_peak" threads_peak),
    fields!(maybe "pss_peak_bytes" pss_peak_bytes),
    fields!(maybe "uss_peak_bytes" uss_peak_bytes),
    fields!(maybe "hwm_sum_bytes" hwm_sum_bytes),
    fields!(maybe "pss_byte_s" pss_byte_s),
    fields!(maybe "cgroup_peak_bytes" cgroup_peak_bytes),
    fields!(maybe "cgroup_sock_bytes" cgroup_sock_bytes),
    fields!(maybe "cgroup_kernel_stack_bytes" cgroup_kernel_stack_bytes),
    fields!(maybe "in_flight_mean" in_flight_mean),
    fields!(maybe "in_flight_peak" in_flight_peak),
    fields!(maybe "connections_opened" connections_opened),
    fields!(maybe "requests_sent" requests_sent),
    fields!(maybe "stale_retries" stale_retries),
    fields!(maybe "suspended_s" suspended_s),
    fields!(maybe "late_starts" late_starts),
    fields!(maybe "host_wait_s" host_wait_s),
];

const TAIL: &[Field] = &[
    fields!(plain "phases_connect_s" phases.connect_s),
    fields!(plain "phases_wait_s" phases.wait_s),
    fields!(plain "phases_body_s" phases.body_s),
    fields!(plain "phases_idle_s" phases.idle_s),
    fields!(maybe "coordination_overhead_s" coordination.overhead_s),
    fields!(maybe "coordination_lag_mean_s" coordination.lag_mean_s),
    fields!(maybe "coordination_barrier_s" coordination.barrier_s),
    fields!(maybe "coordination_coordinator_cpu_s" coordination.coordinator_cpu_s),
    fields!(maybe "coordination_worker_cpu_s" coordination.worker_cpu_s),
    fields!(plain "coordination_pipe_bytes_sent" coordination.pipe_bytes_sent),
    fields!(plain "coordination_pipe_bytes_received" coordination.pipe_bytes_received),
    fields!(plain "coordination_grpc_bytes_sent" coordination.grpc_bytes_sent),
    fields!(plain "coordination_grpc_bytes_received" coordination.grpc_bytes_received),
    fields!(plain "coordination_grpc_messages_sent" coordination.grpc_messages_sent),
    fields!(plain "coordination_grpc_messages_received" coordination.grpc_messages_received),
    ("outcomes", |trial| counts(&trial.outcomes)),
    ("statuses", |trial| counts(&trial.statuses)),
    fields!(of "origin_requests" origin requests),
    fields!(of "origin_connections" origin connections),
    fields!(of "origin_connections_peak" origin connections_peak),
    fields!(of "origin_concurrent_peak" origin concurrent_peak),
    fields!(maybe_of "origin_cpu_s" origin cpu_s),
    fields!(maybe_of "origin_busy" origin busy),
    fields!(maybe_of "origin_delay_error_mean_s" origin delay_error_mean_s),
    fields!(maybe_of "origin_connections_closed" origin connections_closed),
];

/// Every column, in order.
fn columns() -> impl Iterator<Item = Field> {
    let latency: [Field; 6] = percentiles!(latency_s);
    let first_byte: [Field; 6] = percentiles!(first_byte_s);
    let connect: [Field; 6] = percentiles!(connect_s);
    let queue_wait: [Field; 6] = percentiles!(queue_wait_s);
    let sojourn: [Field; 6] = percentiles!(sojourn_s);
    HEAD.iter()
        .copied()
        .chain(latency)
        .chain(first_byte)
        .chain(connect)
        .chain(queue_wait)
        .chain(sojourn)
        .chain(TAIL.iter().copied())
}

/// Every trial as one row of `trials.csv`. Columns are named as in the record,
/// with `_` between a part and its figure; an unknown figure is empty; counts
/// by name read `200=997 404=3`.
#[must_use]
pub fn csv(study: &Study) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let impossible = "writing equally long records into memory cannot fail";
    writer
        .write_record(columns().map(|(name, _)| name))
        .expect(impossible);
    for trial in &study.trials {
        writer
            .write_record(columns().map(|(_, figure)| figure(trial)))
            .expect(impossible);
    }
    let bytes = writer.into_inner().expect(impossible);
    String::from_utf8(bytes).expect("every field is text")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{fixture, record::OriginFigures};

    /// The record's plain figures, by their names in the table.
    fn flattened(value: &serde_json::Value, prefix: &str, into: &mut BTreeSet<String>) {
        let serde_json::Value::Object(fields) = value else {
            into.insert(prefix.to_owned());
            return;
        };
        for (name, value) in fields {
            let name = if prefix.is_empty() {
                name.clone()
            } else {
                format!("{prefix}_{name}")
            };
            flattened(value, &name, into);
        }
    }

    #[test]
    fn every_figure_of_a_trial_has_a_column() {
        let full = Trial {
            latency_s: Some(Percentiles::default()),
            first_byte_s: Some(Percentiles::default()),
            connect_s: Some(Percentiles::default()),
            queue_wait_s: Some(Percentiles::default()),
            sojourn_s: Some(Percentiles::default()),
            origin: Some(OriginFigures::default()),
            ..Trial::default()
        };
        let mut record = BTreeSet::new();
        flattened(&serde_json::to_value(&full).unwrap(), "", &mut record);
        // Series stay in study.json.
        for series in ["memory", "latency_histogram", "workers", "requests"] {
            assert!(record.remove(series), "{series}");
        }
        // Empty maps flatten to nothing.
        record.extend(["outcomes".to_owned(), "statuses".to_owned()]);
        let table: BTreeSet<String> = columns().map(|(name, _)| name.to_owned()).collect();
        assert_eq!(record, table);
        assert_eq!(columns().count(), table.len(), "a name stands twice");
    }

    #[test]
    fn a_row_a_trial_and_unknown_is_empty() {
        let mut study = fixture::study();
        study.trials.truncate(2);
        study.trials[1] = Trial {
            arm: "a, \"quoted\" arm".into(),
            invalid_reasons: vec!["one".into(), "two".into()],
            ..Trial::default()
        };
        let text = csv(&study);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let field = |row: usize, name: &str| {
            let at = header.iter().position(|column| column == name).unwrap();
            rows[row][at].to_owned()
        };
        assert_eq!(rows.len(), 2);
        assert_eq!(field(0, "completed"), "1000");
        assert_eq!(field(0, "statuses"), "200=1000");
        let p99 = study.trials[0].latency_s.unwrap().p99.unwrap();
        assert_eq!(field(0, "latency_s_p99").parse(), Ok(p99));
        assert_eq!(field(1, "arm"), "a, \"quoted\" arm");
        assert_eq!(field(1, "invalid_reasons"), "one; two");
        assert_eq!(field(1, "makespan_s"), "");
        assert_eq!(field(1, "origin_cpu_s"), "");
    }

    #[test]
    fn json_is_read_back() {
        let study = fixture::study();
        let text = json(&study);
        assert!(text.starts_with("{\n  \"schema_version\": 1,\n  \"manifest\": {"));
        assert_eq!(serde_json::from_str::<Study>(&text).unwrap(), study);
    }

    #[test]
    fn a_record_from_before_newer_fields_is_read() {
        let mut value = serde_json::to_value(fixture::study()).unwrap();
        let study = value.as_object_mut().unwrap();
        for newer in ["analysis", "scaling", "memory_slopes"] {
            study.remove(newer);
        }
        let trial = study["trials"][0].as_object_mut().unwrap();
        trial.remove("stale_retries");
        trial.remove("suspended_s");
        let study: Study = serde_json::from_value(value).unwrap();
        assert_eq!(study.trials[0].stale_retries, None);
    }
}
