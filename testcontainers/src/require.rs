//! When a test or a run may leave out what cannot be started here.
//!
//! `QUEUEBENCH_REQUIRE` lists backends (`nats`, `kafka`) and ways (`docker`, `native`) with commas; `all`
//! stands for every one. What is listed must start: leaving it out is a failure. What is not listed may be
//! left out, with a printed reason, and is counted.

use std::sync::atomic::{AtomicUsize, Ordering};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Whether `QUEUEBENCH_REQUIRE` lists one of these words.
pub fn is_required(words: &[&str]) -> bool {
    std::env::var("QUEUEBENCH_REQUIRE").is_ok_and(|list| lists(&list, words))
}

fn lists(list: &str, words: &[&str]) -> bool {
    list.split(',').map(str::trim).any(|item| item == "all" || words.contains(&item))
}

/// Leaves out a test because of `reason`: prints a line that names it and how many were left out so far in
/// this process.
///
/// # Panics
/// When one of `words` is required: then leaving it out is the failure.
#[expect(clippy::print_stderr, reason = "a skipped test has to be seen")]
pub fn skip(words: &[&str], reason: &dyn std::fmt::Display) {
    assert!(!is_required(words), "{} is required by QUEUEBENCH_REQUIRE: {reason}", words.join("/"));
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    eprintln!("skipped ({count} so far): {}: {reason}", words.join("/"));
}

/// How many were left out in this process.
pub fn skipped() -> usize {
    SKIPPED.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn a_backend_or_a_way_can_be_required() {
        assert!(lists("nats, kafka", &["kafka", "docker"]));
        assert!(lists("docker", &["kafka", "docker"]));
        assert!(lists("all", &["nats"]));
        assert!(!lists("nats", &["kafka", "native"]));
        assert!(!lists("", &["kafka"]));
    }
}
