//! What tells one URL list from another.

use crate::{WireError, limits::URLS_MAX, text::is_plain, wire};

/// What tells one URL list from another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListIdentity {
    /// What people call it; two lists of one content may have two names.
    pub name: String,
    /// SHA-256 over its URLs, each followed by a newline, once; hexadecimal.
    pub sha256: String,
    /// URLs, repeats counted.
    pub urls: u64,
    /// How many times over.
    pub repeat: u64,
}

impl ListIdentity {
    /// Whether both have the same ids with the same URLs.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.sha256, self.urls, self.repeat) == (&other.sha256, other.urls, other.repeat)
    }
}

impl std::fmt::Display for ListIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.sha256.get(..12).unwrap_or(&self.sha256);
        write!(f, "{} ({} URLs", self.name, self.urls)?;
        if self.repeat > 1 {
            write!(f, " with --repeat {}", self.repeat)?;
        }
        write!(f, ", SHA-256 {digits}…)")
    }
}

impl From<ListIdentity> for wire::ListIdentity {
    fn from(list: ListIdentity) -> Self {
        Self { name: list.name, sha256: list.sha256, urls: list.urls, repeat: list.repeat }
    }
}

impl TryFrom<wire::ListIdentity> for ListIdentity {
    type Error = WireError;

    fn try_from(list: wire::ListIdentity) -> Result<Self, WireError> {
        if list.urls > URLS_MAX {
            return Err(WireError::OutOfRange {
                field: "urls",
                value: list.urls,
                range: "0 to 8589934592 URLs",
            });
        }
        if list.sha256.len() != 64 || !list.sha256.bytes().all(|o| o.is_ascii_hexdigit()) {
            return Err(WireError::Invalid {
                field: "sha256",
                reason: "it is not 64 hexadecimal digits",
            });
        }
        Ok(Self {
            name: for_people(&list.name),
            sha256: list.sha256,
            urls: list.urls,
            repeat: list.repeat,
        })
    }
}

/// A name that stands in reports and on terminals.
pub(super) fn for_people(name: &str) -> String {
    name.chars().filter(|c| is_plain(*c)).take(256).collect()
}
