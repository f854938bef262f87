//! Two studies, side by side.

use serde::Serialize;

use crate::{
    format,
    record::{Machine, Manifest, Metric, PRIMARY, Study},
    statistics::{ArmSummary, Spread, by_block, median, summaries},
    text::{
        markdown::markdown_table,
        words::{aligned_rows, or_unknown, range},
    },
    validity::BUILT_IN,
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

/// Two studies side by side, arm by arm.
///
/// There are ratios and no intervals: what changed on the machine between two studies is in no
/// interval that one study of each could give. Welch's, for one, excluded 1 in 54 of 190 pairs of
/// studies that were alike.
#[derive(Debug, Clone, Serialize)]
pub struct Between {
    /// When the first study started.
    a: String,
    /// When the second started.
    b: String,
    /// What was not alike, if they are compared all the same.
    differences: Vec<String>,
    /// Which memory it is.
    memory: &'static str,
    /// Arms that both have.
    arms: Vec<ArmBetween>,
    only_in_a: Vec<String>,
    only_in_b: Vec<String>,
}

/// One arm in both studies.
#[derive(Debug, Clone, Serialize)]
struct ArmBetween {
    arm: String,
    /// The server, where the study has several; empty for the first.
    regime: String,
    a_makespan_s: Option<f64>,
    b_makespan_s: Option<f64>,
    /// Of the medians: below 1, B took less time.
    ratio: Option<f64>,
    /// With each study's baseline divided out, so that a machine that was slower as a whole does not
    /// move it; of no baseline.
    ratio_to_baseline: Option<f64>,
    a_memory_bytes: Option<f64>,
    b_memory_bytes: Option<f64>,
    /// The blocks' makespans, from the shortest to the longest.
    #[serde(skip)]
    ranges: [Option<Spread>; 2],
}

/// Compares two studies arm by arm: `b` against `a`.
///
/// # Errors
/// When the studies ran under different conditions, unless `force` is set (the
/// differences are then told), or have no arm in common.
pub fn compare(a: &Study, b: &Study, force: bool) -> Result<Between, NotComparable> {
    let differences = differences(a, b);
    if !force && !differences.is_empty() {
        return Err(NotComparable::Conditions(differences));
    }
    let memory = ["memory_peak_bytes", "pss_peak_bytes"].into_iter().find_map(|name| {
        let metric = Metric::named(name)?;
        let known = |study: &Study| {
            study.parts().flat_map(|part| &part.trials).any(|trial| (metric.of)(trial).is_some())
        };
        (known(a) && known(b)).then_some(metric)
    });
    let (of_a, of_b) = (arms(a), arms(b));
    let pairs = of_a.iter().filter_map(|one| {
        let other = of_b.iter().find(|other| other.is(one))?;
        Some(pair(one, other, memory))
    });
    let pairs: Vec<ArmBetween> = pairs.collect();
    if pairs.is_empty() {
        return Err(NotComparable::NoCommonArm);
    }
    let only = |here: &[ArmAt<'_>], there: &[ArmAt<'_>]| -> Vec<String> {
        let missing = here.iter().filter(|arm| !there.iter().any(|other| other.is(arm)));
        missing.map(|arm| labelled(&arm.summary.arm.name, arm.regime)).collect()
    };
    Ok(Between {
        a: a.manifest.started.clone(),
        b: b.manifest.started.clone(),
        differences,
        memory: memory.map_or("", |metric| metric.name),
        only_in_a: only(&of_a, &of_b),
        only_in_b: only(&of_b, &of_a),
        arms: pairs,
    })
}

/// An arm at one of a study's servers.
struct ArmAt<'a> {
    /// The server's name; empty for the first.
    regime: &'a str,
    study: &'a Study,
    summary: ArmSummary<'a>,
}

impl ArmAt<'_> {
    /// Whether it is the same arm at the same server.
    fn is(&self, other: &ArmAt<'_>) -> bool {
        (self.regime, &self.summary.arm.name) == (other.regime, &other.summary.arm.name)
    }
}

/// Every arm at every server.
fn arms(study: &Study) -> Vec<ArmAt<'_>> {
    let others = study.regimes.iter().map(|regime| (regime.name.as_str(), &regime.study));
    let parts = std::iter::once(("", study)).chain(others);
    let parts = parts.filter(|(_, study)| !study.trials.is_empty());
    let arms = parts.flat_map(|(regime, study)| {
        summaries(study).into_iter().map(move |summary| ArmAt { regime, study, summary })
    });
    arms.collect()
}

fn labelled(arm: &str, regime: &str) -> String {
    if regime.is_empty() { arm.to_owned() } else { format!("{arm}, {regime}") }
}

fn pair(one: &ArmAt<'_>, other: &ArmAt<'_>, memory: Option<&Metric>) -> ArmBetween {
    let (a, b) = (&one.summary, &other.summary);
    let middle = |arm: &ArmSummary<'_>| arm.makespan_s.map(|spread| spread.median);
    let quotient = |a: Option<f64>, b: Option<f64>| Some(b? / a.filter(|a| *a > 0.0)?);
    let name = a.arm.name.as_str();
    let same_baseline = one.study.manifest.baseline == other.study.manifest.baseline;
    let relative = (same_baseline && !a.baseline).then(|| {
        quotient(ratio_to_baseline(one.study, name), ratio_to_baseline(other.study, name))
    });
    ArmBetween {
        arm: name.to_owned(),
        regime: one.regime.to_owned(),
        a_makespan_s: middle(a),
        b_makespan_s: middle(b),
        ratio: quotient(middle(a), middle(b)),
        ratio_to_baseline: relative.flatten(),
        a_memory_bytes: memory.and_then(|metric| a.value(metric)),
        b_memory_bytes: memory.and_then(|metric| b.value(metric)),
        ranges: [a.makespan_s, b.makespan_s],
    }
}

/// The middle ratio of an arm to its study's baseline, over blocks.
fn ratio_to_baseline(study: &Study, arm: &str) -> Option<f64> {
    let baseline = by_block(study, &study.manifest.baseline, PRIMARY);
    let own = by_block(study, arm, PRIMARY).into_iter();
    median(own.filter_map(|(block, s)| Some(s / baseline.get(&block).filter(|s| **s > 0.0)?)))
}

const HEADS: [&str; 7] =
    ["arm", "A", "B", "B/A", "B/A, baseline divided out", "memory A", "memory B"];

impl Between {
    /// For a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        self.around(&aligned_rows(&self.rows()).join("\n"))
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        self.around(&markdown_table(&self.rows()))
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("it has string keys only, and writing into memory cannot fail") + "\n"
    }

    /// A row an arm, for programs; what is not known is empty.
    #[must_use]
    pub fn csv(&self) -> String {
        let mut lines = vec![
            "arm,regime,a_makespan_s,b_makespan_s,ratio,ratio_to_baseline,a_memory_bytes,b_memory_bytes"
                .to_owned(),
        ];
        lines.extend(self.arms.iter().map(|arm| {
            let figures = [
                arm.a_makespan_s,
                arm.b_makespan_s,
                arm.ratio,
                arm.ratio_to_baseline,
                arm.a_memory_bytes,
                arm.b_memory_bytes,
            ];
            let figures = figures.map(|figure| figure.map_or_else(String::new, |f| f.to_string()));
            // Neither name has a comma or a quote.
            format!("{},{},{}", arm.arm, arm.regime, figures.join(","))
        }));
        lines.join("\n") + "\n"
    }

    /// What stands above and below the rows.
    fn around(&self, rows: &str) -> String {
        let differences = self.differences.iter();
        let mut paragraphs: Vec<String> = differences
            .map(|difference| format!("WARNING, not the same conditions: {difference}."))
            .collect();
        paragraphs.push(format!(
            "A: {}, B: {}. Medians of the blocks, with the shortest and the longest. B/A below 1: B took less time.",
            self.a, self.b
        ));
        paragraphs.push(rows.to_owned());
        for (label, names) in [("A", &self.only_in_a), ("B", &self.only_in_b)] {
            if !names.is_empty() {
                paragraphs.push(format!("Only in {label}: {}.", names.join(", ")));
            }
        }
        paragraphs.push(
            "No verdict: what else changed on the machine between the two studies is in B/A too, and \
             nothing here tells how much that is. To tell two arms apart, run both in one study, where \
             their trials take turns: study --arm ONE --arm OTHER."
                .to_owned(),
        );
        paragraphs.join("\n\n") + "\n"
    }

    /// A row an arm, heads first.
    fn rows(&self) -> Vec<Vec<String>> {
        let arms = self.arms.iter().map(|arm| {
            let [a, b] = arm.ranges.map(|spread| match spread {
                None => format::UNKNOWN.to_owned(),
                Some(spread) => {
                    format!(
                        "{} ({})",
                        format::duration(spread.median),
                        range(&spread, format::duration)
                    )
                }
            });
            vec![
                labelled(&arm.arm, &arm.regime),
                a,
                b,
                or_unknown(arm.ratio, format::ratio),
                or_unknown(arm.ratio_to_baseline, format::ratio),
                or_unknown(arm.a_memory_bytes, format::bytes),
                or_unknown(arm.b_memory_bytes, format::bytes),
            ]
        });
        std::iter::once(HEADS.map(str::to_owned).into()).chain(arms).collect()
    }
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
    if a.list_sha256 != b.list_sha256 && a.list == b.list && a.list == BUILT_IN && a.seed != b.seed
    {
        compare("seed of the built-in list (--seed)", &|m| m.seed.to_string());
    } else {
        compare("list (SHA-256)", &|m| m.list_sha256.chars().take(12).collect());
    }
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
    use crate::{fixture::StudyBuilder, record::Regime};

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
        insta::assert_snapshot!(compare(&study(1), &b, false).unwrap().table(), @r#"
        A: 2026-11-22T15:04:05Z, B: 2026-11-22T15:04:05Z. Medians of the blocks, with the shortest and the longest. B/A below 1: B took less time.

        arm                                 A                    B    B/A  B/A, baseline divided out  memory A  memory B
        async:32          292 ms (279–299 ms)  289 ms (279–293 ms)  0.99×                          –  4.19 MiB  4.18 MiB
        async:32 (again)  289 ms (279–305 ms)  288 ms (281–296 ms)  0.99×                      1.01×  4.17 MiB  4.19 MiB
        threads:32        292 ms (283–299 ms)  230 ms (227–234 ms)  0.79×                      0.80×  4.86 MiB  4.85 MiB

        Only in A: 4xasync:8.

        Only in B: sequential.

        No verdict: what else changed on the machine between the two studies is in B/A too, and nothing here tells how much that is. To tell two arms apart, run both in one study, where their trials take turns: study --arm ONE --arm OTHER.
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
        insta::assert_snapshot!(refused, @"these studies ran under different conditions: fanout: 0.1.0 and 0.2.0; seed of the built-in list (--seed): 1 and 2; most requests of a host at a time: none and 6; timeout_s: 30.0 and 5.0; coordinator's machine: 6.18.2 x86_64 with 2 CPUs, 8.00 GiB and 6.18.2 x86_64 with 4 CPUs, 8.00 GiB; governor: performance and powersave; --force compares them all the same");
        let forced = compare(&a, &b, true).unwrap();
        assert_eq!(forced.table().matches("WARNING").count(), differences.len());
    }

    #[test]
    fn another_seed_makes_another_built_in_list() {
        let (a, mut b) = (study(1), study(1));
        b.manifest.seed += 1;
        assert!(compare(&a, &b, false).is_ok(), "the list is the same all the same");
        b.manifest.list_sha256 = "00".repeat(32);
        let refused = compare(&a, &b, false).unwrap_err().to_string();
        assert!(refused.contains("seed of the built-in list (--seed): "), "{refused}");
        assert!(!refused.contains("SHA-256"), "{refused}");
    }

    #[test]
    fn every_server_is_compared_with_itself() {
        let of = |slower: f64| {
            let mut both = study(1);
            let other = StudyBuilder::new().arms(&["async:32"]).slower("async:32", slower).build();
            both.regimes = vec![Regime { name: "fast".into(), study: other, ..Regime::default() }];
            both
        };
        let csv = compare(&of(1.0), &of(2.0), false).unwrap().csv();
        let ratio = |arm: &str| -> f64 {
            let line = csv.lines().find(|line| line.starts_with(arm)).unwrap();
            line.split(',').nth(4).unwrap().parse().unwrap()
        };
        assert!((ratio("async:32,,") - 1.0).abs() < 1e-9, "{csv}");
        assert!(ratio("async:32,fast,") > 1.9, "{csv}");
    }

    #[test]
    fn every_format_says_the_same() {
        let between = compare(&study(1), &study(1), false).unwrap();
        let json: serde_json::Value = serde_json::from_str(&between.json()).unwrap();
        let csv = between.csv();
        let markdown = between.markdown();
        for (arm, line) in json["arms"].as_array().unwrap().iter().zip(csv.lines().skip(1)) {
            assert_eq!(arm["ratio"], 1.0);
            assert!(arm["a_makespan_s"].as_f64() > Some(0.1) && arm["a_memory_bytes"].is_f64());
            let name = arm["arm"].as_str().unwrap();
            assert!(line.starts_with(&format!("{name},,{},", arm["a_makespan_s"])), "{line}");
            assert!(markdown.contains(&format!("| {name} |")), "{markdown}");
        }
        assert_eq!(csv.lines().count(), 5);
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
