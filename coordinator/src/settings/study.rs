//! What a study's flags mean.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use fanout_proto::{arm::Arm, limits::FETCHERS_MAX, setup::Model};

use crate::{
    cli::StudyArgs,
    settings::{
        common::{Common, concurrency},
        error::SettingsError,
        parse::{duration, value},
        politeness::check_in_study,
    },
};

/// The arms of a study that names none.
pub(super) const DEFAULT_ARMS: [&str; 7] = [
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
pub(crate) const SLOPE_CONCURRENCIES: [u32; 3] = [200, 600, 1_800];

/// Blocks that one study may have.
const BLOCKS_MAX: u32 = 10_000;

/// A study, settled.
#[derive(Debug)]
pub(crate) struct StudySettings {
    /// What every run needs to know.
    pub(crate) common: Common,
    /// What to compare; the baseline is one of them.
    pub(crate) arms: Vec<Arm>,
    /// The position of the baseline.
    pub(crate) baseline: usize,
    /// `--concurrency`.
    pub(crate) concurrency: u32,
    /// Blocks to keep.
    pub(crate) blocks: u32,
    /// `--seed`.
    pub(crate) seed: Option<u64>,
    /// `--out`.
    pub(crate) out: Option<PathBuf>,
    /// Start no block after this long.
    pub(crate) time_budget: Option<Duration>,
    /// Go beyond this machine.
    pub(crate) yes: bool,
    /// What kind of study it is.
    pub(crate) kind: StudyKind,
    /// Take no memory samples in the control's trials.
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
    pub(crate) fn new(args: &StudyArgs) -> Result<Self, SettingsError> {
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
