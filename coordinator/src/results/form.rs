//! How records are written.

/// The names of a record's fields.
pub(super) const CSV_HEADER: &[u8] =
    b"id,url,outcome,status,bytes,start_s,first_byte_s,end_s,worker,fetcher,attempt\n";

/// The form of a results file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated, with a header line.
    Csv,
}

impl Form {
    /// The usual end of a file's name.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }

    /// What stands before the first record.
    #[must_use]
    pub const fn head(self) -> &'static [u8] {
        match self {
            Self::Jsonl => b"",
            Self::Csv => CSV_HEADER,
        }
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "JSON lines",
            Self::Csv => "CSV",
        }
    }
}
