//! What a fetch's flags mean.

use std::{num::NonZeroU32, path::PathBuf};

use clap::Args;

use fanout_proto::arm::{Arm, Client, Vocabulary};

use crate::{
    exit::Failure,
    results::Destination,
    settings::{
        common::{Common, RunArgs},
        parse::value,
    },
};

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
    pub(crate) run: RunArgs,
}

/// URLs in flight where the arm does not say.
const DEFAULT_CONCURRENCY: NonZeroU32 = NonZeroU32::new(64).expect("not zero");

#[derive(Debug)]
pub(crate) struct FetchSettings {
    pub(crate) common: Common,
    pub(crate) arm: Arm,
    pub(crate) destination: Destination,
    pub(crate) resume: bool,
    pub(crate) verbose: bool,
}

impl FetchSettings {
    pub(crate) fn new(args: &FetchArgs, declared: &[Client]) -> Result<Self, Failure> {
        let common = Common::new(Some(&args.urls), &args.run)?;
        let arm = Arm::parse(&args.arm, Vocabulary { concurrency: DEFAULT_CONCURRENCY, declared })?;
        if let Some(workers) = arm.workers
            && !common.on_fleet
            && workers.get() > common.local_workers
        {
            return Err(value(
                "--arm",
                arm,
                format!("it asks for {workers} workers; add --local-workers {workers}"),
            ));
        }
        common.check_descriptors(&[arm])?;
        Ok(Self {
            common,
            arm,
            destination: match &args.out {
                None => Destination::Stdout,
                Some(path) => Destination::from_path(path)?,
            },
            resume: args.resume,
            verbose: args.verbose,
        })
    }
}
