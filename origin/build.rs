//! Tells the program its version and commit.

fn main() -> Result<(), fanout_build_info::BuildError> {
    fanout_build_info::emit(&["build-info", "origin"])
}
