//! The command line, as it is typed. What it means is settled in [`crate::settings`].

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fanout_origin::{OriginArgs, UrlsArgs};
use fanout_program::LogArgs;
use fanout_worker::{AccessArgs, WorkerArgs};

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

const STUDY_HELP: &str = "\
An arm is [Px]MODEL[:C][@CLIENT][/Ww]: P processes, each with C URLs in flight.
  models   sequential  blocking, one at a time      threads   a thread per URL in flight
           async       one thread, one event loop   async-mt  tokio's work-stealing runtime
  clients  core (default, the same HTTP under every model), ureq, reqwest, null (no fetching)
Braces sweep: '{1,2,4}xasync:16' is three arms.

Examples:
  coordinator study
  coordinator study --arm sequential --arm threads --arm async --concurrency 64
  coordinator study urls.txt --arm 'threads:{8,32}@ureq' --arm 'async:{8,32}@reqwest' --yes
  coordinator urls --base http://127.0.0.1:8080 --count 500 --delay 50ms | coordinator study -";

/// `study`.
#[derive(Debug, Args)]
#[command(after_help = STUDY_HELP)]
pub(crate) struct StudyArgs {
    /// The URL list: a file, or - for standard input; without it, the embedded origin's list.
    pub(crate) urls: Option<PathBuf>,
    /// An arm to compare; may be given again, and may sweep with braces
    /// [default: seven arms that tell the models and clients apart].
    #[arg(long = "arm", value_name = "SPEC")]
    pub(crate) arms: Vec<String>,
    /// The arm that the others are compared with [default: async:C if it is there, else the first].
    #[arg(long, value_name = "SPEC")]
    pub(crate) baseline: Option<String>,
    /// URLs in flight in each fetcher of an arm without :C.
    #[arg(long, value_name = "C", default_value_t = 32)]
    pub(crate) concurrency: u32,
    /// Blocks to keep; one more runs first and is discarded [default: 10; with --memory-slope: 3].
    #[arg(long, value_name = "N")]
    pub(crate) blocks: Option<u32>,
    /// Seed of the order of arms and of the origin [default: drawn, and recorded].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where the study is kept [default: studies/<UTC time>].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// What is printed on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Start no block after this long (10m, 90s).
    #[arg(long, value_name = "DURATION")]
    pub(crate) time_budget: Option<String>,
    /// Run the baseline against itself in N studies: how often is a difference called where
    /// there is none?
    #[arg(long, value_name = "N", conflicts_with = "memory_slope")]
    pub(crate) aa: Option<u32>,
    /// Slow the second run of every pair down by this much per response, to see whether it is found.
    #[arg(long, value_name = "DURATION", requires = "aa", hide = true)]
    pub(crate) aa_inject: Option<String>,
    /// Take no memory samples in the control's trials, to see what sampling costs.
    #[arg(long, hide = true)]
    pub(crate) control_unsampled: bool,
    /// How much memory does one more URL in flight cost? Runs every arm's model and client at 200,
    /// 600 and 1,800 in flight, on an embedded origin that answers after 300 ms.
    #[arg(long, conflicts_with = "urls")]
    pub(crate) memory_slope: bool,
    /// Where a browser finds the coordinator's pages: without --out a fleet's study is then kept by
    /// the coordinator alone, and its address is told.
    #[arg(long, value_name = "URL", env = "FANOUT_PAGES")]
    pub(crate) pages: Option<String>,
    /// Go ahead with a list that points beyond this machine.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) politeness: PolitenessArgs,
    /// Open loop: take up so many URLs a second in all, however long each takes. Latencies are then
    /// also told from the intended start, and late starts are counted.
    #[arg(long, value_name = "R", help_heading = "Load")]
    pub(crate) rate: Option<f64>,
    /// Spin this long per response (200us): where does one loop stop being enough?
    #[arg(long, value_name = "DURATION", help_heading = "Load")]
    pub(crate) cpu_work: Option<String>,
    /// Spin under one lock per process, as an interpreter lock would have it.
    #[arg(long, requires = "cpu_work", help_heading = "Load")]
    pub(crate) cpu_lock: bool,
}

const FETCH_HELP: &str = "\
Every URL gets exactly one record: id, url, outcome, status, bytes, start_s, first_byte_s, end_s,
worker, fetcher, attempt. The outcome is ok for a whole response of any status, 404 too; else it is
the kind of failure: dns, connect, tls, timeout, closed, protocol, too_large, redirect_limit,
bad_redirect, decode, resource, forbidden, abandoned.

Examples:
  coordinator fetch urls.txt --out got.jsonl
  coordinator fetch - --arm 4xasync:64 --max-body 1M < urls.txt > got.jsonl
  coordinator fetch urls.txt -v --out got.csv     see completions come out of order
  coordinator fetch urls.txt --polite --rate-per-host 2 --contact you@example.org --out got.jsonl
  coordinator fetch urls.txt --out got.jsonl --resume
                                                  go on after a crash, a full disk or Ctrl-C";

/// `fetch`.
#[derive(Debug, Args)]
#[command(after_help = FETCH_HELP)]
pub(crate) struct FetchArgs {
    /// The URL list: a file, or - for standard input.
    pub(crate) urls: PathBuf,
    /// The arrangement that fetches.
    #[arg(long, value_name = "SPEC", default_value = "async:64")]
    pub(crate) arm: String,
    /// The results file, .jsonl or .csv [default: standard output, JSON lines]. It is called
    /// FILE.part until it is whole.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Go on from FILE.part: URLs that have a record there are not fetched again. The list must be
    /// the same one; from standard input it must be piped in again.
    #[arg(long, requires = "out")]
    pub(crate) resume: bool,
    /// Tell every start and end on stderr as it happens.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) politeness: PolitenessArgs,
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
    #[arg(
        long,
        value_name = "FILE",
        env = "FANOUT_TOKEN_FILE",
        help_heading = "Access"
    )]
    pub(crate) token_file: Option<PathBuf>,
    /// Let anyone in who reaches the address.
    #[arg(long, help_heading = "Access")]
    pub(crate) allow_unauthenticated: bool,
    /// PEM certificate: gRPC then speaks TLS only.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_key",
        help_heading = "Access"
    )]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(
        long,
        value_name = "FILE",
        requires = "tls_cert",
        help_heading = "Access"
    )]
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
    /// What is printed on standard output.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Compare studies that ran under different conditions all the same.
    #[arg(long, requires = "other")]
    pub(crate) force: bool,
}

/// Arguments as they may be kept and shown: without the values of headers,
/// which may be secret.
pub(crate) fn without_secrets(arguments: &[String]) -> Vec<String> {
    let mut is_header = false;
    let hidden = arguments.iter().map(|argument| {
        let (flag, header) = match argument.strip_prefix("--header=") {
            Some(header) => ("--header=", Some(header)),
            None => ("", is_header.then_some(argument.as_str())),
        };
        is_header = argument == "--header";
        match header.and_then(|header| header.split_once(':')) {
            Some((name, _)) => format!("{flag}{name}: …"),
            None => argument.clone(),
        }
    });
    hidden.collect()
}

/// How a result is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a terminal.
    #[default]
    Table,
    /// For a document.
    Markdown,
    /// The whole study, as in study.json.
    Json,
    /// A row a trial, as in trials.csv.
    Csv,
}

/// What the list is made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "List")]
pub(crate) struct ListArgs {
    /// Fetch the list N times over; ids count on.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) repeat: u64,
    /// Leave lines out that are no URLs, and count them.
    #[arg(long)]
    pub(crate) skip_invalid: bool,
    /// How URLs are handed to fetchers: as they have credit, or a fixed shard each.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) split: SplitArg,
}

/// `--split`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitArg {
    /// A fetcher that has credit gets the next URLs.
    #[default]
    Dynamic,
    /// Every fetcher has a shard of its own.
    Static,
}

/// What the work runs on.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fleet")]
pub(crate) struct FleetArgs {
    /// Workers to start on this machine [default: 1].
    #[arg(long, value_name = "W")]
    pub(crate) local_workers: Option<u32>,
    /// Run on the workers of the coordinator that serves there, instead of on this machine.
    #[arg(long, value_name = "URL", env = "FANOUT_COORDINATOR")]
    pub(crate) coordinator: Option<String>,
    /// Wait until N workers are attached [default: 1].
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u32>,
    /// Wait so long for the coordinator to serve (30s) [default: it must do so by now].
    #[arg(long, value_name = "DURATION", env = "FANOUT_WAIT")]
    pub(crate) wait: Option<String>,
    /// An origin that runs already, for the built-in list; a fleet's workers must reach it.
    #[arg(long, value_name = "URL", env = "FANOUT_ORIGIN")]
    pub(crate) origin: Option<String>,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    /// Processors: auto, shared, disjoint, or the origin's and the fetchers' as in 0:1-3.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) placement: String,
}

/// What HTTP looks like.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// One whole exchange, connecting, redirects and the body included.
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    pub(crate) timeout: String,
    /// Resolving, connecting and the TLS handshake.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) connect_timeout: String,
    /// Largest body, in bytes (k, M, G); a larger one ends as too_large.
    #[arg(long, value_name = "SIZE", default_value = "64M")]
    pub(crate) max_body: String,
    /// Redirects to follow; 0 takes the redirect itself as the response.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) redirects: u32,
    /// A header to send; may be given again.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The User-Agent header [default: fanout and its version, with --contact if given].
    #[arg(long, value_name = "TEXT")]
    pub(crate) user_agent: Option<String>,
    /// Accept any certificate.
    #[arg(long)]
    pub(crate) insecure: bool,
    /// PEM certificates to trust instead of the system's.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) cacert: Option<PathBuf>,
    /// The request method.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) method: MethodArg,
    /// Ask for compressed bodies (gzip, br, zstd) and decode them.
    #[arg(long)]
    pub(crate) decompress: bool,
    /// Open a new connection for every request.
    #[arg(long)]
    pub(crate) no_keepalive: bool,
}

/// What each host is to be spared: name and port as in the list, the same for
/// http and https on their own ports. It holds over all workers together.
#[derive(Debug, Args)]
#[command(next_help_heading = "Politeness")]
pub(crate) struct PolitenessArgs {
    /// At most N requests of one host at a time [default: 6 with --polite, and in a study of a list
    /// that points beyond this machine; else any number].
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) max_per_host: Option<u32>,
    /// At most R URLs of one host a second (0.5: one in two seconds).
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    pub(crate) rate_per_host: Option<f64>,
    /// Heed 429 and 503: leave the host alone as long as Retry-After says, or 1 s, 2 s, 4 s … without,
    /// then ask again, at most 3 times for a URL. robots.txt is not read.
    #[arg(long)]
    pub(crate) polite: bool,
    /// Where the owners of a host reach you, an address or a page: sent in the User-Agent.
    #[arg(long, value_name = "CONTACT", conflicts_with = "user_agent")]
    pub(crate) contact: Option<String>,
}

/// `--method`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum MethodArg {
    /// The whole body is read.
    #[default]
    #[value(name = "GET", alias = "get")]
    Get,
    /// Header only.
    #[value(name = "HEAD", alias = "head")]
    Head,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn values_of_headers_are_not_kept() {
        let typed = [
            "fetch",
            "--header",
            "Authorization: x",
            "--header=B: y",
            "a: b",
        ];
        let typed = typed.map(str::to_owned);
        let kept = [
            "fetch",
            "--header",
            "Authorization: …",
            "--header=B: …",
            "a: b",
        ];
        assert_eq!(without_secrets(&typed), kept);
    }
}
