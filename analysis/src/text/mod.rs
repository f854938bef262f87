//! A study in words and tables, for people and machines.
//!
//! Every sentence is made from the record; none says what the intervals do not support.

mod answers;
mod between;
mod claims;
mod columns;
mod context;
mod failures;
mod machine;
mod map;
mod markdown;
mod notes;
mod open_loop;
mod regimes;
mod terminal;
mod verdict;
mod words;

use crate::record::Study;

pub(crate) use answers::{Finding, figure, finding, named};
pub use between::{Between, NotComparable, compare};
pub(crate) use claims::{COUNTERPARTS, Claim, claims};
pub(crate) use columns::{Cell, Depth, LEGEND, columns};
pub(crate) use context::context;
use failures::answers_seen;
pub(crate) use failures::{kinds_of_failure, seen, trials_that_lost};
pub use machine::{csv, json};
pub use markdown::markdown;
pub use notes::false_positives;
pub(crate) use notes::{caveats, grpc_bytes, memory_name, pipe_bytes};
use notes::{coordination, memory, scaling, sureness};
pub(crate) use open_loop::open_loop;
pub(crate) use regimes::{Aside, aside};
pub use terminal::table;
pub(crate) use verdict::{left_out, noise, verdict};
pub(crate) use words::{
    aligned_rows, counted, counted_were, ends, ends_in_brackets, few, in_brackets, listed,
    or_unknown, unbroken,
};

/// What is told besides answer and table.
fn lines_below(study: &Study) -> Vec<String> {
    let lines = left_out(study).into_iter().chain(coordination(study));
    let lines = lines.chain(open_loop::lines(study));
    lines.chain(scaling(study)).chain(memory(study)).collect()
}

/// The claims of the blog post, a line each, below what they are about; empty where none was asked.
fn claim_lines(study: &Study) -> Vec<String> {
    let claims = claims(study);
    let head = (!claims.is_empty()).then(|| format!("{COUNTERPARTS}:"));
    head.into_iter().chain(claims.iter().map(Claim::line)).collect()
}
