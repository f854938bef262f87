//! What a study and a fetch have in common.

use std::{num::NonZeroU32, path::Path, time::Duration};

use clap::{Args, ValueEnum};
use fanout_engine::{ledger::Split, politeness::Limits};
use fanout_proto::{
    arm::{Arm, Client},
    declaration::NamedFetcher,
    limits::FETCHERS_MAX,
    setup::{HttpSettings, Pace, Setup},
};
use fanout_worker::{AccessArgs, NamedCommand};

use crate::{
    exit::Failure,
    settings::{
        cpus::{CpuPlacement, Placement},
        http::{HttpArgs, http_settings, user_agent},
        parse::{duration, value, within},
        politeness::{PolitenessArgs, limits},
    },
    url_list::Source,
};

/// What `study` and `fetch` are both told.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) list: ListArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) politeness: PolitenessArgs,
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
    /// A fetcher of another maker, in any language: arms may then name its clients, as in
    /// threads:32@urllib. Speaks the protocol of docs/fetcher-protocol.md; may be given again.
    #[arg(long = "fetcher", value_name = "NAME=COMMAND")]
    pub(crate) fetchers: Vec<NamedCommand>,
    /// Processors: auto, shared, disjoint, or the origin's and the fetchers' as in 0:1-3.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    pub(crate) placement: String,
}

impl FleetArgs {
    /// The clients of the fetchers that are named here. Starts each once, to ask it.
    pub(crate) async fn declared(&self) -> Result<Vec<Client>, Failure> {
        let fetchers = fanout_worker::declared(&self.fetchers).await.map_err(Failure::usage)?;
        Ok(clients(&fetchers))
    }
}

/// The clients that fetchers of other makers have.
pub(crate) fn clients(fetchers: &[NamedFetcher]) -> Vec<Client> {
    let each = fetchers.iter().flat_map(|fetcher| {
        fetcher.declaration.clients.iter().map(|client| client.client(&fetcher.name))
    });
    each.collect()
}

/// Descriptors that the coordinator, worker or fetcher needs besides connections.
const DESCRIPTORS_SPARE: u64 = 64;

#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) source: Source,
    /// The list, this many times over.
    pub(crate) repeat: u64,
    pub(crate) skip_invalid: bool,
    pub(crate) split: Split,
    pub(crate) local_workers: u32,
    pub(crate) on_fleet: bool,
    pub(crate) workers: u32,
    /// Fetchers of other makers that local workers may run.
    pub(crate) fetchers: Vec<NamedCommand>,
    /// An origin that runs already; the built-in list leads there.
    pub(crate) origin: Option<String>,
    pub(crate) placement: Placement,
    /// What the placement means here.
    pub(crate) cpus: CpuPlacement,
    pub(crate) http: HttpSettings,
    pub(crate) cpu_work: Duration,
    pub(crate) cpu_lock: bool,
    /// Open loop: URLs taken up per second, in all fetchers together.
    pub(crate) rate_per_s: Option<f64>,
    pub(crate) hosts: Limits,
}

impl Common {
    pub(super) fn new(urls: Option<&Path>, args: &RunArgs) -> Result<Self, Failure> {
        let RunArgs { list, fleet, http, politeness } = args;
        if list.repeat == 0 {
            return Err(value("--repeat", 0, "at least 1 is needed"));
        }
        let split = match list.split {
            SplitArg::Dynamic => Split::Dynamic,
            SplitArg::Static => Split::Static,
        };
        let on_fleet = fleet.coordinator.is_some();
        let local_workers = fleet.local_workers.unwrap_or(1);
        within("--local-workers", local_workers, 1..=FETCHERS_MAX, "can be started")?;
        let origin = fleet.origin.as_deref().map(origin_url).transpose()?;
        if on_fleet {
            check_on_fleet(fleet, urls.is_none() && origin.is_none())?;
        } else if let Some(workers) = fleet.workers {
            return Err(value(
                "--workers",
                workers,
                "it waits for a fleet's workers, which --coordinator names; --local-workers starts some here",
            ));
        }
        let source = match urls {
            None => Source::BuiltIn,
            Some(path) if path == Path::new("-") => Source::Stdin,
            Some(path) => Source::File(path.to_owned()),
        };
        let placement: Placement = fleet
            .placement
            .parse()
            .map_err(|hint: String| value("--placement", &fleet.placement, hint))?;
        let embedded = source == Source::BuiltIn && origin.is_none();
        let cpus = match on_fleet {
            true => CpuPlacement::default(),
            false => placement.settle(&fanout_program::allowed_cpus(), embedded)?,
        };
        Ok(Self {
            source,
            repeat: list.repeat,
            skip_invalid: list.skip_invalid,
            split,
            local_workers,
            on_fleet,
            workers: fleet.workers.unwrap_or(1),
            fetchers: fleet.fetchers.clone(),
            origin,
            placement,
            cpus,
            http: HttpSettings {
                user_agent: user_agent(http.user_agent.as_deref(), politeness.contact.as_deref())?,
                ..http_settings(http)?
            },
            hosts: limits(politeness, split)?,
            cpu_work: Duration::ZERO,
            cpu_lock: false,
            rate_per_s: None,
        })
    }

    pub(crate) fn setup(&self, arm: &Arm, report_starts: bool) -> Setup {
        Setup {
            model: arm.model,
            concurrency: arm.concurrency,
            client: arm.client,
            http: self.http.clone(),
            report_starts,
            cpu_work: self.cpu_work,
            cpu_lock: self.cpu_lock,
            pace: self.pace(arm, 0),
            // The list says when it is known.
            https: false,
        }
    }

    /// The intended starts of fetcher number `index`: the fetchers take turns.
    pub(crate) fn pace(&self, arm: &Arm, index: u32) -> Option<Pace> {
        let processes = f64::from(arm.processes.get());
        let interval = processes / self.rate_per_s?;
        let turn = f64::from(index % arm.processes.get()) / processes;
        Some(Pace {
            interval: Duration::from_secs_f64(interval),
            offset: Duration::from_secs_f64(interval * turn),
        })
    }

    /// Slots that each local worker needs for these arms.
    pub(crate) fn local_slots(&self, arms: &[Arm]) -> u32 {
        let slots = arms.iter().map(|arm| {
            let workers = arm.workers.map_or(self.local_workers, NonZeroU32::get);
            arm.processes.get().div_ceil(workers)
        });
        slots.fold(64, u32::max)
    }

    pub(super) fn check_descriptors(&self, arms: &[Arm]) -> Result<(), Failure> {
        if self.on_fleet {
            // Its machines have limits of their own.
            return Ok(());
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .maximum
            .unwrap_or(u64::MAX);
        for &arm in arms {
            let setup = self.setup(&arm, false);
            let needed = fanout_fetcher::descriptors_needed(&setup) + DESCRIPTORS_SPARE;
            if needed > limit {
                return Err(Failure::usage(format!(
                    "arm '{arm}' may need {needed} open files in one process, and the hard limit is \
                     {limit}: lower its concurrency, or raise the limit (ulimit -Hn {needed}, \
                     LimitNOFILE= or --ulimit nofile=)"
                )));
            }
        }
        Ok(())
    }
}

/// What makes no sense where the workers are there already.
fn check_on_fleet(fleet: &FleetArgs, needs_origin: bool) -> Result<(), Failure> {
    if let Some(count) = fleet.local_workers {
        return Err(value(
            "--local-workers",
            count,
            "with --coordinator the fleet's workers are used; start more of them, or leave one flag out",
        ));
    }
    if let Some(fetcher) = fleet.fetchers.first() {
        return Err(value(
            "--fetcher",
            &fetcher.name,
            "a fleet's workers run only what they were started with: give the flag to `worker`",
        ));
    }
    if fleet.placement != "auto" {
        return Err(value(
            "--placement",
            &fleet.placement,
            "on a fleet each worker's machine or container says which processors it may use",
        ));
    }
    if let Some(count) = fleet.workers {
        within("--workers", count, 1..=FETCHERS_MAX, "can be waited for")?;
    }
    if needs_origin {
        return Err(value(
            "--origin",
            "is missing",
            "the built-in list needs an origin that the workers can reach: start one with `coordinator \
             origin --listen ADDR` and name it with --origin URL or FANOUT_ORIGIN, or give a URL list",
        ));
    }
    Ok(())
}

/// The base URL of `--origin`, without a slash at its end.
pub(crate) fn origin_url(text: &str) -> Result<String, Failure> {
    let is_base = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.host().is_some();
    match url::Url::parse(text) {
        Ok(url) if is_base(&url) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(value("--origin", text, "give its base URL, like http://origin:8080")),
    }
}

pub(crate) fn patience(args: &FleetArgs) -> Result<Option<Duration>, Failure> {
    let text = args.wait.as_deref().filter(|text| !text.is_empty());
    text.map(|text| duration("--wait", text)).transpose()
}
