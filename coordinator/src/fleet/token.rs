//! The secret that a fleet may ask for.

use sha2::{Digest, Sha256};

/// A secret that workers and clients must show.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Keeps a hash of the secret; comparing hashes tells nothing by its timing.
    pub fn new(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// Whether the value of an `authorization` header shows the secret.
    pub fn fits(&self, header: Option<&str>) -> bool {
        header
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|secret| Self::new(secret).0 == self.0)
    }
}
