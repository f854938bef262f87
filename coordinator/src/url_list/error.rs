//! Lists and lines that cannot be used.

use std::io;

use fanout_proto::limits::{URL_MAX_BYTES, URLS_MAX};

/// Bytes of a bad line that an error repeats.
pub(super) const EXCERPT_BYTES: usize = 60;

/// Why a line is not a URL that can be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Nothing before `://`.
    #[error("it has no scheme; write https://{0}")]
    NoScheme(String),
    /// Something other than http or https.
    #[error("the scheme '{0}' cannot be fetched; only http and https can")]
    Scheme(String),
    /// A space or tab within the URL.
    #[error("it holds a space; write %20, and one URL a line")]
    Space,
    /// A control character.
    #[error("it holds the control character U+{0:04X}")]
    Control(u32),
    /// Not UTF-8.
    #[error("it is not valid UTF-8; percent-encode other bytes")]
    NotUtf8,
    /// Longer than a URL may be.
    #[error("it is longer than the {URL_MAX_BYTES} bytes that a URL may have")]
    TooLong,
    /// Port 0.
    #[error("port 0 cannot be connected to")]
    PortZero,
    /// What the URL parser says.
    #[error("{0}")]
    Malformed(url::ParseError),
}

/// A list that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It could not be read.
    #[error("cannot read the URL list {list}: {error}")]
    Read {
        /// The list's name.
        list: String,
        /// What the system says.
        error: io::Error,
    },
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
        /// The first bad lines: number, beginning, reason.
        first: Vec<BadLine>,
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

/// One line that is no URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    pub(super) number: u64,
    pub(super) excerpt: String,
    pub(super) reason: LineError,
}

fn describe_lines(list: &str, first: &[BadLine], count: u64) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "the URL list {list} holds {count} line{} that cannot be fetched:",
        if count == 1 { "" } else { "s" }
    );
    for line in first {
        let _ = write!(text, "\n  line {}: {:?}: {}", line.number, line.excerpt, line.reason);
    }
    let more = count - first.len() as u64;
    if more > 0 {
        let _ = write!(text, "\n  and {more} more");
    }
    text.push_str("\nmend them, or pass --skip-invalid to go on without them");
    text
}

/// The beginning of a line.
pub(super) fn excerpt(text: &str) -> String {
    let cut = text.floor_char_boundary(EXCERPT_BYTES);
    let dots = if cut < text.len() { "…" } else { "" };
    format!("{}{dots}", &text[..cut])
}
