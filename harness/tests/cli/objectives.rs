//! Gates on a run that is made, baselines, and the search for the highest rate.

use super::{COMPARE, QUICK, queuebench, scene, text};

fn record(dir: &std::path::Path) -> serde_json::Value {
    let text = std::fs::read_to_string(dir.join("reports/runs/latest/result.json")).expect("a record");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_run_is_held_against_its_gates_and_a_baseline() {
    let dir = scene(QUICK);
    let run = |extra: &[&str]| queuebench(dir.path(), &[&COMPARE[..], &["--trials", "1"], extra].concat());
    let kept = run(&["--gate", "*.delivery.lost == 0", "--gate", "memory.steady.response_p95_us < 1min"]);
    assert_eq!(kept.status.code(), Some(2), "minutes are no unit of a gate");
    let kept = run(&["--gate", "*.delivery.lost == 0", "--gate", "memory.steady.response_p95_us < 60s"]);
    assert_eq!(kept.status.code(), Some(0), "{}", text(&kept.stderr));
    let first = record(dir.path());
    assert_eq!(first["verdicts"]["gate"], "passed");
    assert_eq!(first["gates"].as_array().expect("a list").len(), 2);
    let id = first["id"].as_str().expect("an id").to_owned();

    let baseline = format!("reports/runs/{id}");
    let wanted = "memory.steady.throughput_per_s > 1000x baseline";
    let broken = run(&["--baseline", &baseline, "--gate", wanted]);
    assert_eq!(broken.status.code(), Some(3), "{}", text(&broken.stderr));
    assert!(text(&broken.stderr).contains("✗"), "{}", text(&broken.stderr));
    assert_eq!(record(dir.path())["verdicts"]["gate"], "failed");
    let page = std::fs::read_to_string(dir.path().join("reports/runs/latest/index.html")).expect("a page");
    assert!(page.contains("1000x baseline"), "the report shows the gate");
}

#[test]
fn a_gate_that_could_never_match_is_refused_before_the_load() {
    let dir = scene(QUICK);
    for (gate, wants) in [
        ("kafka.steady.response_p95_us < 1s", "there are the subjects memory"),
        ("memory.stedy.response_p95_us < 1s", "the phases steady, burst"),
        ("memory.steady.response_p95_us < 2x baseline", "--baseline"),
        ("memory.steady", "column"),
    ] {
        let run = queuebench(dir.path(), &[&COMPARE[..], &["--gate", gate]].concat());
        assert_eq!(run.status.code(), Some(2), "{gate}: {}", text(&run.stderr));
        assert!(text(&run.stderr).contains(wants), "{gate}: {}", text(&run.stderr));
    }
    assert!(!dir.path().join("reports").exists(), "nothing was begun");
}

const CAPACITY: [&str; 12] = [
    "capacity",
    "--backends",
    "memory",
    "--profile",
    "quick.toml",
    "--step",
    "200ms",
    "--trials",
    "1",
    "--from",
    "200/s",
    "--slo",
];

#[test]
fn an_objective_that_holds_at_no_rate_is_3_and_a_wrong_one_2() {
    let dir = scene(QUICK);
    let none = queuebench(dir.path(), &[&CAPACITY[..], &["response_p99_us < 1ns", "--limit", "4s"]].concat());
    assert_eq!(none.status.code(), Some(3), "{}", text(&none.stderr));
    assert!(
        text(&none.stdout).contains("memory holds it at no rate that was tried"),
        "{}",
        text(&none.stdout)
    );
    for (slo, wants) in
        [("response_p98_us < 1s", "response_p95_us"), ("response_p99_us < 5 parsecs", "no unit")]
    {
        let wrong = queuebench(dir.path(), &[&CAPACITY[..], &[slo]].concat());
        assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
        assert!(text(&wrong.stderr).contains(wants), "{}", text(&wrong.stderr));
    }
}
