//! The daemon against a scripted coordinator and fake fetchers in processes of
//! their own.
//!
//! This binary is test runner, fetcher and worker in one, by its first
//! argument; so it has no harness of Rust's own.

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
    let trials = session::tests().into_iter().chain(process::tests());
    let trials = trials.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}
