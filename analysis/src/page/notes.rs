//! What this does not show, the method, the manifest, every trial, the data and the command.

use fanout_proto::http::LABELS;
use maud::{Markup, html};
use serde_json::Value;

use super::{elements::scrolling, svg::scale::trimmed, view::StudyView};
use crate::{
    format,
    record::{Machine, Manifest, Metric, Study, TrialRecord},
    text::{Finding, counted, or_unknown},
};

/// The classes of the long tables.
const DENSE: Option<&str> = Some("figures dense");

/// Method, comparisons, manifest and every trial, folded.
pub(super) fn details(view: &StudyView<'_>) -> Markup {
    let study = view.study;
    html! {
        details { summary { "Method: how the comparisons were made" } (method(study)) }
        @if !study.is_map() {
            details { summary { "Comparisons: every measure against " (study.manifest.baseline) } (comparisons(view)) }
        }
        details { summary { "Manifest: under which conditions" } (manifest(study)) }
        @if !study.is_map() {
            details { summary { "All trials, " (format::count(study.trials.len() as u64)) " of them" } (trials(study)) }
        }
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
            li { b { "Other amounts of URLs." } " " @if study.is_map() { "Each cell had as many URLs as last for some tenths of a second." } @else { "A trial took up " (counted(manifest.urls, "URL")) "." } " What costs time only once, such as starting processes and connecting, weighs less in a longer list." }
            li { b { "Other languages." } " Every model is written in Rust. A runtime with an interpreter lock or a garbage collector pays for threads and loops differently." }
            @if study.arms.iter().any(|arm| !arm.has_default_client()) {
                li { b { "Models alone, where a mark is hollow." } " Such an arm has another HTTP client: its difference is the client's as well as the model's." }
            }
            @if manifest.http.settings.insecure { li { b { "Trust." } " Any certificate was accepted." } }
            @if manifest.http.cpu_work_s == 0.0 && !study.is_map() {
                li { b { "Work on the responses." } " Bodies were read and thrown away. With parsing or decoding, one event loop fills its core sooner." }
            }
            @if let Some(effect) = study.analysis.smallest_effect {
                li { b { "Small differences." } " A difference in time below " (format::percent(effect - 1.0)) " would be missed more often than in one of five such studies." }
            }
        }
    }
}

fn method(study: &Study) -> Markup {
    let analysis = &study.analysis;
    let manifest = &study.manifest;
    html! {
        ul {
            li { "Every arm ran once per block, in a fresh random order (seed " (manifest.seed) "), each time in fresh processes. The first block is discarded. Only whole trials are compared, never single URLs." }
            li { "An arm's ratio to " b { (manifest.baseline) } " is the geometric mean of its ratios block by block, with Student's t-interval on their logarithms (" (format::percent(analysis.confidence)) ")." }
            li {
                "Four outcomes were named beforehand: time, CPU per URL, memory and switches. “Less” and “more” need a p-value below 0.05 from joint sign flips of whole blocks, adjusted over all arms and outcomes together (step-down max-T). "
                "With fewer than " (counted(analysis.blocks_needed.into(), "block")) " there is no test; there were " (analysis.blocks) ". "
                "A difference is negligible where the family's interval lies within a margin of " (trimmed(analysis.margin * 100.0)) " %, relevant where it lies outside."
            }
            @if study.arms.iter().any(|arm| arm.control) {
                li { "The baseline ran a second time in every block, under another name: how far the two lie apart is this machine's noise." }
            }
            li { "A trial counts only if its bytes and statuses agree with the other arms', its connections and concurrency with what the server saw, and Little's law with an independent gauge. Others are repeated, never compared, and listed with their reason. No outlier is removed." }
            li { "Memory, CPU and switches are measured from outside of the fetching processes, which hold nothing but the model. Memory is what the arm alone needs: the anonymous memory of all its fetchers, and the pages of their program once. Percentiles are those of all URLs of the trials that count, together; one with fewer than ten URLs beyond it is not shown." }
        }
    }
}

/// Every comparison, a line each.
fn comparisons(view: &StudyView<'_>) -> Markup {
    const HEADS: [(&str, &str); 8] = [
        ("arm", ""),
        ("measure", ""),
        ("ratio", ""),
        ("95 % interval", "its own"),
        ("95 % interval", "of the family"),
        ("p", ""),
        ("p", "adjusted"),
        ("says", ""),
    ];
    let all = &view.study.comparisons;
    let p = |p: Option<f64>| or_unknown(p, |p| format!("{p:.3}"));
    let ends = |low: Option<f64>, high: Option<f64>| {
        let ends = low.zip(high);
        ends.map_or(format::UNKNOWN.to_owned(), |(l, h)| format::ratio_interval(l, h))
    };
    let rows = html! {
        @for c in all {
            tr class=[view.row(&c.arm).map(|row| row.class())] {
                th scope="row" { (c.arm) }
                td { (Metric::named(&c.metric).map_or_else(|| c.metric.clone(), Metric::label)) }
                td { (format::ratio(c.ratio)) }
                td { (ends(c.ci_low, c.ci_high)) }
                td { (ends(c.family_low, c.family_high)) }
                td { (p(c.p_value)) }
                td { (p(c.p_adjusted)) }
                td { (Finding::of(c).words()) }
            }
        }
    };
    html! {
        @if all.is_empty() { p.missing { "There is no comparison." } } @else {
            (scrolling("All comparisons", DENSE, &HEADS, &rows))
            p.caption { "Ratios to the baseline. What is not tested has no p, and its interval speaks for itself." }
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

fn trials(study: &Study) -> Markup {
    let figures: Vec<String> = Metric::compared().map(Metric::label).collect();
    let names = ["arm", "order", "block"].into_iter().chain(figures.iter().map(String::as_str));
    let heads: Vec<(&str, &str)> =
        names.chain(["ok", "failed", "counts?"]).map(|name| (name, "")).collect();
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
            @for metric in Metric::compared() {
                td { (metric.say((metric.of)(trial))) }
            }
            td { (format::count(trial.completed)) }
            td { (format::count(trial.lost())) }
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
