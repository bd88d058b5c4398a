# What the examples' scripts share. Sourced, not run: `MODE` says which example.
#
# Three nodes are started, loaded, one is killed in the middle of the load and started again, and everything
# that was acknowledged is read back: while the node is gone, and after it has returned.
# PORT_BASE and KV_PORT_BASE choose other ports, CLUSTER_BIN a program that is built already.
set -euo pipefail

PORT_BASE=${PORT_BASE:-8080}
KV_PORT_BASE=${KV_PORT_BASE:-9080}
KEYS=${KEYS:-1000}
export PARTITION_COUNT=${PARTITION_COUNT:-64}
export REPLICATION_FACTOR=${REPLICATION_FACTOR:-2}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "${CLUSTER_BIN:-}" ]; then
    (cd "$here" && cargo build -q -p queuebench-system --no-default-features --features cluster --example cluster)
    target=$(cd "$here" && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    CLUSTER_BIN="$target/debug/examples/cluster"
fi
work=$(mktemp -d)
pids=()

cleanup() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

port() { echo $((PORT_BASE + $1 - 1)); }

start() { # number
    local join=""
    [ "$1" = 1 ] || join="localhost:$(port 1)"
    # A node that comes back asks whoever is there.
    [ "${2:-}" = again ] && join="localhost:$(port $(($1 % 3 + 1)))"
    NODE_ID="node-$1" HTTP_PORT=$(port "$1") KV_PORT=$((KV_PORT_BASE + $1 - 1)) JOIN_ADDR="$join" \
        DATA_DIR="$work/node-$1" "$CLUSTER_BIN" "$MODE" serve >>"$work/node-$1.log" 2>&1 &
    pids[$1]=$!
}

fail() {
    echo "FAILED: $1" >&2
    tail -n 20 "$work"/node-*.log >&2
    exit 1
}

members() { # wanted, of each node in the rest
    local wanted=$1
    shift
    for _ in $(seq 300); do
        local agreed=0
        for number in "$@"; do
            local at="http://localhost:$(port "$number")"
            if curl -fs -m 2 "$at/nodes" 2>/dev/null | grep -q "\"total\":$wanted," \
                && curl -fs -m 2 "$at/ready" >/dev/null 2>&1; then
                agreed=$((agreed + 1))
            fi
        done
        [ "$agreed" = "$#" ] && return 0
        sleep 0.2
    done
    fail "no agreement on $wanted members"
}

servers="localhost:$(port 1),localhost:$(port 2),localhost:$(port 3)"
client() { "$CLUSTER_BIN" "$MODE" "$@" --acknowledged "$work/acknowledged"; }

run() {
    echo "== three nodes"
    start 1
    start 2
    start 3
    members 3 1 2 3
    echo "== a load of $KEYS keys; node-3 is killed in the middle"
    : >"$work/acknowledged"
    client load --servers "$servers" --keys "$KEYS" &
    local load=$!
    for _ in $(seq 600); do
        [ "$(wc -l <"$work/acknowledged" 2>/dev/null || echo 0)" -ge $((KEYS / 3)) ] && break
        sleep 0.1
    done
    kill -9 "${pids[3]}"
    wait "${pids[3]}" 2>/dev/null || true
    echo "== node-3 was killed after $(wc -l <"$work/acknowledged") acknowledged keys"
    wait "$load" || fail "the load ended early"
    members 2 1 2
    echo "== two nodes agree; reading back what was acknowledged"
    client verify --servers "localhost:$(port 1),localhost:$(port 2)" || fail "acknowledged data is missing"
    start 3 again
    members 3 1 2 3
    echo "== node-3 is back; reading again"
    client verify --servers "$servers" || fail "acknowledged data is missing after the return"
    echo "PASSED: $(wc -l <"$work/acknowledged") of $KEYS keys were acknowledged, none was lost"
}
