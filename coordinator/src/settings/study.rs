//! What a study's flags mean.

use std::{fmt, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use fanout_engine::politeness::Limits;
use fanout_proto::{
    arm::{Arm, Client, Vocabulary},
    limits::{CONCURRENCY_MAX, FETCHERS_MAX},
};

use crate::{
    exit::Failure,
    settings::{
        common::{Common, RunArgs},
        parse::{duration, margin, rate, value, within},
    },
    terminal::print::PrintArgs,
};

const STUDY_HELP: &str = "\
An arm is [Px]MODEL[:C][@CLIENT][/Ww]: P processes, each with C URLs in flight.
  models   sequential  blocking, one at a time      threads   a thread per URL in flight
           async       one thread, one event loop   async-mt  tokio's work-stealing runtime
  clients  core (default, the same HTTP under every model), ureq, reqwest, null (no fetching),
           and those of your own fetchers, which --fetcher names
Braces sweep: '{1,2,4}xasync:16' is three arms.

Examples:
  coordinator study                  both servers in a minute: one takes its time, one answers at once
  coordinator study --map            which arm is fastest, which cheapest, at which delay and work?
  coordinator study --arm sequential --arm threads --arm async --concurrency 64
  coordinator study urls.txt --arm 'threads:{8,32}@ureq' --arm 'async:{8,32}@reqwest' --yes
  coordinator urls --base http://127.0.0.1:8080 --count 500 --delay 50ms | coordinator study -";

/// `study`.
#[derive(Debug, Args)]
#[command(after_help = STUDY_HELP)]
pub(crate) struct StudyArgs {
    /// The URL list: a file, or - for standard input; without it, the embedded origin's lists.
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
    /// Blocks to keep; one more runs first and is discarded [default: 10; with both servers or
    /// --map: 6; with --memory-slope: 3].
    #[arg(long, value_name = "N")]
    pub(crate) blocks: Option<u32>,
    /// Seed of the order of arms and of the origin [default: drawn, and recorded].
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Where the study is kept [default: studies/<UTC time>].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Differences up to this are negligible: what does not matter to you? [default: 5%].
    #[arg(long, value_name = "SHARE")]
    pub(crate) margin: Option<String>,
    #[command(flatten)]
    pub(crate) print: PrintArgs,
    /// Start no block after this long (10m, 90s).
    #[arg(long, value_name = "DURATION")]
    pub(crate) time_budget: Option<String>,
    /// Run the baseline against itself in N studies: how often is a difference called where
    /// there is none?
    #[arg(long, value_name = "N", conflicts_with = "memory_slope")]
    pub(crate) aa: Option<u32>,
    /// Slow the control down by this much per response, to see whether it is found.
    #[arg(long, value_name = "DURATION", requires = "aa", hide = true)]
    pub(crate) aa_inject: Option<String>,
    /// Take no memory samples in the control's trials, to see what sampling costs.
    #[arg(long, hide = true)]
    pub(crate) control_unsampled: bool,
    /// How much memory does one more URL in flight cost? Runs every arm's model and client at 200,
    /// 600 and 1,800 in flight, on an embedded origin that answers after 300 ms.
    #[arg(long, conflicts_with = "urls")]
    pub(crate) memory_slope: bool,
    /// Which arm is fastest, and which cheapest, where? Runs the arms at 20 servers: with delays of
    /// 0, 1, 10 and 50 ms, and 0, 0.2 and 2 ms of work per response, free and under one lock
    /// [default arms: five ways of keeping C URLs in flight].
    #[arg(long, conflicts_with_all = ["urls", "aa", "memory_slope", "rate", "cpu_work", "server"])]
    pub(crate) map: bool,
    /// Without a list of one's own: the server that takes its time, the one that answers at once, or
    /// both in turn [default: both; with --aa: slow].
    #[arg(long, value_enum, value_name = "WHICH", conflicts_with_all = ["urls", "memory_slope"])]
    pub(crate) server: Option<Server>,
    /// Where a browser finds the coordinator's pages: without --out a fleet's study is then kept by
    /// the coordinator alone, and its address is told.
    #[arg(long, value_name = "URL", env = "FANOUT_PAGES")]
    pub(crate) pages: Option<String>,
    /// Go ahead with a list that points beyond this machine.
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
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

/// `--server`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// It takes its time: 8 ms on average.
    Slow,
    /// It answers at once.
    Fast,
    /// Both, block by block.
    Both,
}

/// One server of a map, and the work per response there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) delay: Duration,
    pub(crate) work: Duration,
    /// Whether the work is done under one lock per process.
    pub(crate) lock: bool,
}

const CELL_DELAYS_MS: [u64; 4] = [0, 1, 10, 50];
/// Work per response in a map, in microseconds, and whether under one lock.
const CELL_WORK_US: [(u64, bool); 5] =
    [(0, false), (200, false), (200, true), (2_000, false), (2_000, true)];

/// The cells of a map: delay by delay, from little work to much.
pub(crate) fn map_cells() -> impl Iterator<Item = Cell> {
    CELL_DELAYS_MS.into_iter().flat_map(|delay_ms| {
        CELL_WORK_US.into_iter().map(move |(work_us, lock)| Cell {
            delay: Duration::from_millis(delay_ms),
            work: Duration::from_micros(work_us),
            lock,
        })
    })
}

/// `delay 10ms work 200us lock`: a name without spaces at its ends or commas, for `trials.csv`.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (delay, work) = (self.delay.as_millis(), self.work.as_micros());
        let lock = if self.lock { " lock" } else { "" };
        write!(f, "delay {delay}ms work {work}us{lock}")
    }
}

/// The arms of a memory study that names none, without their concurrency.
const SLOPE_ARMS: [&str; 4] = ["async", "threads", "async@reqwest", "threads@ureq"];

pub(crate) const SLOPE_CONCURRENCIES: [u32; 3] = [200, 600, 1_800];

const BLOCKS_MAX: u32 = 10_000;
const STUDIES_MAX: u32 = 10_000;

#[derive(Debug, Clone)]
pub(crate) struct StudySettings {
    pub(crate) common: Common,
    /// What to compare; the baseline is one of them.
    pub(crate) arms: Vec<Arm>,
    pub(crate) baseline: usize,
    pub(crate) concurrency: u32,
    /// Without the one that is discarded.
    pub(crate) blocks: u32,
    pub(crate) seed: Option<u64>,
    /// Differences up to this share are negligible; `None`: the default.
    pub(crate) margin: Option<f64>,
    pub(crate) out: Option<PathBuf>,
    pub(crate) time_budget: Option<Duration>,
    pub(crate) yes: bool,
    pub(crate) kind: StudyKind,
    /// Which of fanout's own servers; a list of one's own has no use for it.
    pub(crate) server: Server,
    pub(crate) control_unsampled: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StudyKind {
    /// Which arm is faster, and what it costs.
    Compare,
    /// How often a difference is called between the baseline and itself; the
    /// control spins `inject` longer per response.
    Calibrate {
        studies: u32,
        /// Zero, unless a difference is to be found.
        inject: Duration,
    },
    /// What one more URL in flight costs in memory.
    MemorySlope,
    /// Which arm is fastest, and which cheapest, at which server.
    Map,
}

impl StudySettings {
    pub(crate) fn new(args: &StudyArgs, declared: &[Client]) -> Result<Self, Failure> {
        let mut common = Common::new(args.urls.as_deref(), &args.run)?;
        check_in_study(args, &common.hosts)?;
        let concurrency = within(
            "--concurrency",
            args.concurrency,
            1..=CONCURRENCY_MAX,
            "URLs can be in flight",
        )?;
        let kind = kind(args)?;
        let server = server(args, kind)?;
        let blocks = args.blocks.unwrap_or(match (kind, server) {
            (StudyKind::MemorySlope, _) => 3,
            // With fewer the exact test cannot call a difference; with more it would take too long.
            (StudyKind::Map, _) | (_, Server::Both) => 6,
            _ => 10,
        });
        let blocks = within("--blocks", blocks, 1..=BLOCKS_MAX, "can be run")?;
        if let Some(text) = &args.cpu_work {
            common.cpu_work = duration("--cpu-work", text)?;
        }
        common.cpu_lock = args.cpu_lock;
        if let Some(typed) = args.rate {
            common.rate_per_s = Some(rate("--rate", typed, "URLs a second can be asked for")?);
        }
        let (arms, baseline) = arms(args, kind, concurrency, declared)?;
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
        let time_budget = args.time_budget.as_deref();
        let time_budget = time_budget.map(|text| duration("--time-budget", text));
        Ok(Self {
            common,
            arms,
            baseline,
            concurrency,
            blocks,
            seed: args.seed,
            margin: args.margin.as_deref().map(margin).transpose()?,
            out: args.out.clone(),
            time_budget: time_budget.transpose()?,
            yes: args.yes,
            kind,
            server,
            control_unsampled: args.control_unsampled,
        })
    }
}

fn check_in_study(args: &StudyArgs, hosts: &Limits) -> Result<(), Failure> {
    if let (Some(_), Some(rate)) = (args.rate, hosts.rate_per_host) {
        let hint = "with --rate the starts are set already; leave one of them out";
        return Err(value("--rate-per-host", rate, hint));
    }
    let spoiling = [
        (
            args.run.politeness.polite,
            "--polite in a study: pauses that a server asks for would count as the arm's time; use it \
             with fetch, and spare the server with --max-per-host or --rate-per-host here",
        ),
        (
            args.memory_slope && hosts.any(),
            "--memory-slope with a limit per host: it needs as many URLs in flight as its arms say, \
             all at its own origin; leave the limit out",
        ),
        (
            args.map && hosts.any(),
            "--map with a limit per host: all its servers are one host, so every arm would wait for \
             the limit; leave it out",
        ),
    ];
    match spoiling.into_iter().find(|(spoils, _)| *spoils) {
        Some((_, why)) => Err(Failure::usage(why)),
        None => Ok(()),
    }
}

fn kind(args: &StudyArgs) -> Result<StudyKind, Failure> {
    let Some(studies) = args.aa else {
        return Ok(match (args.memory_slope, args.map) {
            (true, _) => StudyKind::MemorySlope,
            (_, true) => StudyKind::Map,
            _ => StudyKind::Compare,
        });
    };
    let inject = args.aa_inject.as_deref();
    Ok(StudyKind::Calibrate {
        studies: within("--aa", studies, 1..=STUDIES_MAX, "studies can be run")?,
        inject: inject.map_or(Ok(Duration::ZERO), |text| duration("--aa-inject", text))?,
    })
}

/// Which of fanout's own servers the study is about.
fn server(args: &StudyArgs, kind: StudyKind) -> Result<Server, Failure> {
    match (kind, args.server) {
        (StudyKind::Calibrate { .. }, Some(Server::Both)) => Err(value(
            "--server",
            "both",
            "with --aa one server is enough: say slow or fast, or leave it out",
        )),
        (_, Some(server)) => Ok(server),
        (StudyKind::Compare, None) if args.urls.is_none() => Ok(Server::Both),
        (_, None) => Ok(Server::Slow),
    }
}

/// The arms to compare, and which of them is the baseline.
fn arms(
    args: &StudyArgs,
    kind: StudyKind,
    concurrency: u32,
    declared: &[Client],
) -> Result<(Vec<Arm>, usize), Failure> {
    let each = Vocabulary {
        concurrency: NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN),
        declared,
    };
    let mut arms = match (kind, args.arms.is_empty()) {
        (StudyKind::MemorySlope, true) => slope_arms(&SLOPE_ARMS.map(str::to_owned), declared)?,
        (StudyKind::MemorySlope, false) => slope_arms(&args.arms, declared)?,
        (StudyKind::Map, true) => Arm::parse_all(&map_arms(concurrency), each)?,
        (_, true) => Arm::parse_all(&default_arms(concurrency), each)?,
        (_, false) => Arm::parse_all(&args.arms, each)?,
    };
    let wanted = Arm::parse(args.baseline.as_deref().unwrap_or("async"), each)?;
    let baseline = match arms.iter().position(|arm| *arm == wanted) {
        Some(position) => position,
        None if args.baseline.is_none() => 0,
        None => {
            arms.push(wanted);
            arms.len() - 1
        }
    };
    match kind {
        StudyKind::Calibrate { .. } => Ok((vec![arms.swap_remove(baseline)], 0)),
        StudyKind::Compare | StudyKind::MemorySlope | StudyKind::Map => Ok((arms, baseline)),
    }
}

/// Every arm at each of the memory study's concurrencies.
fn slope_arms(specs: &[String], declared: &[Client]) -> Result<Vec<Arm>, Failure> {
    let mut arms = Vec::new();
    for concurrency in SLOPE_CONCURRENCIES {
        let concurrency = NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN);
        for arm in Arm::parse_all(specs, Vocabulary { concurrency, declared })? {
            if !arm.model.takes_concurrency() {
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
fn default_arms(c: u32) -> [String; 7] {
    [
        "sequential".to_owned(),
        format!("threads:{c}"),
        format!("async:{c}"),
        format!("{}xsequential", c.min(FETCHERS_MAX)),
        format!("2xasync:{}", c.div_ceil(2)),
        format!("threads:{c}@ureq"),
        format!("async:{c}@reqwest"),
    ]
}

/// The arms of a map: one event loop and one process of threads, each also spread over several
/// processes, and a process for every URL. All keep as many URLs in flight.
fn map_arms(c: u32) -> [String; 5] {
    [
        format!("async:{c}"),
        format!("threads:{c}"),
        format!("2xasync:{}", c.div_ceil(2)),
        format!("4xthreads:{}", c.div_ceil(4)),
        format!("{}xsequential", c.min(FETCHERS_MAX)),
    ]
}
