use std::fs;

use pretty_assertions::assert_eq;
use tempfile::TempDir;

use super::*;
use crate::{record::FORMAT, sample};

fn stamp() -> Timestamp {
    "2026-11-20T10:42:00Z".parse().unwrap()
}

fn id() -> String {
    RunFolder::id_of(stamp(), "standard", "4f2a")
}

#[test]
fn an_id_is_time_profile_and_short_id_whatever_the_profile_is_called() {
    assert_eq!(id(), "20261120T104200Z-standard-4f2a");
    assert_eq!(RunFolder::id_of(stamp(), "../a b/ü", "x"), "20261120T104200Z----a-b---x");
    assert_eq!(RunFolder::id_of(stamp(), "", "x"), "20261120T104200Z-unnamed-x");
}

#[test]
fn a_finished_folder_has_its_name_and_latest_points_at_it() {
    let root = TempDir::new().unwrap();
    let (run, histograms) = sample::run();
    for short in ["aa", "bb"] {
        let folder = RunFolder::create(root.path(), &RunFolder::id_of(stamp(), "standard", short)).unwrap();
        assert!(!root.path().join(folder.id()).exists(), "not there before it is finished");
        folder.write_record(&run).unwrap();
        folder.write_histograms(&histograms, stamp()).unwrap();
        folder.write("charts/a.svg", b"<svg/>").unwrap();
        let folder = folder.finish().unwrap();
        assert_eq!(folder.path(), root.path().join(folder.id()));
        let latest = fs::canonicalize(root.path().join("latest")).unwrap();
        assert_eq!(latest, fs::canonicalize(folder.path()).unwrap());
    }
    let opened = RunFolder::open(&root.path().join("latest")).unwrap();
    assert_eq!(opened.id(), RunFolder::id_of(stamp(), "standard", "bb"));
    assert!(!opened.is_partial());
    assert_eq!(opened.record().unwrap(), run);
    assert_eq!(opened.histograms().unwrap(), histograms);
    let by_file = RunFolder::open(&opened.path().join(RECORD_FILE)).unwrap();
    assert_eq!(by_file.path(), opened.path());
    let left_over: Vec<_> = fs::read_dir(opened.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".tmp"))
        .collect();
    assert_eq!(left_over, Vec::<String>::new());
}

#[test]
fn what_a_killed_run_left_behind_opens_and_is_marked_partial() {
    let root = TempDir::new().unwrap();
    let folder = RunFolder::create(root.path(), &id()).unwrap();
    folder.write_record(&sample::run().0).unwrap();
    let path = folder.path().to_owned();
    drop(folder);
    let opened = RunFolder::open(&path).unwrap();
    assert!(opened.is_partial());
    assert_eq!(opened.id(), id());
    assert!(opened.record().unwrap().partial);
    assert!(opened.histograms().unwrap().is_empty(), "killed before they were written");
    assert!(!root.path().join("latest").exists(), "latest never points at an unfinished run");
}

#[test]
fn a_run_never_overwrites_another() {
    let root = TempDir::new().unwrap();
    let first = RunFolder::create(root.path(), &id()).unwrap();
    assert!(matches!(RunFolder::create(root.path(), &id()), Err(FolderError::Exists { .. })));
    first.finish().unwrap();
    assert!(matches!(RunFolder::create(root.path(), &id()), Err(FolderError::Exists { .. })));
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let root = TempDir::new().unwrap();
    let folder = RunFolder::create(root.path(), &id()).unwrap();
    for name in ["../a", "/etc/a", "a/../b", "", "a//b"] {
        assert!(matches!(folder.write(name, b""), Err(FolderError::Name { .. })), "{name}");
    }
    assert!(matches!(folder.server_logs("a/b", 0), Err(FolderError::Name { .. })));
}

fn error_of(content: &str) -> String {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join(RECORD_FILE), content).unwrap();
    let folder = RunFolder::open(root.path()).unwrap();
    let text = folder.record().unwrap_err().to_string();
    text.replace(&fs::canonicalize(root.path()).unwrap().display().to_string(), "DIR")
}

#[test]
fn what_cannot_be_read_says_where_and_why() {
    let root = TempDir::new().unwrap();
    let missing = RunFolder::open(&root.path().join("nothing")).unwrap_err().to_string();
    assert!(missing.ends_with("nothing does not exist; give a run's folder or its result.json"), "{missing}");
    let empty = RunFolder::open(root.path()).unwrap_err().to_string();
    assert!(empty.contains("holds no result.json"), "{empty}");
    assert_eq!(error_of("{\n  \"format\": oops"), "DIR/result.json:2:13: expected value");
    assert_eq!(
        error_of("{\"format\":\"queuebench.run/2\",\"later\":1}"),
        format!("DIR/result.json has format \"queuebench.run/2\"; this version reads \"{FORMAT}\"")
    );
    assert_eq!(error_of("{\"id\":1}"), "DIR/result.json:1:8: missing field `format`");
    let lacking = error_of(&format!("{{\"format\":\"{FORMAT}\"}}"));
    assert!(lacking.ends_with("missing field `id`"), "{lacking}");
}
