//! The program with a cluster of its own: lookups and small data while a node dies.

use serde_json::Value;

use super::{queuebench, scene, text};

fn profile(fault: &str) -> String {
    format!(
        r#"
name = "cluster"
trials = 1
[workload]
payload = "64B"
keys = {{ kind = "uniform", count = 100 }}
[[phase]]
name = "lookup"
model = "closed"
in_flight = 8
duration = "500ms"
[[phase]]
name = "death"
model = "open"
rate = "100/s"
in_flight = 64
duration = "15s"
operation = "mixed"
[[fault]]
at = "2s"
{fault}
[subjects.three]
backend = "cluster"
nodes = 3
partitions = 16
"#
    )
}

#[test]
fn a_death_in_a_cluster_is_measured_and_nothing_acknowledged_is_lost() {
    // Long enough for a busy machine to remove it and to agree.
    let dir = scene(&profile("kind = \"kill\"\ntarget = \"cluster-follower\"\nduration = \"12s\""));
    let run = queuebench(dir.path(), &["run", "quick.toml"]);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let folder = dir.path().join("reports/runs/latest");
    let record = std::fs::read_to_string(folder.join("result.json")).expect("the record is there");
    let record: Value = serde_json::from_str(&record).expect("the record is JSON");
    assert_eq!(record["compared"], "cluster");
    let subject = &record["subjects"][0];
    assert_eq!((&subject["provisioner"], &subject["settings"]["nodes"]), (&"native".into(), &3.into()));
    assert!(subject["settings"].get("endpoints").is_none(), "{}", subject["settings"]);
    let trial = &subject["trials"][0];
    assert!(trial["phases"][0]["response_us"]["p95"].as_f64().expect("µs") > 0.0);
    let delivery = &trial["delivery"];
    for key in ["lost", "corrupted"] {
        assert_eq!(delivery[key], 0, "{delivery}");
    }
    assert_eq!(delivery["promise"]["delivery"], "acknowledged-kept");
    assert_eq!(trial["phases"][1]["offered_per_s"], 100.0);
    assert_eq!(
        trial["faults"][0]["target"],
        format!("{} (follower)", trial["deaths"][0]["node"].as_str().expect("an id"))
    );

    let death = &trial["deaths"][0];
    let seconds = |key: &str| death[key].as_f64().unwrap_or_else(|| panic!("{key}: {death}"));
    assert!(seconds("detected_s") <= seconds("agreed_s") && seconds("returned_s") > 0.0, "{death}");
    assert_eq!((&death["was_leader"], &death["nodes"]), (&false.into(), &3.into()));
    // All three had every partition, so each loses one in charge.
    assert_eq!((&death["partitions"], &death["partitions_moved"]), (&16.into(), &16.into()), "{death}");
    assert!(death["hooks_delivered"].as_u64().expect("a count") > 0, "{death}");
    let page = std::fs::read_to_string(folder.join("index.html")).expect("the page is there");
    assert!(page.contains("When a node dies") && page.contains("16 of 16"), "the report shows it");
    assert!(!folder.join("shards").exists(), "the nodes' data is gone");
}

#[test]
fn what_a_cluster_cannot_do_is_refused_before_anything_starts() {
    let refused = |profile: &str, arguments: &[&str], word: &str| {
        let dir = scene(profile);
        let run = queuebench(dir.path(), arguments);
        assert_eq!(run.status.code(), Some(2), "{}", text(&run.stderr));
        assert!(text(&run.stderr).contains(word), "{}", text(&run.stderr));
    };
    let whole = profile("kind = \"restart\"");
    refused(&whole, &["run", "quick.toml"], "cluster-follower");
    let fault = "kind = \"restart\"\ntarget = \"cluster-leader\"";
    refused(&profile(fault).replace("mixed", "delete"), &["run", "quick.toml"], "put-data");
    refused(&profile(fault).replace("nodes = 3", "nodes = 2"), &["run", "quick.toml"], "replication_factor");
    let queues = ["compare", "queues", "--backends", "cluster", "--profile", "quick.toml"];
    refused(super::QUICK, &queues, "run cluster");
}
