//! The pipeline with several processors, and a soak: what each leaves in the record.

use serde_json::Value;

use super::{queuebench, scene, text};

fn record(dir: &std::path::Path) -> Value {
    let path = dir.join("reports/runs/latest/result.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the record is there")).expect("it is JSON")
}

fn pipeline<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["compare", "pipeline", "--backends", "memory"].iter().chain(more).copied().collect()
}

#[test]
fn processors_are_compared_by_their_number_and_the_law_is_fitted() {
    let profile = "name = \"rush\"\ntrials = 1\n[workload]\npayload = \"100B\"\nkeys = { kind = \"none\" }\n\
        [[phase]]\nname = \"rush\"\nmodel = \"closed\"\nin_flight = 16\nduration = \"1s\"\n";
    let dir = scene(profile);
    let run = queuebench(dir.path(), &pipeline(&["--profile", "quick.toml", "--processors", "1,2,3"]));
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let record = record(dir.path());
    for (subject, count) in record["subjects"].as_array().expect("subjects").iter().zip(1..) {
        assert_eq!(subject["name"], format!("pipeline-memory-x{count}"));
        assert_eq!(subject["settings"]["processors"], count);
        assert_eq!(subject["trials"][0]["delivery"]["lost"], 0);
    }
    let page = std::fs::read_to_string(dir.path().join("reports/runs/latest/index.html")).expect("a page");
    assert!(
        page.contains("universal scalability law") && page.contains("contention"),
        "the law is not drawn"
    );
}

#[test]
fn a_pipeline_is_refused_that_names_something_twice() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (arguments, word) in [
        (&["--processors", "2,2"][..], "twice"),
        (&["--processors", "0"], "0"),
        (&["--soak", "1", "--profile", "smoke"], "--profile"),
    ] {
        let run = queuebench(dir.path(), &pipeline(arguments));
        let said = text(&run.stderr);
        assert_eq!((run.status.code(), said.contains(word)), (Some(2), true), "{arguments:?}: {said}");
    }
}

#[test]
fn a_soak_judges_what_may_not_grow() {
    let profile = "name = \"soak\"\ntrials = 1\nwindow = \"200ms\"\njudge_growth = true\n\
        [workload]\npayload = \"100B\"\nkeys = { kind = \"none\" }\n\
        [[phase]]\nname = \"soak\"\nmodel = \"open\"\nrate = \"200/s\"\nduration = \"4s\"\n";
    let dir = scene(profile);
    let run = queuebench(dir.path(), &pipeline(&["--profile", "quick.toml"]));
    // Four seconds are too short to say that nothing grew, but long enough to watch.
    assert!(matches!(run.status.code(), Some(0 | 3)), "{}", text(&run.stderr));
    let record = record(dir.path());
    let gates = record["gates"].as_array().expect("gates");
    let names: Vec<_> = gates.iter().map(|gate| gate["gate"].as_str().unwrap_or_default()).collect();
    assert_eq!(names, ["memory does not grow", "open files do not grow", "tasks do not grow"]);
    for gate in gates {
        assert!(gate["value"].is_number() && gate["limit"].is_number(), "{gate}");
    }
    assert_eq!(record["subjects"][0]["trials"][0]["delivery"]["lost"], 0);
}
