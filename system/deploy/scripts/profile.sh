#!/usr/bin/env bash
# Records where gateway, ingest service and processor (target/profiling, memory queue) spend their time while wrk
# drives the gateway with 64 connections, and writes a report for each into results/profiles.
set -euo pipefail
root=$(cd "$(dirname "$0")/../../.." && pwd)
seconds=${1:-10} out=$root/results/profiles
mkdir -p "$out"
pids=()
finish() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait; }
trap finish EXIT
base=$((20000 + RANDOM % 20000))
export BIND_HOST=127.0.0.1 RUST_LOG=error PROCESSOR_PORT=$base INGEST_PORT=$((base + 1)) API_PORT=$((base + 2))
export PROCESSOR_URL=http://127.0.0.1:$base INGEST_URL=http://127.0.0.1:$((base + 1)) QUEUE_SIZE=10000
for program in processor ingest api-gateway; do "$root/target/profiling/$program" >/dev/null & pids+=($!); done
for _ in $(seq 100); do curl -fsS -o /dev/null "http://127.0.0.1:$API_PORT/ready" 2>/dev/null && break; sleep 0.1; done
services=("${pids[@]}")
wrk -t2 -c64 -d"$((seconds + 2))s" -s "$root/benches/post.lua" "http://127.0.0.1:$API_PORT/ingest" >"$out/wrk.txt" & pids+=($!)
sleep 1
i=0
for program in processor ingest api-gateway; do
    perf record -q -g -F 499 -p "${services[i]}" -o "$out/$program.data" -- sleep "$seconds" &
    pids+=($!)
    i=$((i + 1))
done
wait "${pids[@]: -4}"
for program in processor ingest api-gateway; do
    perf report -i "$out/$program.data" --no-children --stdio -g none 2>/dev/null | grep -v '^#' | head -60 >"$out/$program.txt"
done
cat "$out/wrk.txt"
echo "reports in $out"
