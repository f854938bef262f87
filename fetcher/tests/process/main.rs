//! Real fetchers in real processes, against small servers of this test.
//!
//! The test program runs itself again as the fetcher, so it brings its own `main`.

// All of this is test code, which clippy only knows of functions marked so.
#![allow(clippy::unwrap_used)]

mod fetcher;
mod server;

mod hostile;
mod http;
mod https;
mod life;
mod limits;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("fetcher") => return fanout_fetcher::run(),
        Some("parent") => return life::be_parent(),
        _ => {}
    }
    let trials =
        [hostile::trials(), http::trials(), https::trials(), life::trials(), limits::trials()];
    let mut arguments = Arguments::from_args();
    // Most of them wait most of the time.
    arguments.test_threads.get_or_insert(8);
    libtest_mimic::run(&arguments, trials.into_iter().flatten().collect()).exit_code()
}

/// A trial by name; a panic is its failure.
fn trial(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        run();
        Ok(())
    })
}
