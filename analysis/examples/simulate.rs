//! How right is what is said of a study? Draws studies of known truth, five arms and four outcomes
//! each, concludes them as every study is, and counts what is said wrongly. Prints a table:
//! `cargo run --release -p fanout-analysis --features fixture --example simulate -- 1000`.

use std::{env, process::ExitCode, thread};

use fanout_analysis::simulated::{Noise, Tally};

#[expect(clippy::print_stdout, reason = "an example prints its result")]
fn main() -> ExitCode {
    let studies = match env::args().nth(1).map(|text| text.parse::<u32>()) {
        None => 400,
        Some(Ok(studies)) if studies > 0 => studies,
        Some(_) => {
            eprintln!("how many studies of each kind? Give a number, such as 400");
            return ExitCode::from(2);
        }
    };
    println!("{}", Tally::HEAD);
    let settings: Vec<(Noise, u32)> =
        Noise::ALL.into_iter().flat_map(|noise| [6, 8, 10].map(|blocks| (noise, blocks))).collect();
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    for some in settings.chunks(cpus) {
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|(noise, blocks)| scope.spawn(move || Tally::of(*noise, *blocks, studies)))
                .collect();
            running.into_iter().filter_map(|tally| tally.join().ok()).collect()
        });
        for tally in tallies {
            println!("{tally}");
        }
    }
    ExitCode::SUCCESS
}
