//! The daemon against a scripted coordinator and fake fetchers in processes of their own.
//!
//! This binary is test runner, fetcher and worker in one, by its first
//! argument; so it has no harness of Rust's own.

// To unwrap is a test's way to fail; without the harness clippy takes this for a program.
#![allow(clippy::unwrap_used)]

mod coordinator;
mod fake;
mod process;
mod session;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("fetcher") => return fake::run(),
        Some("worker") => return process::worker(),
        Some("sleep") => {
            std::thread::sleep(std::time::Duration::from_secs(600));
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    };
    let tests = session::tests().into_iter().chain(process::tests());
    // With --ignored, in a release build.
    let measurements = process::measurements().into_iter();
    let trials = tests.map(trial).chain(measurements.map(|one| trial(one).with_ignored_flag(true)));
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
