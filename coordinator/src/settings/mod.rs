//! From what was typed to what is meant: every flag is checked here, before
//! any file is written, socket opened or process started.

pub mod cpus;

use std::{num::NonZeroU32, path::Path, path::PathBuf, time::Duration};

use fanout_engine::{
    ledger::Split,
    politeness::{Limits, MODEST_MAX_PER_HOST},
};
use fanout_proto::{
    arm::{Arm, ArmError},
    limits::{FETCHERS_MAX, TIMEOUT_MAX},
    setup::{HttpSettings, Method, Pace, Setup},
};

use crate::{
    cli::{
        FetchArgs, FleetArgs, HttpArgs, ListArgs, MethodArg, PolitenessArgs, SplitArg, StudyArgs,
    },
    results::{Destination, UnknownForm},
    settings::cpus::{Placed, Placement},
    url_list::Source,
};

/// The arms of a study that names none.
pub const DEFAULT_ARMS: [&str; 7] = [
    "sequential",
    "threads:32",
    "async:32",
    "32xsequential",
    "2xasync:16",
    "threads:32@ureq",
    "async:32@reqwest",
];
/// The arms of a memory study that names none, without their concurrency.
const SLOPE_ARMS: [&str; 4] = ["async", "threads", "async@reqwest", "threads@ureq"];
/// URLs in flight in a memory study.
pub const SLOPE_CONCURRENCIES: [u32; 3] = [200, 600, 1_800];
/// Blocks that one study may have.
const BLOCKS_MAX: u32 = 10_000;
/// Descriptors that the coordinator, worker or fetcher needs besides connections.
const DESCRIPTORS_SPARE: u64 = 64;

/// A flag that cannot be used as it is.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A value that is not what the flag takes.
    #[error("{flag} {value}: {mend}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What it takes.
        mend: String,
    },
    /// An arm.
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// The processors.
    #[error(transparent)]
    Placement(#[from] cpus::PlacementError),
    /// The results file.
    #[error(transparent)]
    Form(#[from] UnknownForm),
    /// A file that a flag names.
    #[error("{flag} {path}: {error}")]
    File {
        /// The flag.
        flag: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// More connections than the system allows.
    #[error(
        "arm '{arm}' may need {needed} open files in one process, and the hard limit is {limit}: lower \
         its concurrency, or raise the limit (ulimit -Hn {needed}, LimitNOFILE= or --ulimit nofile=)"
    )]
    Descriptors {
        /// The arm.
        arm: Arm,
        /// Descriptors needed.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
    /// The study's directory.
    #[error("cannot write to {path}: {error}; name another directory with --out")]
    Out {
        /// The directory.
        path: String,
        /// What the system says.
        error: std::io::Error,
    },
}

fn value(flag: &'static str, value: impl ToString, mend: impl ToString) -> SettingsError {
    SettingsError::Value {
        flag,
        value: value.to_string(),
        mend: mend.to_string(),
    }
}

/// What every run needs to know.
#[derive(Debug)]
pub struct Common {
    /// The list.
    pub source: Source,
    /// The list, this many times over.
    pub repeat: u64,
    /// Leave bad lines out.
    pub skip_invalid: bool,
    /// How URLs are handed out.
    pub split: Split,
    /// Workers to start, on a local run.
    pub local_workers: u32,
    /// Whether it runs on a fleet's workers.
    pub on_fleet: bool,
    /// Workers to wait for, on a fleet.
    pub workers: u32,
    /// An origin that runs already; the built-in list leads there.
    pub origin: Option<String>,
    /// `--placement` as given.
    pub placement: Placement,
    /// What that means here.
    pub placed: Placed,
    /// What HTTP looks like.
    pub http: HttpSettings,
    /// Work per response.
    pub cpu_work: Duration,
    /// Under one lock.
    pub cpu_lock: bool,
    /// Open loop: URLs taken up per second, in all fetchers together.
    pub rate_per_s: Option<f64>,
    /// What each host is to be spared.
    pub hosts: Limits,
}

impl Common {
    fn new(
        urls: Option<&Path>,
        list: &ListArgs,
        fleet: &FleetArgs,
        http: &HttpArgs,
        politeness: &PolitenessArgs,
    ) -> Result<Self, SettingsError> {
        if list.repeat == 0 {
            return Err(value("--repeat", 0, "at least 1 is needed"));
        }
        let on_fleet = fleet.coordinator.is_some();
        let local_workers = fleet.local_workers.unwrap_or(1);
        if local_workers == 0 || local_workers > FETCHERS_MAX {
            return Err(value(
                "--local-workers",
                local_workers,
                format!("1 to {FETCHERS_MAX} can be started"),
            ));
        }
        let origin = fleet.origin.as_deref().map(origin_url).transpose()?;
        if on_fleet {
            check_on_fleet(fleet, urls.is_none() && origin.is_none())?;
        } else if fleet.workers.is_some() {
            return Err(value(
                "--workers",
                fleet.workers.unwrap_or_default(),
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
            .map_err(|mend: String| value("--placement", &fleet.placement, mend))?;
        let embedded = source == Source::BuiltIn && origin.is_none();
        let placed = match on_fleet {
            true => Placed::default(),
            false => placement.settle(&cpus::mask(), embedded)?,
        };
        Ok(Self {
            source,
            repeat: list.repeat,
            skip_invalid: list.skip_invalid,
            split: match list.split {
                SplitArg::Dynamic => Split::Dynamic,
                SplitArg::Static => Split::Static,
            },
            local_workers,
            on_fleet,
            workers: fleet.workers.unwrap_or(1),
            origin,
            placement,
            placed,
            http: HttpSettings {
                user_agent: user_agent(http.user_agent.as_deref(), politeness.contact.as_deref())?,
                ..http_settings(http)?
            },
            hosts: limits(politeness, list.split)?,
            cpu_work: Duration::ZERO,
            cpu_lock: false,
            rate_per_s: None,
        })
    }

    /// What the fetchers of an arm are told.
    #[must_use]
    pub fn setup(&self, arm: &Arm, report_starts: bool) -> Setup {
        Setup {
            model: arm.model,
            concurrency: arm.concurrency,
            client: arm.client,
            http: self.http.clone(),
            report_starts,
            cpu_work: self.cpu_work,
            cpu_lock: self.cpu_lock,
            pace: self.pace(arm, 0),
        }
    }

    /// The intended starts of fetcher number `index`: the fetchers take turns.
    #[must_use]
    pub fn pace(&self, arm: &Arm, index: u32) -> Option<Pace> {
        let processes = f64::from(arm.processes.get());
        let interval = processes / self.rate_per_s?;
        let turn = f64::from(index % arm.processes.get()) / processes;
        Some(Pace {
            interval: Duration::from_secs_f64(interval),
            offset: Duration::from_secs_f64(interval * turn),
        })
    }

    /// Slots that each local worker needs for these arms.
    #[must_use]
    pub fn local_slots(&self, arms: &[Arm]) -> u32 {
        let most = arms
            .iter()
            .map(|arm| {
                let workers = arm.workers.map_or(self.local_workers, NonZeroU32::get);
                arm.processes.get().div_ceil(workers)
            })
            .max();
        most.unwrap_or(1).max(64)
    }

    fn check_descriptors(&self, arms: &[Arm]) -> Result<(), SettingsError> {
        if self.on_fleet {
            // Its machines have limits of their own.
            return Ok(());
        }
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile)
            .maximum
            .unwrap_or(u64::MAX);
        for arm in arms {
            let setup = self.setup(arm, false);
            let needed = fanout_fetcher::descriptors_needed(&setup) + DESCRIPTORS_SPARE;
            if needed > limit {
                return Err(SettingsError::Descriptors {
                    arm: *arm,
                    needed,
                    limit,
                });
            }
        }
        Ok(())
    }
}

/// A study, settled.
#[derive(Debug)]
pub struct StudySettings {
    /// What every run needs to know.
    pub common: Common,
    /// What to compare; the baseline is one of them.
    pub arms: Vec<Arm>,
    /// The position of the baseline.
    pub baseline: usize,
    /// `--concurrency`.
    pub concurrency: u32,
    /// Blocks to keep.
    pub blocks: u32,
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--out`.
    pub out: Option<PathBuf>,
    /// Start no block after this long.
    pub time_budget: Option<Duration>,
    /// Go beyond this machine.
    pub yes: bool,
    /// What kind of study it is.
    pub kind: StudyKind,
    /// Take no memory samples in the control's trials.
    pub control_unsampled: bool,
}

/// What a study is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StudyKind {
    /// Which arm is faster, and what it costs.
    Compare,
    /// How often a difference is called between the baseline and itself; the
    /// second run of each pair spins `inject` longer per response.
    Calibrate {
        /// Studies to run.
        studies: u32,
        /// Zero, unless a difference is to be found.
        inject: Duration,
    },
    /// What one more URL in flight costs in memory.
    MemorySlope,
}

impl StudySettings {
    /// Checks every flag.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the flag and the mend.
    pub fn new(args: &StudyArgs) -> Result<Self, SettingsError> {
        let mut common = Common::new(
            args.urls.as_deref(),
            &args.list,
            &args.fleet,
            &args.http,
            &args.politeness,
        )?;
        check_in_study(args, &common.hosts)?;
        let concurrency = concurrency(args.concurrency)?;
        let kind = kind(args)?;
        let usual = match kind {
            StudyKind::MemorySlope => 3,
            StudyKind::Compare | StudyKind::Calibrate { .. } => 10,
        };
        let blocks = args.blocks.unwrap_or(usual);
        if blocks == 0 || blocks > BLOCKS_MAX {
            return Err(value(
                "--blocks",
                blocks,
                format!("1 to {BLOCKS_MAX} can be run"),
            ));
        }
        if let Some(text) = &args.cpu_work {
            common.cpu_work = duration("--cpu-work", text)?;
        }
        common.cpu_lock = args.cpu_lock;
        if let Some(rate) = args.rate {
            // From one in twenty minutes to one in a microsecond.
            if !(0.001..=1e6).contains(&rate) {
                return Err(value(
                    "--rate",
                    rate,
                    "0.001 to 1000000 URLs a second can be asked for",
                ));
            }
            common.rate_per_s = Some(rate);
        }
        let mut arms = match (kind, args.arms.is_empty()) {
            (StudyKind::MemorySlope, true) => slope_arms(&SLOPE_ARMS.map(str::to_owned))?,
            (StudyKind::MemorySlope, false) => slope_arms(&args.arms)?,
            (_, true) => Arm::parse_all(&default_arms(concurrency), concurrency)?,
            (_, false) => Arm::parse_all(&args.arms, concurrency)?,
        };
        let baseline = match &args.baseline {
            Some(spec) => {
                let wanted = Arm::parse(spec, concurrency)?;
                arms.iter()
                    .position(|arm| *arm == wanted)
                    .unwrap_or_else(|| {
                        arms.push(wanted);
                        arms.len() - 1
                    })
            }
            None => {
                let usual = Arm::parse("async", concurrency)?;
                arms.iter().position(|arm| *arm == usual).unwrap_or(0)
            }
        };
        if matches!(kind, StudyKind::Calibrate { .. }) {
            arms = vec![arms.swap_remove(baseline)];
        }
        let baseline = baseline.min(arms.len() - 1);
        common.check_descriptors(&arms)?;
        if let Some(out) = &args.out
            && out.join("study.json").exists()
        {
            return Err(value(
                "--out",
                out.display(),
                "a study is kept there already; name another directory",
            ));
        }
        Ok(Self {
            common,
            arms,
            baseline,
            concurrency: concurrency.get(),
            blocks,
            seed: args.seed,
            out: args.out.clone(),
            time_budget: args
                .time_budget
                .as_deref()
                .map(|text| duration("--time-budget", text))
                .transpose()?,
            yes: args.yes,
            kind,
            control_unsampled: args.control_unsampled,
        })
    }
}

fn kind(args: &StudyArgs) -> Result<StudyKind, SettingsError> {
    const STUDIES_MAX: u32 = 10_000;
    match args.aa {
        None if args.memory_slope => Ok(StudyKind::MemorySlope),
        None => Ok(StudyKind::Compare),
        Some(studies) if studies == 0 || studies > STUDIES_MAX => Err(value(
            "--aa",
            studies,
            format!("1 to {STUDIES_MAX} studies can be run"),
        )),
        Some(studies) => Ok(StudyKind::Calibrate {
            studies,
            inject: match &args.aa_inject {
                None => Duration::ZERO,
                Some(text) => duration("--aa-inject", text)?,
            },
        }),
    }
}

/// Every arm at each of the memory study's concurrencies.
fn slope_arms(specs: &[String]) -> Result<Vec<Arm>, SettingsError> {
    let mut arms = Vec::new();
    for concurrency in SLOPE_CONCURRENCIES {
        let concurrency = NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN);
        for arm in Arm::parse_all(specs, concurrency)? {
            if arm.model == fanout_proto::setup::Model::Sequential {
                return Err(value(
                    "--memory-slope",
                    arm,
                    "sequential has one URL in flight, so it has no slope",
                ));
            }
            let arm = Arm { concurrency, ..arm };
            if !arms.contains(&arm) {
                arms.push(arm);
            }
        }
    }
    Ok(arms)
}

/// The default arms hold as many URLs in flight as `--concurrency` says.
fn default_arms(concurrency: NonZeroU32) -> Vec<String> {
    let c = concurrency.get();
    if c == 32 {
        return DEFAULT_ARMS.map(str::to_owned).to_vec();
    }
    vec![
        "sequential".to_owned(),
        format!("threads:{c}"),
        format!("async:{c}"),
        format!("{}xsequential", c.min(FETCHERS_MAX)),
        format!("2xasync:{}", c.div_ceil(2)),
        format!("threads:{c}@ureq"),
        format!("async:{c}@reqwest"),
    ]
}

/// A fetch, settled.
#[derive(Debug)]
pub struct FetchSettings {
    /// What every run needs to know.
    pub common: Common,
    /// The arrangement that fetches.
    pub arm: Arm,
    /// Where the records go.
    pub destination: Destination,
    /// Go on from the part that is there.
    pub resume: bool,
    /// Tell every start and end.
    pub verbose: bool,
}

impl FetchSettings {
    /// Checks every flag.
    ///
    /// # Errors
    ///
    /// [`SettingsError`], which names the flag and the mend.
    pub fn new(args: &FetchArgs) -> Result<Self, SettingsError> {
        let common = Common::new(
            Some(&args.urls),
            &args.list,
            &args.fleet,
            &args.http,
            &args.politeness,
        )?;
        let arm = Arm::parse(&args.arm, NonZeroU32::new(64).unwrap_or(NonZeroU32::MIN))?;
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

/// What makes no sense where the workers are there already.
fn check_on_fleet(fleet: &FleetArgs, needs_origin: bool) -> Result<(), SettingsError> {
    if let Some(count) = fleet.local_workers {
        return Err(value(
            "--local-workers",
            count,
            "with --coordinator the fleet's workers are used; start more of them, or leave one flag out",
        ));
    }
    if fleet.placement != "auto" {
        return Err(value(
            "--placement",
            &fleet.placement,
            "on a fleet each worker's machine or container says which processors it may use",
        ));
    }
    if let Some(count) = fleet.workers
        && (count == 0 || count > FETCHERS_MAX)
    {
        return Err(value(
            "--workers",
            count,
            format!("1 to {FETCHERS_MAX} can be waited for"),
        ));
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
pub(crate) fn origin_url(text: &str) -> Result<String, SettingsError> {
    let bad = || {
        value(
            "--origin",
            text,
            "give its base URL, like http://origin:8080",
        )
    };
    let url = url::Url::parse(text).map_err(|_| bad())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn concurrency(count: u32) -> Result<NonZeroU32, SettingsError> {
    NonZeroU32::new(count)
        .filter(|c| c.get() <= fanout_proto::limits::CONCURRENCY_MAX)
        .ok_or_else(|| {
            value(
                "--concurrency",
                count,
                format!(
                    "1 to {} URLs can be in flight",
                    fanout_proto::limits::CONCURRENCY_MAX
                ),
            )
        })
}

fn http_settings(args: &HttpArgs) -> Result<HttpSettings, SettingsError> {
    let headers = args
        .headers
        .iter()
        .map(|header| parse_header(header))
        .collect::<Result<_, _>>()?;
    let ca_certificates = match &args.cacert {
        None => bytes::Bytes::new(),
        Some(path) => certificates(path)?,
    };
    if args.redirects > 100 {
        return Err(value(
            "--redirects",
            args.redirects,
            "0 to 100 can be followed",
        ));
    }
    Ok(HttpSettings {
        method: match args.method {
            MethodArg::Get => Method::Get,
            MethodArg::Head => Method::Head,
        },
        timeout: timeout("--timeout", &args.timeout)?,
        connect_timeout: timeout("--connect-timeout", &args.connect_timeout)?,
        max_body_bytes: size("--max-body", &args.max_body)?,
        redirects: args.redirects,
        headers,
        insecure: args.insecure,
        ca_certificates,
        decompress: args.decompress,
        no_keepalive: args.no_keepalive,
        ..HttpSettings::default()
    })
}

/// What the User-Agent header says: fanout, and whom to turn to (RFC 9110,
/// section 10.1.5 has the comment's form).
fn user_agent(typed: Option<&str>, contact: Option<&str>) -> Result<String, SettingsError> {
    if let Some(text) = typed {
        if text.is_empty() || !is_header_value(text) {
            return Err(value(
                "--user-agent",
                text,
                "visible ASCII and spaces are needed",
            ));
        }
        return Ok(text.to_owned());
    }
    let own = HttpSettings::default().user_agent;
    let Some(contact) = contact else {
        return Ok(own);
    };
    let is_plain = contact
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"()\\\"".contains(&byte));
    let leads_somewhere = match contact.split_once(':') {
        Some(("http" | "https", rest)) => rest.len() > 2 && rest.starts_with("//"),
        Some(("mailto", address)) => is_address(address),
        _ => is_address(contact),
    };
    if !is_plain || !leads_somewhere {
        return Err(value(
            "--contact",
            contact,
            "give a mail address like you@example.org, or a page like https://example.org/fanout",
        ));
    }
    Ok(format!("{own} (+{contact})"))
}

fn is_address(text: &str) -> bool {
    text.split_once('@')
        .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// The limits per host that were asked for.
fn limits(args: &PolitenessArgs, split: SplitArg) -> Result<Limits, SettingsError> {
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
    if let Some(rate) = args.rate_per_host
        // From one in twenty minutes to one in a microsecond, as --rate.
        && !(0.001..=1e6).contains(&rate)
    {
        return Err(value(
            "--rate-per-host",
            rate,
            "0.001 to 1000000 URLs of a host a second can be asked for",
        ));
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
fn check_in_study(args: &StudyArgs, hosts: &Limits) -> Result<(), SettingsError> {
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

/// The PEM certificates in the file that `--cacert` names.
///
/// # Errors
///
/// [`SettingsError`] when it cannot be read or holds none.
pub fn certificates(path: &Path) -> Result<bytes::Bytes, SettingsError> {
    let pem = std::fs::read(path).map_err(|error| SettingsError::File {
        flag: "--cacert",
        path: path.display().to_string(),
        error,
    })?;
    if !pem.windows(27).any(|w| w == b"-----BEGIN CERTIFICATE-----") {
        return Err(value(
            "--cacert",
            path.display(),
            "it holds no PEM certificate",
        ));
    }
    Ok(pem.into())
}

/// Headers that the exchange itself sets.
const OWN_HEADERS: [&str; 8] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "user-agent",
    "expect",
    "upgrade",
];

fn is_header_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || (0x20..0x7f).contains(&byte))
}

fn parse_header(text: &str) -> Result<(String, String), SettingsError> {
    let fail = |mend: &str| value("--header", text, mend);
    let (name, content) = text
        .split_once(':')
        .ok_or_else(|| fail("write it as 'Name: value'"))?;
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(is_token) {
        return Err(fail("the name may hold letters, digits and -_ only"));
    }
    if OWN_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(fail(match name.to_ascii_lowercase().as_str() {
            "user-agent" => "use --user-agent",
            "accept-encoding" => "use --decompress",
            "connection" => "use --no-keepalive",
            _ => "fanout sets this one itself",
        }));
    }
    if !is_header_value(content) {
        return Err(fail("the value may hold visible ASCII and spaces only"));
    }
    Ok((name.to_owned(), content.trim().to_owned()))
}

/// How long to wait for a coordinator, if at all.
pub(crate) fn patience(args: &FleetArgs) -> Result<Option<Duration>, SettingsError> {
    let text = args.wait.as_deref().filter(|text| !text.is_empty());
    text.map(|text| duration("--wait", text)).transpose()
}

fn duration(flag: &'static str, text: &str) -> Result<Duration, SettingsError> {
    text.parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|parsed| Duration::try_from(parsed).ok())
        .filter(|parsed| !parsed.is_zero())
        .ok_or_else(|| value(flag, text, "write a duration as 500ms, 30s or 2m"))
}

fn timeout(flag: &'static str, text: &str) -> Result<Duration, SettingsError> {
    let parsed = duration(flag, text)?;
    if parsed > TIMEOUT_MAX {
        return Err(value(flag, text, "at most 1h can be waited"));
    }
    Ok(parsed)
}

fn size(flag: &'static str, text: &str) -> Result<u64, SettingsError> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => Some(1),
        "k" | "kb" | "kib" => Some(1 << 10),
        "m" | "mb" | "mib" => Some(1 << 20),
        "g" | "gb" | "gib" => Some(1_u64 << 30),
        _ => None,
    };
    digits
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| value(flag, text, "write a size in bytes as 4096, 64k or 1M"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn study(args: &[&str]) -> Result<StudySettings, String> {
        let line = [&["coordinator", "study"], args].concat();
        match Cli::try_parse_from(line)
            .map_err(|e| e.to_string())?
            .command
        {
            Command::Study(args) => StudySettings::new(&args).map_err(|e| e.to_string()),
            _ => unreachable!("study was typed"),
        }
    }

    #[test]
    fn the_defaults_are_settled() {
        let settings = study(&[]).unwrap();
        let names: Vec<_> = settings.arms.iter().map(Arm::to_string).collect();
        assert_eq!(names, DEFAULT_ARMS);
        assert_eq!(names[settings.baseline], "async:32");
        assert_eq!(settings.common.http, HttpSettings::default());
    }

    #[test]
    fn the_default_arms_follow_the_concurrency() {
        let settings = study(&["--concurrency", "8"]).unwrap();
        let names: Vec<_> = settings.arms.iter().map(Arm::to_string).collect();
        assert_eq!(
            names,
            [
                "sequential",
                "threads:8",
                "async:8",
                "8xsequential",
                "2xasync:4",
                "threads:8@ureq",
                "async:8@reqwest"
            ]
        );
    }

    #[test]
    fn a_baseline_is_added_if_it_is_not_an_arm() {
        let settings = study(&["--arm", "threads:4", "--baseline", "async:4"]).unwrap();
        assert_eq!(settings.arms.len(), 2);
        assert_eq!(settings.baseline, 1);
        assert_eq!(study(&["--arm", "threads:4"]).unwrap().baseline, 0);
    }

    #[test]
    fn bad_values_name_the_flag_and_the_mend() {
        let error = |args: &[&str]| study(args).unwrap_err();
        assert_eq!(
            error(&["--timeout", "soon"]),
            "--timeout soon: write a duration as 500ms, 30s or 2m"
        );
        assert_eq!(
            error(&["--timeout", "2h"]),
            "--timeout 2h: at most 1h can be waited"
        );
        assert_eq!(
            error(&["--max-body", "1T"]),
            "--max-body 1T: write a size in bytes as 4096, 64k or 1M"
        );
        assert_eq!(
            error(&["--concurrency", "0"]),
            "--concurrency 0: 1 to 65536 URLs can be in flight"
        );
        assert_eq!(
            error(&["--blocks", "0"]),
            "--blocks 0: 1 to 10000 can be run"
        );
        assert_eq!(
            error(&["--header", "nope"]),
            "--header nope: write it as 'Name: value'"
        );
        assert_eq!(
            error(&["--header", "Host: x"]),
            "--header Host: x: fanout sets this one itself"
        );
        assert_eq!(
            error(&["--header", "X: a\nb"]),
            "--header X: a\nb: the value may hold visible ASCII and spaces only"
        );
        assert!(error(&["--placement", "0"]).starts_with("--placement 0: write auto"));
        assert!(error(&["--cacert", "/nonexistent"]).starts_with("--cacert /nonexistent: "));
        assert!(error(&["--arm", "threads@reqwest"]).contains("use threads:32@ureq"));
        assert!(error(&["--repeat", "0"]).starts_with("--repeat 0"));
        assert!(error(&["--rate", "0"]).starts_with("--rate 0: 0.001 to"));
        assert!(error(&["--rate", "NaN"]).starts_with("--rate NaN"));
        assert!(error(&["--polite"]).starts_with("--polite in a study: pauses"));
        let both = ["--rate", "5", "--rate-per-host", "5"];
        assert!(error(&both).starts_with("--rate-per-host 5: with --rate"));
        let slope = ["--memory-slope", "--max-per-host", "5"];
        assert!(error(&slope).starts_with("--memory-slope with a limit"));
        assert!(error(&["--arm", "async:65536", "--arm", "x"]).contains("no model 'x'"));
    }

    fn fetch(args: &[&str]) -> Result<FetchSettings, String> {
        let line = [&["coordinator", "fetch", "urls.txt"], args].concat();
        match Cli::try_parse_from(line)
            .map_err(|e| e.to_string())?
            .command
        {
            Command::Fetch(args) => FetchSettings::new(&args).map_err(|e| e.to_string()),
            _ => unreachable!("fetch was typed"),
        }
    }

    #[test]
    fn politeness_is_settled() {
        let limits = |args: &[&str]| fetch(args).unwrap().common.hosts;
        assert!(!limits(&[]).any());
        assert_eq!(
            limits(&["--polite"]).max_per_host,
            Some(MODEST_MAX_PER_HOST)
        );
        let own = limits(&["--polite", "--max-per-host", "2", "--rate-per-host", "0.5"]);
        assert_eq!(own.max_per_host.map(NonZeroU32::get), Some(2));
        assert_eq!(own.rate_per_host, Some(0.5));
        for (flag, bad) in [
            ("--max-per-host", "0"),
            ("--rate-per-host", "0"),
            ("--rate-per-host", "-1"),
            ("--rate-per-host", "NaN"),
            ("--rate-per-host", "inf"),
            ("--rate-per-host", "1e12"),
        ] {
            let error = fetch(&[flag, bad]).unwrap_err();
            assert!(error.starts_with(&format!("{flag} ")), "{error}");
        }
        let error = fetch(&["--polite", "--split", "static"]).unwrap_err();
        assert!(error.starts_with("--split static: "), "{error}");
    }

    #[test]
    fn the_user_agent_names_fanout_and_a_contact() {
        let agent = |args: &[&str]| fetch(args).map(|settings| settings.common.http.user_agent);
        let own = HttpSettings::default().user_agent;
        assert_eq!(agent(&[]), Ok(own.clone()));
        for contact in [
            "you@example.org",
            "mailto:you@example.org",
            "https://example.org/bot",
        ] {
            assert_eq!(
                agent(&["--contact", contact]),
                Ok(format!("{own} (+{contact})"))
            );
        }
        for bad in [
            "", "me", "@", "a@", "https://", "a b@c", "a@b)", "ftp://a/", "mailto:x",
        ] {
            let error = agent(&["--contact", bad]).unwrap_err();
            assert!(error.starts_with("--contact "), "{bad}: {error}");
        }
        assert_eq!(agent(&["--user-agent", "mine/1"]), Ok("mine/1".to_owned()));
        assert!(agent(&["--user-agent", "x", "--contact", "a@b"]).is_err());
    }
}
