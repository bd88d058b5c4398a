//! The deployment files name only what the services expose.

use std::collections::BTreeSet;

use crate::client::{Http, pipeline};

const RULES: &str = include_str!("../../deploy/prometheus/rules.yaml");
const DASHBOARD: &str = include_str!("../../deploy/grafana/dashboards/pipeline.json");

/// Words of an expression that are series: those with an underscore that are not functions.
fn series(expression: &str) -> BTreeSet<String> {
    expression
        .split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
        .filter(|word| word.contains('_') && !word.starts_with("histogram_quantile"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_series_of_alerts_and_panels_is_in_a_live_scrape() {
    let (pipeline, http) = (pipeline().await, Http::new());
    assert_eq!(http.post(pipeline.address(), "/ingest", "{}").await.status, 200);
    let mut exposed = BTreeSet::new();
    for service in [pipeline.address(), pipeline.ingest.address(), pipeline.processor.address()] {
        // The first scrape is itself a request, so that the second one shows it.
        http.get(service, "/metrics").await;
        for line in http.get(service, "/metrics").await.body.lines().filter(|line| !line.starts_with('#')) {
            exposed.insert(line.split(['{', ' ']).next().unwrap().to_owned());
        }
    }
    let mut wanted = BTreeSet::new();
    let mut expressions = 0;
    let mut in_expression = false;
    for line in RULES.lines() {
        if line.trim_start().starts_with("expr:") {
            expressions += 1;
            in_expression = true;
        } else if line.trim_start().starts_with("for:") || line.trim_start().starts_with("labels:") {
            in_expression = false;
        }
        if in_expression {
            wanted.extend(series(line));
        }
    }
    assert_eq!(expressions, RULES.matches("- alert:").count(), "every alert has its expression");
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            expressions += 1;
            wanted.extend(series(target["expr"].as_str().unwrap()));
        }
    }
    assert!(expressions > 12 && wanted.len() >= 15, "{expressions} expressions, {wanted:?}");
    // Those of the exporters are not ours to expose; `just check-deploy` scrapes a real node-exporter.
    wanted.retain(|name| !name.starts_with("node_") && !name.starts_with("container_"));
    let missing: Vec<_> = wanted.difference(&exposed).collect();
    assert!(missing.is_empty(), "no service exposes {missing:?}");
}
