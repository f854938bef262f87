//! What this does not show, the method, the manifest, every trial, the data and the command.

use fanout_proto::http::LABELS;
use maud::{Markup, html};
use serde_json::Value;

use super::{elements::scrolling, svg::scale::trimmed, view::StudyView};
use crate::{
    format,
    record::{Machine, Manifest, Metric, Study, TrialRecord},
    text::{counted, or_unknown},
};

/// The classes of the long tables.
const DENSE: Option<&str> = Some("figures dense");

/// Method, comparisons, manifest and every trial, folded.
pub(super) fn details(view: &StudyView<'_>) -> Markup {
    let study = view.study;
    html! {
        details { summary { "Method: how the comparisons were made" } (method(study)) }
        details { summary { "Comparisons: every measure against " (study.manifest.baseline) } (comparisons(view)) }
        details { summary { "Manifest: under which conditions" } (manifest(study)) }
        details { summary { "All trials: every run, " (format::count(study.trials.len() as u64)) " of them" } (trials(study)) }
    }
}

pub(super) fn limits(study: &Study) -> Markup {
    let manifest = &study.manifest;
    html! {
        ul.limits {
            @match &manifest.origin {
                Some(origin) if origin.embedded => {
                    li { b { "The internet." } " The server was fanout's own, over the loopback: no distance, no loss, no strangers. Delays and sizes came from a seed. Run it on a list of your own to see your servers." }
                }
                Some(_) => li { b { "Every server." } " All URLs were fanout's own server's: real servers differ in how they delay, limit and fail." },
                None => li { b { "The servers' other days." } " These were the servers of the list at that hour, with their caches and their load; blocks in random order spread that over the arms, but do not remove it." },
            }
            li { b { "Other amounts of URLs." } " A run took up " (counted(manifest.urls, "URL")) ". What costs time only once, such as starting processes and connecting, weighs less in a longer list." }
            li { b { "Other languages." } " Every model is written in Rust. A runtime with an interpreter lock or a garbage collector pays for threads and loops differently." }
            @if study.arms.iter().any(|arm| !arm.has_default_client()) {
                li { b { "Models alone, where a mark is hollow." } " Such an arm has another HTTP client: its difference is the client's as well as the model's." }
            }
            @if manifest.http.settings.insecure { li { b { "Trust." } " Any certificate was accepted." } }
            @if manifest.http.cpu_work_s == 0.0 {
                li { b { "Work on the responses." } " Bodies were read and thrown away. With parsing or decoding, one event loop fills its core sooner." }
            }
            @if let Some(effect) = study.analysis.smallest_effect {
                li { b { "Small differences." } " A difference in total time below " (format::percent(effect - 1.0)) " would have been missed more often than in one of five such studies." }
            }
        }
    }
}

fn method(study: &Study) -> Markup {
    let analysis = &study.analysis;
    let manifest = &study.manifest;
    html! {
        ul {
            li { "Every arm ran once per block, in a fresh random order (seed " (manifest.seed) "), each time in fresh processes. The first block is discarded. Only whole runs are compared, never single URLs." }
            li { "An arm's ratio to " b { (manifest.baseline) } " is the geometric mean of its ratios block by block, with Student's t-interval on their logarithms (" (format::percent(analysis.confidence)) ")." }
            li {
                "“Faster” and “slower” need a p-value below 0.05 from the sign-flip test, adjusted for everything that was tested of " (counted(analysis.tested.into(), "arm")) ". "
                "This takes " (counted(analysis.blocks_needed.into(), "block")) "; there were " (analysis.blocks) ". "
                "“Alike” means that the interval, widened for everything that was tested, lies within ±" (trimmed(analysis.margin * 100.0)) " %."
            }
            @if study.arms.iter().any(|arm| arm.control) {
                li { "The baseline ran a second time in every block, under another name. If that control is known less well than the margin, the machine was too noisy, and the page says so at its top." }
            }
            li { "A run counts only if its bytes and statuses agree with the other arms', its connections and concurrency with what the server saw, and Little's law with an independent gauge. Others are repeated, never compared, and listed with their reason. No outlier is removed." }
            li { "Memory, CPU and switches are measured from outside of the fetching processes, which hold nothing but the model. Memory is the proportional set size (PSS): shared pages count once. A percentile with fewer than ten URLs beyond it in a run is not shown." }
        }
    }
}

/// What a comparison's metric is called here.
fn metric_name(metric: &str) -> &str {
    match metric {
        "makespan_s" => "total time",
        "requests_per_s" => "URLs/s",
        "pss_peak_bytes" => "memory (PSS)",
        "uss_peak_bytes" => "memory (USS)",
        "cpu_s" => "CPU",
        "switches" => "switches",
        "latency_s.p50" => "1 in 2 slower",
        "latency_s.p99" => "1 in 100 slower",
        other => other,
    }
}

fn comparisons(view: &StudyView<'_>) -> Markup {
    let all = &view.study.comparisons;
    let mut metrics: Vec<&str> = Vec::new();
    for comparison in all {
        if !metrics.contains(&comparison.metric.as_str()) {
            metrics.push(&comparison.metric);
        }
    }
    // The primary metric comes first, and is the one that was tested.
    let mut heads = vec![("arm", "")];
    heads.extend(metrics.iter().map(|metric| (metric_name(metric), "")));
    if heads.len() > 1 {
        heads.splice(2..2, ["p", "p, adjusted", "would see"].map(|head| (head, "")));
    }
    let find = |arm: &str, metric: &str| all.iter().find(|c| c.arm == arm && c.metric == metric);
    let p = |p: Option<f64>| or_unknown(p, |p| format!("{p:.3}"));
    let rows = html! {
        @for row in view.rows.iter().filter(|row| !row.summary.baseline) {
            tr class=(row.class()) {
                th scope="row" { (row.name()) }
                @for (at, metric) in metrics.iter().enumerate() {
                    @let found = find(row.name(), metric);
                    td { (or_unknown(found.map(|c| c.ratio), format::ratio))
                        @if let Some((low, high)) = found.and_then(|c| c.ci_low.zip(c.ci_high)) { small.inline { (format::ratio_interval(low, high)) } }
                    }
                    @if at == 0 {
                        td { (p(found.and_then(|c| c.p_value))) }
                        td { (p(found.and_then(|c| c.p_adjusted))) }
                        td { (or_unknown(found.and_then(|c| c.smallest_effect).map(|effect| effect - 1.0), format::percent)) }
                    }
                }
            }
        }
    };
    html! {
        @if all.is_empty() { p.missing { "There is no comparison." } } @else {
            (scrolling("All comparisons", DENSE, &heads, &rows))
            p.caption { "Ratios with their 95 % intervals. “Would see” is the difference that this comparison finds in four of five studies. Only total time is tested; the other intervals speak for themselves." }
        }
    }
}

fn manifest(study: &Study) -> Markup {
    let m = &study.manifest;
    let http = &m.http;
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("fanout", m.version.clone());
    row("started", m.started.clone());
    row("took", format::duration(m.elapsed_s));
    row("list", list(m));
    row("SHA-256 of the list", m.list_sha256.clone());
    row("blocks", format!("{} and one discarded", m.blocks));
    row("seed", m.seed.to_string());
    row("baseline", m.baseline.clone());
    let concurrency = m.concurrency.to_string();
    row("concurrency of arms that name none", concurrency);
    row("split", m.split.clone());
    row("placement", m.placement.clone());
    let settings = serde_json::to_value(&http.settings).unwrap_or_default();
    for (field, label) in LABELS {
        row(label, setting(field, &settings[field]));
    }
    row("work per response", format::duration(http.cpu_work_s));
    row("work under one lock", yes(http.cpu_lock));
    row("server", server(m));
    row("coordinator", machine(&m.coordinator));
    for worker in &m.workers {
        let slots = counted(worker.slots.into(), "slot");
        let machine = machine(&worker.machine);
        row(
            &format!("worker {}", worker.name),
            format!("fanout {}, {slots}, {machine}", worker.version),
        );
    }
    for (name, value) in &m.facts {
        row(name, value.clone());
    }
    html! {
        table.facts {
            tbody { @for (name, value) in &rows { tr { th scope="row" { (name) } td { (value) } } } }
        }
    }
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "no" }.to_owned()
}

/// A setting's recorded value; its field's name ends in its unit.
fn setting(field: &str, value: &Value) -> String {
    match value {
        Value::Bool(flag) => yes(*flag),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => {
            let texts: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            texts.join(", ")
        }
        other => match other.as_f64() {
            Some(seconds) if field.ends_with("_s") => format::duration(seconds),
            Some(bytes) if field.ends_with("_bytes") => format::bytes(bytes),
            _ => other.to_string(),
        },
    }
}

fn server(m: &Manifest) -> String {
    let Some(origin) = &m.origin else {
        return "those of the list".to_owned();
    };
    let here = if origin.embedded { ", on this machine" } else { "" };
    let threads = counted(origin.threads.into(), "thread");
    format!("fanout's own{here}, {threads}, {}", origin.urls.join(", "))
}

fn list(m: &Manifest) -> String {
    let mut text = format!("{}, {}", m.list, counted(m.urls, "URL"));
    if m.repeat > 1 {
        text += &format!(", {} times over", format::count(m.repeat));
    }
    if m.skipped_lines > 0 {
        text += &format!(", {} left out as invalid", counted(m.skipped_lines, "line"));
    }
    text
}

fn machine(machine: &Machine) -> String {
    let bytes = |bytes: u64| format::bytes(bytes as f64);
    let cpus = |cpus: f64| format!("limited to {} CPUs", format::significant(cpus));
    let limit = |limit: u64| format!("limited to {}", bytes(limit));
    let parts = [
        Some(format!("Linux {}", machine.kernel)),
        Some(machine.architecture.clone()),
        Some(counted(machine.cpus.len() as u64, "core")),
        machine.memory_bytes.map(|m| format!("{} of memory", bytes(m))),
        (!machine.cgroup.is_empty()).then(|| format!("cgroup {}", machine.cgroup)),
        machine.cgroup_cpus.map(cpus),
        machine.cgroup_memory_bytes.map(limit),
    ];
    let mut parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.retain(|part| !part.trim().is_empty());
    parts.join(", ")
}

/// Columns of the trials: a head and a metric.
const FIGURES: [(&str, &str); 8] = [
    ("total time", "makespan_s"),
    ("fetching", "fetch_makespan_s"),
    ("URLs/s", "requests_per_s"),
    ("1 in 2 slower", "latency_s.p50"),
    ("1 in 100 slower", "latency_s.p99"),
    ("memory peak", "pss_peak_bytes"),
    ("CPU", "cpu_s"),
    ("switches", "switches"),
];

fn trials(study: &Study) -> Markup {
    let names = ["arm", "order", "block"].into_iter();
    let names = names.chain(FIGURES.map(|(head, _)| head));
    let names = names.chain(["ok", "failed", "counts?"]);
    let heads: Vec<(&str, &str)> = names.map(|name| (name, "")).collect();
    let rows = html! { @for trial in &study.trials { (trial_row(study, trial)) } };
    html! {
        @if study.trials.is_empty() { p.missing { "No trial was run." } } @else {
            (scrolling("All trials", DENSE, &heads, &rows))
        }
    }
}

fn trial_row(study: &Study, trial: &TrialRecord) -> Markup {
    let id = study.arms.iter().position(|arm| arm.name == trial.arm);
    let class = id.map(|id| format!("arm a{id}")).unwrap_or_default();
    let counts = counts(trial);
    html! {
        tr class={ (class) @if counts.is_some() { " out" } } {
            th scope="row" { (trial.arm) }
            td { (trial.order) }
            td { (trial.block) }
            @for metric in FIGURES.iter().filter_map(|(_, name)| Metric::named(name)) {
                td { (metric.say((metric.of)(trial))) }
            }
            td { (format::count(trial.completed)) }
            td { (format::count(trial.failed + trial.abandoned)) }
            td.why { (counts.as_deref().unwrap_or("yes")) }
        }
    }
}

/// Why a trial enters no comparison; `None` when it does.
fn counts(trial: &TrialRecord) -> Option<String> {
    if trial.discarded {
        return Some("no: warm-up block".into());
    }
    if trial.valid && !trial.degraded {
        return None;
    }
    let reasons = match trial.invalid_reasons.join("; ") {
        none if none.is_empty() && trial.degraded => "a fetcher or worker was lost".to_owned(),
        none if none.is_empty() => "marked invalid".to_owned(),
        reasons => reasons,
    };
    Some(format!("no: {reasons}"))
}

pub(super) fn again(study: &Study) -> Markup {
    let words = study.manifest.command.iter();
    let command: Vec<String> = words.map(|word| quoted(word)).collect();
    html! {
        p { "This page was drawn from " a href="study.json" { "study.json" } ", which has every figure; " a href="trials.csv" { "trials.csv" } " opens in a spreadsheet. Both lie beside it." }
        @if command.is_empty() {
            p.missing { "The command is not on record." }
        } @else {
            pre tabindex="0" { code { (command.join(" ")) } }
            p.caption { "The same list, arms, order and seed. Other figures will come out, and the intervals say how different they may be." }
        }
    }
}

/// A word as a POSIX shell reads it back.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use fanout_proto::http::HttpSettings;
    use proptest::prelude::*;

    #[test]
    fn the_command_can_be_pasted() {
        assert_eq!(quoted("--arm"), "--arm");
        assert_eq!(quoted("4xasync:8@reqwest/2w"), "4xasync:8@reqwest/2w");
        assert_eq!(quoted("{1,2}xasync"), "'{1,2}xasync'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn every_setting_of_http_has_a_row() {
        let settings = HttpSettings {
            headers: vec![("x-a".into(), "secret".into()), ("x-b".into(), String::new())],
            ca_certificates: "a certificate".into(),
            ..HttpSettings::default()
        };
        let value = serde_json::to_value(&settings).unwrap();
        let fields = value.as_object().unwrap().keys().map(String::as_str);
        let labelled = LABELS.map(|(field, _)| field);
        assert_eq!(fields.collect::<BTreeSet<_>>(), labelled.into_iter().collect::<BTreeSet<_>>());
        let rows = LABELS.map(|(field, label)| {
            let shown = setting(field, &value[field]);
            format!("{label}: {}", shown.replace(&settings.user_agent, "UA"))
        });
        insta::assert_snapshot!(rows.join("\n"), @"
        method: GET
        timeout: 30.0 s
        timeout of connecting: 10.0 s
        largest body: 64.0 MiB
        redirects followed: 10
        own headers: x-a, x-b
        User-Agent: UA
        any certificate accepted: no
        own root certificates: yes
        compressed bodies: no
        new connection per request: no
        ");
        // What was read back is written alike.
        let back: HttpSettings = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(back).unwrap(), value);
    }

    #[test]
    fn a_trial_that_does_not_count_says_why() {
        let why = |trial: TrialRecord| counts(&trial);
        let valid = TrialRecord { valid: true, ..TrialRecord::default() };
        assert_eq!(why(valid.clone()), None);
        assert_eq!(
            why(TrialRecord { discarded: true, ..valid.clone() }).unwrap(),
            "no: warm-up block"
        );
        assert_eq!(
            why(TrialRecord { degraded: true, ..valid }).unwrap(),
            "no: a fetcher or worker was lost"
        );
        let reasons = vec!["bytes differ".to_owned(), "suspended".to_owned()];
        assert_eq!(
            why(TrialRecord { invalid_reasons: reasons, ..TrialRecord::default() }).unwrap(),
            "no: bytes differ; suspended"
        );
    }

    proptest! {
        /// A shell's rules for single quotes, read back.
        #[test]
        fn no_word_is_split_or_expanded_by_a_shell(word in "\\PC*") {
            let mut read = String::new();
            let mut inside = false;
            let text = quoted(&word);
            let mut chars = text.chars();
            while let Some(c) = chars.next() {
                match (inside, c) {
                    (_, '\'') => inside = !inside,
                    (false, '\\') => read.extend(chars.next()),
                    (false, c) => {
                        prop_assert!(!" \t\n$`\"*?[]{}()<>|&;~#!".contains(c), "{text}");
                        read.push(c);
                    }
                    (true, c) => read.push(c),
                }
            }
            prop_assert!(!inside);
            prop_assert_eq!(read, word);
        }
    }
}
