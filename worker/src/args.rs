//! What an operator says, and what is made of it before any socket opens.

use fanout_proto::limits::{FETCHERS_MAX, NAME_MAX_BYTES};
use tonic::transport::Endpoint;

use crate::{
    access::AccessArgs, fetchers::NamedCommand, measure::machine, session::SessionSettings,
    supervise::FetcherCommand,
};

/// Arguments of the worker daemon.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  worker                                        a coordinator on this machine
  worker --coordinator http://10.0.0.5:7143     one elsewhere
  worker --coordinator https://fanout.example:7143 \\
         --tls-ca ca.pem --token-file /run/secrets/fanout-token

The worker keeps trying until the coordinator answers, and comes back by itself
when the connection is lost. SIGTERM or Ctrl-C ends it and all its fetchers.

Exit codes: 0 done, 2 bad usage, 3 refused or no coordinator, 130 interrupted.")]
pub struct WorkerArgs {
    /// Where the coordinator listens for workers
    #[arg(
        long,
        value_name = "URL",
        env = "FANOUT_COORDINATOR",
        default_value = "http://127.0.0.1:7143"
    )]
    pub coordinator: String,

    /// What this worker is called in reports [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,

    /// Fetchers that this worker runs at a time
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(FETCHERS_MAX)))]
    pub slots: u32,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub access: AccessArgs,

    /// Fetch from public addresses only: neither from this machine or network nor from a cloud's
    /// metadata service. For fleets that take lists from others
    #[arg(long, env = "FANOUT_DENY_PRIVATE")]
    pub deny_private: bool,

    /// A fetcher of another maker that arms may name the clients of; may be given again. Clients
    /// never name a command: a worker runs these and its own, and nothing else
    #[arg(long = "fetcher", value_name = "NAME=COMMAND")]
    pub fetchers: Vec<NamedCommand>,

    /// End when stdin does: for a worker that must not outlive who started it
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,

    /// Do not come back after a connection is lost or could not be made
    #[arg(long, hide = true)]
    pub once: bool,
}

/// An argument that cannot be used, and what to give instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub(crate) String);

#[derive(Debug)]
pub(crate) struct WorkerConfig {
    pub(crate) coordinator: Endpoint,
    pub(crate) session: SessionSettings,
    pub(crate) exit_with_stdin: bool,
    pub(crate) once: bool,
}

impl TryFrom<WorkerArgs> for WorkerConfig {
    type Error = UsageError;

    fn try_from(args: WorkerArgs) -> Result<Self, UsageError> {
        let name = args.name.unwrap_or_else(machine::host_name);
        let plain = !name.chars().any(char::is_control);
        if name.is_empty() || name.len() > NAME_MAX_BYTES || !plain {
            return Err(UsageError(format!(
                "--name must have 1 to {NAME_MAX_BYTES} bytes and no control characters"
            )));
        }
        if args.deny_private && !args.fetchers.is_empty() {
            return Err(UsageError(
                "--deny-private with --fetcher: only fanout's own fetchers keep to public addresses; \
                 leave one of them out"
                    .to_owned(),
            ));
        }
        Ok(Self {
            coordinator: args.access.endpoint(&args.coordinator)?,
            session: SessionSettings {
                name,
                slots: args.slots,
                authorization: args.access.authorization()?,
                fetcher: FetcherCommand::this_executable().deny_private(args.deny_private),
                others: args.fetchers,
                // They are asked before the first session.
                declared: Vec::new(),
            },
            exit_with_stdin: args.exit_with_stdin,
            once: args.once,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        worker: WorkerArgs,
    }

    fn config(arguments: &[&str]) -> Result<WorkerConfig, UsageError> {
        let arguments = std::iter::once("worker").chain(arguments.iter().copied());
        WorkerConfig::try_from(Cli::try_parse_from(arguments).unwrap().worker)
    }

    fn refused(arguments: &[&str]) -> String {
        config(arguments).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_make_sense() {
        let config = config(&[]).unwrap();
        assert_eq!(config.session.slots, 64);
        assert_eq!(config.coordinator.uri(), "http://127.0.0.1:7143/");
        assert!(!config.session.name.is_empty());
        assert!(!config.once && !config.exit_with_stdin);
    }

    #[test]
    fn arguments_that_cannot_be_used_say_what_to_give() {
        assert_eq!(
            refused(&["--coordinator", "127.0.0.1:7143"]),
            "--coordinator '127.0.0.1:7143' cannot be used: it must begin with http:// or \
             https://; give one like http://127.0.0.1:7143"
        );
        assert!(refused(&["--coordinator", "http://"]).contains("not a URL"));
        assert!(refused(&["--coordinator", "http://a/b"]).contains("path"));
        assert!(refused(&["--name", "a\nb"]).contains("--name"));
        assert!(refused(&["--name", ""]).contains("--name"));
        assert!(refused(&["--tls-ca", "x.pem"]).contains("https"));
        assert!(refused(&["--token-file", "/nonexistent/token"]).contains("--token-file"));
        let both = ["--deny-private", "--fetcher", "py=python3"];
        assert!(refused(&both).contains("leave one of them out"));
        let https = ["--coordinator", "https://a", "--tls-ca", "/nonexistent/ca"];
        assert!(refused(&https).contains("--tls-ca"));
    }

    #[test]
    fn slots_have_a_range() {
        assert!(Cli::try_parse_from(["worker", "--slots", "0"]).is_err());
        assert!(Cli::try_parse_from(["worker", "--slots", "4097"]).is_err());
        assert!(Cli::try_parse_from(["worker", "--slots", "4096"]).is_ok());
    }

    #[test]
    fn a_token_is_one_line_of_visible_characters() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "s3cret\n").unwrap();
        let path = file.path().to_str().unwrap();
        let found = config(&["--token-file", path]).unwrap();
        assert_eq!(found.session.authorization.unwrap(), "Bearer s3cret");
        for bad in ["", "two words", "two\nlines", "ключ"] {
            fs::write(file.path(), bad).unwrap();
            assert!(refused(&["--token-file", path]).contains("token"), "{bad:?}");
        }
    }

    #[test]
    fn https_works_with_and_without_system_roots() {
        assert!(config(&["--coordinator", "https://fanout.example:7143"]).is_ok());
    }
}
