//! What a study's figures mean.
//!
//! Everything here is pure: a [`record::Study`] goes in; comparisons, tables,
//! sentences and pages come out. Reading and writing files is the
//! coordinator's work.

pub mod format;
pub mod record;
