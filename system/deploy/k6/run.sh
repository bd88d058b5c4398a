#!/usr/bin/env bash
# Runs k6 scenarios against a pipeline that is up, or, with --local, against one that it starts itself:
#
#   system/deploy/k6/run.sh [--local] [--short] [--out DIR] SCENARIO…     (all of them: smoke load … soak)
#
# Programs are looked for in $PROGRAMS (target/release), k6 on PATH or in $K6. Ends with the first failed
# threshold. Each scenario leaves <name>_summary.json, _analysis.md (with grades) and
# _output.log in DIR.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
local_pipeline= short= out="$root/results/load_testing/$(date +%Y%m%d_%H%M%S)"
while [[ ${1-} == --* ]]; do
    case $1 in
        --local) local_pipeline=1 ;;
        --short) short=1 ;;
        --out) out=$2; shift ;;
        *) echo "unknown flag $1" >&2; exit 2 ;;
    esac
    shift
done
scenarios=("$@")
(($#)) || scenarios=(smoke load simple-load scaled-load quick-4x quick-8x quick-demo spike soak)
k6=${K6:-k6}
mkdir -p "$out"

pids=()
finish() {
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap finish EXIT

# start NAME VARIABLE…: starts a program on a free port and puts its URL into `url`.
start() {
    local name=$1 log="$out/$1.log"
    shift
    : >"$log"
    env BIND_HOST=127.0.0.1 RUST_LOG=warn "$@" "${PROGRAMS:-$root/target/release}/$name" >"$log" 2>&1 &
    pids+=($!)
    for _ in $(seq 300); do
        url=$(sed -n "s/^$name listening on \([^ ]*\).*/\1/p" "$log")
        [[ -n $url ]] && return
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$log" >&2; exit 1; }
        sleep 0.1
    done
    echo "$name did not start" >&2
    exit 1
}

if [[ -n $local_pipeline ]]; then
    start processor PROCESSOR_PORT=0 QUEUE_SIZE=10000
    export PROCESSOR_URL=$url
    start ingest INGEST_PORT=0 PROCESSOR_URL="$PROCESSOR_URL"
    export INGEST_URL=$url
    start api-gateway API_PORT=0 PROCESSOR_URL="$PROCESSOR_URL" INGEST_URL="$INGEST_URL"
    export BASE_URL=$url
fi
[[ -z $short ]] || export K6_SHORT=1
for scenario in "${scenarios[@]}"; do
    echo "== $scenario"
    K6_RESULTS="$out" K6_NAME="$scenario" "$k6" run --no-usage-report --quiet "$here/$scenario.js" 2>&1 |
        tee "$out/${scenario}_output.log"
done
echo "results in $out"
