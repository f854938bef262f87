//! Lists and lines that cannot be used.

use std::io;

use fanout_proto::limits::URLS_MAX;

/// Bytes of a bad line that an error repeats.
pub(super) const EXCERPT_BYTES: usize = 60;

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It, by its name, could not be read.
    #[error("cannot read the URL list {0}: {1}")]
    Read(String, io::Error),
    /// The copy of a list that cannot be read twice failed.
    #[error(
        "cannot keep a copy of the URL list in the temporary folder: {0}; set TMPDIR to one with room"
    )]
    Spool(io::Error),
    /// Lines that are no URLs.
    #[error("{}", describe_lines(.list, .first, *.count))]
    Lines {
        /// The list's name.
        list: String,
        /// The first bad lines, in words.
        first: Vec<String>,
        /// How many there are.
        count: u64,
    },
    /// No URL in it.
    #[error("the URL list {0} holds no URL; give one a line, starting with http:// or https://")]
    Empty(String),
    /// It became another list while it was used.
    #[error("the URL list {0} changed while it was being fetched; use a copy that stays as it is")]
    Changed(String),
    /// `--repeat` makes more ids than there are.
    #[error(
        "the list, {0} times over, has more than the {URLS_MAX} URLs that a list may have; lower --repeat"
    )]
    TooMany(u64),
}

fn describe_lines(list: &str, first: &[String], count: u64) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "the URL list {list} holds {count} line{} that cannot be fetched:",
        if count == 1 { "" } else { "s" }
    );
    for line in first {
        let _ = write!(text, "\n  {line}");
    }
    let more = count - first.len() as u64;
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    text.push_str("\nmend them, or pass --skip-invalid to go on without them");
    text
}

pub(super) fn excerpt(text: &str) -> String {
    let cut = text.floor_char_boundary(EXCERPT_BYTES);
    let dots = if cut < text.len() { "…" } else { "" };
    format!("{}{dots}", &text[..cut])
}
