//! A study in words and tables, for people and machines.

mod words;

pub(crate) use words::counted;
