#!/usr/bin/env bash
# How long after the command's start does the first request reach the server,
# with a list of 10,000 lines? From the process's start to the first record.
#
#   docs/benchmarks/first-fetch.sh [RUNS]      default: 5
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-5}

cargo build --release --quiet
coordinator=target/release/coordinator
work=$(mktemp -d)
exec {hold}> >(exec "$coordinator" origin --listen 127.0.0.1:0 --exit-with-stdin >"$work/url")
trap 'exec {hold}>&-; rm -rf "$work"' EXIT
until [[ -s $work/url ]]; do sleep 0.05; done
base=$(head -1 "$work/url") base=${base%/}
"$coordinator" urls --base "$base" --count 10000 --delay 1ms >"$work/urls.txt"
for ((run = 1; run <= runs; run++)); do
  start=$(date +%s%N)
  "$coordinator" fetch "$work/urls.txt" -v --arm async:8 2>&1 >/dev/null | grep -m1 '^start' >/dev/null || true
  echo "run $run: $((($(date +%s%N) - start) / 1000000)) ms"
done
