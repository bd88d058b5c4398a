//! What users and other tools see of a record: stored ones of every format version, summaries, exports.

#[path = "support/sample.rs"]
mod sample;

use std::{fs, path::Path};

use pretty_assertions::assert_eq;
use queuebench_reports::{
    export::{Format, hgrm_files, to_string},
    folder::RunFolder,
    record::Run,
    render::write_all,
    terminal,
};

fn stored() -> RunFolder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/queuebench.run-1");
    RunFolder::open(&path).expect("it is part of the sources")
}

#[test]
fn a_stored_record_of_format_1_is_read_and_written_without_loss() {
    let folder = stored();
    let run = folder.record().unwrap();
    assert_eq!(run.subjects.len(), 2);
    assert_eq!(run.subjects[0].trials[0].faults[0].kind, "restart");
    let text = fs::read_to_string(folder.path().join("result.json")).unwrap();
    let before: serde_json::Value = serde_json::from_str(&text).unwrap();
    let after = serde_json::to_value(&run).unwrap();
    for (key, value) in before.as_object().unwrap() {
        assert_eq!(&after[key], value, "{key}");
    }
    assert_eq!(folder.histograms().unwrap().iter().count(), 16);
}

#[test]
fn keys_of_later_minor_versions_are_passed_over() {
    let text = fs::read_to_string(stored().path().join("result.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
    value["later"] = 1.into();
    value["subjects"][0]["trials"][0]["later"] = 1.into();
    value.as_object_mut().unwrap().remove("calibration");
    assert!(serde_json::from_value::<Run>(value).is_ok());
}

#[test]
fn a_stored_run_draws_into_its_folder() {
    let root = tempfile::TempDir::new().unwrap();
    let target = root.path().join("run");
    fs::create_dir(&target).unwrap();
    for name in ["result.json", "histograms.hlog"] {
        fs::copy(stored().path().join(name), target.join(name)).unwrap();
    }
    let report = write_all(&RunFolder::open(&target).unwrap()).unwrap();
    assert_eq!(report.file_name().unwrap(), "index.html");
    assert!(fs::read_to_string(&report).unwrap().contains("restart of kafka at 8 s"));
    assert!(fs::read_to_string(target.join("summary.md")).unwrap().starts_with("# At 2,000 messages/s"));
    assert!(target.join("summary.csv").is_file());
    assert!(fs::read_dir(target.join("charts")).unwrap().count() > 5);
}

fn exported(format: Format) -> String {
    let (run, histograms) = sample::run();
    to_string(&run, &histograms, format).expect("the sample can be written in every format")
}

#[test]
fn summaries_for_people() {
    let (run, _) = sample::run();
    insta::assert_snapshot!(
        "terminal",
        terminal::summary(&run, Some(Path::new("reports/runs/x/index.html")))
    );
    insta::assert_snapshot!("markdown", exported(Format::Markdown));
}

#[test]
fn no_line_of_a_terminal_is_wider_than_a_hundred_columns() {
    let (mut run, _) = sample::run();
    for subject in &mut run.subjects {
        subject.version = "nats 2.15.2 + kafka 4.1.0".to_owned();
        subject.durability = queuebench_reports::record::Durability::ProcessCrash;
    }
    run.skipped[0].reason = "a reason in many words ".repeat(20);
    let text = terminal::summary(&run, None);
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
    }
}

#[test]
fn summaries_for_programs() {
    let run = RunFolder::open(stored().path()).unwrap();
    let (mut record, histograms) = (run.record().unwrap(), run.histograms().unwrap());
    queuebench_reports::statistics::summarize(&mut record);
    for (name, format) in [("csv", Format::Csv), ("json", Format::Json), ("bencher", Format::Bencher)] {
        insta::assert_snapshot!(name, to_string(&record, &histograms, format).unwrap());
    }
}

#[test]
fn a_format_is_known_by_its_name_and_others_are_told_the_list() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    let error = "pdf".parse::<Format>().unwrap_err().to_string();
    assert!(
        error.starts_with("unknown format \"pdf\"; there are html, md, csv, json, hgrm, openmetrics,"),
        "{error}"
    );
}

#[test]
fn open_metrics_end_in_eof_and_histograms_are_cumulative() {
    let text = exported(Format::OpenMetrics);
    assert!(text.ends_with("\n# EOF\n"));
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let mut names: Vec<&str> = families.iter().map(|line| line.split(' ').next().unwrap()).collect();
    names.dedup();
    assert_eq!(names.len(), families.len(), "families are not interleaved");
    assert!(text.contains("queuebench_messages_sent_total{system=\"nats\"} "));
    let series =
        "queuebench_latency_seconds_bucket{system=\"nats\",phase=\"steady-2k\",stage=\"publish\",le=\"";
    let buckets: Vec<(&str, u64)> = text
        .lines()
        .filter_map(|line| line.strip_prefix(series))
        .map(|rest| rest.split_once("\"} ").map(|(le, count)| (le, count.parse().unwrap())).unwrap())
        .collect();
    assert!(buckets.is_sorted_by_key(|(_, count)| *count), "{buckets:?}");
    assert_eq!(buckets.last().unwrap().0, "+Inf");
    assert!(buckets.iter().any(|(le, _)| *le == "1.0"));
}

#[test]
fn dashboards_get_one_file_per_direction() {
    let names = |format: Format| -> Vec<String> {
        let entries: Vec<serde_json::Value> = serde_json::from_str(&exported(format)).unwrap();
        entries.iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect()
    };
    let (smaller, bigger) = (names(Format::DashboardSmaller), names(Format::DashboardBigger));
    assert!(smaller.contains(&"nats/standard/steady-2k response p95".to_owned()));
    assert!(bigger.contains(&"nats/standard/saturation throughput".to_owned()));
    assert!(bigger.iter().all(|name| !smaller.contains(name)));
}

#[test]
fn distributions_are_written_for_every_phase_and_kind() {
    let (_, histograms) = sample::run();
    let files = hgrm_files(&histograms);
    assert_eq!(files.len(), 4 * 4 * 4);
    let (name, text) = &files[0];
    assert_eq!(name, "composite/saturation/response");
    let cumulative: Vec<u64> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#') && !line.contains("Value"))
        .map(|line| line.split_whitespace().nth(2).unwrap().parse().unwrap())
        .collect();
    assert!(cumulative.is_sorted() && cumulative.len() > 20);
}
