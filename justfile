# What developers and CI run; `just` lists it. Each recipe is a few commands that can be typed as well.

# Lists the recipes.
default:
    @just --list --unsorted

# All tests but those that take ten seconds and more.
quick:
    cargo nextest run --workspace --profile quick

# The tests, as README gives them.
test:
    cargo test --workspace

# The tests of the fetcher in Python.
python:
    python3 -m unittest discover -s fetchers/python/tests

# Formatting, clippy and rustdoc; a warning is an error.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings
    RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --locked

# The structure that ARCHITECTURE.md draws: pure crates, no circles, one meaning a name.
structure:
    .ci/structure

# Licences, sources and doubled dependencies; needs no network.
deny:
    cargo deny --offline check licenses bans sources

# Every fuzz target for so many seconds.
fuzz seconds='60':
    fuzz/run {{ seconds }}

# The Docker image, and base images for it where no registry can be reached.
image:
    .ci/image

# The compose project and the Swarm stack on this machine's Docker engine.
docker: image
    cargo test --workspace --test compose -- --ignored
    cargo test --workspace --test swarm -- --ignored

# The Kubernetes manifests, without a cluster.
kubernetes:
    cargo build
    deploy/check "${CARGO_TARGET_DIR:-target}/debug/coordinator"

# Everything that must hold before a change is taken.
gate: test python lint structure deny (fuzz '10') docker kubernetes
