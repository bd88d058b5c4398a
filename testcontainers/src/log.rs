//! The end of a log file, for error messages.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::LogTail;

/// How many lines an error quotes.
const TAIL_LINES: usize = 20;
/// How far back from the end a line is looked for.
const TAIL_BYTES: u64 = 64 * 1024;
/// Longer lines are cut, so that one cannot fill the terminal.
const LINE_CHARS: usize = 400;

/// The last lines of the file at `path`; none if it cannot be read. `kept` says whether the file stays.
pub(crate) fn tail(path: &Path, kept: bool) -> LogTail {
    LogTail { lines: last_lines(path).unwrap_or_default(), path: kept.then(|| path.to_owned()) }
}

fn last_lines(path: &Path) -> std::io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    Ok(tail_of(&String::from_utf8_lossy(&bytes)))
}

/// The last lines of `text` that are not blank.
pub(crate) fn tail_of(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..]
        .iter()
        .map(|line| line.trim_end().chars().take(LINE_CHARS).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_twenty_lines_are_quoted_and_cut() {
        let text: String = (0..100).map(|n| format!("line {n}\n\n")).collect();
        let lines = tail_of(&text);
        assert_eq!(lines.len(), 20);
        assert_eq!(lines[0], "line 80");
        assert_eq!(lines[19], "line 99");
        assert_eq!(tail_of(&"x".repeat(5000))[0].len(), LINE_CHARS);
    }

    #[test]
    fn a_file_larger_than_the_window_gives_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, format!("{}\nthe end\n", "y".repeat(200_000))).unwrap();
        assert_eq!(tail(&path, true).lines.last().unwrap(), "the end");
        assert!(tail(&dir.path().join("absent"), false).lines.is_empty());
    }
}
