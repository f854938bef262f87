//! The baseline against itself: how often is a difference called where there is none?

use std::time::Duration;

use fanout_analysis::{record, statistics, text};

use crate::{
    cli::exit::{CommandExit, Failure},
    study::{
        part::Part,
        runner::{CONTROL_SUFFIX, StudyContext, StudyEnd, run_study},
        store::Store,
    },
    terminal::reporter::Report,
};

/// Runs the baseline against itself in so many studies.
pub(super) async fn calibrate(
    on: &mut StudyContext<'_>,
    parts: &[Part],
    seed: u64,
    studies: u32,
    inject: Duration,
    store: &Store,
) -> Result<CommandExit, Failure> {
    let mut verdicts = Vec::new();
    let mut exit = CommandExit::Done;
    for number in 1..=studies {
        let own = store.within(&format!("{number:04}")).map_err(Failure::usage)?;
        let seed = seed.wrapping_add(number.into());
        let (study, ended) = run_study(on, parts, seed, inject, &own).await;
        if ended? == StudyEnd::Interrupted {
            own.discard();
            exit = CommandExit::Interrupted;
            break;
        }
        let study = own.conclude_and_save(study).await?;
        on.reporter.report(Report::SeriesStudy(&study)).map_err(Failure::incomplete)?;
        let control = study
            .comparisons
            .iter()
            .find(|c| c.metric == record::PRIMARY.name && c.arm.ends_with(CONTROL_SUFFIX));
        if let Some(control) = control {
            on.reporter.say(&format!(
                "study {number} of {studies}: {:.3}× {:?}",
                control.ratio, control.verdict
            ));
            verdicts.push(control.verdict);
        }
    }
    if verdicts.is_empty() {
        return Ok(exit);
    }
    let found = statistics::false_positives(verdicts);
    let text = if inject.is_zero() {
        text::false_positives(&found)
    } else {
        format!(
            "{} of {} studies called the second run different, which spun {inject:?} longer per response.",
            found.called, found.studies
        )
    };
    on.reporter.report(Report::Result(&text)).map_err(Failure::incomplete)?;
    Ok(exit)
}
