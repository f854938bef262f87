//! A study for programs.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::record::{Metric, Study, TrialRecord};

/// The whole record as `study.json` holds it: indented, keys in the order of
/// the record, a newline at the end.
#[must_use]
pub fn json(study: &Study) -> String {
    let text = serde_json::to_string_pretty(study);
    text.expect("the record has string keys only, and writing into memory cannot fail") + "\n"
}

/// The columns of `trials.csv`, in order, named as in the record, with `_`
/// between a part and its figure.
fn columns() -> Vec<String> {
    #[rustfmt::skip]
    let identity = ["arm", "block", "order", "discarded", "valid", "invalid_reasons", "degraded"];
    let metrics = Metric::fields().map(|metric| metric.name.replace('.', "_"));
    let (of_origin, own): (Vec<_>, Vec<_>) = metrics.partition(|name| name.starts_with("origin_"));
    let mut columns: Vec<String> = identity.map(str::to_owned).into();
    columns.extend(own);
    columns.extend(["outcomes", "statuses"].map(str::to_owned));
    columns.extend(of_origin);
    columns.push("regime".to_owned());
    columns
}

/// A trial's figures by the names of their columns: an unknown one is empty,
/// counts by name read `200=997 404=3`, and of the series nothing stands here.
fn fields(trial: &TrialRecord) -> BTreeMap<String, String> {
    let counts = |counts: &BTreeMap<String, u64>| {
        let counts: Vec<String> = counts.iter().map(|(name, n)| format!("{name}={n}")).collect();
        counts.join(" ")
    };
    let mut fields = BTreeMap::new();
    let record = serde_json::to_value(trial).expect("the record has string keys only");
    flatten("", &record, &mut fields);
    fields.insert("invalid_reasons".into(), trial.invalid_reasons.join("; "));
    fields.insert("outcomes".into(), counts(&trial.outcomes));
    fields.insert("statuses".into(), counts(&trial.statuses));
    fields
}

fn flatten(name: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(parts) => {
            for (part, value) in parts {
                let separator = if name.is_empty() { "" } else { "_" };
                flatten(&format!("{name}{separator}{part}"), value, into);
            }
            return;
        }
        Value::Null | Value::Array(_) => String::new(),
        Value::String(text) => text.clone(),
        // Never with an exponent.
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap_or(f64::NAN).to_string(),
        plain => plain.to_string(),
    };
    into.insert(name.to_owned(), text);
}

/// Every trial as one row of `trials.csv`; those at another server bear its name.
#[must_use]
pub fn csv(study: &Study) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let impossible = "writing equally long records into memory cannot fail";
    let columns = columns();
    writer.write_record(&columns).expect(impossible);
    let regimes = study.regimes.iter();
    let others = regimes.flat_map(|r| r.study.trials.iter().map(|trial| (r.name.as_str(), trial)));
    for (regime, trial) in study.trials.iter().map(|trial| ("", trial)).chain(others) {
        let mut fields = fields(trial);
        fields.insert("regime".into(), regime.to_owned());
        let row = columns.iter().map(|name| fields.get(name).map_or("", String::as_str));
        writer.write_record(row).expect(impossible);
    }
    let bytes = writer.into_inner().expect(impossible);
    String::from_utf8(bytes).expect("every field is text")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        fixture,
        record::{OriginMetrics, Percentiles},
    };

    #[test]
    fn every_figure_of_a_trial_has_a_column() {
        let full = TrialRecord {
            latency_s: Some(Percentiles::default()),
            first_byte_s: Some(Percentiles::default()),
            connect_s: Some(Percentiles::default()),
            queue_wait_s: Some(Percentiles::default()),
            sojourn_s: Some(Percentiles::default()),
            origin: Some(OriginMetrics::default()),
            ..TrialRecord::default()
        };
        let mut record = BTreeMap::new();
        flatten("", &serde_json::to_value(&full).unwrap(), &mut record);
        let mut record: BTreeSet<String> = record.into_keys().collect();
        // Series stay in study.json.
        for series in ["memory", "latency_histogram", "workers", "requests"] {
            assert!(record.remove(series), "{series}");
        }
        // Empty maps flatten to nothing.
        record.extend(["outcomes", "statuses", "regime"].map(str::to_owned));
        let table: BTreeSet<String> = columns().into_iter().collect();
        assert_eq!(record, table);
        assert_eq!(columns().len(), table.len(), "a name stands twice");
    }

    #[test]
    fn a_row_a_trial_and_unknown_is_empty() {
        let mut study = fixture::study();
        study.trials.truncate(2);
        study.trials[1] = TrialRecord {
            arm: "a, \"quoted\" arm".into(),
            invalid_reasons: vec!["one".into(), "two".into()],
            ..TrialRecord::default()
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
    fn trials_at_another_server_bear_its_name() {
        let study = fixture::two_servers();
        let text = csv(&study);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().unwrap().iter().next_back(), Some("regime"));
        let regimes =
            reader.records().map(|row| row.unwrap().iter().next_back().unwrap().to_owned());
        let (fast, first): (Vec<_>, Vec<_>) = regimes.partition(|name| name == "fast");
        assert_eq!(fast.len(), study.regimes[0].study.trials.len());
        assert_eq!(first, vec![String::new(); study.trials.len()]);
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
