//! HTTPS: certificates made at the start, good for this machine's names, and
//! bad ones for clients that ask for them by name.

use std::{error::Error, sync::Arc};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// The names that the certificate is good for. `origin` is what a compose
/// file calls the origin's container.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "origin"];
/// Names directly below this one choose what goes wrong.
const PARENT: &str = ".localhost";

#[derive(Debug)]
pub(crate) struct Identities {
    /// The authority's certificate, for clients, which must trust it.
    pub(crate) certificate_pem: String,
    good: HandshakeReply,
    /// By the name below [`PARENT`].
    bad: [(&'static str, HandshakeReply); 8],
}

#[derive(Debug, Clone)]
pub(crate) enum HandshakeReply {
    /// The handshake, with this certificate.
    Shake(Arc<ServerConfig>),
    /// Nothing more; the connection stays open.
    Stall,
    Reset,
    Close,
    Plain,
}

impl Identities {
    /// New keys and certificates. The provider is named, so that nothing
    /// depends on what the process has installed.
    pub(crate) fn generate() -> Result<Self, Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let trusted = authority("fanout origin")?;
        let unknown = authority("unknown authority")?;
        let good = CertificateParams::new(NAMES.map(str::to_owned))?;
        let elsewhere = CertificateParams::new(["elsewhere.invalid".to_owned()])?;
        let named = |label: &str| CertificateParams::new([format!("{label}{PARENT}")]);
        let mut expired = named("expired")?;
        expired.not_before = date_time_ymd(2019, 1, 1);
        expired.not_after = date_time_ymd(2020, 1, 1);
        let untrusted = named("unknown-issuer")?.signed_by(&key, &unknown)?;
        Ok(Self {
            certificate_pem: trusted.pem(),
            good: shake(&good.signed_by(&key, &trusted)?, &key)?,
            bad: [
                ("wrong-name", shake(&elsewhere.signed_by(&key, &trusted)?, &key)?),
                ("expired", shake(&expired.signed_by(&key, &trusted)?, &key)?),
                ("self-signed", shake(&named("self-signed")?.self_signed(&key)?, &key)?),
                ("unknown-issuer", shake(&untrusted, &key)?),
                ("stall", HandshakeReply::Stall),
                ("reset", HandshakeReply::Reset),
                ("close", HandshakeReply::Close),
                ("plain", HandshakeReply::Plain),
            ],
        })
    }

    /// What follows on a client that asks for this name, or for none.
    pub(crate) fn reply(&self, name: Option<&str>) -> HandshakeReply {
        let label = name.and_then(|name| name.strip_suffix(PARENT));
        let bad = self.bad.iter().find(|(bad, _)| Some(*bad) == label);
        bad.map_or(&self.good, |(_, reply)| reply).clone()
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn shake(certificate: &Certificate, key: &KeyPair) -> Result<HandshakeReply, rustls::Error> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(HandshakeReply::Shake(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_localhost_choose() {
        let identities = Identities::generate().unwrap();
        let is_good = |name: Option<&str>| match (identities.reply(name), &identities.good) {
            (HandshakeReply::Shake(config), HandshakeReply::Shake(good)) => {
                Arc::ptr_eq(&config, good)
            }
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
