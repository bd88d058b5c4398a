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

logs=$out
export PROGRAMS=${PROGRAMS:-$root/target/release}
source "$here/../programs.sh"
trap stop_all EXIT

if [[ -n $local_pipeline ]]; then
    start processor PROCESSOR_PORT=0 QUEUE_SIZE=10000
    export PROCESSOR_URL=http://$address
    start ingest INGEST_PORT=0 PROCESSOR_URL="$PROCESSOR_URL"
    export INGEST_URL=http://$address
    start api-gateway API_PORT=0 PROCESSOR_URL="$PROCESSOR_URL" INGEST_URL="$INGEST_URL"
    export BASE_URL=http://$address
fi
[[ -z $short ]] || export K6_SHORT=1
for scenario in "${scenarios[@]}"; do
    echo "== $scenario"
    K6_RESULTS="$out" K6_NAME="$scenario" "$k6" run --no-usage-report --quiet "$here/$scenario.js" 2>&1 |
        tee "$out/${scenario}_output.log"
done
echo "results in $out"
