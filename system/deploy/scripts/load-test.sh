#!/usr/bin/env bash
# ApacheBench at a gateway that runs: load-test.sh [REQUESTS] [CONCURRENCY]. Fails if an answer was not 2xx or if
# what was accepted is not processed.
set -euo pipefail
gateway=${BASE_URL:-http://127.0.0.1:8080}
requests=${1:-1000} concurrency=${2:-10}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
curl -fsS -o /dev/null "$gateway/health"
printf '{"source":"load-test","data":"a text of some fifty-five characters, as it is sent","metadata":{"test":"load","tool":"ab"}}' >"$work/body"
processed() { curl -fsS "$gateway/api/v1/status" | sed 's/.*"ProcessedCount":\([0-9]*\).*/\1/'; }
before=$(processed)
ab -k -q -n "$requests" -c "$concurrency" -p "$work/body" -T application/json "$gateway/api/v1/ingest" | tee "$work/out"
if grep -q '^Non-2xx' "$work/out" || ! grep -q '^Failed requests: *0$' "$work/out"; then
    echo "error: not every request was accepted" >&2
    exit 1
fi
for _ in $(seq 100); do
    (($(processed) - before >= requests)) && break
    sleep 0.1
done
echo "processed: $(($(processed) - before)) of $requests"
(($(processed) - before >= requests))
