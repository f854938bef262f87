//! Held in tests and under fuzzing.

pub(crate) mod check;
#[cfg(test)]
mod hyper_differential;
