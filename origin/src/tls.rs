//! HTTPS: a certificate made at the start, good for this machine's names.

use std::sync::Arc;

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// The names that the certificate is good for. `origin` is what a compose
/// file calls the origin's container.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "origin"];

/// A self-signed certificate and its key.
pub(crate) struct Identity {
    /// For clients, which must trust it.
    pub(crate) certificate_pem: String,
    /// For the server.
    pub(crate) config: Arc<ServerConfig>,
}

/// Why there is no HTTPS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused it.
    #[error("the certificate is of no use: {0}")]
    Config(#[from] rustls::Error),
}

impl Identity {
    /// A new key and certificate. The provider is named, so that nothing
    /// depends on what the process has installed.
    pub(crate) fn generate() -> Result<Self, TlsError> {
        let made = rcgen::generate_simple_self_signed(NAMES.map(str::to_owned))?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::from(key))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            certificate_pem: made.cert.pem(),
            config: Arc::new(config),
        })
    }
}
