//! What each host is to be spared.

use std::num::NonZeroU32;

use clap::Args;
use fanout_engine::{
    ledger::Split,
    politeness::{Limits, MODEST_MAX_PER_HOST},
};

use crate::{
    exit::Failure,
    settings::parse::{rate, value},
};

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

pub(super) fn limits(args: &PolitenessArgs, split: Split) -> Result<Limits, Failure> {
    let max_per_host = match args.max_per_host {
        None => args.polite.then_some(MODEST_MAX_PER_HOST),
        Some(count) => Some(NonZeroU32::new(count).ok_or_else(|| {
            value("--max-per-host", count, "at least 1 is needed; leave it out for any number")
        })?),
    };
    if let Some(typed) = args.rate_per_host {
        let what = "URLs of a host a second can be asked for";
        rate("--rate-per-host", typed, what)?;
    }
    let limits = Limits { max_per_host, rate_per_host: args.rate_per_host, polite: args.polite };
    if limits.any() && split == Split::Static {
        return Err(value(
            "--split",
            "static",
            "shards know nothing of one another's hosts, so --max-per-host, --rate-per-host and --polite \
             need --split dynamic",
        ));
    }
    Ok(limits)
}
