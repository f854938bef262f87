#!/usr/bin/env bash
# Peak resident memory of the coordinator while it fetches a list so long that
# nobody would want to hold it: made as it is read, through a pipe, with the
# null client. The copy of the list needs about 39 bytes a URL in TMPDIR.
#
#   docs/benchmarks/long-list.sh [URLS] [LIMIT_KIB]      default: 100,000,000 URLs, 98,304 KiB
set -euo pipefail
cd "$(dirname "$0")/../.."
urls=${1:-100000000} limit=${2:-98304}

cargo build --release --quiet
coordinator=${CARGO_TARGET_DIR:-target}/release/coordinator
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work
mkfifo "$work/records"
wc -l <"$work/records" >"$work/lines" &
counter=$!

"$coordinator" urls --base http://127.0.0.1:9 --count "$urls" |
  "$coordinator" fetch - --arm async:64@null >"$work/records" 2>"$work/said" &
pid=$!
peak=0
# Gone before its status can be read: it is over.
while now=$(awk '/VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && [[ -n $now ]]; do
  peak=$now
  sleep 0.2
done
wait "$pid" || { cat "$work/said" >&2; exit 1; }
wait "$counter"
cat "$work/said"
lines=$(<"$work/lines")
printf '%d records of %d URLs, peak %d KiB\n' "$lines" "$urls" "$peak"
[[ $lines == "$urls" ]] || { echo "records are missing" >&2; exit 1; }
((peak <= limit)) || { echo "that is more than $limit KiB" >&2; exit 1; }
