//! What holds for every page, whatever the study.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::page;
use crate::{
    Options, conclude,
    fixture::{self, StudyBuilder},
    record::{MemoryPoint, Request, Study, TrialRecord},
    text::unbroken,
};

/// Elements that have no end tag in HTML.
const VOID: [&str; 4] = ["meta", "input", "br", "link"];

/// A start tag's name and attributes.
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

/// Reads a page as strictly as XML would: every element closed, in order,
/// every attribute quoted and there once, no stray `<` or `&`.
fn parse(html: &str) -> Result<Vec<Tag>, String> {
    let mut rest = html.strip_prefix("<!DOCTYPE html>").ok_or("no doctype")?;
    let (mut open, mut tags) = (Vec::<String>::new(), Vec::new());
    while let Some(at) = rest.find('<') {
        text_is_escaped(&rest[..at])?;
        rest = &rest[at + 1..];
        if let Some(end) = rest.strip_prefix('/') {
            let (name, after) = end.split_once('>').ok_or("an end tag without end")?;
            let expected = open.pop().ok_or(format!("</{name}> closes nothing"))?;
            if name != expected {
                return Err(format!("</{name}> closes <{expected}>"));
            }
            rest = after;
            continue;
        }
        let (tag, after) = start_tag(rest)?;
        rest = after;
        if tag.name == "script" || tag.name == "style" {
            let (_, after) =
                rest.split_once(&format!("</{}>", tag.name)).ok_or("an open script or style")?;
            rest = after;
        } else if !VOID.contains(&tag.name.as_str()) {
            open.push(tag.name.clone());
        }
        tags.push(tag);
    }
    if open.is_empty() { Ok(tags) } else { Err(format!("left open: {open:?}")) }
}

fn text_is_escaped(text: &str) -> Result<(), String> {
    let known = ["amp;", "lt;", "gt;", "quot;"];
    let stray =
        text.split('&').skip(1).find(|after| !known.iter().any(|entity| after.starts_with(entity)));
    match stray {
        _ if text.contains('>') => Err(format!("a stray > in {text:?}")),
        Some(after) => Err(format!("a stray & before {after:?}")),
        None => Ok(()),
    }
}

fn start_tag(rest: &str) -> Result<(Tag, &str), String> {
    let end = rest.find([' ', '>']).ok_or("a tag without end")?;
    let (name, mut rest) = rest.split_at(end);
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(format!("a tag named {name:?}"));
    }
    let mut tag = Tag { name: name.to_owned(), attributes: Vec::new() };
    loop {
        if let Some(after) = rest.strip_prefix('>') {
            return Ok((tag, after));
        }
        rest = rest.trim_start();
        let end = rest.find(['=', ' ', '>']).ok_or("an attribute without end")?;
        let (name, after) = rest.split_at(end);
        if tag.attributes.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} twice in <{}>", tag.name));
        }
        rest = after;
        let mut value = "";
        if let Some(quoted) = after.strip_prefix("=\"") {
            (value, rest) = quoted.split_once('"').ok_or("an open quote")?;
            text_is_escaped(value)?;
        } else if after.starts_with('=') {
            return Err(format!("{name} is not quoted"));
        }
        tag.attributes.push((name.to_owned(), value.to_owned()));
    }
}

/// Parses a page and checks what must hold for any.
fn checked(study: &Study) -> (String, Vec<Tag>) {
    let html = page(study);
    let tags = parse(&html).unwrap_or_else(|error| panic!("{error}"));
    let all = |name: &'static str| {
        tags.iter()
            .flat_map(|tag| &tag.attributes)
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    // Nothing is loaded, and links stay beside the page.
    for name in ["src", "srcset", "action", "data", "poster", "xlink:href", "ping"] {
        assert_eq!(all(name).next(), None, "{name}");
    }
    assert!(all("href").all(|href| ["study.json", "trials.csv"].contains(&href)));
    for element in ["link", "img", "iframe", "object", "embed", "form", "base"] {
        assert!(tags.iter().all(|tag| tag.name != element), "{element}");
    }
    for loads in ["url(", "@import", "fetch(", "XMLHttpRequest", "import("] {
        let (css, js) = (super::style::sheet(), super::style::script());
        assert!(!css.0.contains(loads) && !js.0.contains(loads), "{loads}");
    }
    // Handlers in attributes would run whatever a name holds.
    assert!(tags.iter().flat_map(|tag| &tag.attributes).all(|(name, _)| !name.starts_with("on")));
    let ids: Vec<&str> = all("id").collect();
    let distinct: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), distinct.len(), "{ids:?}");
    assert!(all("aria-labelledby").all(|id| distinct.contains(id)));
    for shown in [">NaN", ">inf", "NaN ", "\"NaN", "-0 "] {
        assert!(!html.contains(shown), "{shown}");
    }
    (html, tags)
}

fn small() -> StudyBuilder {
    StudyBuilder::new().arms(&["async:4", "threads:4", "sequential"]).urls(120).blocks(3)
}

#[test]
fn the_default_study_is_one_small_file() {
    let (html, tags) = checked(&fixture::study());
    assert!(html.len() <= 400 * 1024, "{} bytes", html.len());
    assert!(tags.len() <= 6000, "{} elements", tags.len());
}

#[test]
fn a_page_with_scaling_is_whole() {
    let study = fixture::scaling();
    let (html, _) = checked(&study);
    for scaling in &study.scaling {
        assert!(html.contains(&scaling.family), "{}", scaling.family);
    }
    assert!(html.contains("Do more processes help?"));
    assert!(html.contains("Do more URLs in flight help?"));
}

#[test]
fn a_second_server_has_its_own_section() {
    let study = fixture::two_servers();
    let (html, _) = checked(&study);
    assert!(html.contains("What changes where the server answers at once?"));
    for sentence in crate::regimes::changes(&study) {
        assert!(html.contains(&sentence), "{sentence}");
    }
    let rows = html.split("The arms at the second server").nth(1).unwrap();
    let rows = rows.split("</table>").next().unwrap().matches("<th scope=\"row\">").count();
    assert_eq!(rows, study.arms.len() - 1, "the control has no row");
}

#[test]
fn a_map_is_two_grids_that_hatch_what_cannot_be_told_apart() {
    let study = fixture::map();
    let (html, tags) = checked(&study);
    let map = crate::map::Map::of(&study).unwrap();
    let with_class = |class: &str| {
        let is = |tag: &&Tag| {
            let classes = tag.attributes.iter().filter(|(name, _)| name == "class");
            tag.name == "td"
                && classes.into_iter().any(|(_, value)| value.split(' ').any(|c| c == class))
        };
        tags.iter().filter(is).count()
    };
    let answers = crate::map::Question::ALL
        .into_iter()
        .flat_map(|question| map.cells.iter().map(move |cell| cell.answer(question)));
    let alone = answers.clone().filter(|answer| answer.best.len() == 1).count();
    let level = answers.clone().filter(|answer| answer.best.len() > 1 && answer.level).count();
    let counted = ["alone", "level", "unclear"].map(with_class);
    assert_eq!(counted, [alone, level, 40 - alone - level]);
    assert!((4..36).contains(&alone), "{alone}: the fixture has both");
    assert!(html.contains("Which arm is fastest, where?"));
    assert!(!html.contains("Who waits when?"), "a map has no trials of its own");
}

#[test]
fn verdict_caveats_and_every_trial_are_told() {
    let study = fixture::study();
    let (html, tags) = checked(&study);
    let shown = |text: &str| html.contains(&unbroken(text).replace('&', "&amp;"));
    assert!(study.caveats.iter().all(|caveat| shown(caveat)), "{:?}", study.caveats);
    assert!(html.contains("Waiting for the server alone takes"));
    assert!(html.contains("no: a fetcher was lost"));
    let rows = html.split("All trials").nth(2).unwrap().matches("<th scope=\"row\">").count();
    assert_eq!(rows, study.trials.len());
    let boxes =
        tags.iter().filter(|tag| tag.attributes.contains(&("type".into(), "checkbox".into())));
    assert_eq!(boxes.count(), study.arms.len() - 1, "the control has no chip");
}

#[test]
fn every_outcome_has_its_plot_and_what_failed_stands_by_arm() {
    let mut study = small().build_raw();
    for trial in study.trials.iter_mut().filter(|trial| trial.arm == "threads:4") {
        trial.statuses = [("200".to_owned(), trial.completed - 25), ("404".to_owned(), 25)].into();
    }
    conclude(&mut study, &Options::default());
    let (html, _) = checked(&study);
    for heading in
        ["Time: start and makespan", "CPU per URL", "Memory at its peak", "Context switches"]
    {
        assert!(html.contains(heading), "{heading}");
    }
    let answers = html.split("id=\"answers\"").nth(1).unwrap().split("</section>").next().unwrap();
    let row = answers.split("threads:4</th>").nth(1).unwrap();
    // Three blocks.
    assert!(row.starts_with("<td>285</td><td>75</td><td>3</td>"), "{row}");
}

#[test]
fn noise_is_told_once_and_before_the_verdict() {
    let mut study = small().blocks(6).build_raw();
    for trial in &mut study.trials {
        if trial.arm.ends_with("(again)") {
            let factor = if trial.block % 2 == 0 { 1.3 } else { 1.0 };
            trial.makespan_s = trial.makespan_s.map(|s| s * factor);
        }
    }
    conclude(&mut study, &Options::default());
    let noise = study.analysis.control.clone().unwrap().too_noisy.unwrap();
    let (html, _) = checked(&study);
    let noise = unbroken(&noise);
    assert_eq!(html.matches(&noise).count(), 1);
    assert!(html.find(&noise).unwrap() < html.find("class=\"verdict").unwrap());
}

#[test]
fn names_with_special_characters_are_only_text() {
    let odd = "<script>alert(\"1\" & '2')</script> 🦀 \u{202e}{}";
    let mut study = fixture::study();
    for trial in &mut study.trials {
        if trial.arm == "threads:32" {
            trial.arm = odd.into();
            trial.invalid_reasons.push(odd.into());
        }
    }
    study.arms[1].name = odd.into();
    study.arms[1].shortened = Some(odd.into());
    study.arms[2].model = odd.into();
    study.arms[3].client = odd.into();
    study.manifest.command.push(odd.into());
    study.manifest.list = odd.into();
    study.manifest.started = odd.into();
    study.manifest.version = odd.into();
    study.manifest.facts.insert(odd.into(), odd.into());
    study.manifest.workers[0].name = odd.into();
    conclude(&mut study, &Options::default());
    study.caveats.push(odd.into());
    let (html, tags) = checked(&study);
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot; &amp; '2')&lt;/script&gt; 🦀"));
    assert_eq!(tags.iter().filter(|tag| tag.name == "script").count(), 1);
}

#[test]
fn what_is_missing_is_said() {
    type Change = fn(&mut Study);
    let cases: [(&str, Change, &str); 9] = [
        ("nothing at all", |study| *study = Study::default(), "Nothing was fetched"),
        (
            "no valid trial",
            |study| {
                study.trials.iter_mut().for_each(|t| {
                    t.valid = false;
                    t.invalid_reasons = vec!["suspended".into()];
                })
            },
            "no: suspended",
        ),
        ("no trial", |study| study.trials.clear(), "No trial was run."),
        (
            "no memory",
            |study| {
                study.trials.iter_mut().for_each(|t| {
                    t.memory.clear();
                    t.pss_peak_bytes = None;
                })
            },
            "memory on record",
        ),
        (
            "no requests",
            |study| study.trials.iter_mut().for_each(|t| t.requests.clear()),
            "No trial has its single URLs on record.",
        ),
        (
            "no histogram",
            |study| study.trials.iter_mut().for_each(|t| t.latency_histogram = None),
            "No arm has at least ten URLs",
        ),
        (
            "a broken histogram",
            |study| study.trials[4].latency_histogram = Some("?".into()),
            "could not be read",
        ),
        (
            "no phases",
            |study| study.trials.iter_mut().for_each(|t| t.phases = Default::default()),
            "tells connecting, waiting and reading apart",
        ),
        ("no command", |study| study.manifest.command.clear(), "The command is not on record."),
    ];
    for (name, change, said) in cases {
        let mut study = small().build_raw();
        change(&mut study);
        conclude(&mut study, &Options::default());
        let (html, _) = checked(&study);
        assert!(html.contains(said), "{name}: {said}");
    }
}

#[test]
fn a_study_of_one_arm_or_without_its_baseline_is_drawn() {
    checked(&StudyBuilder::new().arms(&["async:4"]).urls(50).blocks(2).build());
    checked(&StudyBuilder::new().arms(&["async:4@null", "async:4"]).urls(50).blocks(2).build());
    let mut study = small().build();
    study.manifest.baseline = "not there".into();
    let (html, _) = checked(&study);
    assert!(html.contains("nothing can be said about who is faster"));
}

#[test]
fn an_arm_that_is_far_off_squashes_no_other_and_the_cut_is_announced() {
    let study = fixture::study();
    let (html, _) = checked(&study);
    assert!(html.contains("The axis is cut at the gap"));
    assert!(html.contains("The time axis is cut: <b>sequential</b> goes on to"));
}

#[test]
fn no_makespan_of_zero_or_beyond_all_bounds_breaks_the_page() {
    for makespan_s in [0.0, f64::MIN_POSITIVE, 1e300, f64::INFINITY, f64::NAN, -1.0] {
        let mut study = small().build_raw();
        for trial in &mut study.trials {
            trial.makespan_s = Some(makespan_s);
            trial.fetch_makespan_s = Some(makespan_s);
            trial.requests_per_s = Some(1.0 / makespan_s);
            for point in &mut trial.memory {
                point.elapsed_s *= makespan_s;
            }
            for request in &mut trial.requests {
                request.start_s *= makespan_s;
                request.duration_s *= makespan_s;
            }
        }
        conclude(&mut study, &Options::default());
        checked(&study);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_figures_make_a_whole_page(
        figures in prop::collection::vec(prop::num::f64::ANY, 12),
        counts in prop::collection::vec(0..1_u64 << 56, 6),
    ) {
        let mut study = StudyBuilder::new().arms(&["async:2", "2xthreads:2"]).urls(20).blocks(2).build();
        let odd = |trial: &mut TrialRecord| {
            trial.makespan_s = Some(figures[0]);
            trial.fetch_makespan_s = Some(figures[1]);
            trial.phases.wait_s = figures[2];
            trial.phases.idle_s = figures[3];
            trial.cpu_user_s = Some(figures[4]);
            trial.coordination.overhead_s = Some(figures[5]);
            trial.requests = vec![Request {
                slot: u32::MAX,
                fetcher: u32::MAX,
                start_s: figures[6],
                connect_s: figures[7],
                first_byte_s: Some(figures[8]),
                duration_s: figures[9],
                ok: false,
            }];
            trial.memory = vec![MemoryPoint { elapsed_s: figures[10], pss_bytes: Some(counts[0]), uss_bytes: None, memory_bytes: None }; 2];
            trial.pss_peak_bytes = Some(counts[1]);
            trial.completed = counts[2];
            trial.failed = counts[3];
            trial.abandoned = counts[4];
            trial.voluntary_switches = Some(counts[5]);
            trial.involuntary_switches = Some(counts[5]);
        };
        study.trials.iter_mut().step_by(2).for_each(odd);
        for comparison in &mut study.comparisons {
            comparison.ratio = figures[11];
            comparison.ci_low = Some(figures[0]);
            comparison.ci_high = Some(figures[1]);
        }
        for scaling in &mut study.scaling {
            for point in &mut scaling.points {
                point.requests_per_s.value = figures[2];
                point.trials_per_s = figures.clone();
            }
        }
        checked(&study);
    }
}
