//! One TLS setup for every client: rustls on ring.

use std::sync::Arc;

use fanout_proto::setup::HttpSettings;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::exit_reason::SetupError;

/// Whom to trust.
#[derive(Debug, Clone)]
pub(crate) enum Roots {
    /// The certificates given, else the system's.
    Certificates(Vec<CertificateDer<'static>>),
    /// Where there is none of either: Mozilla's, as they were when this program was built.
    BuiltIn,
}

/// The client side of TLS as a study wants it.
pub(crate) fn client_config(http: &HttpSettings) -> Result<Arc<ClientConfig>, SetupError> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = if http.insecure {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            .with_no_client_auth()
    } else {
        let mut store = RootCertStore::empty();
        match roots(http)? {
            Roots::Certificates(certificates) => {
                store.add_parsable_certificates(certificates);
            }
            Roots::BuiltIn => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        }
        builder.with_root_certificates(store).with_no_client_auth()
    };
    Ok(Arc::new(config))
}

pub(crate) fn roots(http: &HttpSettings) -> Result<Roots, SetupError> {
    if http.ca_certificates.is_empty() {
        let found = rustls_native_certs::load_native_certs().certs;
        return Ok(if found.is_empty() { Roots::BuiltIn } else { Roots::Certificates(found) });
    }
    let refused = |reason: &dyn std::fmt::Display| SetupError::CaCertificates(reason.to_string());
    let given = CertificateDer::pem_slice_iter(&http.ca_certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refused(&error))?;
    if given.is_empty() {
        return Err(refused(&"there is none"));
    }
    // What the system has may hold one that is broken; what was given must not.
    for certificate in &given {
        RootCertStore::empty().add(certificate.clone()).map_err(|error| refused(&error))?;
    }
    Ok(Roots::Certificates(given))
}

/// Accepts any certificate, as `insecure` asks for; the peer still has to
/// prove that it holds the certificate's key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_are_none_are_refused() {
        let refused = |pem: &'static str| {
            client_config(&HttpSettings { ca_certificates: pem.into(), ..HttpSettings::default() })
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("nonsense"),
            "the CA certificates cannot be used: there is none; give PEM certificates"
        );
        assert!(
            refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
                .contains("cannot be used")
        );
    }
}
