//! A study in words and tables, for people and machines.
//!
//! Every sentence is made from the record; none says what the intervals do not support.

mod between;
mod columns;
mod context;
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

pub use between::{Between, NotComparable, compare};
pub(crate) use context::context;
pub use machine::{csv, json};
pub use markdown::markdown;
pub use notes::false_positives;
pub(crate) use notes::{caveats, grpc_bytes, pipe_bytes};
use notes::{coordination, memory, scaling, sureness};
pub(crate) use open_loop::open_loop;
use regimes::{Aside, aside};
pub use terminal::table;
pub(crate) use verdict::verdict;
pub(crate) use words::{
    aligned_rows, counted, counted_were, ends, ends_in_brackets, listed, or_unknown,
};

/// The lines below the table.
fn lines_below(study: &Study) -> Vec<String> {
    let lines = [sureness(study), coordination(study)].into_iter().flatten();
    let lines = lines.chain(open_loop::lines(study));
    lines.chain(scaling(study)).chain(memory(study)).collect()
}
