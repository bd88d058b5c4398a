# Short recipes; each calls cargo. `just --list` names them.

# Compare the four queues on this machine and draw the report.
compare-queues *ARGS:
    cargo compare-queues {{ARGS}}

# All tests that need no more than this machine.
test *ARGS:
    cargo test --workspace {{ARGS}}

# The long form of the kills of key-value nodes: 200 of them, and 50 fail-overs with their times.
test-faults *ARGS:
    QUEUEBENCH_KV_KILLS=200 QUEUEBENCH_KV_FAILOVERS=50 cargo test -p queuebench-system --test kv_cluster {{ARGS}} -- --nocapture

# The long form of the membership storms: 10,000 simulated ones, then five minutes of kills and pauses of real
# processes, and 24 deaths with their times.
test-storms SEEDS="10000" SECONDS="300" *ARGS:
    QUEUEBENCH_SIM_SEEDS={{SEEDS}} cargo test --release -p queuebench-system --no-default-features --features cluster --test cluster_simulation {{ARGS}} -- --nocapture
    QUEUEBENCH_STORM_SECONDS={{SECONDS}} cargo test --release -p queuebench-system --no-default-features --features cluster --test cluster_nodes storm {{ARGS}} -- --nocapture --test-threads 1

# Messages per second and time to agree against the number of nodes, up to a hundred, simulated.
cluster-scale:
    cargo test --release -p queuebench-system --no-default-features --features cluster --test cluster_simulation agree -- --nocapture --test-threads 1

# The cluster library at work: three nodes, a load, one killed, nothing acknowledged lost.
cluster-examples:
    for mode in server-side sync-replication async-replication custom-data; do system/examples/cluster/run-$mode.sh; done

# The benches, named after the modules they measure.
bench *ARGS:
    cargo bench {{ARGS}}

# Everything a push must pass, without writing to the tree.
verify:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    cargo test --workspace

# Mend what can be mended by machine.
fix:
    cargo fmt --all
    cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

# Draw a run again: `just report reports/runs/latest`.
report RUN="reports/runs/latest" *ARGS:
    cargo queuebench report {{RUN}} {{ARGS}}

# Start one subject's servers and print the address: `just up nats`.
up SUBJECT *ARGS:
    cargo queuebench up {{SUBJECT}} {{ARGS}}

# Licences, sources and advisories of the dependencies (needs cargo-deny).
deny:
    cargo deny check

import 'system/deploy/pipeline.just'
