#!/usr/bin/env bash
# Processor, ingest service and gateway of target/release on their usual ports, until Ctrl-C; each waits for the
# one before it to be healthy.
set -euo pipefail
programs=${PROGRAMS:-$(cd "$(dirname "$0")/../../.." && pwd)/target/release}
pids=()
finish() {
    # From the front to the back, so that what was accepted is still processed.
    for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
        kill -TERM "${pids[i]}" 2>/dev/null || true
        wait "${pids[i]}" 2>/dev/null || true
    done
}
trap finish EXIT
trap 'exit 130' INT TERM
for service in processor:${PROCESSOR_PORT:-8082} ingest:${INGEST_PORT:-8081} api-gateway:${API_PORT:-8080}; do
    # In a group of its own, so that Ctrl-C reaches this script only.
    setsid "$programs/${service%:*}" &
    pids+=($!)
    for _ in $(seq 100); do
        curl -fsS -o /dev/null "http://127.0.0.1:${service#*:}/health" 2>/dev/null && continue 2
        kill -0 "${pids[-1]}" 2>/dev/null || exit 1
        sleep 0.1
    done
    echo "${service%:*} is not healthy" >&2
    exit 1
done
wait -n
