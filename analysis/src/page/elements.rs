//! What every part of the page is made of: sections and tables.

use maud::{Markup, html};

/// A section: a question, and what answers it.
pub(super) fn section(id: &str, question: &str, body: &Markup) -> Markup {
    html! {
        section id=(id) aria-labelledby={ (id) "-q" } {
            h2 id={ (id) "-q" } { (question) }
            (body)
        }
    }
}

/// A table that scrolls sideways where it must; its columns by name and note.
pub(super) fn figures(label: &str, heads: &[(&str, &str)], rows: &Markup) -> Markup {
    scrolling(label, Some("figures"), heads, rows)
}

/// The same with other classes.
pub(super) fn scrolling(
    label: &str,
    class: Option<&str>,
    heads: &[(&str, &str)],
    rows: &Markup,
) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table class=[class] {
                thead { tr {
                    @for (name, note) in heads {
                        th scope="col" { (name) @if !note.is_empty() { small { (note) } } }
                    }
                } }
                tbody { (rows) }
            }
        }
    }
}
