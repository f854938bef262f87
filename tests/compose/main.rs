//! The compose project on a real Docker engine, from the outside: commands as
//! a user types them. They take minutes, so they run when asked:
//!
//! ```text
//! docker compose build
//! cargo test -p fanout-coordinator --test compose -- --ignored
//! ```
//!
//! All scenarios share one project, one after the other. Whatever happens, also
//! on Ctrl-C, the project is taken down.

// To unwrap is a test's way to fail; without the harness clippy takes this for a program.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod engine;
mod faults;
mod project;
mod usage;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use self::{engine::Engine, project::Project};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let asked = arguments.ignored || arguments.include_ignored;
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(reason) => {
            assert!(
                !asked || std::env::var_os("FANOUT_CI").is_none(),
                "{reason}, and FANOUT_CI asks for one"
            );
            println!("skipped: {reason}");
            return ExitCode::SUCCESS;
        }
    };
    let project = Project::new(engine);
    project.down_on_signals();
    let tests = usage::tests().into_iter().chain(faults::tests());
    let trials = tests.map(|(name, test)| {
        Trial::test(name, move || {
            test(project);
            Ok(())
        })
        .with_ignored_flag(true)
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if conclusion.has_failed() {
        project.show_logs();
    }
    match project.down() {
        true => conclusion.exit_code(),
        false => ExitCode::FAILURE,
    }
}
