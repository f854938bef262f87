//! What each host is to be spared.

use std::num::NonZeroU32;

use fanout_engine::politeness::{Limits, MODEST_MAX_PER_HOST};

use crate::{
    cli::{PolitenessArgs, SplitArg, StudyArgs},
    settings::{
        error::SettingsError,
        parse::{rate, value},
    },
};

/// The limits per host that were asked for.
pub(super) fn limits(args: &PolitenessArgs, split: SplitArg) -> Result<Limits, SettingsError> {
    let max_per_host = match args.max_per_host {
        None => args.polite.then_some(MODEST_MAX_PER_HOST),
        Some(count) => Some(NonZeroU32::new(count).ok_or_else(|| {
            value(
                "--max-per-host",
                count,
                "at least 1 is needed; leave it out for any number",
            )
        })?),
    };
    if let Some(typed) = args.rate_per_host {
        let what = "URLs of a host a second can be asked for";
        rate("--rate-per-host", typed, what)?;
    }
    let limits = Limits {
        max_per_host,
        rate_per_host: args.rate_per_host,
        polite: args.polite,
    };
    if limits.any() && split == SplitArg::Static {
        return Err(value(
            "--split",
            "static",
            "shards know nothing of one another's hosts, so --max-per-host, --rate-per-host and --polite \
             need --split dynamic",
        ));
    }
    Ok(limits)
}

/// What would spoil a comparison.
pub(super) fn check_in_study(args: &StudyArgs, hosts: &Limits) -> Result<(), SettingsError> {
    if args.politeness.polite {
        return Err(value(
            "--polite",
            "in a study",
            "pauses that a server asks for would count as the arm's time; use it with fetch, and spare \
             the server with --max-per-host or --rate-per-host here",
        ));
    }
    if let (Some(_), Some(rate)) = (args.rate, hosts.rate_per_host) {
        return Err(value(
            "--rate-per-host",
            rate,
            "with --rate the starts are set already; leave one of them out",
        ));
    }
    if args.memory_slope && hosts.any() {
        return Err(value(
            "--memory-slope",
            "with a limit per host",
            "it needs as many URLs in flight as its arms say, all at its own origin; leave the limit out",
        ));
    }
    Ok(())
}
