//! One TLS setup for every client: rustls on ring.

use std::sync::Arc;

use fanout_proto::setup::HttpSettings;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::ending::SetupError;

/// The client side of TLS as a study wants it.
///
/// Roots are those given, else the system's, else Mozilla's as they were when
/// this program was built.
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
        builder
            .with_root_certificates(roots(http)?)
            .with_no_client_auth()
    };
    Ok(Arc::new(config))
}

/// The provider of all cryptography here.
pub(crate) fn provider() -> CryptoProvider {
    ring::default_provider()
}

fn roots(http: &HttpSettings) -> Result<RootCertStore, SetupError> {
    let mut roots = RootCertStore::empty();
    if !http.ca_certificates.is_empty() {
        for certificate in given_certificates(http)? {
            roots
                .add(certificate)
                .map_err(|error| SetupError::CaCertificates(error.to_string()))?;
        }
        return Ok(roots);
    }
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    Ok(roots)
}

/// The certificates that replace the system's; never none.
fn given_certificates(http: &HttpSettings) -> Result<Vec<CertificateDer<'static>>, SetupError> {
    let certificates = CertificateDer::pem_slice_iter(&http.ca_certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| SetupError::CaCertificates(error.to_string()))?;
    if certificates.is_empty() {
        return Err(SetupError::CaCertificates("there is none".into()));
    }
    Ok(certificates)
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
            client_config(&HttpSettings {
                ca_certificates: pem.into(),
                ..HttpSettings::default()
            })
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
