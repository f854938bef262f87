//! What stands at the top: context, question, verdict, warnings and the key.

use maud::{Markup, PreEscaped, html};

use super::{
    identity::{ArmKind, Identity, description},
    svg::swatch,
    view::{ArmRow, StudyView},
};
use crate::{
    statistics::leaders,
    text::{self, counted, unbroken},
};

/// Most caveats that stand open at the top; the others are folded below them.
const CAVEATS_OPEN: usize = 1;

/// The line above the question, and the question.
pub(super) fn question(view: &StudyView<'_>) -> Markup {
    /// What stands between the parts of the context line.
    const SEPARATOR: &str = " · ";
    html! {
        p.context {
            @for (at, part) in text::context(view.study).split(SEPARATOR).enumerate() {
                @if at > 0 { (SEPARATOR) }
                span { (part) }
            }
        }
        h1 {
            @if view.study.is_map() {
                "Which way of fetching is fastest, which is cheapest, and where?"
            } @else {
                "Which way of fetching " (these(view.study.manifest.urls)) " finishes first, and what does it cost?"
            }
        }
    }
}

fn these(urls: u64) -> String {
    match urls {
        1 => "this one URL".to_owned(),
        urls => format!("these {}", counted(urls, "URL")),
    }
}

/// What the study found, in sentences, and what stands against it.
pub(super) fn verdict(view: &StudyView<'_>) -> Markup {
    // The noise has a box of its own.
    let noise = text::noise(view.study);
    let mut sentences = text::verdict(view.study);
    sentences.retain(|sentence| Some(sentence) != noise.as_ref());
    let names: Vec<&str> = view.rows.iter().map(|row| row.name()).collect();
    // A single leader gives the box its colour.
    let winner = leaders(view.study)
        .filter(|leaders| leaders.tested && leaders.tied == 1)
        .and_then(|leaders| view.row(&leaders.ranked.first()?.arm.name));
    html! {
        div class={ "verdict" @if let Some(row) = winner { " " (row.identity.kind.colour().name) } } {
            @for sentence in &sentences { p { (emphasised(sentence, &names)) } }
        }
    }
}

/// What must be read before the figures are believed.
pub(super) fn alarm(view: &StudyView<'_>) -> Markup {
    html! {
        @if let Some(noise) = text::noise(view.study) {
            div.alarm role="note" {
                h2 { "Read this first" }
                p { (unbroken(&noise)) }
            }
        }
    }
}

/// Every other caveat, the most important open.
pub(super) fn caveats(view: &StudyView<'_>) -> Markup {
    let caveats = text::caveats(view.study);
    let (open, folded) = caveats.split_at(caveats.len().min(CAVEATS_OPEN));
    html! {
        @if !caveats.is_empty() {
            div.but {
                @for caveat in open { p { b { "But: " } (unbroken(caveat)) } }
                @if !folded.is_empty() {
                    details {
                        summary { "and " (counted(folded.len() as u64, "more caveat")) }
                        ul { @for caveat in folded { li { (unbroken(caveat)) } } }
                    }
                }
            }
        }
    }
}

/// Arms' names and ratios in bold.
fn emphasised(sentence: &str, names: &[&str]) -> Markup {
    let sentence = unbroken(sentence);
    html! {
        @for (at, word) in sentence.split(' ').enumerate() {
            @if at > 0 { " " }
            @let bare = word.trim_matches(|c: char| matches!(c, ',' | '.' | ';' | '(' | ')') || (c == ':' && word.ends_with(':')));
            @let strong = !bare.is_empty() && (names.contains(&bare) || is_ratio(bare));
            @if strong {
                @let (before, after) = word.split_once(bare).unwrap_or(("", ""));
                (before) b { (bare) } (after)
            } @else { (word) }
        }
    }
}

fn is_ratio(word: &str) -> bool {
    let number = word.strip_suffix('×').map(|number| number.replace(',', ""));
    number.is_some_and(|number| number.parse::<f64>().is_ok())
}

/// The key: a switch per arm that singles it out, without script, and what the shapes mean.
pub(super) fn key(view: &StudyView<'_>) -> Markup {
    html! {
        div.key role="group" aria-label="Arms; choose some to single them out" {
            @for row in view.subjects() {
                label.chip title=(description(row.arm())) {
                    input type="checkbox" id={ "k" (row.id) };
                    (swatch(row.identity)) span { (row.name()) }
                }
            }
        }
        ul.shapes {
            @for kind in ArmKind::ALL.into_iter().filter(|kind| view.rows.iter().any(|row| row.identity.kind == *kind)) {
                li { (swatch(Identity { kind, hollow: false, dashes: 0 })) (kind.description()) }
            }
            @if view.rows.iter().any(|row| row.identity.hollow) {
                @let kind = view.rows.iter().find(|row| row.identity.hollow).map_or(ArmKind::Other, |row| row.identity.kind);
                li { (swatch(Identity { kind, hollow: true, dashes: 0 })) "hollow: another HTTP client, named after @" }
            }
            li.hint { "Choose arms above to single them out." }
        }
    }
}

/// The switch between light and dark. It holds no state but its own.
pub(super) fn theme_switch() -> Markup {
    html! {
        fieldset.theme {
            legend { "Colours" }
            @for (id, name, checked) in [("theme-auto", "auto", true), ("theme-light", "light", false), ("theme-dark", "dark", false)] {
                label { input type="radio" name="theme" id=(id) checked[checked]; span { (name) } }
            }
        }
    }
}

/// The rules that single out the arms chosen in the key, and show the pane
/// chosen among those of who waits when.
pub(super) fn rules(view: &StudyView<'_>) -> Markup {
    let rules = view.rows.iter().map(|ArmRow { id, .. }| {
        format!("body:has(#k{id}:checked) .a{id}{{opacity:1}}.waits:has(#w{id}:checked) .p{id}{{display:block}}")
    });
    PreEscaped(rules.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ratios_are_bold_and_the_rest_is_escaped() {
        let said = emphasised(
            "2xasync:16 took 0.91× (0.90–0.92) of <async:32>, async:32.",
            &["async:32", "2xasync:16"],
        );
        insta::assert_snapshot!(said.into_string(), @"<b>2xasync:16</b> took <b>0.91×</b> (0.90–0.92) of &lt;async:32&gt;, <b>async:32</b>.");
    }
}
