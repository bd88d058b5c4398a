//! Recorded traces through the whole program.

use super::{queuebench, scene, text};

/// Ten records over nine seconds; two keys, one of them twice as frequent.
fn rows() -> impl Iterator<Item = (u32, &'static str)> {
    (0..10).map(|n| (n, if n % 3 == 0 { "lhr" } else { "jfk" }))
}

fn profile(trace: &str, format: &str, time: &str) -> String {
    format!(
        r#"
name = "replay"
trials = 1
[workload]
payload = {{ kind = "trace" }}
keys = {{ kind = "trace" }}
[workload.trace]
path = "{trace}"
format = "{format}"
timestamp = "at"
time_format = "{time}"
key = "airport"
[[phase]]
name = "once"
model = "open"
rate = {{ trace = "own-pace", speed = 20.0 }}
duration = "500ms"
[[phase]]
name = "looped"
model = "open"
rate = {{ trace = "own-pace", speed = 100.0, loop = true }}
duration = "500ms"
[subjects.memory]
"#
    )
}

#[test]
fn csv_and_json_lines_replay_at_their_own_pace_scaled_and_looped() {
    let csv: String = rows().map(|(n, key)| format!("2026-01-01T00:00:{n:02}Z,{key},note {n}\n")).collect();
    let lines: String = rows()
        .map(|(n, key)| format!("{{\"at\":{},\"airport\":\"{key}\",\"note\":\"n{n}\"}}\n", 1_700_000_000 + n))
        .collect();
    for (name, content, format, time) in [
        ("flights.csv", format!("at,airport,note\n{csv}"), "csv", "rfc3339"),
        ("flights.jsonl", lines, "jsonl", "unix-s"),
    ] {
        let dir = scene(&profile(name, format, time));
        std::fs::write(dir.path().join(name), content).expect("it takes a file");
        let run = queuebench(dir.path(), &["run", "quick.toml"]);
        assert_eq!(run.status.code(), Some(0), "{name}: {}", text(&run.stderr));
        let record =
            std::fs::read_to_string(dir.path().join("reports/runs/latest/result.json")).expect("one");
        let record: serde_json::Value = serde_json::from_str(&record).expect("JSON");
        let trial = &record["subjects"][0]["trials"][0];
        let count = |phase: usize| trial["phases"][phase]["response_us"]["count"].as_u64().expect("a count");
        assert_eq!(count(0), 10, "{name}: nine seconds at twenty times the pace, once");
        assert!((40..=60).contains(&count(1)), "{name}: 90 ms again and again for 500 ms: {}", count(1));
        assert_eq!(trial["delivery"]["lost"], 0);
        assert_eq!(trial["delivery"]["received"], trial["delivery"]["acknowledged"]);
    }
}

#[test]
fn a_trace_that_cannot_be_read_is_refused_with_its_line() {
    let dir = scene(&profile("flights.csv", "csv", "rfc3339"));
    let run = || queuebench(dir.path(), &["run", "quick.toml"]);
    let missing = run();
    assert_ne!(missing.status.code(), Some(0));
    assert!(text(&missing.stderr).contains("flights.csv"), "{}", text(&missing.stderr));
    std::fs::write(dir.path().join("flights.csv"), "at,airport\n2026-01-01T00:00:00Z,lhr\nyesterday,jfk\n")
        .expect("it takes a file");
    let wrong = run();
    assert_ne!(wrong.status.code(), Some(0));
    assert!(text(&wrong.stderr).contains("line 3"), "{}", text(&wrong.stderr));
}
