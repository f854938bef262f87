//! The `coordinator` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    fanout_coordinator::main()
}
