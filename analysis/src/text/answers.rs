//! Every arm's four outcomes against the baseline, in words.

use crate::{
    format,
    record::{ArmRecord, Comparison, Direction, Metric, Outcome, PRIMARY, Size, Study},
    statistics::{ArmSummary, summaries},
};

/// The answers of a study: one set an arm that competes, the quickest first.
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    pub(crate) arms: Vec<ArmAnswers<'a>>,
}

/// One arm's answers.
#[derive(Debug)]
pub(crate) struct ArmAnswers<'a> {
    pub(crate) summary: ArmSummary<'a>,
    study: &'a Study,
}

/// What the trials say of one arm and one outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Finding {
    /// The arm's figure over the baseline's.
    pub(crate) ratio: f64,
    /// The interval for the whole family of questions; for an arm that was not tested its own.
    pub(crate) ends: Option<(f64, f64)>,
    /// `None`: not tested, for want of blocks.
    pub(crate) judged: Option<(Direction, Size)>,
    pub(crate) blocks: u32,
}

impl<'a> Answers<'a> {
    pub(crate) fn of(study: &'a Study) -> Self {
        let competing = summaries(study).into_iter().filter(ArmSummary::competes);
        Self { arms: competing.map(|summary| ArmAnswers { summary, study }).collect() }
    }

    pub(crate) fn baseline(&self) -> Option<&ArmAnswers<'a>> {
        self.arms.iter().find(|arm| arm.summary.baseline)
    }

    /// Every arm but the baseline.
    pub(crate) fn others(&self) -> impl Iterator<Item = &ArmAnswers<'a>> {
        self.arms.iter().filter(|arm| !arm.summary.baseline)
    }
}

impl<'a> ArmAnswers<'a> {
    pub(crate) fn arm(&self) -> &'a ArmRecord {
        self.summary.arm
    }

    pub(crate) fn name(&self) -> &'a str {
        &self.summary.arm.name
    }

    /// The name, and in brackets what it is: `32xsequential (32 processes)`.
    pub(crate) fn explained(&self) -> String {
        format!("{} ({})", self.name(), in_words(self.arm()))
    }

    /// Start and makespan; the makespan alone where no start was recorded.
    pub(crate) fn took(&self) -> String {
        self.summary.time_s.map_or(format::UNKNOWN.to_owned(), |s| format::duration(s.median))
    }

    pub(crate) fn on(&self, outcome: Outcome) -> Option<Finding> {
        finding(self.study, self.name(), outcome)
    }
}

/// What the trials say of an arm and an outcome; `None` without a figure for both arms.
pub(crate) fn finding(study: &Study, arm: &str, outcome: Outcome) -> Option<Finding> {
    let of = |metric: &str| study.comparisons.iter().find(|c| c.arm == arm && c.metric == metric);
    let comparison = match outcome {
        // Without a start there is no more than the makespan.
        Outcome::Time => of(outcome.metric()).or_else(|| of(PRIMARY.name)),
        _ => of(outcome.metric()),
    }?;
    comparison.ratio.is_finite().then(|| Finding::of(comparison))
}

impl Finding {
    pub(crate) fn of(comparison: &Comparison) -> Self {
        let family = comparison.family_low.zip(comparison.family_high);
        Self {
            ratio: comparison.ratio,
            ends: family.or(comparison.ci_low.zip(comparison.ci_high)),
            judged: comparison.direction.zip(comparison.size),
            blocks: comparison.blocks,
        }
    }

    /// `more, relevant`; `not tested` where there was no test.
    pub(crate) fn words(&self) -> String {
        let Some((direction, size)) = self.judged else {
            return "not tested".to_owned();
        };
        let direction = match direction {
            Direction::Less => "less",
            Direction::More => "more",
            Direction::CannotTell => "cannot tell",
        };
        let size = match size {
            Size::Negligible => "negligible",
            Size::Relevant => "relevant",
            Size::Unsure => "size unsure",
        };
        format!("{direction}, {size}")
    }

    /// The same for a narrow column: `39 % more`, `12.9× more`, `5.0× less`. A difference that is
    /// negligible needs no figure.
    pub(crate) fn short(&self) -> String {
        let ratio = match self.ratio {
            ratio if ratio >= 2.0 => format::ratio(ratio),
            ratio if ratio > 0.5 => format::percent((ratio - 1.0).abs()),
            ratio => format::ratio(1.0 / ratio),
        };
        match self.judged {
            None => format::ratio(self.ratio),
            Some((_, Size::Negligible)) => "negligible".to_owned(),
            Some((Direction::CannotTell, _)) => "cannot tell".to_owned(),
            Some((direction, size)) => {
                let word = if direction == Direction::Less { "less" } else { "more" };
                let unsure = if size == Size::Unsure { "?" } else { "" };
                format!("{ratio} {word}{unsure}")
            }
        }
    }

    /// The ratio and its interval, with the same digits.
    pub(crate) fn figures(&self) -> (String, String) {
        format::ratio_and_interval(self.ratio, self.ends)
    }

    pub(crate) fn is_negligible(&self) -> bool {
        matches!(self.judged, Some((_, Size::Negligible)))
    }

    /// Whether the difference is proven and matters; without a test, whether the figures say so.
    pub(crate) fn is_relevant(&self, margin: f64) -> bool {
        match self.judged {
            Some((direction, size)) => direction != Direction::CannotTell && size == Size::Relevant,
            None => self.ratio > 1.0 + margin || self.ratio < 1.0 / (1.0 + margin),
        }
    }
}

/// The margin as it is typed: `5 %`.
pub(crate) fn margin_text(margin: f64) -> String {
    format::percent(margin).replace(".0 %", " %")
}

/// What an outcome is called in a sentence.
pub(crate) fn named(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Time => "time",
        Outcome::Cpu => "CPU per URL",
        Outcome::Memory => "memory",
        Outcome::Switches => "switches",
    }
}

/// An outcome's figure for an arm, in its unit.
pub(crate) fn figure(summary: &ArmSummary<'_>, outcome: Outcome) -> String {
    match outcome {
        Outcome::Time => {
            summary.time_s.map_or(format::UNKNOWN.to_owned(), |s| format::duration(s.median))
        }
        _ => Metric::named(outcome.metric())
            .map_or_else(String::new, |metric| metric.say(summary.value(metric))),
    }
}

/// How much of something: `14× the memory`, `29 % less memory`, `5.4× fewer switches`.
pub(crate) fn amount(ratio: f64, outcome: Outcome) -> String {
    let name = named(outcome);
    let less = if outcome == Outcome::Switches { "fewer" } else { "less" };
    if ratio >= 1.095 {
        format!("{} the {name}", format::times(ratio))
    } else if ratio >= 1.0 {
        format!("{} more {name}", format::percent(ratio - 1.0))
    } else if ratio > 0.5 {
        format!("{} {less} {name}", format::percent(1.0 - ratio))
    } else {
        format!("{} {less} {name}", format::times(1.0 / ratio))
    }
}

/// How long, with its verb: `takes 31× as long`, `takes 9.0 % less time`, `is 5.0× faster`.
pub(crate) fn takes(ratio: f64) -> String {
    if ratio >= 2.0 {
        format!("takes {} as long", format::times(ratio))
    } else if ratio >= 1.0 {
        format!("takes {} longer", format::percent(ratio - 1.0))
    } else if ratio > 0.5 {
        format!("takes {} less time", format::percent(1.0 - ratio))
    } else {
        format!("is {} faster", format::times(1.0 / ratio))
    }
}

/// What an arm is: `one event loop`, `32 processes`, `32 threads with ureq`.
fn in_words(arm: &ArmRecord) -> String {
    let what = model_in_words(arm);
    if arm.has_default_client() { what } else { format!("{what} with {}", arm.client) }
}

/// The same whatever its client: `32 threads`.
pub(crate) fn model_in_words(arm: &ArmRecord) -> String {
    let (processes, concurrency) = (arm.processes, arm.concurrency);
    match (arm.model.as_str(), processes) {
        ("sequential", 1) => "one URL at a time".to_owned(),
        ("sequential", _) => format!("{processes} processes"),
        ("threads", 1) => format!("{concurrency} threads"),
        ("threads", _) => format!("{processes} processes of {concurrency} threads"),
        ("async", 1) => "one event loop".to_owned(),
        ("async", _) => format!("{processes} event loops"),
        (model, 1) => model.to_owned(),
        (model, _) => format!("{processes} processes of {model}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture;

    #[test]
    fn arms_in_words() {
        let said = |name: &str| in_words(&fixture::arm(name));
        assert_eq!(said("sequential"), "one URL at a time");
        assert_eq!(said("32xsequential"), "32 processes");
        assert_eq!(said("threads:32@ureq"), "32 threads with ureq");
        assert_eq!(said("4xthreads:8"), "4 processes of 8 threads");
        assert_eq!(said("async:32"), "one event loop");
        assert_eq!(said("2xasync:16"), "2 event loops");
        assert_eq!(said("async-mt:8"), "async-mt");
    }

    #[test]
    fn amounts_and_times() {
        assert_eq!(amount(14.2, Outcome::Memory), "14× the memory");
        assert_eq!(amount(1.6, Outcome::Cpu), "1.6× the CPU per URL");
        assert_eq!(amount(1.06, Outcome::Cpu), "6.0 % more CPU per URL");
        assert_eq!(amount(0.71, Outcome::Memory), "29 % less memory");
        assert_eq!(amount(0.185, Outcome::Switches), "5.4× fewer switches");
        assert_eq!(takes(31.3), "takes 31× as long");
        assert_eq!(takes(1.07), "takes 7.0 % longer");
        assert_eq!(takes(0.91), "takes 9.0 % less time");
        assert_eq!(takes(0.2), "is 5.0× faster");
    }

    /// The figure in a phrase, as the ratio that it stands for.
    fn read_back(text: &str) -> f64 {
        let number = text.split([' ', '×']).find_map(|word| word.replace(',', "").parse().ok());
        let number: f64 = number.unwrap_or_else(|| panic!("{text}"));
        let less = ["less", "fewer", "faster"].iter().any(|word| text.contains(word));
        match (text.contains('%'), less) {
            (true, true) => 1.0 - number / 100.0,
            (true, false) => 1.0 + number / 100.0,
            (false, true) => 1.0 / number,
            (false, false) => number,
        }
    }

    proptest! {
        /// A phrase tells the ratio that it was made from, within the digits that it prints, and on
        /// the side of 1 where the ratio lies.
        #[test]
        fn a_phrase_tells_its_ratio(log in -7.0..7.0f64) {
            let ratio = log.exp();
            for text in [takes(ratio), amount(ratio, Outcome::Memory), amount(ratio, Outcome::Switches)] {
                let told = read_back(&text);
                prop_assert!((told / ratio).ln().abs() <= 0.05, "{ratio}: {text}");
                let more = ["longer", "more", "as long", " the "].iter().any(|word| text.contains(word));
                prop_assert_eq!(more, ratio >= 1.0, "{}: {}", ratio, text);
            }
        }
    }
}
