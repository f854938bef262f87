//! Tells the program its version and commit.

fn main() {
    fanout_build_info::emit(&["build-info", "origin", "proto", "worker", "fetcher"]);
}
