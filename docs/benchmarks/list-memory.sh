#!/usr/bin/env bash
# Does the coordinator's memory grow with the list? Peak resident memory of a
# fetch of a short list and of a long one, with the null client.
#
#   docs/benchmarks/list-memory.sh [LONG] [SHORT]      default: 10,000,000 and 10,000 URLs
set -euo pipefail
cd "$(dirname "$0")/../.."
long=${1:-10000000} short=${2:-10000}

cargo build --release --quiet
coordinator=target/release/coordinator
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Peak resident memory in KiB of the coordinator itself, its children not counted.
peak() {
  "$coordinator" urls --base http://127.0.0.1:9 --count "$1" >"$work/urls.txt"
  "$coordinator" fetch "$work/urls.txt" --arm async:64@null --out "$work/got.jsonl" 2>"$work/said" &
  local pid=$! peak=0 now
  while now=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [[ -n $now ]]; do
    peak=$now
    sleep 0.02
  done
  wait "$pid"
  [[ $(wc -l <"$work/got.jsonl") == "$1" ]] || { echo "records are missing" >&2; exit 1; }
  echo "$peak"
}
a=$(peak "$short") b=$(peak "$long")
printf '%d URLs: %d KiB\n%d URLs: %d KiB\ndifference: %d KiB\n' "$short" "$a" "$long" "$b" $((b - a))
