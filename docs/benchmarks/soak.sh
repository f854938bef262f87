#!/usr/bin/env bash
# Does anything grow? A fleet of two workers runs jobs of every kind in turn: fetches with and without
# failures, studies, cancelled jobs, clients that go away, fetchers and workers that are killed. Every fetch
# must be exact. Memory and open files of each process are sampled all the while.
#
#   docs/benchmarks/soak.sh [MINUTES] [DIRECTORY]      default: 120 minutes, a temporary directory
#
# Prints the medians of the first tenth after ten minutes, and of the last; DIRECTORY/samples.csv has all.
set -euo pipefail
cd "$(dirname "$0")/../.."
minutes=${1:-120}
coordinator=${COORDINATOR:-}
if [[ -z $coordinator ]]; then
  cargo build --release --quiet
  coordinator=$PWD/target/release/coordinator
fi
work=${2:-$(mktemp -d)}
mkdir -p "$work" && cd "$work"

declare -A pids
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; }
trap finish EXIT

"$coordinator" origin --listen 127.0.0.1:0 >origin.txt 2>origin.log &
pids[origin]=$!
until [[ -s origin.txt ]]; do sleep 0.1; done
origin=$(head -1 origin.txt)
"$coordinator" serve --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --data data --origin "$origin" >serve.txt 2>serve.log &
pids[coordinator]=$!
until [[ $(wc -l <serve.txt) -ge 2 ]]; do sleep 0.1; done
FANOUT_COORDINATOR=$(awk '/^coordinator/ { print $2 }' serve.txt)
pages=$(awk '/^pages/ { print $2 }' serve.txt)
export FANOUT_COORDINATOR
start_worker() { # start_worker NAME
  "$coordinator" worker --name "$1" 2>>"$1.log" &
  pids[$1]=$!
}
start_worker steady
start_worker shaken

list() { # list COUNT QUERY
  for ((i = 0; i < $1; i++)); do echo "$origin/$i?$2"; done
}
list 4000 'delay=1ms..20ms&size=1k..64k' >good.txt
{ list 400 'delay=1ms..5ms'; list 20 'reset=in-body'; list 20 'truncate'; list 4 'stall'; list 20 'bad-head'; list 20 'status=503'; } >bad.txt
list 20000 'delay=5ms' >long.txt

jobs=0 urls=0 wrong=0
exact() { # exact FILE COUNT: every id from 0 once
  jobs=$((jobs + 1)) urls=$((urls + $2))
  if ! cut -d'"' -f3 "$1" | tr -dc '0-9\n' | sort -n | cmp -s - <(seq 0 $(($2 - 1))); then
    wrong=$((wrong + 1))
    cp "$1" "wrong-$wrong.jsonl"
  fi
}
fetcher_of() { pgrep -P "${pids[$1]}" | head -1 || true; }

cycle() {
  "$coordinator" fetch good.txt --arm 4xasync:16 --out got.jsonl --workers 2 2>>client.log
  exact got.jsonl 4000
  rm got.jsonl
  "$coordinator" fetch bad.txt --arm 2xthreads:8 --timeout 2s --workers 2 >got.jsonl 2>>client.log
  exact got.jsonl 484
  "$coordinator" study --blocks 2 --arm async:16 --arm 2xthreads:8 --out study --workers 2 >>client.log 2>&1 || true
  jobs=$((jobs + 1))
  rm -rf study
  # A fetcher is killed; nothing is lost.
  "$coordinator" fetch good.txt --arm 2xasync:16 --out got.jsonl --workers 2 2>>client.log &
  local client=$! victim
  sleep 0.5
  victim=$(fetcher_of steady)
  [[ -z $victim ]] || kill -9 "$victim" 2>/dev/null || true
  wait "$client"
  exact got.jsonl 4000
  rm got.jsonl
  # A client goes away, and its job is cancelled by another.
  "$coordinator" fetch long.txt --arm async:16 --out gone.jsonl --workers 2 2>gone.log &
  client=$!
  sleep 1
  kill -9 "$client" && wait "$client" 2>/dev/null || true
  local id
  id=$("$coordinator" status --format json | grep -o '"id": *[0-9]*' | tr -dc '0-9\n' | sort -n | tail -1)
  "$coordinator" cancel "$id" >>client.log 2>&1 || true
  jobs=$((jobs + 1))
  rm -f gone.jsonl*
  # A worker is killed, and another one of its name comes.
  "$coordinator" fetch good.txt --arm 4xasync:8 --out got.jsonl --workers 2 2>>client.log &
  client=$!
  sleep 0.5
  kill -9 "${pids[shaken]}" && wait "${pids[shaken]}" 2>/dev/null || true
  start_worker shaken
  wait "$client"
  exact got.jsonl 4000
  rm got.jsonl
  curl -s "$pages/" "$pages/metrics" >/dev/null
}

sample() {
  local who pid
  for who in origin coordinator steady; do
    pid=${pids[$who]}
    awk -v t="$SECONDS" -v who="$who" -v files="$(find "/proc/$pid/fd" -mindepth 1 | wc -l)" '
      /^VmRSS/ { rss = $2 } /^Threads/ { threads = $2 }
      END { printf "%s,%s,%s,%s,%s\n", t, who, rss, files, threads }' "/proc/$pid/status" >>samples.csv
  done
}

echo "t_s,process,rss_kib,files,threads" >samples.csv
end=$((minutes * 60))
while ((SECONDS < end)); do
  cycle
  sample
  printf '%d jobs, %d URLs, %d inexact\n' "$jobs" "$urls" "$wrong" >progress.txt
  sleep "${PAUSE_S:-5}"
done

printf '%d min: %d jobs, %d URLs fetched, %d fetches not exact\n' "$minutes" "$jobs" "$urls" "$wrong"
for who in origin coordinator steady; do
  for column in 3:rss_kib 4:files 5:threads; do
    awk -F, -v who="$who" -v column="${column%%:*}" '$2 == who && $1 >= 600 { print $column }' samples.csv >values
    tenth=$(($(wc -l <values) / 10 + 1))
    median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
    printf '%-12s %-8s first %s last %s\n' "$who" "${column##*:}" \
      "$(head -n "$tenth" values | median)" "$(tail -n "$tenth" values | median)"
  done
done
((wrong == 0))
