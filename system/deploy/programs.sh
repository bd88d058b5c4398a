# Sourced by the scripts that start our programs on free ports: they set `root` and `logs` before.
# shellcheck shell=bash

pids=()

# Asks all that was started to end, and waits for it.
stop_all() {
    for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}

# start NAME VARIABLE…: starts a program from $PROGRAMS (target/debug) on a free port and puts host and port
# into `address`.
start() {
    local name=$1 log="$logs/$1.log"
    shift
    : >"$log"
    env BIND_HOST=127.0.0.1 RUST_LOG=warn "$@" "${PROGRAMS:-$root/target/debug}/$name" >"$log" 2>&1 &
    pids+=($!)
    for _ in $(seq 300); do
        address=$(sed -n "s|^$name listening on .*http://\([^ ]*\).*|\1|p" "$log")
        [[ -n $address ]] && return
        kill -0 "${pids[-1]}" 2>/dev/null || { cat "$log" >&2; exit 1; }
        sleep 0.1
    done
    echo "error: $name did not start" >&2
    exit 1
}
