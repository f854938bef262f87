//! The map: which arm is fastest, and which cheapest, at which server.

use maud::{Markup, html};

use super::{
    elements::{figures, scrolling, section},
    identity::{Identity, description},
    svg::swatch,
};
use crate::{
    format,
    map::{Map, MapCell, Question},
    record::Study,
};

/// A grid for each question, and the arms over all cells; nothing where the study is no map.
pub(super) fn sections(study: &Study) -> Markup {
    let Some(map) = Map::of(study) else { return html! {} };
    let identities: Vec<Identity> = map.arms.iter().map(|arm| Identity::of(arm)).collect();
    html! {
        @for question in Question::ALL {
            @let asked = match question {
                Question::Fastest => "Which arm is fastest, where?",
                Question::Cheapest => "Which arm takes the least CPU, where?",
            };
            (section(question.adjective(), asked, &grid(&map, &identities, question)))
        }
        (section("over-all", "What if I do not know where I am?", &over_all(&map, &identities)))
    }
}

fn grid(map: &Map<'_>, identities: &[Identity], question: Question) -> Markup {
    let works: Vec<String> = (0..map.work.len()).map(|column| map.work_in_words(column)).collect();
    let mut heads = vec![("delay", "of the server")];
    heads.extend(works.iter().map(|work| (work.as_str(), "of work per response")));
    let rows = html! {
        @for (row, delay_s) in map.delays_s.iter().enumerate() {
            tr {
                th scope="row" { (format::duration(*delay_s)) }
                @for column in 0..map.work.len() {
                    @match map.cell(row, column) {
                        None => { td { (format::UNKNOWN) } }
                        Some(cell) => { (drawn(map, identities, cell, question)) }
                    }
                }
            }
        }
    };
    let subject = question.subject();
    html! {
        (scrolling(&format!("The {} arm of every cell", question.adjective()), Some("figures map"), &heads, &rows))
        p.caption {
            "A cell bears the colour and the mark of the arm that needs least " (subject)
            ". A plain cell names those whose medians lie within the margin of the best, a hatched one those that \
             lie further apart and cannot be told apart in these blocks. The small figure is what the worst arm needs over what the best one needs."
            @if question == Question::Fastest {
                " Starting the processes is left out: the longer the list, the less it weighs."
            }
        }
    }
}

fn drawn(map: &Map<'_>, identities: &[Identity], cell: &MapCell<'_>, question: Question) -> Markup {
    let answer = cell.answer(question);
    let figures = map.arms.iter().zip(&answer.times_least);
    let figures = figures.filter_map(|(arm, times)| {
        times.map(|times| format!("{} {}", arm.name, format::ratio(times)))
    });
    let title = figures.collect::<Vec<_>>().join(", ");
    let alone = matches!(&*answer.best, [_]).then(|| identities[answer.best[0]].kind.colour().name);
    let several = if answer.level { "level" } else { "unclear" };
    html! {
        td class={ @if let Some(colour) = alone { "alone " (colour) } @else { (several) } } title=(title) {
            @for &arm in answer.best.iter().filter(|_| !answer.all) { (swatch(identities[arm])) }
            (map.in_words(answer))
            @if let Some(spread) = answer.spread() { small { (format::ratio(spread)) } }
        }
    }
}

fn over_all(map: &Map<'_>, identities: &[Identity]) -> Markup {
    let heads = [
        ("arm", ""),
        ("fastest in", "cells, alone or not"),
        ("cheapest in", "cells, alone or not"),
        ("time at worst", "over the fastest"),
        ("CPU at worst", "over the cheapest"),
    ];
    let cells = map.cells.len();
    let rows = html! {
        @for (at, arm) in map.arms.iter().enumerate() {
            tr title=(description(arm)) {
                th scope="row" { (swatch(identities[at])) (arm.name) }
                @for question in Question::ALL {
                    td { (map.best_in(at, question)) " of " (cells) }
                }
                @for question in Question::ALL {
                    td { (map.at_worst(at, question).map_or_else(|| format::UNKNOWN.to_owned(), format::ratio)) }
                }
            }
        }
    };
    html! {
        (figures("The arms over all cells", &heads, &rows))
        p.caption {
            "Medians of the trials. Each cell is tested by itself, so one in twenty may be called without a difference."
        }
    }
}
