//! The program as a user runs it: exit codes, refusals, an interrupted run, a killed one.

#[path = "cli/cluster.rs"]
mod cluster;
#[path = "cli/objectives.rs"]
mod objectives;
#[path = "cli/pipelines.rs"]
mod pipelines;
#[path = "cli/servers.rs"]
mod servers;
#[path = "cli/traces.rs"]
mod traces;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use queuebench_reports::histograms::Kind;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_queuebench");

/// Two quick phases over the in-process queue.
const QUICK: &str = r#"
name = "quick"
trials = 3
[workload]
payload = "128B"
[[phase]]
name = "steady"
model = "open"
rate = "1k/s"
duration = "300ms"
[[phase]]
name = "burst"
model = "closed"
in_flight = 64
duration = "100ms"
"#;

fn queuebench(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(dir)
        .env_remove("QUEUEBENCH_REQUIRE")
        .output()
        .expect("the program starts")
}

fn scene(profile: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    std::fs::write(dir.path().join("quick.toml"), profile).expect("it takes a file");
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const COMPARE: [&str; 6] = ["compare", "queues", "--backends", "memory", "--profile", "quick.toml"];

#[test]
fn a_run_of_the_memory_queue_leaves_a_folder_that_draws() {
    let dir = scene(QUICK);
    let run = queuebench(dir.path(), &COMPARE);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let table = text(&run.stdout);
    assert!(table.contains("memory") && table.contains("index.html"), "{table}");

    let folder = dir.path().join("reports/runs/latest");
    for name in ["result.json", "histograms.hlog", "index.html", "summary.md", "summary.csv", "log.txt"] {
        assert!(folder.join(name).is_file(), "{name} is missing");
    }
    let record = std::fs::read_to_string(folder.join("result.json")).expect("the record is there");
    let record: serde_json::Value = serde_json::from_str(&record).expect("the record is JSON");
    assert_eq!(record["format"], "queuebench.run/1");
    assert_eq!(record["partial"], false);
    let page = std::fs::read_to_string(folder.join("index.html")).expect("the page is there");
    assert!(!page.contains("Interrupted"), "a whole run does not draw as an interrupted one");
    let trials = record["subjects"][0]["trials"].as_array().expect("trials are a list");
    assert_eq!(trials.len(), 3);
    for trial in trials {
        let delivery = &trial["delivery"];
        assert_eq!((&delivery["lost"], &delivery["unknown"]), (&0.into(), &0.into()), "{delivery}");
        assert_eq!(delivery["received"], delivery["acknowledged"]);
        assert_eq!(trial["phases"][0]["response_us"]["count"], 300);
    }
    assert!(record["calibration"]["cpu_us_per_message"].as_f64().expect("a figure") > 0.0);
    assert!(record["subjects"][0]["summary"]["steady"]["response_p95_us"]["ci95"].is_array());

    // It is drawn again from the record alone, exported, and held against gates.
    std::fs::remove_file(folder.join("index.html")).expect("it was there");
    assert_eq!(queuebench(dir.path(), &["report", "reports/runs/latest"]).status.code(), Some(0));
    assert!(folder.join("index.html").is_file());
    let csv = queuebench(dir.path(), &["report", "reports/runs/latest", "--format", "csv"]);
    assert!(text(&csv.stdout).contains("response_p95_us"), "{}", text(&csv.stdout));
    let gate = |expression| queuebench(dir.path(), &["report", "reports/runs/latest", "--gate", expression]);
    assert_eq!(gate("*.delivery.lost == 0").status.code(), Some(0));
    assert_eq!(gate("memory.steady.response_p95_us < 1ns").status.code(), Some(3));
    let wrong = gate("memory.steady.response_p95 < 1ms");
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
    let pair = queuebench(dir.path(), &["report", "reports/runs/latest", "reports/runs/latest"]);
    assert_eq!(pair.status.code(), Some(0), "{}", text(&pair.stderr));
    assert!(dir.path().join("comparison.html").is_file());
}

#[test]
fn the_pipeline_is_measured_through_its_front_door_and_every_id_is_found_again() {
    let dir = scene(QUICK);
    let arguments =
        ["compare", "pipeline", "--backends", "memory", "--profile", "quick.toml", "--trials", "1"];
    let run = queuebench(dir.path(), &arguments);
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let folder = dir.path().join("reports/runs/latest");
    let record = std::fs::read_to_string(folder.join("result.json")).expect("the record is there");
    let record: serde_json::Value = serde_json::from_str(&record).expect("the record is JSON");
    assert_eq!(
        (&record["compared"], &record["warnings"].to_string().contains("ended")),
        (&"pipeline".into(), &false)
    );
    let subject = &record["subjects"][0];
    assert_eq!((&subject["name"], &subject["provisioner"]), (&"pipeline-memory".into(), &"native".into()));
    let (trial, settings) = (&subject["trials"][0], &subject["settings"]);
    let delivery = &trial["delivery"];
    assert_eq!((&delivery["lost"], &delivery["corrupted"]), (&0.into(), &0.into()), "{delivery}");
    assert_eq!(delivery["received"], delivery["acknowledged"], "{delivery}");
    assert_eq!(trial["phases"][0]["end_to_end_us"]["count"], 300, "{trial}");
    assert!(trial["resources"]["subject"]["cpu_s"].as_f64().expect("services are observed") > 0.0);
    // By message id: what the accepted answer named is what was processed under that name.
    let matched = settings["server.ids.matched"].as_str().expect("ids are counted");
    assert_eq!(matched, delivery["acknowledged"].to_string());
    assert_eq!(settings["server.ids.mismatched"], "0");

    let wrong = queuebench(dir.path(), &["compare", "pipeline", "--backends", "null"]);
    assert_eq!(wrong.status.code(), Some(2), "{}", text(&wrong.stderr));
}

#[test]
fn json_stands_alone_on_standard_output() {
    let dir = scene(QUICK);
    let run = queuebench(dir.path(), &[&COMPARE[..], &["--json", "--trials", "1"]].concat());
    assert_eq!(run.status.code(), Some(0), "{}", text(&run.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&run.stdout).expect("nothing but JSON");
    assert!(summary.to_string().contains("memory"));
}

#[test]
fn bad_input_is_refused_with_2_and_the_reason() {
    let dir = scene(&QUICK.replace("rate =", "rtae ="));
    for (arguments, wants) in [
        (&COMPARE[..], "line 9: unknown field `rtae`"),
        (&COMPARE[..], "did you mean `rate`?"),
        (&["compare", "queues", "--profile", "nowhere"][..], "smoke, standard"),
        (&["compare", "queues", "--backends", "rabbit"][..], "memory, nats, kafka, composite"),
        (&["compare", "queues", "--backends", "memory,memory"][..], "memory twice"),
        (&["compare", "queues", "--via", "magic"][..], "docker"),
        (&["profiles", "show", "smok"][..], "smoke"),
        (&["shard", "nowhere.json", "--out", "x", "--index", "3"][..], "--index 3 is not below --of 1"),
    ] {
        let run = queuebench(dir.path(), arguments);
        let said = text(&run.stderr);
        assert_eq!(run.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(wants), "{arguments:?} should say {wants:?}: {said}");
        assert!(run.stdout.is_empty(), "errors go to standard error");
    }
    assert!(!dir.path().join("reports").exists(), "nothing was begun");
}

#[test]
fn an_unknown_setting_of_a_subject_is_refused() {
    let dir = scene(&format!("{QUICK}\n[subjects.memory]\ncapacty = 3\n"));
    let run = queuebench(dir.path(), &COMPARE);
    let said = text(&run.stderr);
    assert_eq!(run.status.code(), Some(2), "{said}");
    assert!(said.contains("subjects.memory") && said.contains("capacty"), "{said}");
}

#[test]
fn a_required_subject_that_cannot_be_started_is_5_and_another_is_skipped_by_name() {
    let dir = scene(QUICK);
    let compare = |require: &[&str]| {
        let arguments =
            ["compare", "queues", "--backends", "memory,nats", "--profile", "quick.toml", "--trials", "1"];
        Command::new(PROGRAM)
            .args(arguments)
            .args(require)
            .current_dir(dir.path())
            .env_remove("QUEUEBENCH_REQUIRE")
            // Nobody listens there, and an address that is given is the way to take.
            .env("NATS_URL", "nats://127.0.0.1:1")
            .output()
            .expect("the program starts")
    };
    let required = compare(&["--require", "nats"]);
    assert_eq!(required.status.code(), Some(5), "{}", text(&required.stderr));
    assert!(text(&required.stderr).contains("nats is required"), "{}", text(&required.stderr));
    let skipped = compare(&[]);
    assert_eq!(skipped.status.code(), Some(0), "{}", text(&skipped.stderr));
    assert!(text(&skipped.stdout).contains("nats"), "the table names what was skipped");
}

#[test]
fn a_signal_ends_a_run_with_130_and_keeps_what_was_measured() {
    let dir = scene(&QUICK.replace("300ms", "1h"));
    let run = start(dir.path(), &COMPARE);
    let pid = run.id();
    wait_until("the load has begun", || !shards_of(pid).is_empty());
    signal(pid, rustix::process::Signal::INT);
    let ended = finish(run, Duration::from_secs(60));
    assert_eq!(ended.status.code(), Some(130), "{}", text(&ended.stderr));
    let record = dir.path().join("reports/runs/latest/result.json");
    let record: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(record).expect("a record is left")).expect("JSON");
    assert_eq!(record["partial"], true);
}

#[test]
fn a_killed_run_takes_its_shards_with_it_and_its_folder_still_draws() {
    let dir = scene(&QUICK.replace("300ms", "3s"));
    let mut run = start(dir.path(), &COMPARE);
    let pid = run.id();
    let runs = dir.path().join("reports/runs");
    // The record is written after every trial; a second shard means that the first trial is in it.
    let partial = || {
        let entries = std::fs::read_dir(&runs).into_iter().flatten().flatten();
        let mut folders = entries.map(|e| e.path()).filter(|p| p.join("result.json").is_file());
        folders.next()
    };
    wait_until("a trial is recorded", || partial().is_some() && !shards_of(pid).is_empty());
    let shards = shards_of(pid);
    run.kill().expect("it is ours");
    run.wait().expect("it ends");
    wait_until("no shard is left", || shards.iter().all(|&shard| !is_running(shard)));
    let folder = partial().expect("the partial folder is there");
    assert!(folder.to_string_lossy().ends_with(".partial"), "{}", folder.display());
    let drawn = queuebench(dir.path(), &["report", &folder.to_string_lossy()]);
    assert_eq!(drawn.status.code(), Some(0), "{}", text(&drawn.stderr));
    assert!(folder.join("index.html").is_file());
}

#[test]
fn shards_of_a_trial_merge_into_the_whole() {
    let dir = scene(QUICK);
    let profile = queuebench::profile::Profile::parse(QUICK, "test").expect("the profile is right");
    let spec = queuebench::shard::ShardSpec {
        subject: "null".to_owned(),
        config: serde_json::json!("null"),
        profile,
        seed: 5,
        index: 0,
        position: 0,
        trial_id: 9,
        message_ids: queuebench::profile::MessageIds::None,
        embedded: true,
    };
    let spec = serde_json::to_string(&spec).expect("a specification is JSON");
    std::fs::write(dir.path().join("spec.json"), spec).expect("it takes a file");
    for index in ["0", "1"] {
        let out = format!("shard-{index}");
        let shard =
            queuebench(dir.path(), &["shard", "spec.json", "--index", index, "--of", "2", "--out", &out]);
        assert_eq!(shard.status.code(), Some(0), "{}", text(&shard.stderr));
        let events = text(&shard.stdout);
        assert!(
            events.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
            "{events}"
        );
    }
    let alone = queuebench(dir.path(), &["merge", "shard-0", "--out", "whole"]);
    assert_eq!(alone.status.code(), Some(1), "a shard is missing");
    let merged = queuebench(dir.path(), &["merge", "shard-1", "shard-0", "--out", "whole"]);
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged.stderr));
    let (whole, histograms) = queuebench::shard::read(&dir.path().join("whole")).expect("it was written");
    assert_eq!(whole.record.trial.phases[0].response_us.count, 300, "the plan was cut, not copied");
    assert_eq!(whole.record.trial.delivery.lost, 0);
    let responses = histograms.iter().filter(|(key, ..)| key.kind == Kind::Response);
    assert_eq!(responses.map(|(_, _, h)| h.len()).sum::<u64>(), whole.record.trial.delivery.acknowledged);
}

/// Every operation once over three nodes of our own store.
const STORE: &str = r#"
name = "store"
trials = 1
[workload]
payload = "64B"
keys = { kind = "uniform", count = 20 }
[[phase]]
name = "put"
model = "open"
rate = "100/s"
in_flight = 64
duration = "1s"
operation = "put"
[[phase]]
name = "mixed"
model = "closed"
in_flight = 8
duration = "500ms"
operation = "mixed"
[[phase]]
name = "stale"
model = "closed"
in_flight = 8
duration = "200ms"
operation = "get-serializable"
[[phase]]
name = "cas"
model = "closed"
in_flight = 8
duration = "500ms"
operation = "cas"
[[phase]]
name = "range"
model = "closed"
in_flight = 4
duration = "200ms"
operation = "range"
"#;

#[test]
fn a_run_over_our_store_is_judged_and_a_stale_read_or_a_lost_write_in_its_history_is_4() {
    let dir = scene(STORE);
    let arguments = ["compare", "kv", "--backends", "kv", "--profile", "quick.toml", "--via", "native"];
    let run = queuebench(dir.path(), &arguments);
    assert_eq!(run.status.code(), Some(0), "{}{}", text(&run.stdout), text(&run.stderr));
    let folder = dir.path().join("reports/runs/latest");
    let record = std::fs::read_to_string(folder.join("result.json")).expect("the record is there");
    let record: serde_json::Value = serde_json::from_str(&record).expect("the record is JSON");
    assert_eq!(record["verdicts"]["consistency"], "linearizable", "{}", record["warnings"]);
    let subject = &record["subjects"][0];
    assert_eq!((&subject["durability"], &subject["provisioner"]), (&"power-loss".into(), &"native".into()));
    for phase in subject["trials"][0]["phases"].as_array().expect("phases are a list") {
        assert!(phase["response_us"]["count"].as_u64() > Some(10), "{phase}");
    }

    let history = folder.join("histories/kv-0.jsonl");
    let verify = |path: &Path| queuebench(dir.path(), &["verify", path.to_str().expect("a plain path")]);
    let sound = verify(&history);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stdout));
    let lines = std::fs::read_to_string(&history).expect("the history is there");
    let mut entries: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
    let planted = dir.path().join("planted.jsonl");
    let plant = |entries: &[serde_json::Value]| {
        let lines: Vec<String> = entries.iter().map(ToString::to_string).collect();
        std::fs::write(&planted, lines.join("\n")).expect("it takes a file");
    };

    // The last read of a key shows the key's first value instead.
    let last = entries.len() - 1;
    let key = entries[last]["key"].clone();
    let first = entries.iter().find(|e| e["key"] == key && e["operation"] == "put").expect("a put").clone();
    let original = entries[last].clone();
    assert_eq!(original["operation"], "get");
    entries[last]["value"] = first["argument"].clone();
    entries[last]["revision"] = first["revision"].clone();
    plant(&entries);
    let stale = verify(&planted);
    assert_eq!(stale.status.code(), Some(4), "{}", text(&stale.stdout));
    assert!(text(&stale.stdout).contains("are missing at the end"), "{}", text(&stale.stdout));

    // A write that was acknowledged and that nobody ever sees.
    entries[last] = original;
    let (start, revision) = (&entries[last]["start"], &entries[last]["revision"]);
    let at = start.as_u64().expect("a time") - 2;
    let mut lost = first;
    lost["argument"] = "dead".into();
    lost["revision"] = (revision.as_i64().expect("a revision") + 1_000_000).into();
    (lost["start"], lost["end"]) = (at.into(), (at + 1).into());
    entries.push(lost);
    plant(&entries);
    let lost = verify(&planted);
    assert_eq!(lost.status.code(), Some(4), "{}", text(&lost.stdout));

    // What is no history is refused.
    std::fs::write(&planted, "{}\n").expect("it takes a file");
    assert_eq!(verify(&planted).status.code(), Some(2));
}

#[test]
fn queues_and_stores_are_not_compared_with_each_other() {
    let dir = scene(QUICK);
    let store = queuebench(dir.path(), &["compare", "queues", "--backends", "kv"]);
    assert_eq!(store.status.code(), Some(2), "{}", text(&store.stderr));
    let queue = queuebench(dir.path(), &["compare", "kv", "--backends", "memory"]);
    assert_eq!(queue.status.code(), Some(2), "{}", text(&queue.stderr));
}

fn start(dir: &Path, arguments: &[&str]) -> Child {
    Command::new(PROGRAM)
        .args(arguments)
        .current_dir(dir)
        .env_remove("QUEUEBENCH_REQUIRE")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("not zero");
    rustix::process::kill_process(pid, signal).expect("it is running");
}

fn finish(run: Child, limit: Duration) -> Output {
    let pid = run.id();
    let waiting = std::thread::spawn(move || run.wait_with_output().expect("it ends"));
    wait_for("the program ends", limit, || waiting.is_finished() || !is_running(pid));
    waiting.join().expect("the waiting thread does not panic")
}

/// Processes whose parent is `pid` and that run shards under load: they have named their threads.
fn shards_of(pid: u32) -> Vec<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    ids.filter(|id| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let command = std::fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{pid}"))
            && command.contains("\0shard\0")
            && !command.contains("calibration")
    })
    .collect()
}

fn is_running(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    wait_for(what, Duration::from_secs(60), condition);
}

fn wait_for(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {limit:?} until {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}
