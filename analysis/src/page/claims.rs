//! What the blog post claimed, and what this study says of it.

use maud::{Markup, html};

use super::elements::{scrolling, section};
use crate::{
    record::Study,
    text::{COUNTERPARTS, claims},
};

/// The section; nothing where the study has no arms for any claim.
pub(super) fn claimed(study: &Study) -> Markup {
    const HEADS: [(&str, &str); 3] = [("claim", ""), ("here", ""), ("figures", "")];
    let claims = claims(study);
    if claims.is_empty() {
        return html! {};
    }
    let rows = html! {
        @for claim in &claims {
            tr { th scope="row" { (claim.claim) } td { b { (claim.verdict.words()) } } td { (claim.finding) } }
        }
    };
    let body = html! {
        (scrolling("Claims", Some("words"), &HEADS, &rows))
        p.caption { (COUNTERPARTS) "." }
    };
    section("claims", "Is it true what is said of event loops?", &body)
}
