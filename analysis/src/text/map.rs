//! A map of arms and servers on a terminal and in Markdown.

use crate::{
    format,
    map::{Map, MapAnswer, Question},
};

/// A map as tables: a grid for each question, then the arms with their letters.
pub(crate) fn tables(map: &Map<'_>) -> Vec<Vec<Vec<String>>> {
    let grids = Question::ALL.map(|question| grid(map, question));
    grids.into_iter().chain([arms(map)]).collect()
}

/// How the grids are read.
pub(crate) const READING: &str = "A letter is the best arm of its cell; behind = stand arms whose medians lie within the margin of \
     the best, behind ~ arms that lie further apart and cannot be told apart in these blocks; the figure is \
     what the worst arm needs over what the best one needs.";

fn grid(map: &Map<'_>, question: Question) -> Vec<Vec<String>> {
    let first = match question {
        Question::Fastest => "fastest",
        Question::Cheapest => "cheapest",
    };
    let head = std::iter::once(first.to_owned());
    let works = (0..map.work.len()).map(|column| match column {
        0 => format!("work: {}", map.work_in_words(column)),
        _ => map.work_in_words(column),
    });
    let mut rows = vec![head.chain(works).collect::<Vec<_>>()];
    for (row, delay_s) in map.delays_s.iter().enumerate() {
        let head = std::iter::once(format!("delay {}", format::duration(*delay_s)));
        let cells = (0..map.work.len()).map(|column| {
            let cell = map.cell(row, column);
            cell.map_or_else(String::new, |cell| short(cell.answer(question)))
        });
        rows.push(head.chain(cells).collect());
    }
    rows
}

/// `C 2.10×`, `=AC 1.40×`, `~AC 1.40×`, `= all`, `~ all 1.40×`.
fn short(answer: &MapAnswer) -> String {
    let mark = match (&*answer.best, answer.level) {
        ([] | [_], _) => "",
        (_, true) => "=",
        (_, false) => "~",
    };
    let letters: String = answer.best.iter().map(|&arm| Map::letter(arm)).collect();
    let spread = answer.spread().map(format::ratio).unwrap_or_default();
    match (answer.all, answer.tested) {
        (true, _) if answer.level => "= all".to_owned(),
        (true, _) => format!("{mark} all {spread}"),
        (false, true) => format!("{mark}{letters} {spread}"),
        (false, false) => format!("{letters}? {spread}"),
    }
}

fn arms(map: &Map<'_>) -> Vec<Vec<String>> {
    let cells = map.cells.len();
    let heads = ["arm", "fastest in", "cheapest in", "time at worst", "CPU at worst"];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (arm, record) in map.arms.iter().enumerate() {
        let [fastest, cheapest] =
            Question::ALL.map(|question| format!("{} of {cells}", map.best_in(arm, question)));
        let [time, cpu] = Question::ALL.map(|question| {
            let worst = map.at_worst(arm, question);
            worst.map_or_else(|| format::UNKNOWN.to_owned(), format::ratio)
        });
        rows.push(vec![
            format!("{} {}", Map::letter(arm), record.name),
            fastest,
            cheapest,
            time,
            cpu,
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use crate::{fixture, text::table};

    #[test]
    fn a_map_fits_a_terminal() {
        insta::assert_snapshot!(table(&fixture::map(), 80, false, false), @r#"
        8 URLs (built-in) · 8 blocks · embedded origin · 2 CPUs · 2026-11-22 · seed 21

        4 arms in 20 cells

        fastest        work: none     200 µs  200 µs, lock     2.00 ms  2.00 ms, lock
        delay 0 s       =BC 1.88×  =BC 1.90×       C 2.09×   =BC 1.92×        C 2.09×
        delay 1.00 ms   =BC 1.90×  =BC 1.88×       C 2.08×   =BC 1.91×        C 2.11×
        delay 10.0 ms       = all      = all    =ACD 1.11×   =BC 1.93×        C 2.07×
        delay 50.0 ms       = all      = all    =ACD 1.10×  =BCD 1.32×      =CD 1.44×

        cheapest       work: none     200 µs  200 µs, lock  2.00 ms  2.00 ms, lock
        delay 0 s       =AC 1.81×  =AC 1.17×     =AC 1.16×    = all          = all
        delay 1.00 ms   =AC 1.79×  =AC 1.14×     =AC 1.18×    = all          = all
        delay 10.0 ms   =AC 1.78×  =AC 1.15×     =AC 1.15×    = all          = all
        delay 50.0 ms   =AC 1.78×  =AC 1.16×     =AC 1.16×    = all          = all

        arm              fastest in  cheapest in  time at worst  CPU at worst
        A async:32          6 of 20     20 of 20          1.93×         1.00×
        B threads:32       12 of 20      8 of 20          2.11×         1.60×
        C 2xasync:16       20 of 20     20 of 20          1.01×         1.04×
        D 32xsequential     8 of 20      8 of 20          1.13×         1.81×

        A letter is the best arm of its cell; behind = stand arms whose medians lie
        within the margin of the best, behind ~ arms that lie further apart and cannot
        be told apart in these blocks; the figure is what the worst arm needs over what
        the best one needs.

        In makespan the choice matters in 16 of 20 cells; 2xasync:16 is the safest
        there: at worst 1.01× the fastest arm's. In CPU after the start the choice
        matters in 12 of 20 cells; async:32 is the safest there: at worst 1.00× the
        cheapest arm's.
        "#);
    }
}
