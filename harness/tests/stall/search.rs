//! A search for the highest rate through the whole program, on cores of its own.

use std::process::{Command, Output};
use std::sync::PoisonError;

use super::ALONE;

/// How often a search that the machine disturbed is repeated at the most.
const ATTEMPTS: usize = 8;

const QUICK: &str = r#"
name = "quick"
[workload]
payload = "128B"
[[phase]]
name = "steady"
model = "open"
rate = "1k/s"
duration = "300ms"
"#;

const SEARCH: [&str; 16] = [
    "capacity",
    "--backends",
    "memory",
    "--profile",
    "quick.toml",
    "--step",
    "1s",
    "--trials",
    "1",
    "--from",
    "200/s",
    "--to",
    "400/s",
    "--slo",
    "response_p99_us < 60s",
    "--json",
];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_search_ends_with_a_rate_its_trials_and_a_picture() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("quick.toml"), QUICK).expect("it takes a file");
    let search = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queuebench"));
        command.args(SEARCH).current_dir(dir.path()).env_remove("QUEUEBENCH_REQUIRE");
        command.output().expect("the program starts")
    };
    // Where other work takes the cores, even so low a rate is not carried in time: such a run proves nothing
    // and is repeated, a few times at the most.
    let mut runs = (0..ATTEMPTS).map(|_| search());
    let whole = |run: &Output| !text(&run.stderr).contains("were carried");
    let run = runs.find(whole).expect("the rate is carried in one of the runs");
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&run.stdout).expect("nothing but JSON");
    let found = &summary["capacity"]["subjects"][0];
    assert_eq!(found["highest_per_s"], 400.0, "{found}");
    assert_eq!(found["limited_by"], "upper-bound");
    let kinds: Vec<_> = found["probes"].as_array().expect("trials").iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["growth", "growth", "confirmation"]);
    let headline = summary["answer"]["headline"].as_str().expect("a sentence");
    assert!(headline.contains("memory carries at least 400 messages/s"), "{headline}");

    let latest = dir.path().join("reports/runs/latest");
    let record = std::fs::read_to_string(latest.join("result.json")).expect("a record");
    let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
    let trials = record["subjects"][0]["trials"].as_array().expect("trials");
    assert_eq!(trials.len(), 1, "the confirmation");
    assert_eq!(trials[0]["phases"][1]["offered_per_s"], 400.0);
    let page = std::fs::read_to_string(latest.join("index.html")).expect("a page");
    assert!(page.contains("chart-capacity-wide") && page.contains("at least"), "the page has the chart");
}
