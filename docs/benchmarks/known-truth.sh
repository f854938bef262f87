#!/usr/bin/env bash
# Is a makespan what it must be? 1,000 URLs that each take 5 ms, one arm after
# the other, interleaved: the makespan beside the sum of the delays that the
# origin really served, divided by C, plus the measured cost of a request.
#
#   docs/benchmarks/known-truth.sh [ROUNDS]      default: 10
#
# Needs curl, and nothing else running. The cost of a request is what one takes
# without any delay, in the sequential arm of the same round.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-10} urls=1000
command -v curl >/dev/null || { echo "curl is needed (apt-get install curl)" >&2; exit 2; }

cargo build --release --quiet
coordinator=target/release/coordinator
work=$(mktemp -d)
exec {hold}> >(exec "$coordinator" origin --listen 127.0.0.1:0 --exit-with-stdin >"$work/url")
trap 'exec {hold}>&-; rm -rf "$work"' EXIT
until [[ -s $work/url ]]; do sleep 0.05; done
base=$(head -1 "$work/url") base=${base%/}
"$coordinator" urls --base "$base" --count $urls --size 64 >"$work/bare.txt"
"$coordinator" urls --base "$base" --count $urls --size 64 --delay 5ms >"$work/delayed.txt"

makespan() { # makespan LIST ARM
  "$coordinator" fetch "$work/$1.txt" --arm "$2" --out "$work/got.jsonl" 2>&1 |
    sed -n 's/.* in \([0-9.]*\) s,.*/\1/p'
}
for ((round = 1; round <= rounds; round++)); do
  bare=$(makespan bare sequential)
  for arm in sequential:1 threads:16 async:16; do
    slots=${arm##*:} spec=${arm/sequential:1/sequential}
    curl -s "$base/stats/reset" >/dev/null
    took=$(makespan delayed "$spec")
    served=$(curl -s "$base/stats" | sed -n 's/.*"delay_actual_s": *\([0-9.]*\).*/\1/p')
    awk -v a="$spec" -v t="$took" -v s="$served" -v c="$slots" -v b="$bare" \
      'BEGIN { print a, t, (s + b) / c, t / ((s + b) / c) }'
  done
done | sort -k1,1 -k4,4n | awk '
  { ratios[$1] = ratios[$1] " " $4; took[$1] = took[$1] " " $2 }
  END {
    for (arm in ratios) {
      n = split(ratios[arm], r, " "); middle = int((n + 1) / 2)
      printf "%-12s makespan over what it must be: median %.3f (%.3f to %.3f) of %d\n", arm, r[middle], r[1], r[n], n
    }
  }' | sort
