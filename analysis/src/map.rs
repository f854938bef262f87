//! Which arm is fastest, and which cheapest, at which server.

use crate::{
    contest::Contest,
    format,
    record::{ArmRecord, Metric, Regime, Study},
    statistics::summaries,
    text::{counted, listed},
};

/// What is asked in every cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// Which arm is done first.
    Fastest,
    /// Which arm takes the least CPU time.
    Cheapest,
}

impl Question {
    /// Both, in the order in which they are told.
    pub(crate) const ALL: [Self; 2] = [Self::Fastest, Self::Cheapest];

    /// What answers it. Both leave the start out: how many URLs a trial of a cell has was chosen,
    /// and with more of them a start weighs less.
    fn metric(self) -> Option<&'static Metric> {
        Metric::named(match self {
            Self::Fastest => "makespan_s",
            Self::Cheapest => "cpu_run_s",
        })
    }

    pub(crate) fn adjective(self) -> &'static str {
        match self {
            Self::Fastest => "fastest",
            Self::Cheapest => "cheapest",
        }
    }

    pub(crate) fn subject(self) -> &'static str {
        match self {
            Self::Fastest => "makespan",
            Self::Cheapest => "CPU after the start",
        }
    }
}

/// The cells of a map, as a grid.
#[derive(Debug, Clone)]
pub(crate) struct Map<'a> {
    /// The arms that compete, in the order of the record.
    pub(crate) arms: Vec<&'a ArmRecord>,
    /// Delays of the servers, in seconds, from none to the longest: the rows.
    pub(crate) delays_s: Vec<f64>,
    /// Work per response in seconds, and whether it is done under one lock: the columns.
    pub(crate) work: Vec<(f64, bool)>,
    /// Every cell that has trials.
    pub(crate) cells: Vec<MapCell<'a>>,
}

#[derive(Debug, Clone)]
pub(crate) struct MapCell<'a> {
    regime: &'a Regime,
    answers: [MapAnswer; 2],
}

/// Who is best in a cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct MapAnswer {
    /// Places in [`Map::arms`] of the best: those that no other is known to beat, and those whose
    /// median lies within the margin of the lowest. Empty where nothing is known.
    pub(crate) best: Vec<usize>,
    /// Whether those are all that there are.
    pub(crate) all: bool,
    /// Whether the medians of those lie within the margin of the lowest, so that it does not matter
    /// which of them is taken. Otherwise they differ by more, and cannot be told apart.
    pub(crate) level: bool,
    /// Whether there were blocks enough for a test. Without one only the lowest median counts.
    pub(crate) tested: bool,
    /// Every arm's median over the lowest one, by its place in [`Map::arms`].
    pub(crate) times_least: Vec<Option<f64>>,
}

impl MapAnswer {
    fn of(study: &Study, arms: &[&ArmRecord], question: Question) -> Option<Self> {
        let contest = Contest::on(study, question.metric()?)?;
        let near = 1.0 + study.analysis.margin;
        let mut times_least = vec![None; arms.len()];
        let mut best = Vec::new();
        for (at, (arm, times)) in contest.over_least().enumerate() {
            if let Some(place) = arms.iter().position(|known| known.name == arm.name) {
                times_least[place] = Some(times);
                if at < contest.tied || (times <= near && contest.tested) {
                    best.push(place);
                }
            }
        }
        best.sort_unstable();
        let all = best.len() == contest.ranked.len() && best.len() > 1;
        let level = best.iter().all(|&place| times_least[place].is_some_and(|t| t <= near));
        Some(Self { best, all, level, tested: contest.tested, times_least })
    }

    /// How many times what the least needs the most needs, by the medians.
    pub(crate) fn spread(&self) -> Option<f64> {
        self.times_least.iter().flatten().copied().reduce(f64::max)
    }
}

impl MapCell<'_> {
    /// The answer to one of the questions.
    pub(crate) fn answer(&self, question: Question) -> &MapAnswer {
        &self.answers[question as usize]
    }
}

impl<'a> Map<'a> {
    /// The map that a study holds; `None` where it is none.
    pub(crate) fn of(study: &'a Study) -> Option<Self> {
        if !study.is_map() {
            return None;
        }
        let arms: Vec<&ArmRecord> =
            study.arms.iter().filter(|arm| arm.fetches() && !arm.control).collect();
        let measured = study
            .regimes
            .iter()
            .filter(|regime| summaries(&regime.study).iter().any(|summary| summary.competes()));
        let cells: Vec<MapCell<'_>> = measured
            .map(|regime| MapCell {
                regime,
                answers: Question::ALL.map(|question| {
                    MapAnswer::of(&regime.study, &arms, question).unwrap_or_default()
                }),
            })
            .collect();
        let mut delays_s: Vec<f64> =
            study.regimes.iter().map(|regime| regime.delay_s.unwrap_or_default()).collect();
        delays_s.sort_by(f64::total_cmp);
        delays_s.dedup();
        let mut work: Vec<(f64, bool)> =
            study.regimes.iter().map(|regime| (regime.cpu_work_s, regime.cpu_lock)).collect();
        work.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        work.dedup();
        Some(Self { arms, delays_s, work, cells })
    }

    /// The cell in that row and column, where it has trials.
    pub(crate) fn cell(&self, row: usize, column: usize) -> Option<&MapCell<'a>> {
        let (delay_s, work) = (*self.delays_s.get(row)?, *self.work.get(column)?);
        self.cells.iter().find(|cell| {
            let Regime { cpu_work_s, cpu_lock, .. } = *cell.regime;
            cell.regime.delay_s.unwrap_or_default() == delay_s && (cpu_work_s, cpu_lock) == work
        })
    }

    /// The letter that stands for an arm.
    pub(crate) fn letter(arm: usize) -> char {
        u8::try_from(arm).ok().and_then(|at| b'A'.checked_add(at)).map_or('?', char::from)
    }

    /// The work of a column in words: `none`, `200 µs`, `2.00 ms, lock`.
    pub(crate) fn work_in_words(&self, column: usize) -> String {
        match self.work.get(column) {
            None | Some((0.0, _)) => "none".to_owned(),
            Some((seconds, false)) => format::duration(*seconds),
            Some((seconds, true)) => format!("{}, lock", format::duration(*seconds)),
        }
    }

    /// In how many cells an arm is among the best.
    pub(crate) fn best_in(&self, arm: usize, question: Question) -> usize {
        self.cells.iter().filter(|cell| cell.answer(question).best.contains(&arm)).count()
    }

    /// How many times what the least needs an arm needs where it does worst, by the medians;
    /// `None` where it has no figure in some cell.
    pub(crate) fn at_worst(&self, arm: usize, question: Question) -> Option<f64> {
        let times = self.cells.iter().map(|cell| *cell.answer(question).times_least.get(arm)?);
        times.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
    }

    /// What the map says as a whole.
    pub(crate) fn lessons(&self) -> Vec<String> {
        let mut lessons = Vec::new();
        if self.cells.iter().any(|cell| !cell.answer(Question::Fastest).tested) {
            lessons.push(
                "Below six blocks nothing can be tested: each cell names the arm with the lowest \
                 median in these trials, and a question mark stands behind it."
                    .to_owned(),
            );
        }
        let cells = self.cells.len();
        for question in Question::ALL {
            let answers = || self.cells.iter().map(|cell| cell.answer(question));
            let alike = answers().filter(|answer| answer.all && answer.level).count();
            let unclear = answers().filter(|answer| answer.all && !answer.level).count();
            let safest = (0..self.arms.len())
                .filter_map(|arm| Some((self.at_worst(arm, question)?, arm)))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            let Some((worst, arm)) = safest else { continue };
            let subject = question.subject();
            let of_cells = |count: usize| match count {
                0 => "in no cell".to_owned(),
                _ if count == cells => "in every cell".to_owned(),
                _ => format!("in {count} of {}", counted(cells as u64, "cell")),
            };
            let open = match unclear {
                0 => String::new(),
                _ if unclear == cells => {
                    lessons.push(format!("In {subject} no cell tells the arms apart."));
                    continue;
                }
                _ => format!(" and cannot be told {}", of_cells(unclear)),
            };
            let choice = format!(
                "In {subject} the choice matters {}{open}",
                of_cells(cells - alike - unclear)
            );
            let name = &self.arms[arm].name;
            lessons.push(format!(
                "{choice}; {name} is the safest there: at worst {} the {} arm's.",
                format::ratio(worst),
                question.adjective()
            ));
        }
        lessons
    }

    /// What an answer is, in words: `async:32`, `async:32 and threads:32 are level`, or `cannot tell
    /// async:32 from threads:32`.
    pub(crate) fn in_words(&self, answer: &MapAnswer) -> String {
        let names = answer.best.iter().map(|&arm| self.arms[arm].name.as_str());
        match (&*names.collect::<Vec<_>>(), answer.all, answer.level) {
            ([], ..) => format::UNKNOWN.to_owned(),
            ([one], ..) if answer.tested => (*one).to_owned(),
            ([one], ..) => format!("{one}?"),
            (_, true, true) => "all are level".to_owned(),
            (several, false, true) => format!("{} are level", listed(several)),
            (_, true, false) => "cannot tell any apart".to_owned(),
            (several, false, false) => format!("cannot tell {} apart", listed(several)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, with_truth};

    fn map_margin(study: &Study) -> f64 {
        study.regimes[0].study.analysis.margin
    }

    fn map_of(cells: Vec<Study>) -> Study {
        let arms = cells[0].arms.iter().filter(|arm| !arm.control).cloned().collect();
        let regimes = cells.into_iter().enumerate().map(|(at, study)| Regime {
            delay_s: Some(at as f64),
            study,
            ..Regime::default()
        });
        Study { arms, regimes: regimes.collect(), ..Study::default() }
    }

    #[test]
    fn a_cell_names_the_arm_that_is_best_in_truth_and_marks_ties() {
        for seed in 0..30 {
            let study = map_of(vec![
                with_truth(&[("async:32", 1.0, 1.0), ("threads:32", 1.3, 0.7)], 0.01, seed),
                with_truth(&[("async:32", 1.0, 1.01), ("threads:32", 1.01, 1.0)], 0.01, seed),
            ]);
            let map = Map::of(&study).unwrap();
            let answer = |row, question| map.cell(row, 0).unwrap().answer(question).clone();
            let (fastest, cheapest) = (answer(0, Question::Fastest), answer(0, Question::Cheapest));
            assert_eq!((&*fastest.best, fastest.all), (&[0][..], false), "seed {seed}");
            assert_eq!((&*cheapest.best, cheapest.all), (&[1][..], false), "seed {seed}");
            assert!((fastest.spread().unwrap() / 1.3 - 1.0).abs() < 0.03, "{fastest:?}");
            for question in Question::ALL {
                // 1 % apart is nothing that a choice should rest on, proven or not.
                let answer = answer(1, question);
                assert!(answer.all && answer.level, "seed {seed}: {answer:?}");
            }
            assert!((map.at_worst(1, Question::Fastest).unwrap() / 1.3 - 1.0).abs() < 0.03);
            assert_eq!(
                (map.best_in(0, Question::Fastest), map.best_in(1, Question::Fastest)),
                (2, 1)
            );
        }
    }

    #[test]
    fn arms_that_noise_hides_are_not_called_level() {
        let mut hidden = 0;
        for seed in 0..30 {
            let arms = [("async:32", 1.0, 1.0), ("threads:32", 1.2, 1.2)];
            let study = map_of(vec![with_truth(&arms, 0.5, seed), with_truth(&arms, 0.01, seed)]);
            let map = Map::of(&study).unwrap();
            let answer = map.cell(0, 0).unwrap().answer(Question::Fastest);
            let apart = answer.spread().unwrap() > 1.0 + map_margin(&study);
            assert_eq!(answer.best.len() == 2 && answer.level, !apart, "seed {seed}: {answer:?}");
            if answer.best.len() == 2 && apart {
                hidden += 1;
                let words = map.in_words(answer);
                assert_eq!(words, "cannot tell any apart");
                let lesson = &map.lessons()[0];
                let told = "matters in 1 of 2 cells and cannot be told in 1 of 2 cells";
                assert!(lesson.contains(told), "{lesson}");
            }
        }
        assert!(hidden > 10, "{hidden}");
    }

    #[test]
    fn cells_without_trials_are_unknown() {
        let mut study = fixture::map();
        study.regimes[3].study.trials.clear();
        let map = Map::of(&study).unwrap();
        assert!(map.cell(0, 3).is_none() && map.cell(0, 4).is_some());
        assert!(Map::of(&fixture::study()).is_none());
    }

    #[test]
    fn too_few_blocks_are_said() {
        let mut study = fixture::map();
        for regime in &mut study.regimes {
            regime.study.trials.retain(|trial| trial.block < 4);
        }
        let lessons = Map::of(&study).unwrap().lessons();
        assert!(lessons[0].starts_with("Below six blocks"), "{lessons:?}");
    }
}
