//! What `coordinator serve` was asked for, checked before any socket opens.

use std::{net::SocketAddr, path::PathBuf};

use tonic::transport::ServerTlsConfig;

use crate::{cli::ServeArgs, exit::Failure, fleet::Token, settings::origin_url};

const QUEUE_MAX: u32 = 10_000;

#[derive(Debug)]
pub(super) struct ServeConfig {
    pub(super) listen: SocketAddr,
    pub(super) http_listen: SocketAddr,
    pub(super) data: PathBuf,
    pub(super) token: Option<Token>,
    pub(super) tls: Option<ServerTlsConfig>,
    pub(super) queue: usize,
    pub(super) origin: Option<String>,
}

impl ServeConfig {
    pub(super) fn new(args: ServeArgs) -> Result<Self, Failure> {
        let secret = fanout_worker::token(args.token_file.as_deref()).map_err(Failure::usage)?;
        if secret.is_some() && args.allow_unauthenticated {
            return Err(Failure::usage(
                "--allow-unauthenticated and a token contradict each other; leave one out",
            ));
        }
        let certificates = args.tls_ca.is_some();
        for (flag, address, safe) in
            [("--listen", args.listen, certificates), ("--http-listen", args.http_listen, false)]
        {
            let guarded = secret.is_some() || args.allow_unauthenticated || safe;
            if !address.ip().is_loopback() && !guarded {
                return Err(Failure::usage(format!(
                    "{flag} {address} can be reached from other machines, and any of them could make \
                     the workers fetch anything: give it a token (--token-file FILE or FANOUT_TOKEN), or \
                     say --allow-unauthenticated if that network is private"
                )));
            }
        }
        let identity = fanout_worker::identity(args.tls_cert.as_deref(), args.tls_key.as_deref())
            .map_err(Failure::usage)?;
        let mut tls = identity.map(|identity| ServerTlsConfig::new().identity(identity));
        if let Some(path) = &args.tls_ca {
            let config = tls.ok_or_else(|| {
                Failure::usage(
                    "--tls-ca asks workers and clients for certificates; that needs --tls-cert and \
                     --tls-key too",
                )
            })?;
            let authority = fanout_worker::authority(path).map_err(Failure::usage)?;
            tls = Some(config.client_ca_root(authority));
        }
        if args.queue == 0 || args.queue > QUEUE_MAX {
            return Err(Failure::usage(format!(
                "--queue {}: 1 to {QUEUE_MAX} jobs can wait",
                args.queue
            )));
        }
        Ok(Self {
            listen: args.listen,
            http_listen: args.http_listen,
            data: args.data,
            token: secret.as_deref().map(Token::new),
            tls,
            queue: usize::try_from(args.queue).unwrap_or(usize::MAX),
            origin: args.origin.as_deref().map(origin_url).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::cli::{CommandLine, CoordinatorCommand};
    use clap::Parser;

    fn config(args: &[&str]) -> Result<ServeConfig, String> {
        let line = [&["coordinator", "serve"], args].concat();
        match CommandLine::try_parse_from(line).map_err(|e| e.to_string())?.command {
            CoordinatorCommand::Serve(args) => ServeConfig::new(*args).map_err(|e| e.to_string()),
            _ => unreachable!("serve was typed"),
        }
    }

    #[test]
    fn loopback_is_the_default_and_asks_for_nothing() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7143");
        assert_eq!(config.http_listen.to_string(), "127.0.0.1:8080");
        assert!(config.token.is_none() && config.tls.is_none());
    }

    #[test]
    fn an_open_address_asks_for_a_token_or_a_word() {
        let open = ["--listen", "0.0.0.0:7143"];
        assert!(config(&open).unwrap_err().starts_with("--listen 0.0.0.0:7143 can be reached"));
        assert!(
            config(&["--http-listen", "[::]:80"]).unwrap_err().contains("--allow-unauthenticated")
        );
        assert!(config(&[&open[..], &["--allow-unauthenticated"]].concat()).is_ok());
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let token = ["--token-file", file.path().to_str().unwrap()];
        assert!(config(&[&open[..], &token].concat()).is_ok());
        let both = [&token[..], &["--allow-unauthenticated"]].concat();
        assert!(config(&both).unwrap_err().contains("contradict"));
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert!(config(&["--queue", "0"]).unwrap_err().starts_with("--queue 0"));
        assert!(config(&["--origin", "origin:80"]).unwrap_err().starts_with("--origin origin:80"));
        assert!(config(&["--tls-ca", "x"]).unwrap_err().contains("--tls-cert"));
        let missing = ["--tls-cert", "/nonexistent/c", "--tls-key", "/nonexistent/k"];
        assert!(config(&missing).unwrap_err().starts_with("--tls-cert /nonexistent/c"));
    }
}
