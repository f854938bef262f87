//! Two studies, side by side.

use std::fmt::Write as _;

use crate::{
    format,
    record::{Machine, Study, TrialRecord},
    statistics::{ArmSummary, CONFIDENCE, PRIMARY, Sample, by_block, log_ratios, summaries},
    text::words::or_unknown,
};

/// Two studies whose figures mean different things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotComparable {
    /// They ran under different conditions: what differs, with both values.
    #[error(
        "these studies ran under different conditions: {}; --force compares them all the same",
        .0.join("; ")
    )]
    Conditions(Vec<String>),
    /// There is nothing to set side by side.
    #[error("these studies have no arm in common; run one of them again with --arm")]
    NoCommonArm,
}

/// Compares two studies arm by arm: `b` against `a`.
///
/// The trials of two studies share no blocks, so the interval is Welch's. The
/// ratio of ratios to the baseline has what slowed a whole machine down divided out.
///
/// # Errors
/// When the studies ran under different conditions, unless `force` is set (the
/// differences then stand above the table), or have no arm in common.
pub fn compare(a: &Study, b: &Study, force: bool) -> Result<String, NotComparable> {
    let differences = differences(a, b);
    if !force && !differences.is_empty() {
        return Err(NotComparable::Conditions(differences));
    }
    let (of_a, of_b) = (summaries(a), summaries(b));
    let pairs: Vec<(&ArmSummary<'_>, &ArmSummary<'_>)> = of_a
        .iter()
        .filter_map(|one| {
            let other = of_b.iter().find(|other| other.arm.name == one.arm.name)?;
            Some((one, other))
        })
        .collect();
    if pairs.is_empty() {
        return Err(NotComparable::NoCommonArm);
    }
    let mut out = String::new();
    // Writing to a String cannot fail.
    for difference in &differences {
        let _ = writeln!(out, "WARNING, not the same conditions: {difference}.");
    }
    let _ = writeln!(
        out,
        "A: {}, B: {}. B/A below 1 means that B is faster; with 95 % intervals.",
        a.manifest.started, b.manifest.started
    );
    let same_baseline = a.manifest.baseline == b.manifest.baseline;
    let mut rows = vec![
        [
            "arm",
            "A",
            "B",
            "B/A",
            "interval",
            "B/A, baseline divided out",
            "memory A",
            "memory B",
        ]
        .map(str::to_owned),
    ];
    for (one, other) in pairs {
        let name = one.arm.name.as_str();
        let direct = makespans(b, name).above(&makespans(a, name), CONFIDENCE);
        let relative = (same_baseline && !one.baseline)
            .then(|| ratios_to_baseline(b, name).above(&ratios_to_baseline(a, name), CONFIDENCE));
        let exp = |interval: crate::record::Interval| crate::record::Interval {
            value: interval.value.exp(),
            low: interval.low.map(f64::exp),
            high: interval.high.map(f64::exp),
        };
        let known = one.makespan_s.is_some() && other.makespan_s.is_some();
        let direct = known.then(|| exp(direct));
        let relative = relative.filter(|_| known).map(exp);
        let interval = |interval: Option<crate::record::Interval>| {
            interval
                .and_then(|i| Some(format::ratio_interval(i.low?, i.high?)))
                .unwrap_or_else(|| format::UNKNOWN.to_owned())
        };
        let pss: fn(&TrialRecord) -> Option<f64> =
            |trial| trial.pss_peak_bytes.map(|bytes| bytes as f64);
        rows.push([
            name.to_owned(),
            or_unknown(one.makespan_s.map(|m| m.median), format::duration),
            or_unknown(other.makespan_s.map(|m| m.median), format::duration),
            or_unknown(direct.map(|i| i.value), format::ratio),
            interval(direct),
            match relative {
                Some(ratio) => format!("{} ({})", format::ratio(ratio.value), interval(relative)),
                None => format::UNKNOWN.to_owned(),
            },
            or_unknown(one.median(pss), format::bytes),
            or_unknown(other.median(pss), format::bytes),
        ]);
    }
    out.push('\n');
    out.push_str(&aligned(&rows));
    let only = |here: &[ArmSummary<'_>], there: &[ArmSummary<'_>]| {
        here.iter()
            .filter(|one| !there.iter().any(|other| other.arm.name == one.arm.name))
            .map(|one| one.arm.name.clone())
            .collect::<Vec<_>>()
    };
    for (label, arms) in [("A", only(&of_a, &of_b)), ("B", only(&of_b, &of_a))] {
        if !arms.is_empty() {
            let _ = writeln!(out, "Only in {label}: {}.", arms.join(", "));
        }
    }
    Ok(out)
}

fn makespans(study: &Study, arm: &str) -> Sample {
    Sample::new(
        by_block(study, arm, &PRIMARY)
            .into_values()
            .filter(|seconds| *seconds > 0.0)
            .map(f64::ln)
            .collect(),
    )
}

fn ratios_to_baseline(study: &Study, arm: &str) -> Sample {
    log_ratios(
        &by_block(study, arm, &PRIMARY),
        &by_block(study, &study.manifest.baseline, &PRIMARY),
    )
}

/// Names to the left, figures to the right, two spaces between columns.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    });
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            if column == 0 {
                line = format!("{cell}{padding}");
            } else {
                line.push_str("  ");
                line.push_str(&padding);
                line.push_str(cell);
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// What makes two studies' figures mean different things.
fn differences(a: &Study, b: &Study) -> Vec<String> {
    let (a, b) = (&a.manifest, &b.manifest);
    let mut found = Vec::new();
    let mut differs = |what: &str, a: String, b: String| {
        if a != b {
            found.push(format!("{what}: {a} and {b}"));
        }
    };
    differs("fanout", a.version.clone(), b.version.clone());
    differs(
        "list (SHA-256)",
        short(&a.list_sha256),
        short(&b.list_sha256),
    );
    differs("URLs", format::count(a.urls), format::count(b.urls));
    differs("repeat", a.repeat.to_string(), b.repeat.to_string());
    differs("split", a.split.clone(), b.split.clone());
    let limit = |limit: Option<f64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    differs(
        "most requests of a host at a time",
        limit(a.max_per_host.map(f64::from)),
        limit(b.max_per_host.map(f64::from)),
    );
    differs(
        "most URLs of a host a second",
        limit(a.rate_per_host),
        limit(b.rate_per_host),
    );
    differs("placement", a.placement.clone(), b.placement.clone());
    let http = |manifest: &crate::record::Manifest| serde_json::to_value(&manifest.http);
    if let (Ok(serde_json::Value::Object(one)), Ok(serde_json::Value::Object(other))) =
        (http(a), http(b))
    {
        for (name, value) in &one {
            let unset = serde_json::Value::Null;
            let other = other.get(name).unwrap_or(&unset);
            differs(name, value.to_string(), other.to_string());
        }
    }
    let origin = |manifest: &crate::record::Manifest| match &manifest.origin {
        Some(origin) if origin.embedded => format!("embedded, {} threads", origin.threads),
        Some(origin) => format!("fanout's, {} threads", origin.threads),
        None => "foreign".to_owned(),
    };
    differs("origin", origin(a), origin(b));
    differs(
        "coordinator's machine",
        machine(&a.coordinator),
        machine(&b.coordinator),
    );
    let workers = |manifest: &crate::record::Manifest| {
        let mut all: Vec<String> = manifest
            .workers
            .iter()
            .map(|worker| format!("{} ({})", machine(&worker.machine), worker.version))
            .collect();
        all.sort();
        all.join(", ")
    };
    differs("workers", workers(a), workers(b));
    for name in a.facts.keys().chain(b.facts.keys()) {
        let fact = |facts: &std::collections::BTreeMap<String, String>| {
            facts.get(name).cloned().unwrap_or_else(|| "unknown".into())
        };
        differs(name, fact(&a.facts), fact(&b.facts));
    }
    found.dedup();
    found
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}

fn machine(machine: &Machine) -> String {
    format!(
        "{} {} with {} CPUs{}, {}",
        machine.kernel,
        machine.architecture,
        machine.cpus.len(),
        match machine.cgroup_cpus {
            Some(limit) => format!(" limited to {limit}"),
            None => String::new(),
        },
        or_unknown(
            machine
                .cgroup_memory_bytes
                .or(machine.memory_bytes)
                .map(|bytes| bytes as f64),
            format::bytes
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StudyBuilder;

    fn study(seed: u64) -> Study {
        StudyBuilder::new()
            .arms(&["async:32", "threads:32", "4xasync:8"])
            .seed(seed)
            .build()
    }

    #[test]
    fn arm_by_arm() {
        let b = StudyBuilder::new()
            .arms(&["async:32", "threads:32", "sequential"])
            .slower("threads:32", 0.8)
            .seed(2)
            .build();
        insta::assert_snapshot!(compare(&study(1), &b, false).unwrap(), @r#"
        A: 2026-11-22T15:04:05Z, B: 2026-11-22T15:04:05Z. B/A below 1 means that B is faster; with 95 % intervals.

        arm                    A       B    B/A   interval  B/A, baseline divided out  memory A  memory B
        async:32          292 ms  289 ms  0.99×  0.97–1.00                          –  3.49 MiB  3.48 MiB
        async:32 (again)  289 ms  288 ms  0.99×  0.97–1.01          1.00× (0.98–1.02)  3.48 MiB  3.49 MiB
        threads:32        292 ms  230 ms  0.79×  0.78–0.80          0.80× (0.79–0.81)  4.05 MiB  4.04 MiB
        Only in A: 4xasync:8.
        Only in B: sequential.
        "#);
    }

    #[test]
    fn different_conditions_are_refused_with_what_differs() {
        let a = study(1);
        let mut b = study(2);
        b.manifest.version = "0.2.0".into();
        b.manifest.list_sha256 = "00".repeat(32);
        b.manifest.max_per_host = Some(6);
        b.manifest.http.timeout_s = 5.0;
        b.manifest.coordinator.cpus = vec![0, 1, 2, 3];
        b.manifest
            .facts
            .insert("governor".into(), "powersave".into());
        let refused = compare(&a, &b, false).unwrap_err();
        let NotComparable::Conditions(differences) = &refused else {
            panic!("{refused}");
        };
        insta::assert_snapshot!(refused, @"these studies ran under different conditions: fanout: 0.1.0 and 0.2.0; list (SHA-256): 8f434346648f and 000000000000; most requests of a host at a time: none and 6; timeout_s: 30.0 and 5.0; coordinator's machine: 6.18.2 x86_64 with 2 CPUs, 8.00 GiB and 6.18.2 x86_64 with 4 CPUs, 8.00 GiB; governor: performance and powersave; --force compares them all the same");
        let forced = compare(&a, &b, true).unwrap();
        assert_eq!(forced.matches("WARNING").count(), differences.len());
    }

    #[test]
    fn no_arm_in_common() {
        let mut other = study(1);
        for arm in &mut other.arms {
            arm.name.push('x');
        }
        insta::assert_snapshot!(compare(&study(1), &other, true).unwrap_err(), @"these studies have no arm in common; run one of them again with --arm");
    }
}
