//! Where results go, and how they are written there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::exit::Failure;

pub(super) const CSV_HEADER: &[u8] =
    b"id,url,outcome,status,bytes,start_s,first_byte_s,end_s,worker,fetcher,attempt\n";

/// The form of a results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated, with a header line.
    Csv,
}

impl Form {
    /// What stands before the first record.
    pub const fn head(self) -> &'static [u8] {
        match self {
            Self::Jsonl => b"",
            Self::Csv => CSV_HEADER,
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "JSON lines",
            Self::Csv => "CSV",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Standard output, as JSON lines.
    Stdout,
    /// A file; it is called `NAME.part` until it is whole.
    File(PathBuf, Form),
}

impl Destination {
    pub(crate) fn from_path(path: &Path) -> Result<Self, Failure> {
        let form = match path.extension().and_then(|e| e.to_str()) {
            Some("jsonl" | "ndjson") => Form::Jsonl,
            Some("csv") => Form::Csv,
            _ => {
                return Err(Failure::usage(format!(
                    "--out {}: the name must end in .jsonl or .csv, which says the form",
                    path.display()
                )));
            }
        };
        Ok(Self::File(path.to_owned(), form))
    }
}

pub(crate) fn part_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
