//! The four outcomes in numbers: the table of the text, with marks.

use maud::{Markup, html};

use super::{elements::figures, svg::swatch, view::StudyView};
use crate::{
    regimes,
    text::{Cell, Depth, LEGEND, columns},
};

/// Columns that are more dispensable than this would make the table scroll in a usual window.
const SHOWN: u8 = 9;

pub(super) fn table(view: &StudyView<'_>) -> Markup {
    let mut all = columns(view.study, Depth::Words);
    all.retain(|column| column.dispensable < SHOWN);
    let Some((names, columns)) = all.split_first() else { return html! {} };
    let heads: Vec<(&str, &str)> =
        all.iter().map(|c| (c.header[0].as_str(), c.header[1].as_str())).collect();
    let rows = html! {
        @for (at, name) in names.cells.iter().enumerate() {
            @let row = view.row(&name.main);
            tr class=[row.map(|row| row.class())] {
                th scope="row" {
                    @if let Some(row) = row { (swatch(row.identity)) }
                    (name.main) small.inline { (name.second) }
                }
                @for column in columns { (cell(&column.cells[at])) }
            }
        }
    };
    let shortened = view.rows.iter().filter_map(|row| Some((row, row.arm().shortened.as_ref()?)));
    html! {
        (figures("The outcomes in numbers", &heads, &rows))
        p.caption {
            (LEGEND) " The intervals stand in the plots below."
            @if regimes::second(view.study).is_some() {
                " This table and all pictures but those of “What changes” are of the trials " (regimes::place(view.study)) "."
            }
            @for (row, why) in shortened { " " b { (row.name()) } ": " (why) "." }
        }
    }
}

fn cell(cell: &Cell) -> Markup {
    html! {
        td {
            span.best[cell.best] { (cell.main) }
            @if cell.best { span.star title="best of its column" { "★" } }
            @if !cell.ratio.is_empty() { span.ratio { (cell.ratio) } }
            @if !cell.second.is_empty() { small.inline { (cell.second) } }
        }
    }
}
