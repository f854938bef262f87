//! The command line, as it is typed. The flags of a study and of a fetch stand in
//! [`crate::settings`], beside what they mean.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fanout_origin::{OriginArgs, UrlsArgs};
use fanout_program::LogArgs;
use fanout_worker::{AccessArgs, WorkerArgs};

use crate::{
    settings::{FetchArgs, StudyArgs},
    terminal::print::{Format, PrintArgs},
};

const ABOUT: &str = "\
Fetch many URLs: one process or many, threads or an event loop, how many?
Answers that for your list on your machine, with numbers, and then does the job.";

const EXAMPLES: &str = "\
Examples:
  coordinator study                          compare the models offline, on the embedded origin
  coordinator study urls.txt --yes           compare them on a list of one's own
  coordinator study --arm '{1,2,4}xasync:16' what do more processes bring?
  coordinator fetch urls.txt --out got.jsonl fetch every URL once, a record for each
  coordinator report studies/2026-01-31T120000Z

Exit codes: 0 done; 1 done, but too few valid trials or URLs abandoned; 2 bad usage or input,
nothing fetched; 3 no fleet; 130 interrupted, what there is was saved.";

/// The coordinator's command line.
#[derive(Debug, Parser)]
#[command(name = "coordinator", version = fanout_program::LONG_VERSION, about = ABOUT, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: CoordinatorCommand,
    #[command(flatten)]
    pub(crate) log: LogArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum CoordinatorCommand {
    /// Compare arms: which arrangement is faster here, and what does it cost?
    Study(Box<StudyArgs>),
    /// Fetch every URL of a list once, with a record for each.
    Fetch(Box<FetchArgs>),
    /// Show a study again; with two directories, compare them.
    Report(ReportArgs),
    /// Serve a fleet: workers attach, clients submit studies and fetches, browsers see the studies.
    Serve(Box<ServeArgs>),
    /// Show a coordinator's workers and jobs.
    Status(StatusArgs),
    /// Follow a job again, or fetch its results.
    Attach(AttachArgs),
    /// Cancel a job.
    Cancel(CancelArgs),
    /// Ask whether a coordinator serves, a worker is attached or an origin answers: for probes.
    Health(HealthArgs),
    /// Run a worker: it starts, feeds, measures and reaps fetchers.
    Worker(WorkerArgs),
    /// Run the embedded origin: a server whose delays, sizes and faults its URLs ask for.
    Origin(OriginArgs),
    /// Print a URL list for an origin.
    Urls(UrlsArgs),
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page; with a directory, write one for each subcommand there.
    #[command(hide = true)]
    Man {
        /// Where the pages go.
        directory: Option<PathBuf>,
    },
}

const SERVE_HELP: &str = "\
Examples:
  coordinator serve
  coordinator serve --listen 0.0.0.0:7143 --token-file token --tls-cert cert.pem --tls-key key.pem
  worker --coordinator http://coordinator:7143 &
  coordinator study --coordinator http://coordinator:7143 --origin http://origin:8080

SIGTERM or Ctrl-C ends it: the running study is saved, workers come back to the next one.";

/// `serve`.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    /// Where workers and clients reach it (gRPC).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7143")]
    pub(crate) listen: SocketAddr,
    /// Where browsers and Prometheus reach it (plain HTTP).
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) http_listen: SocketAddr,
    /// Where studies and the output of jobs are kept.
    #[arg(long, value_name = "DIR", default_value = "fanout-data")]
    pub(crate) data: PathBuf,
    /// Jobs that may wait while one runs.
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) queue: u32,
    /// The origin of the built-in list, for clients that name none.
    #[arg(long, value_name = "URL", env = "FANOUT_ORIGIN")]
    pub(crate) origin: Option<String>,
    /// File that holds the token that workers and clients must show [default: the variable
    /// FANOUT_TOKEN]; browsers give it as the password.
    #[arg(long, value_name = "FILE", env = "FANOUT_TOKEN_FILE", help_heading = "Access")]
    pub(crate) token_file: Option<PathBuf>,
    /// Let anyone in who reaches the address.
    #[arg(long, help_heading = "Access")]
    pub(crate) allow_unauthenticated: bool,
    /// PEM certificate: gRPC then speaks TLS only.
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Access")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Access")]
    pub(crate) tls_key: Option<PathBuf>,
    /// PEM file of the authority that must have signed the workers' and clients' certificates.
    #[arg(long, value_name = "FILE", help_heading = "Access")]
    pub(crate) tls_ca: Option<PathBuf>,
}

/// Which coordinator.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// Where the coordinator serves.
    #[arg(
        long,
        value_name = "URL",
        env = "FANOUT_COORDINATOR",
        default_value = "http://127.0.0.1:7143"
    )]
    pub(crate) coordinator: String,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

/// `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    /// What is printed on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: StatusFormat,
}

/// How a status is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `health`.
#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    /// Ask the coordinator whether the worker NAME is attached [default name: the host's].
    #[arg(long, value_name = "NAME", num_args = 0..=1, default_missing_value = "")]
    pub(crate) worker: Option<String>,
    /// Ask an origin instead of a coordinator. It does not count the question.
    #[arg(long, value_name = "URL", conflicts_with = "worker")]
    pub(crate) origin: Option<String>,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `attach`.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// The job's number.
    pub(crate) job: u64,
    /// The study's directory, or the results file [default: as it was submitted].
    #[arg(long, value_name = "PATH")]
    pub(crate) out: Option<PathBuf>,
    /// How a study is printed [default: as it was submitted].
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Print a study's details too, even if it was submitted without.
    #[arg(long)]
    pub(crate) details: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `cancel`.
#[derive(Debug, Args)]
pub(crate) struct CancelArgs {
    /// The job's number.
    pub(crate) job: u64,
    /// Do not let a fetch finish the URLs in hand.
    #[arg(long)]
    pub(crate) at_once: bool,
    #[command(flatten)]
    pub(crate) client: ClientArgs,
}

/// `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// A study's directory, or its study.json; with --coordinator also the name of a study there.
    pub(crate) study: PathBuf,
    /// Where studies are kept that are not found here.
    #[arg(long, value_name = "URL", env = "FANOUT_COORDINATOR")]
    pub(crate) coordinator: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// A second study to compare it with.
    pub(crate) other: Option<PathBuf>,
    /// Differences up to this are negligible [default: as in the study, else 5%].
    #[arg(long, value_name = "SHARE", conflicts_with = "other")]
    pub(crate) margin: Option<String>,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    /// Compare studies that ran under different conditions all the same.
    #[arg(long, requires = "other")]
    pub(crate) force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }
}
