//! Two studies, side by side.

use std::fmt::Write as _;

use crate::{
    format,
    record::{Interval, Machine, Manifest, PRIMARY, Study, TrialRecord},
    statistics::{ArmSummary, CONFIDENCE, Sample, by_block, log_ratios, summaries},
    text::words::{aligned, chars, or_unknown},
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
    let named = |all: &[ArmSummary<'_>], name: &str| all.iter().any(|arm| arm.arm.name == name);
    let pairs = of_a.iter().filter_map(|one| {
        let other = of_b.iter().find(|other| other.arm.name == one.arm.name)?;
        Some(row((a, one), (b, other)))
    });
    let mut rows = vec![HEADS.map(str::to_owned)];
    rows.extend(pairs);
    if rows.len() == 1 {
        return Err(NotComparable::NoCommonArm);
    }
    let mut out = String::new();
    // Writing to a String cannot fail.
    for difference in &differences {
        let _ = writeln!(out, "WARNING, not the same conditions: {difference}.");
    }
    let _ = writeln!(
        out,
        "A: {}, B: {}. B/A below 1 means that B is faster; with 95 % intervals.\n",
        a.manifest.started, b.manifest.started
    );
    let widths = HEADS.iter().enumerate().map(|(column, _)| {
        let cells = rows.iter().map(|row| chars(&row[column]));
        cells.max().unwrap_or(0)
    });
    let widths: Vec<usize> = widths.collect();
    for row in &rows {
        let _ = writeln!(out, "{}", aligned(row, &widths).trim_end());
    }
    for (label, here, there) in [("A", &of_a, &of_b), ("B", &of_b, &of_a)] {
        let names = here.iter().map(|arm| arm.arm.name.as_str());
        let only: Vec<&str> = names.filter(|name| !named(there, name)).collect();
        if !only.is_empty() {
            let _ = writeln!(out, "Only in {label}: {}.", only.join(", "));
        }
    }
    Ok(out)
}

const HEADS: [&str; 8] =
    ["arm", "A", "B", "B/A", "interval", "B/A, baseline divided out", "memory A", "memory B"];

/// One arm in both studies.
fn row((a, one): (&Study, &ArmSummary<'_>), (b, other): (&Study, &ArmSummary<'_>)) -> [String; 8] {
    let name = one.arm.name.as_str();
    let known = one.makespan_s.is_some() && other.makespan_s.is_some();
    let same_baseline = a.manifest.baseline == b.manifest.baseline;
    let exp = |interval: Interval| Interval {
        value: interval.value.exp(),
        low: interval.low.map(f64::exp),
        high: interval.high.map(f64::exp),
    };
    let ratio = |sample: fn(&Study, &str) -> Sample| {
        exp(sample(b, name).above(&sample(a, name), CONFIDENCE))
    };
    let direct = known.then(|| ratio(makespans));
    let relative = (known && same_baseline && !one.baseline).then(|| ratio(ratios_to_baseline));
    let ends = |interval: Interval| Some(format::ratio_interval(interval.low?, interval.high?));
    let ends =
        |interval: Option<Interval>| interval.and_then(ends).unwrap_or(format::UNKNOWN.into());
    let makespan =
        |arm: &ArmSummary<'_>| or_unknown(arm.makespan_s.map(|m| m.median), format::duration);
    let pss: fn(&TrialRecord) -> Option<f64> = |trial| Some(trial.pss_peak_bytes? as f64);
    [
        name.to_owned(),
        makespan(one),
        makespan(other),
        or_unknown(direct.map(|i| i.value), format::ratio),
        ends(direct),
        match relative {
            Some(ratio) => format!("{} ({})", format::ratio(ratio.value), ends(relative)),
            None => format::UNKNOWN.to_owned(),
        },
        or_unknown(one.median(pss), format::bytes),
        or_unknown(other.median(pss), format::bytes),
    ]
}

fn makespans(study: &Study, arm: &str) -> Sample {
    let seconds = by_block(study, arm, PRIMARY).into_values();
    Sample::new(seconds.filter(|s| *s > 0.0).map(f64::ln).collect())
}

fn ratios_to_baseline(study: &Study, arm: &str) -> Sample {
    let baseline = by_block(study, &study.manifest.baseline, PRIMARY);
    log_ratios(&by_block(study, arm, PRIMARY), &baseline)
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
    let mut compare = |what: &str, of: &dyn Fn(&Manifest) -> String| differs(what, of(a), of(b));
    let limit = |limit: Option<f64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    compare("fanout", &|m| m.version.clone());
    compare("list (SHA-256)", &|m| m.list_sha256.chars().take(12).collect());
    compare("URLs", &|m| format::count(m.urls));
    compare("repeat", &|m| m.repeat.to_string());
    compare("split", &|m| m.split.clone());
    compare("most requests of a host at a time", &|m| limit(m.max_per_host.map(f64::from)));
    compare("most URLs of a host a second", &|m| limit(m.rate_per_host));
    compare("placement", &|m| m.placement.clone());
    let http = |manifest: &Manifest| serde_json::to_value(&manifest.http).unwrap_or_default();
    let (one, other) = (http(a), http(b));
    for name in one.as_object().into_iter().flat_map(|fields| fields.keys()) {
        differs(name, one[name].to_string(), other[name].to_string());
    }
    let mut compare = |what: &str, of: &dyn Fn(&Manifest) -> String| differs(what, of(a), of(b));
    compare("origin", &|m| match &m.origin {
        Some(origin) if origin.embedded => format!("embedded, {} threads", origin.threads),
        Some(origin) => format!("fanout's, {} threads", origin.threads),
        None => "foreign".to_owned(),
    });
    compare("coordinator's machine", &|m| machine(&m.coordinator));
    compare("workers", &|m| {
        let workers = m.workers.iter();
        let mut all: Vec<String> = workers
            .map(|worker| format!("{} ({})", machine(&worker.machine), worker.version))
            .collect();
        all.sort();
        all.join(", ")
    });
    for name in a.facts.keys().chain(b.facts.keys()) {
        compare(name, &|m| m.facts.get(name).map_or("unknown", String::as_str).to_owned());
    }
    found.dedup();
    found
}

fn machine(machine: &Machine) -> String {
    let limit = machine.cgroup_cpus.map(|limit| format!(" limited to {limit}"));
    let memory = machine.cgroup_memory_bytes.or(machine.memory_bytes);
    format!(
        "{} {} with {} CPUs{}, {}",
        machine.kernel,
        machine.architecture,
        machine.cpus.len(),
        limit.unwrap_or_default(),
        or_unknown(memory.map(|bytes| bytes as f64), format::bytes)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::StudyBuilder;

    fn study(seed: u64) -> Study {
        StudyBuilder::new().arms(&["async:32", "threads:32", "4xasync:8"]).seed(seed).build()
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
        b.manifest.http.settings.timeout = std::time::Duration::from_secs(5);
        b.manifest.coordinator.cpus = vec![0, 1, 2, 3];
        b.manifest.facts.insert("governor".into(), "powersave".into());
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
