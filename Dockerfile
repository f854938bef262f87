# One static program in an otherwise empty image: `coordinator`, which is also `coordinator worker`
# and `coordinator origin`. Builds with BuildKit and with the engine's own builder.
#
#   docker build -t fanout .
#   docker run --rm fanout --help
ARG RUST=1.95

FROM rust:${RUST}-slim-bookworm AS build
WORKDIR /build
# What stands behind --version, as this context has no history.
ARG FANOUT_BUILD
ENV FANOUT_BUILD=${FANOUT_BUILD}
COPY . .
# The target is named so that the flag does not reach build scripts and procedural macros.
RUN target="$(uname -m)-unknown-linux-gnu" \
 && RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --release --locked --package fanout-coordinator --bin coordinator --target "$target" \
 && install -D -m 755 "target/$target/release/coordinator" /image/coordinator \
 && rm -rf target "$CARGO_HOME/registry" \
 && install -d /image/owned/data /image/owned/work
# Nothing can be run in the last stage: whether the program runs at all shows here.
RUN ["/image/coordinator", "--version"]

FROM scratch
ARG FANOUT_BUILD
LABEL org.opencontainers.image.title="fanout" \
      org.opencontainers.image.description="Fetch many URLs: one process or many, threads or an event loop, how many?" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.revision="${FANOUT_BUILD}"
COPY --from=build /image/coordinator /coordinator
# A new volume at /data takes the directory's owner over, so that the coordinator can write it.
COPY --from=build --chown=65532:65532 /image/owned/ /
USER 65532:65532
WORKDIR /work
# Copies of long lists go to the disk that studies are kept on, as there is no other that can be written.
ENV TMPDIR=/data
STOPSIGNAL SIGTERM
ENTRYPOINT ["/coordinator"]
CMD ["--help"]
