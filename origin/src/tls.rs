//! HTTPS: certificates made at the start, good for this machine's names, and
//! bad ones for clients that ask for them by name.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// The names that the certificate is good for. `origin` is what a compose
/// file calls the origin's container.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "origin"];
/// Names directly below this one choose what goes wrong.
const PARENT: &str = ".localhost";

/// The certificates that clients can get, and their authority.
#[derive(Debug)]
pub(crate) struct Identities {
    /// The authority's certificate, for clients, which must trust it.
    pub(crate) certificate_pem: String,
    good: Arc<ServerConfig>,
    wrong_name: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
    self_signed: Arc<ServerConfig>,
    unknown_issuer: Arc<ServerConfig>,
}

/// What follows on the name that a client asks for.
#[derive(Debug)]
pub(crate) enum HandshakeReply {
    /// The handshake, with this certificate.
    Shake(Arc<ServerConfig>),
    /// Nothing more; the connection stays open.
    Stall,
    Reset,
    Close,
    /// Plain HTTP.
    Plain,
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

impl Identities {
    /// New keys and certificates. The provider is named, so that nothing
    /// depends on what the process has installed.
    pub(crate) fn generate() -> Result<Self, TlsError> {
        let key = KeyPair::generate()?;
        let trusted = authority("fanout origin")?;
        let unknown = authority("unknown authority")?;
        let good = CertificateParams::new(NAMES.map(str::to_owned))?;
        let elsewhere = CertificateParams::new(["elsewhere.invalid".to_owned()])?;
        let named = |label: &str| CertificateParams::new([format!("{label}{PARENT}")]);
        let mut expired = named("expired")?;
        expired.not_before = date_time_ymd(2019, 1, 1);
        expired.not_after = date_time_ymd(2020, 1, 1);
        let self_signed = named("self-signed")?.self_signed(&key)?;
        let untrusted = named("unknown-issuer")?.signed_by(&key, &unknown)?;
        Ok(Self {
            certificate_pem: trusted.pem(),
            good: config(good.signed_by(&key, &trusted)?.der(), &key)?,
            wrong_name: config(elsewhere.signed_by(&key, &trusted)?.der(), &key)?,
            expired: config(expired.signed_by(&key, &trusted)?.der(), &key)?,
            self_signed: config(self_signed.der(), &key)?,
            unknown_issuer: config(untrusted.der(), &key)?,
        })
    }

    /// What follows on a client that asks for this name, or for none.
    pub(crate) fn reply(&self, name: Option<&str>) -> HandshakeReply {
        let shake = |config: &Arc<ServerConfig>| HandshakeReply::Shake(Arc::clone(config));
        match name.and_then(|name| name.strip_suffix(PARENT)) {
            Some("wrong-name") => shake(&self.wrong_name),
            Some("expired") => shake(&self.expired),
            Some("self-signed") => shake(&self.self_signed),
            Some("unknown-issuer") => shake(&self.unknown_issuer),
            Some("stall") => HandshakeReply::Stall,
            Some("reset") => HandshakeReply::Reset,
            Some("close") => HandshakeReply::Close,
            Some("plain") => HandshakeReply::Plain,
            _ => shake(&self.good),
        }
    }
}

/// An authority that signs certificates.
fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, TlsError> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn config(
    certificate: &CertificateDer<'static>,
    key: &KeyPair,
) -> Result<Arc<ServerConfig>, TlsError> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_localhost_choose() {
        let identities = Identities::generate().unwrap();
        let is_good = |name: Option<&str>| match identities.reply(name) {
            HandshakeReply::Shake(config) => Arc::ptr_eq(&config, &identities.good),
            _ => false,
        };
        for name in [None, Some("localhost"), Some("origin"), Some("expired")] {
            assert!(is_good(name), "{name:?}");
        }
        assert!(is_good(Some("expired.example")) && is_good(Some("any.localhost")));
        for label in ["wrong-name", "expired", "self-signed", "stall", "plain"] {
            assert!(!is_good(Some(&format!("{label}.localhost"))), "{label}");
        }
    }
}
