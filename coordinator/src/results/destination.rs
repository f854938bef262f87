//! Where results go.

use std::path::{Path, PathBuf};

use super::form::Form;

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Standard output, as JSON lines.
    Stdout,
    /// A file; it is called `NAME.part` until it is whole.
    File(PathBuf, Form),
}

/// A name that says no form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--out {0}: the name must end in .jsonl or .csv, which says the form")]
pub(crate) struct UnknownForm(String);

impl Destination {
    /// Takes the form from the name's end.
    pub(crate) fn from_path(path: &Path) -> Result<Self, UnknownForm> {
        let form = match path.extension().and_then(|e| e.to_str()) {
            Some("jsonl" | "ndjson") => Form::Jsonl,
            Some("csv") => Form::Csv,
            _ => return Err(UnknownForm(path.display().to_string())),
        };
        Ok(Self::File(path.to_owned(), form))
    }
}

/// The name of a file that still grows.
pub(crate) fn part_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
