//! How to get in at a coordinator: its address, the token, the certificates.

use std::{fs, path::Path, path::PathBuf, time::Duration};

use fanout_proto::text::causes;
use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri},
};

use crate::{UsageError, supervise::TOKEN_VARIABLE};

/// A connection is made within this time, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// HTTP/2 pings find a dead peer under a stream that is idle or stuck.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(10);

const FILES_WITHOUT_TLS: &str =
    "--tls-ca, --tls-cert and --tls-key are of use only with an https:// coordinator";

/// What a coordinator asks of workers and clients.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct AccessArgs {
    /// File that holds the coordinator's token [default: the variable FANOUT_TOKEN]
    #[arg(long, value_name = "FILE", env = "FANOUT_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,

    /// PEM file of the authority that signed an https coordinator's certificate
    /// [default: the system's, else Mozilla's]
    #[arg(long, value_name = "FILE", env = "FANOUT_TLS_CA")]
    pub tls_ca: Option<PathBuf>,

    /// PEM certificate to show to a coordinator that asks for one
    #[arg(long, value_name = "FILE", requires = "tls_key", env = "FANOUT_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,

    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", env = "FANOUT_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
}

impl AccessArgs {
    /// The coordinator at `url`, to be connected to.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, UsageError> {
        let unusable = |reason: &str| {
            UsageError(format!(
                "--coordinator '{url}' cannot be used: {reason}; give one like http://127.0.0.1:7143"
            ))
        };
        let uri: Uri = url.parse().map_err(|_| unusable("it is not a URL"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(unusable("it names no host"));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(unusable("it must not have a path"));
        }
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(unusable("it must begin with http:// or https://")),
        };
        let endpoint = Endpoint::from(uri)
            .connect_timeout(CONNECT_WITHIN)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PONG_WITHIN)
            .keep_alive_while_idle(true);
        if !https {
            let named = self.tls_ca.is_some() || self.tls_cert.is_some();
            return match named {
                true => Err(UsageError(FILES_WITHOUT_TLS.to_owned())),
                false => Ok(endpoint),
            };
        }
        let mut tls = ClientTlsConfig::new();
        if let Some(identity) = identity(self.tls_cert.as_deref(), self.tls_key.as_deref())? {
            tls = tls.identity(identity);
        }
        let secured = match &self.tls_ca {
            Some(path) => endpoint.tls_config(tls.ca_certificate(authority(path)?)),
            None => endpoint
                .clone()
                .tls_config(tls.clone().with_native_roots())
                // A slim image has no certificates of its own.
                .or_else(|_| endpoint.tls_config(tls.with_webpki_roots())),
        };
        secured.map_err(|error| UsageError(format!("TLS cannot be set up: {}", causes(&error))))
    }

    /// The value of the `authorization` header, if there is a token.
    pub fn authorization(&self) -> Result<Option<AsciiMetadataValue>, UsageError> {
        match token(self.token_file.as_deref())? {
            None => Ok(None),
            Some(token) => AsciiMetadataValue::try_from(format!("Bearer {token}"))
                .map(Some)
                .map_err(|_| bad_token(TOKEN_VARIABLE)),
        }
    }
}

/// The token in `file`, or else in the variable `FANOUT_TOKEN`, if there is one.
pub fn token(file: Option<&Path>) -> Result<Option<String>, UsageError> {
    let (token, origin) = match file {
        Some(path) => {
            let content = read("--token-file", path)?;
            (String::from_utf8_lossy(&content).into_owned(), path.display().to_string())
        }
        None => match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.trim().is_empty() => (token, TOKEN_VARIABLE.to_owned()),
            _ => return Ok(None),
        },
    };
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad_token(&origin));
    }
    Ok(Some(token.to_owned()))
}

/// What `--tls-cert` and `--tls-key` say, if both are given.
pub fn identity(
    certificate: Option<&Path>,
    key: Option<&Path>,
) -> Result<Option<Identity>, UsageError> {
    let (Some(certificate), Some(key)) = (certificate, key) else {
        return Ok(None);
    };
    let (certificate, key) = (read("--tls-cert", certificate)?, read("--tls-key", key)?);
    Ok(Some(Identity::from_pem(certificate, key)))
}

/// What `--tls-ca` says.
pub fn authority(path: &Path) -> Result<Certificate, UsageError> {
    read("--tls-ca", path).map(Certificate::from_pem)
}

fn bad_token(origin: &str) -> UsageError {
    UsageError(format!("the token from {origin} must be one line of visible ASCII characters"))
}

fn read(argument: &str, path: &Path) -> Result<Vec<u8>, UsageError> {
    fs::read(path).map_err(|error| UsageError(format!("{argument} {}: {error}", path.display())))
}
