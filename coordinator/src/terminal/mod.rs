//! What a person at a terminal sees.

pub mod bar;
pub mod reporter;
