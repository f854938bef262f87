//! The baseline against itself: how often is a difference called where there is none?

use std::{collections::BTreeMap, time::Duration};

use fanout_analysis::{record::Outcome, statistics, text};

use crate::{
    exit::{CommandExit, Failure},
    study::{
        part::Part,
        runner::{CONTROL_SUFFIX, StudyContext, StudyEnd, run_study},
        store::Store,
    },
    terminal::reporter::Report,
};

const OUTCOMES: [(Outcome, &str); 4] = [
    (Outcome::Time, "time"),
    (Outcome::Cpu, "CPU"),
    (Outcome::Memory, "memory"),
    (Outcome::Switches, "switches"),
];

pub(super) async fn calibrate(
    on: &mut StudyContext<'_>,
    parts: &[Part],
    seed: u64,
    studies: u32,
    inject: Duration,
    store: &Store,
) -> Result<CommandExit, Failure> {
    let mut by_outcome: BTreeMap<&str, Vec<Option<f64>>> = BTreeMap::new();
    let mut exit = CommandExit::Done;
    for number in 1..=studies {
        let own = store.within(&format!("{number:04}"))?;
        let seed = seed.wrapping_add(number.into());
        let (study, ended) = run_study(on, parts, seed, inject, &own).await;
        if ended? == StudyEnd::Interrupted {
            own.discard();
            exit = CommandExit::Interrupted;
            break;
        }
        let study = own.conclude_and_save(study).await?;
        on.reporter.report(Report::SeriesStudy(&study)).map_err(Failure::incomplete)?;
        let mut told = Vec::new();
        for comparison in study.comparisons.iter().filter(|c| c.arm.ends_with(CONTROL_SUFFIX)) {
            let Some((_, name)) = OUTCOMES.iter().find(|(o, _)| comparison.outcome == Some(*o))
            else {
                continue;
            };
            let p = comparison.p_adjusted.map_or("not tested".to_owned(), |p| format!("p {p:.3}"));
            told.push(format!("{name} {:.3}× ({p})", comparison.ratio));
            by_outcome.entry(name).or_default().push(comparison.p_adjusted);
        }
        on.reporter.say(&format!("study {number} of {studies}: {}", told.join(", ")));
    }
    let lines = OUTCOMES.iter().filter_map(|(_, name)| {
        let found = statistics::false_positives(by_outcome.remove(name)?);
        let line = if inject.is_zero() {
            text::false_positives(&found)
        } else {
            format!(
                "{} of {} studies called the control different, which spun {inject:?} longer per response.",
                found.called, found.studies
            )
        };
        Some(format!("{name}: {line}"))
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    if text.is_empty() {
        return Ok(exit);
    }
    on.reporter.report(Report::Result(&text)).map_err(Failure::incomplete)?;
    Ok(exit)
}
