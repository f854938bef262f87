#!/usr/bin/env bash
# The fetch path against wrk: server on one core, client on another, 64 in
# flight, 64-byte bodies, keep-alive. Rounds are interleaved; read the ratios.
#
#   docs/benchmarks/fetch-path.sh [ROUNDS] [URLS]      default: 5 rounds, 1,000,000 URLs
#
# Needs wrk, two processors, and nothing else running.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} urls=${2:-1000000}
command -v wrk >/dev/null || { echo "wrk is needed (apt-get install wrk)" >&2; exit 2; }

cargo build --release --quiet
coordinator=target/release/coordinator
work=$(mktemp -d)
exec {hold}> >(exec taskset -c 0 "$coordinator" origin --listen 127.0.0.1:0 --exit-with-stdin >"$work/url")
trap 'exec {hold}>&-; rm -rf "$work"' EXIT
until [[ -s $work/url ]]; do sleep 0.05; done
base=$(head -1 "$work/url") base=${base%/}
"$coordinator" urls --base "$base" --count "$urls" --size 64 >"$work/urls.txt"

rate_of_wrk() { taskset -c 1 wrk -t1 -c64 -d5s "$base/?size=64" | awk '/Requests\/sec/ { print $2 }'; }
# Coordinator, worker and fetcher share the client's core; the rate is that of the whole chain.
rate_of_fetch() {
  taskset -c 1 "$coordinator" fetch "$work/urls.txt" --arm "$1" --out "$work/got.jsonl" 2>&1 |
    sed -n 's/.* in [0-9.]* s, \([0-9]*\)\/s.*/\1/p'
}

printf 'round\twrk/s\tasync:64\tratio\tthreads:64\tratio\tasync:64@null\n'
for ((round = 1; round <= rounds; round++)); do
  wrk=$(rate_of_wrk) async=$(rate_of_fetch async:64) threads=$(rate_of_fetch threads:64)
  null=$(rate_of_fetch async:64@null)
  awk -v r="$round" -v w="$wrk" -v a="$async" -v t="$threads" -v n="$null" \
    'BEGIN { printf "%d\t%.0f\t%.0f\t%.2f\t%.0f\t%.2f\t%.0f\n", r, w, a, a / w, t, t / w, n }'
done
