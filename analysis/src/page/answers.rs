//! What came back: statuses and failures, by arm.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::{elements::figures, svg::swatch, view::StudyView};
use crate::{format, text::seen};

/// The table; a sentence where there was nothing but one status.
pub(super) fn answers(view: &StudyView<'_>) -> Markup {
    let by_arm: Vec<_> = view.subjects().map(|row| (row, seen(&row.summary))).collect();
    let kinds: BTreeSet<&String> = by_arm.iter().flat_map(|(_, seen)| seen.keys()).collect();
    let kinds: Vec<&String> = kinds.into_iter().collect();
    if let [only] = kinds[..] {
        return html! { p { "Every URL of every trial came back with " b { (only) } "." } };
    }
    let mut heads = vec![("arm", "")];
    heads.extend(kinds.iter().map(|kind| (kind.as_str(), "")));
    heads.push(("trials", ""));
    let rows = html! {
        @for (row, seen) in &by_arm {
            tr class=(row.class()) {
                th scope="row" { (swatch(row.identity)) (row.name()) }
                @for kind in &kinds { td { (format::count(seen.get(*kind).copied().unwrap_or(0))) } }
                td { (row.summary.attempts.len()) }
            }
        }
    };
    html! {
        @if kinds.is_empty() { p.missing { "No answer is on record." } } @else {
            (figures("Statuses and failures by arm", &heads, &rows))
            p.caption { "URLs in all trials but the discarded ones, whether they count or not, by the status that came back or the kind of failure." }
        }
    }
}
