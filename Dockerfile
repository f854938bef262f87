# One static program in an image of its own. It is the coordinator, the worker, the origin and the fetchers:
#   docker build -t fanout . && docker run --rm fanout --help
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# What stands behind --version, as this context has no history.
ARG FANOUT_BUILD
ENV FANOUT_BUILD=$FANOUT_BUILD
COPY . .
RUN host=$(rustc -vV | sed -n 's/^host: //p') \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --package fanout-coordinator --target "$host" \
 && mkdir -p /image/data /image/work \
 && mv "target/$host/release/coordinator" /image/

FROM scratch
LABEL org.opencontainers.image.title=fanout \
      org.opencontainers.image.description="Compares ways to fetch many URLs, then fetches them, every URL exactly once" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY --from=build /image/coordinator /
# A named volume takes over whom its directory belongs to.
COPY --from=build --chown=65532:65532 /image/data /data
COPY --from=build --chown=65532:65532 /image/work /work
USER 65532:65532
WORKDIR /work
STOPSIGNAL SIGTERM
ENTRYPOINT ["/coordinator"]
CMD ["--help"]
