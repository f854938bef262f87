//! Tells the program its version and commit.

fn main() {
    fanout_build_info::emit(&[
        "build-info",
        "coordinator",
        "analysis",
        "engine",
        "origin",
        "proto",
        "worker",
        "fetcher",
    ]);
}
