#!/usr/bin/env bash
# Holds the deployment files against the real tools: promtool (configuration, rules, a test that lets every alert
# fire), amtool, helm (lint, and a chart rendered for every queue), and a live Prometheus that scrapes the real
# programs and a node-exporter: every series that a rule or a panel names must be in it, and every panel's
# expression must give a value.
#
# Programs are looked for in $PROGRAMS (target/debug). A tool that is not there is named and left out; with
# QUEUEBENCH_REQUIRE_TOOLS="promtool prometheus helm" its absence is a failure.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$(mktemp -d)
logs=$work
source "$here/programs.sh"
finish() {
    stop_all
    rm -rf "$work"
}
trap finish EXIT

left_out=()
have() {
    command -v "$1" >/dev/null 2>&1 && return
    left_out+=("$1")
    if [[ " ${QUEUEBENCH_REQUIRE_TOOLS-} " == *" $1 "* ]]; then
        echo "error: $1 is required and not installed" >&2
        exit 1
    fi
    return 1
}

if have promtool; then
    echo "== promtool"
    promtool check config "$here/prometheus/prometheus.yaml"
    promtool test rules "$here/prometheus/rules_test.yaml"
    # An alert without a test is one that nobody has seen fire.
    for alert in $(sed -n 's/.*- alert: //p' "$here/prometheus/rules.yaml"); do
        grep -q "alertname: $alert$" "$here/prometheus/rules_test.yaml" || { echo "error: no test lets $alert fire" >&2; exit 1; }
    done
fi
if have amtool; then
    amtool check-config "$here/alertmanager/alertmanager.yaml"
fi
if have helm; then
    echo "== helm"
    helm lint --strict "$here/helm"
    for queue in memory nats kafka composite; do
        helm template check "$here/helm" --kube-version 1.34.0 --set "queue.type=$queue" >"$work/$queue.yaml"
        for kind in Deployment Service HorizontalPodAutoscaler PodDisruptionBudget; do
            grep -q "^kind: $kind$" "$work/$queue.yaml" || { echo "error: no $kind over $queue" >&2; exit 1; }
        done
    done
    if helm template check "$here/helm" --kube-version 1.34.0 --set queue.type=rabbit >/dev/null 2>&1; then
        echo "error: the chart takes a queue that does not exist" >&2
        exit 1
    fi
    if have kubeconform; then
        kubeconform -strict -summary -kubernetes-version 1.34.0 "$work"/*.yaml
    fi
fi

if have prometheus && have promtool; then
    echo "== live scrape"
    start processor PROCESSOR_PORT=0
    processor=$address
    start ingest INGEST_PORT=0 "PROCESSOR_URL=http://$processor"
    ingest=$address
    start api-gateway API_PORT=0 "INGEST_URL=http://$ingest" "PROCESSOR_URL=http://$processor"
    gateway=$address
    start grpc-server GRPC_ADDR=127.0.0.1:0 GRPC_HTTP_PORT=0 "PROCESSOR_URL=http://$processor"
    grpc=$address
    exporter=
    if have prometheus-node-exporter; then
        port=$((20000 + RANDOM % 10000))
        prometheus-node-exporter --web.listen-address="127.0.0.1:$port" >"$work/node.log" 2>&1 &
        pids+=($!)
        exporter=127.0.0.1:$port
    fi
    {
        printf 'global: { scrape_interval: 1s, evaluation_interval: 1s }\nrule_files: [%s]\nscrape_configs:\n' \
            "$here/prometheus/rules.yaml"
        for job in "api-gateway $gateway" "ingest-service $ingest" "processor-service $processor" \
            "grpc-server $grpc" ${exporter:+"node-exporter $exporter"}; do
            printf '  - { job_name: %s, static_configs: [{ targets: ["%s"] }] }\n' "${job% *}" "${job#* }"
        done
    } >"$work/prometheus.yaml"
    port=$((30000 + RANDOM % 10000))
    prometheus --config.file="$work/prometheus.yaml" --storage.tsdb.path="$work/data" \
        --web.listen-address="127.0.0.1:$port" >"$work/prometheus.log" 2>&1 &
    pids+=($!)
    server=http://127.0.0.1:$port
    ask() { promtool query instant "$server" "$1" 2>/dev/null; }
    # Panels show rates over a minute, which take two scrapes with requests between them.
    for _ in $(seq 8); do
        curl -fsS -d '{"source":"check","data":"x"}' "http://$gateway/api/v1/ingest" >/dev/null
        curl -sS -d '{' "http://$gateway/ingest" >/dev/null
        sleep 1
    done
    missing=0
    names=$(grep -ohE '\b(up|(node|process|tokio|queue|processor|ingest|gateway|http|upstream)_[a-zA-Z_]+)\b' \
        <(sed -n '/expr:/,/for:\|labels:/p' "$here/prometheus/rules.yaml") \
        <(grep -h '"expr"' "$here"/grafana/dashboards/*.json) | grep -v '^ingest_service' | sort -u)
    for name in $names; do
        [[ $name == node_* && -z $exporter ]] && continue
        [[ -n $(ask "$name") ]] || { echo "error: nothing exposes $name" >&2; missing=1; }
    done
    while read -r expression; do
        [[ -n $(ask "$expression") ]] || { echo "error: the panel of $expression is empty" >&2; missing=1; }
    done < <(sed -n 's/^ *"expr": "\(.*\)",\{0,1\}$/\1/p' "$here"/grafana/dashboards/*.json | sed 's/\\"/"/g')
    ((missing == 0))
    echo "$(wc -w <<<"$names") series are scraped and every panel has a value"
fi
((${#left_out[@]} == 0)) || echo "left out, not installed: ${left_out[*]}"
