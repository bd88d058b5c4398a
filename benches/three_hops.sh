#!/usr/bin/env bash
# Our gateway, ingest service and processor (memory queue) against the bare three-hop chain, in turns on the same
# cores, driven by wrk with 16 and 64 connections; memory of our three programs after the load.
#
#   cargo build --release -p queuebench-system --bins && cargo build --release -p queuebench-benches --example three_hops
#   benches/three_hops.sh [ROUNDS] [SECONDS]
#
# Programs: $OURS (target/release) and $YARDSTICK (target/release/examples/three_hops). The yardstick runs with
# 2 threads for each hop, and with 1 as our programs do.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
rounds=${1:-3} seconds=${2:-5}
ours=${OURS:-$root/target/release} yardstick=${YARDSTICK:-$root/target/release/examples/three_hops}
base=$((20000 + RANDOM % 20000))
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; }
trap finish EXIT

port() { echo $((base + $1)); }
for threads in 1 2; do
    first=$((threads * 10))
    "$yardstick" "$(port $((first + 2)))" 0 "$threads" & pids+=($!)
    "$yardstick" "$(port $((first + 1)))" "$(port $((first + 2)))" "$threads" & pids+=($!)
    "$yardstick" "$(port "$first")" "$(port $((first + 1)))" "$threads" & pids+=($!)
done
export BIND_HOST=127.0.0.1 RUST_LOG=error
PROCESSOR_PORT=$(port 2) QUEUE_SIZE=10000 "$ours/processor" >/dev/null & pids+=($!)
export PROCESSOR_URL=http://127.0.0.1:$(port 2)
INGEST_PORT=$(port 1) "$ours/ingest" >/dev/null & pids+=($!)
INGEST_URL=http://127.0.0.1:$(port 1) API_PORT=$(port 0) "$ours/api-gateway" >/dev/null & pids+=($!)
our_pids=("${pids[@]: -3}")
for wait_for in "$(port 0)" "$(port 10)" "$(port 20)"; do
    for _ in $(seq 100); do (exec 3<>"/dev/tcp/127.0.0.1/$wait_for") 2>/dev/null && break; sleep 0.1; done
done

load() { # NAME PORT CONNECTIONS
    printf '%-22s c=%-3d ' "$1" "$3"
    wrk -t$(($3 > 16 ? 2 : 1)) -c"$3" -d"${seconds}s" -s "$root/benches/post.lua" "http://127.0.0.1:$2/ingest" | grep RESULT
}
for round in $(seq "$rounds"); do
    for connections in 16 64; do
        load "bare chain, 2 threads" "$(port 20)" "$connections"
        load "queuebench" "$(port 0)" "$connections"
        load "bare chain, 1 thread" "$(port 10)" "$connections"
    done
done
for pid in "${our_pids[@]}"; do
    sed -n "s/^Name:\t\(.*\)/\1/p; s/^VmHWM:\t *\(.*\)/  peak resident memory \1/p" "/proc/$pid/status" | paste -sd' '
done
