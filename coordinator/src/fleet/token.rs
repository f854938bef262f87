//! The secret that a fleet may ask for.

use sha2::{Digest, Sha256};
use tonic::{Status, metadata::MetadataMap};

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

    /// Lets a call in that shows the secret, if one is asked for.
    pub(crate) fn check(token: Option<&Self>, metadata: &MetadataMap) -> Result<(), Status> {
        let shown = metadata.get("authorization").and_then(|value| value.to_str().ok());
        match token.is_none_or(|token| token.fits(shown)) {
            true => Ok(()),
            false => Err(Status::unauthenticated(
                "wrong or missing token; pass the coordinator's with --token-file or FANOUT_TOKEN",
            )),
        }
    }

    /// Whether the value of an `authorization` header shows the secret.
    pub fn fits(&self, header: Option<&str>) -> bool {
        header
            .and_then(|value| value.strip_prefix("Bearer "))
            .is_some_and(|secret| Self::new(secret).0 == self.0)
    }
}
