//! One TLS setup for every client: rustls on ring.
//!
//! The system's certificates are a hundred files and more: reading them costs a fetcher more than
//! everything else before Go. They are read before Go if the list holds an https URL, else when a
//! redirect leads to the first one, else never.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use fanout_proto::setup::{HttpSettings, Setup};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::exit_reason::SetupError;

#[derive(Debug, Clone)]
pub(crate) enum Roots {
    Given(Vec<CertificateDer<'static>>),
    /// The system's, not read yet.
    System,
}

impl Roots {
    /// Refuses certificates that were given and cannot be used.
    pub(crate) fn new(http: &HttpSettings) -> Result<Self, SetupError> {
        if http.ca_certificates.is_empty() {
            return Ok(Self::System);
        }
        let refused = |reason: &dyn std::fmt::Display| {
            SetupError(format!(
                "the CA certificates cannot be used: {reason}; give PEM certificates"
            ))
        };
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
        Ok(Self::Given(given))
    }

    /// Reads them. `None`: the system has none, and those of Mozilla as they were when this
    /// program was built are to be trusted.
    pub(crate) fn read(&self) -> Option<Cow<'_, [CertificateDer<'static>]>> {
        match self {
            Self::Given(certificates) => Some(certificates.into()),
            Self::System => {
                let found = rustls_native_certs::load_native_certs().certs;
                (!found.is_empty()).then(|| found.into())
            }
        }
    }
}

pub(crate) fn client_config(setup: &Setup) -> Result<ClientConfig, SetupError> {
    let provider = Arc::new(ring::default_provider());
    let roots = Roots::new(&setup.http)?;
    let verifier = Verifier {
        algorithms: provider.signature_verification_algorithms,
        trust: (!setup.http.insecure).then(|| Trust {
            roots,
            provider: provider.clone(),
            verifier: OnceLock::new(),
        }),
    };
    if let Some(trust) = verifier.trust.as_ref().filter(|_| setup.https) {
        trust.verifier().map_err(|error| SetupError::tls(&error))?;
    }
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SetupError::tls(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Verifies a server's certificate against roots that may not have been read yet.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    /// `None` accepts any certificate, as `insecure` asks for; the peer still has to prove that it
    /// holds the certificate's key.
    trust: Option<Trust>,
}

#[derive(Debug)]
struct Trust {
    roots: Roots,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Arc<WebPkiServerVerifier>, Error>>,
}

impl Trust {
    fn verifier(&self) -> Result<&WebPkiServerVerifier, Error> {
        let made = self.verifier.get_or_init(|| {
            let mut store = RootCertStore::empty();
            match self.roots.read() {
                Some(certificates) => {
                    store.add_parsable_certificates(certificates.iter().cloned());
                }
                None => store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            }
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(store), self.provider.clone());
            builder.build().map_err(|error| Error::Other(OtherError(Arc::new(error))))
        });
        made.as_deref().map_err(Clone::clone)
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(trust) = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let verifier = trust.verifier()?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_are_none_are_refused() {
        let refused = |pem: &'static str| {
            let http = HttpSettings { ca_certificates: pem.into(), ..HttpSettings::default() };
            Roots::new(&http).unwrap_err().to_string()
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
