//! The program with real servers: faults under load, topics, shards, `up` and `backends`. Where the native way
//! is not open, each prints what it left out; with `QUEUEBENCH_REQUIRE` it fails instead.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{PROGRAM, finish, queuebench, scene, signal, start, text, wait_until};

/// Whether a NATS server can be started as a child process, or built for it.
fn nats_is_open() -> bool {
    let survey = Command::new(PROGRAM).args(["backends", "--json"]).output().expect("the program starts");
    let ways: Value = serde_json::from_slice(&survey.stdout).expect("nothing but JSON");
    let native = |way: &&Value| way["backend"] == "nats" && way["provisioner"] == "native";
    let way = ways.as_array().expect("a list").iter().find(native).expect("every way is listed");
    let closed = way["state"] == "closed";
    if closed {
        queuebench_testcontainers::require::skip(&["nats", "native"], &way["reason"]);
    }
    !closed
}

fn record(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("reports/runs/latest/result.json")).expect("a record");
    serde_json::from_str(&text).expect("JSON")
}

const OVER_NATS: [&str; 8] =
    ["compare", "queues", "--backends", "nats", "--via", "native", "--profile", "quick.toml"];

#[test]
fn a_server_killed_paused_and_restarted_under_load_loses_nothing() {
    if !nats_is_open() {
        return;
    }
    let dir = scene(
        r#"
name = "faults"
trials = 1
drain_deadline = "60s"
[workload]
payload = "128B"
producers = 2
consumers = 2
keys = { kind = "uniform", count = 50 }
[[phase]]
name = "steady"
model = "open"
rate = "1k/s"
duration = "5s"
[[fault]]
at = "1s"
kind = "kill"
target = "nats"
duration = "500ms"
[[fault]]
at = "3s"
kind = "pause"
duration = "300ms"
[[fault]]
at = "4200ms"
kind = "restart"
target = "kafka"
"#,
    );
    let run = queuebench(dir.path(), &OVER_NATS);
    // What a broken connection left unacknowledged comes again after later messages of its key: counted, and
    // nothing that was promised.
    assert!(run.status.success(), "{}", text(&run.stderr));
    let record = record(dir.path());
    let trial = &record["subjects"][0]["trials"][0];
    let delivery = &trial["delivery"];
    for key in ["lost", "corrupted", "stray", "resurrected"] {
        assert_eq!(delivery.get(key).and_then(Value::as_u64).unwrap_or(0), 0, "{key}: {delivery}");
    }
    let redelivered = delivery.get("reordered_redelivered").and_then(Value::as_u64).unwrap_or(0);
    assert_eq!(delivery["reordered"], redelivered, "{delivery}");
    assert_eq!(delivery["attempted"], 5_000, "the load went on");
    assert!(delivery["acknowledged"].as_u64().expect("a count") > 4_000, "{delivery}");
    let faults = trial["faults"].as_array().expect("a list");
    let told: Vec<_> = faults.iter().map(|f| (f["kind"].as_str(), f["target"].as_str())).collect();
    assert_eq!(told, [(Some("kill"), Some("nats")), (Some("pause"), Some("nats"))]);
    for (fault, [from, least]) in faults.iter().zip([[1.0, 0.5], [3.0, 0.3]]) {
        let at = |key: &str| fault[key].as_f64().expect("seconds");
        assert!(at("start_s") >= from && at("end_s") - at("start_s") >= least, "{fault}");
    }
    // A second of silence is in the response times: the load waited for nobody.
    assert!(trial["phases"][0]["response_us"]["max"].as_f64().expect("µs") > 500_000.0);
    let left_out =
        record["warnings"].as_array().expect("a list").iter().any(|w| w["code"] == "fault-not-applied");
    assert!(left_out, "a fault of a server that is not there is told");
    let page = std::fs::read_to_string(dir.path().join("reports/runs/latest/index.html")).expect("a page");
    assert!(page.contains("kill of nats"), "the picture has the band and the words");
}

#[test]
fn topics_are_streams_of_their_own_and_every_one_is_proven() {
    if !nats_is_open() {
        return;
    }
    let dir = scene(
        r#"
name = "topics"
trials = 1
[workload]
payload = "128B"
topics = 3
producers = 2
consumers = 1
groups = 2
keys = { kind = "uniform", count = 20 }
[[phase]]
name = "steady"
model = "open"
rate = "900/s"
duration = "1s"
"#,
    );
    let run = queuebench(dir.path(), &OVER_NATS);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let record = record(dir.path());
    let delivery = &record["subjects"][0]["trials"][0]["delivery"];
    assert_eq!(delivery["acknowledged"], 900, "{delivery}");
    assert_eq!(delivery["received"], 1_800, "two groups");
    for key in ["lost", "duplicated", "reordered", "stray"] {
        assert_eq!(delivery[key], 0, "{key}");
    }
    assert_eq!(delivery["promise"]["ordered_per_key"], true, "each consumer is alone in its group and topic");
}

#[test]
fn what_can_be_started_is_listed_as_text_and_as_json() {
    let dir = scene("");
    let table = queuebench(dir.path(), &["backends"]);
    assert_eq!(table.status.code(), Some(0), "{}", text(&table.stderr));
    let said = text(&table.stdout);
    for word in ["memory", "embedded", "nats", "kafka", "docker", "native", "external", "composite"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let closed = Command::new(PROGRAM)
        .args(["backends", "--json"])
        .env("PATH", "")
        .env("XDG_CACHE_HOME", dir.path())
        .env("DOCKER_HOST", "tcp://127.0.0.1:1")
        .env_remove("NATS_URL")
        .env_remove("KAFKA_BROKERS")
        .output()
        .expect("the program starts");
    let ways: Value = serde_json::from_slice(&closed.stdout).expect("nothing but JSON");
    let ways = ways.as_array().expect("a list");
    assert!(ways.len() >= 6, "three ways of two servers");
    assert!(ways.iter().all(|way| way.to_string().contains("reason")), "each says why not: {ways:?}");
}

#[test]
fn a_server_is_held_up_until_a_signal_and_then_gone() {
    let dir = scene("");
    let alone = queuebench(dir.path(), &["up", "memory"]);
    assert_eq!(alone.status.code(), Some(0));
    assert!(text(&alone.stdout).contains("needs no server"));
    if !nats_is_open() {
        return;
    }
    let mut run = start(dir.path(), &["up", "nats", "--via", "native"]);
    let mut lines = BufReader::new(run.stdout.take().expect("piped")).lines();
    let said = lines.next().expect("an address").expect("text");
    let address = said.strip_prefix("nats ").expect("the server's name first").to_owned();
    let listening = || std::net::TcpStream::connect(&address).is_ok();
    assert!(listening(), "{address} answers");
    // The same port cannot be had twice, and the second one says so.
    let port = address.rsplit(':').next().expect("a port");
    let clash = queuebench(dir.path(), &["up", "nats", "--via", "native", "--port", port]);
    assert_eq!(clash.status.code(), Some(5), "{}", text(&clash.stderr));
    assert!(text(&clash.stderr).contains(port), "{}", text(&clash.stderr));
    signal(run.id(), rustix::process::Signal::INT);
    let ended = finish(run, Duration::from_secs(60));
    assert_eq!(ended.status.code(), Some(0), "{}", text(&ended.stderr));
    wait_until("nobody listens", || !listening());
}

#[test]
fn two_shards_load_one_server_and_join_without_loss() {
    if !nats_is_open() {
        return;
    }
    let dir = scene(super::QUICK);
    let run = queuebench(dir.path(), &[&OVER_NATS[..], &["--trials", "1", "--shards", "2"]].concat());
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let record = record(dir.path());
    let trial = &record["subjects"][0]["trials"][0];
    let delivery = &trial["delivery"];
    assert_eq!(trial["phases"][0]["response_us"]["count"], 300, "the plan was cut, not copied");
    assert_eq!(trial["phases"][0]["offered_per_s"], 1_000.0);
    assert_eq!(delivery["received"], delivery["acknowledged"], "{delivery}");
    assert_eq!((&delivery["lost"], &delivery["stray"]), (&0.into(), &0.into()), "{delivery}");
    assert_eq!(delivery["drain_deadline_passed"], false);
}
