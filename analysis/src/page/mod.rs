//! The report: one HTML file that opens anywhere, without a network.
//!
//! Everything is drawn from the record alone, as inline SVG with CSS variables for light and dark.
//! Without script everything is there; a short script adds what a pointer over a mark shows, and
//! unfolds what is folded before printing.

mod answers;
mod bars;
mod claims;
mod elements;
mod forest;
mod head;
mod identity;
mod latency;
mod lines;
mod map;
mod memory;
mod notes;
mod parts;
mod phases;
mod regimes;
mod scaling;
mod style;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod waits;

use maud::{DOCTYPE, html};

use self::{elements::section, view::StudyView};
use crate::record::Study;

/// What the page may load: nothing but what stands in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// The whole report of a study, as the text of an HTML file. Its links are to
/// `study.json` and `trials.csv` beside it.
#[must_use]
pub fn page(study: &Study) -> String {
    let view = StudyView::new(study);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content={ "fanout " (study.manifest.version) };
                title { "fanout: " (study.arms.len()) " ways of fetching " (crate::text::counted(study.manifest.urls, "URL")) }
                style { (style::sheet()) (head::rules(&view)) }
            }
            body {
                main {
                    header {
                        (head::theme_switch())
                        (head::question(&view))
                        (head::alarm(&view))
                        (head::verdict(&view))
                        (head::caveats(&view))
                    }
                    @if study.is_map() {
                        (map::sections(study))
                    } @else {
                        (head::key(&view))
                        (section("numbers", "What does each take and cost?", &table::table(&view)))
                        (section("sure", "How sure is that?", &forest::forest(&view)))
                        (regimes::sections(study))
                        (section("parts", "What are time and CPU made of?", &parts::parts(&view)))
                        (claims::claimed(study))
                        (section("answers", "What came back?", &answers::answers(&view)))
                        (section("memory", "How much memory does each hold?", &memory::memory(&view)))
                        (section("latency", "How slow are the unlucky URLs?", &latency::latency(&view)))
                        (section("waits", "Who waits when?", &waits::waits(&view)))
                        (scaling::sections(&view))
                        (section("time", "Where does a URL's time go?", &phases::phases(&view)))
                    }
                    (section("limits", "What does this not show?", &notes::limits(study)))
                    (section("details", "How was it done?", &notes::details(&view)))
                    (section("again", "How do I get the data, and run it again?", &notes::again(study)))
                }
                footer { "fanout " (study.manifest.version) " · " (study.manifest.started) }
                script { (style::script()) }
            }
        }
    }
    .into_string()
}
