//! The server that answers at once, beside the one that takes its time.

use maud::{Markup, html};

use super::{
    elements::{figures, section},
    forest,
    svg::swatch,
    view::StudyView,
};
use crate::{
    record::Study,
    regimes,
    text::{Aside, aside},
};

/// What changes at the second server; nothing where there is one only.
pub(super) fn sections(study: &Study) -> Markup {
    let Some(regime) = regimes::second(study) else { return html! {} };
    let view = StudyView::new(&regime.study);
    let question = format!("What changes {}?", regimes::place(&regime.study));
    let Some(Aside { tables, sentences, caveats, .. }) = aside(study) else { return html! {} };
    section(
        "regimes",
        &question,
        &html! {
            @for sentence in &sentences { p { (sentence) } }
            h3 { "Time against " (regime.study.manifest.baseline) " there" }
            (forest::forest(&view))
            h3 { "The same in numbers, there" }
            @for rows in &tables { (table(study, rows, &view)) }
            ul.limits { @for caveat in caveats { li { (caveat) } } }
        },
    )
}

fn table(study: &Study, rows: &[Vec<String>], view: &StudyView<'_>) -> Markup {
    let Some((heads, rows)) = rows.split_first() else { return html! {} };
    let heads: Vec<(&str, &str)> = heads.iter().map(|head| (head.as_str(), "")).collect();
    let rows = html! {
        @for cells in rows {
            @if let Some((name, cells)) = cells.split_first() {
                @let row = view.row(name);
                tr class=[row.map(|row| row.class())] {
                    th scope="row" {
                        @if let Some(row) = row { (swatch(row.identity)) }
                        (name)
                    }
                    @for cell in cells { td { (cell) } }
                }
            }
        }
    };
    html! {
        (figures("The arms at the second server", &heads, &rows))
        p.caption {
            "Medians of the trials that count, quickest arm first. The columns that name a delay have the same ratios "
            (regimes::place(study)) "."
        }
    }
}
