//! What a study's flags mean.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use fanout_proto::{
    arm::Arm,
    limits::{CONCURRENCY_MAX, FETCHERS_MAX},
    setup::Model,
};

use crate::{
    cli::StudyArgs,
    settings::{
        common::Common,
        error::SettingsError,
        parse::{duration, rate, value, within},
        politeness::check_in_study,
    },
};

/// The arms of a memory study that names none, without their concurrency.
const SLOPE_ARMS: [&str; 4] = ["async", "threads", "async@reqwest", "threads@ureq"];

/// URLs in flight in a memory study.
pub(crate) const SLOPE_CONCURRENCIES: [u32; 3] = [200, 600, 1_800];

/// Blocks that one study may have.
const BLOCKS_MAX: u32 = 10_000;
/// Studies that one calibration may have.
const STUDIES_MAX: u32 = 10_000;

/// A study, settled.
#[derive(Debug)]
pub(crate) struct StudySettings {
    pub(crate) common: Common,
    /// What to compare; the baseline is one of them.
    pub(crate) arms: Vec<Arm>,
    /// The position of the baseline.
    pub(crate) baseline: usize,
    pub(crate) concurrency: u32,
    /// Blocks to keep.
    pub(crate) blocks: u32,
    pub(crate) seed: Option<u64>,
    pub(crate) out: Option<PathBuf>,
    /// Start no block after this long.
    pub(crate) time_budget: Option<Duration>,
    /// Go beyond this machine.
    pub(crate) yes: bool,
    pub(crate) kind: StudyKind,
    pub(crate) control_unsampled: bool,
}

/// What a study is after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StudyKind {
    /// Which arm is faster, and what it costs.
    Compare,
    /// How often a difference is called between the baseline and itself; the
    /// second run of each pair spins `inject` longer per response.
    Calibrate {
        studies: u32,
        /// Zero, unless a difference is to be found.
        inject: Duration,
    },
    /// What one more URL in flight costs in memory.
    MemorySlope,
}

impl StudySettings {
    pub(crate) fn new(args: &StudyArgs) -> Result<Self, SettingsError> {
        let mut common = Common::new(
            args.urls.as_deref(),
            &args.list,
            &args.fleet,
            &args.http,
            &args.politeness,
        )?;
        check_in_study(args, &common.hosts)?;
        let concurrency = within(
            "--concurrency",
            args.concurrency,
            1..=CONCURRENCY_MAX,
            "URLs can be in flight",
        )?;
        let kind = kind(args)?;
        let usual = if kind == StudyKind::MemorySlope {
            3
        } else {
            10
        };
        let blocks = within(
            "--blocks",
            args.blocks.unwrap_or(usual),
            1..=BLOCKS_MAX,
            "can be run",
        )?;
        if let Some(text) = &args.cpu_work {
            common.cpu_work = duration("--cpu-work", text)?;
        }
        common.cpu_lock = args.cpu_lock;
        common.rate_per_s = args
            .rate
            .map(|typed| rate("--rate", typed, "URLs a second can be asked for"))
            .transpose()?;
        let (arms, baseline) = arms(args, kind, concurrency)?;
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
        Ok(Self {
            common,
            arms,
            baseline,
            concurrency,
            blocks,
            seed: args.seed,
            out: args.out.clone(),
            time_budget: time_budget
                .map(|text| duration("--time-budget", text))
                .transpose()?,
            yes: args.yes,
            kind,
            control_unsampled: args.control_unsampled,
        })
    }
}

fn kind(args: &StudyArgs) -> Result<StudyKind, SettingsError> {
    let Some(studies) = args.aa else {
        return Ok(match args.memory_slope {
            true => StudyKind::MemorySlope,
            false => StudyKind::Compare,
        });
    };
    let inject = args.aa_inject.as_deref();
    Ok(StudyKind::Calibrate {
        studies: within("--aa", studies, 1..=STUDIES_MAX, "studies can be run")?,
        inject: inject.map_or(Ok(Duration::ZERO), |text| duration("--aa-inject", text))?,
    })
}

/// The arms to compare, and which of them is the baseline.
fn arms(
    args: &StudyArgs,
    kind: StudyKind,
    concurrency: u32,
) -> Result<(Vec<Arm>, usize), SettingsError> {
    let each = NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN);
    let mut arms = match (kind, args.arms.is_empty()) {
        (StudyKind::MemorySlope, true) => slope_arms(&SLOPE_ARMS.map(str::to_owned))?,
        (StudyKind::MemorySlope, false) => slope_arms(&args.arms)?,
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
        StudyKind::Compare | StudyKind::MemorySlope => Ok((arms, baseline)),
    }
}

/// Every arm at each of the memory study's concurrencies.
fn slope_arms(specs: &[String]) -> Result<Vec<Arm>, SettingsError> {
    let mut arms = Vec::new();
    for concurrency in SLOPE_CONCURRENCIES {
        let concurrency = NonZeroU32::new(concurrency).unwrap_or(NonZeroU32::MIN);
        for arm in Arm::parse_all(specs, concurrency)? {
            if arm.model == Model::Sequential {
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
