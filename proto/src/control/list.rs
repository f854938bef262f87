//! What tells one URL list from another.

use crate::{WireError, in_range, limits::URLS_MAX, message::message, text::is_plain, wire};

message! {
    /// What tells one URL list from another.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    #[cfg_attr(feature = "record", derive(serde::Serialize, serde::Deserialize))]
    pub struct ListIdentity = ListIdentity, checked {
        /// What people call it; two lists of one content may have two names.
        pub name: String = name,
        /// SHA-256 over its URLs, each followed by a newline, once; hexadecimal.
        pub sha256: String = sha256,
        /// URLs, repeats counted.
        pub urls: u64 = urls,
        /// How many times over.
        pub repeat: u64 = repeat,
    }
}

fn checked(list: wire::ListIdentity) -> Result<wire::ListIdentity, WireError> {
    in_range("urls", list.urls, 0..=URLS_MAX, "0 to 8589934592 URLs")?;
    if list.sha256.len() != 64 || !list.sha256.bytes().all(|o| o.is_ascii_hexdigit()) {
        let reason = "it is not 64 hexadecimal digits";
        return Err(WireError::Invalid("sha256", reason));
    }
    Ok(wire::ListIdentity { name: for_people(&list.name), ..list })
}

impl ListIdentity {
    /// Whether both have the same ids with the same URLs.
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

/// A name that stands in reports and on terminals.
pub(super) fn for_people(name: &str) -> String {
    name.chars().filter(|c| is_plain(*c)).take(256).collect()
}
