use pretty_assertions::assert_eq;

use super::*;
use crate::sample;

fn holds(text: &str) -> bool {
    let (run, _) = sample::run();
    evaluate_all(&[text.parse().unwrap()], &run, None).unwrap().1
}

#[test]
fn a_gate_compares_a_median_in_any_unit() {
    let (mut run, _) = sample::run();
    run.subjects[2].summary["steady-2k"]["response_p95_us"].median = 4_100.0;
    let judge = |text: &str| text.parse::<Gate>().unwrap().evaluate(&run, None).unwrap();
    for text in ["< 5ms", "<5000", "<= 4_100us", "> 4000000ns", ">= 0.0041 s", "== 4.1ms", "!= 4.2 ms"] {
        let found = judge(&format!("kafka.steady-2k.response_p95_us {text}"));
        assert_eq!(found.len(), 1, "{text}");
        assert!(found[0].holds, "{text}");
    }
    let failed = &judge("kafka.steady-2k.response_p95_us < 4ms")[0];
    assert!(!failed.holds);
    assert_eq!(
        failed.to_string(),
        "✗ kafka.steady-2k.response_p95_us < 4ms: kafka.steady-2k.response_p95_us is 4,100, held against 4,000"
    );
}

#[test]
fn a_star_means_every_subject_or_phase() {
    let (run, _) = sample::run();
    let count = |text: &str| text.parse::<Gate>().unwrap().evaluate(&run, None).unwrap().len();
    assert_eq!(count("*.steady-2k.throughput_per_s >= 1900"), 4);
    assert_eq!(count("nats.*.throughput_per_s >= 1.9k/s"), 3);
    assert_eq!(count("*.*.rss_peak_bytes < 2GiB"), 12);
    assert!(holds("*.steady-2k.throughput_per_s >= 1900"));
    assert!(!holds("*.saturation.throughput_per_s >= 100k/s"), "one that fails fails it all");
}

#[test]
fn the_ledger_can_be_gated() {
    assert!(holds("*.delivery.lost == 0"));
    let (mut run, _) = sample::run();
    run.subjects[1].trials[0].delivery.lost = 3;
    run.subjects[1].trials[2].delivery.lost = 4;
    let found = "nats.delivery.lost <= 6".parse::<Gate>().unwrap().evaluate(&run, None).unwrap();
    assert_eq!((found[0].value, found[0].holds), (Some(7.0), false));
}

#[test]
fn a_baseline_is_another_run() {
    let gate: Gate = "nats.steady-2k.response_p95_us <= 1.1x baseline".parse().unwrap();
    let (baseline, _) = sample::run();
    let (mut run, _) = sample::run();
    assert!(gate.evaluate(&run, Some(&baseline)).unwrap()[0].holds, "equal is within ten percent");
    run.subjects[1].summary["steady-2k"]["response_p95_us"].median *= 1.2;
    assert!(!gate.evaluate(&run, Some(&baseline)).unwrap()[0].holds);
    let missing = gate.evaluate(&run, None).unwrap_err().to_string();
    assert!(missing.ends_with("give one with --baseline RUN"), "{missing}");
}

#[test]
fn what_was_not_measured_fails_and_what_does_not_exist_is_an_error() {
    let (mut run, _) = sample::run();
    run.subjects[1].summary["steady-2k"].shift_remove("cpu_us_per_message");
    let gate: Gate = "nats.steady-2k.cpu_us_per_message < 1s".parse().unwrap();
    let found = &gate.evaluate(&run, None).unwrap()[0];
    assert_eq!((found.value, found.holds), (None, false));
    let error = "natz.steady-2k.errors == 0".parse::<Gate>().unwrap().evaluate(&run, None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "gate \"natz.steady-2k.errors == 0\" matches nothing: there are the subjects memory, nats, kafka, \
         composite and the phases steady-2k, steady-10k, saturation"
    );
}

fn offence(text: &str) -> (usize, String) {
    let error = text.parse::<Gate>().unwrap_err();
    (error.column, error.expected)
}

#[test]
fn an_error_points_at_the_column_and_says_what_would_be_right() {
    assert_eq!(
        offence("kafka.steady.response_p95_us"),
        (29, "expected <, <=, >, >=, == or != and a value".into())
    );
    assert_eq!(offence("kafka.steady.errors = 0"), (21, "expected <, <=, >, >=, == or !=".into()));
    let (column, expected) = offence("  kafka < 5ms");
    assert_eq!((column, expected.starts_with("expected subject.phase.metric")), (3, true));
    let (column, expected) = offence("kafka.steady.p95 < 5ms");
    assert_eq!(
        (column, expected.starts_with("there is no metric \"p95\"; there are throughput_per_s")),
        (14, true)
    );
    assert_eq!(
        offence("kafka.steady.response_p95_us < 5 minutes"),
        (34, "\"minutes\" is no unit of this metric; expected ns, us, ms or s".into())
    );
    let (column, _) = offence("kafka.steady.response_p95_us < fast");
    assert_eq!(column, 32);
    assert_eq!(offence("a.b.errors <= 1.1x best"), (18, "expected x baseline after the factor".into()));
    assert_eq!(offence(".steady.errors == 0"), (1, "expected the name of a subject, or * for all".into()));
    assert!(offence("a.delivery.late == 0").1.starts_with("the ledger has no \"late\"; it has lost"));
    assert_eq!(offence("").0, 1);
}

#[test]
fn an_objective_is_a_condition_on_one_metric() {
    let slo: Slo = " response_p99_us <= 5ms ".parse().unwrap();
    assert_eq!((slo.metric(), slo.limit()), (Metric::ResponseP99, 5_000.0));
    assert_eq!(
        (slo.to_string(), slo.words()),
        ("response_p99_us <= 5ms".to_owned(), "response p99 <= 5ms".to_owned())
    );
    for (text, wants) in [
        ("response_p99_us", "expected <"),
        ("nats.steady.response_p99_us < 5ms", "there is no metric"),
        ("response_p99_us < 5 parsecs", "is no unit of this metric"),
        ("response_p99_us < 2x baseline", "a search has no baseline"),
    ] {
        let error = text.parse::<Slo>().unwrap_err().to_string();
        assert!(error.contains(wants), "{text}: {error}");
    }
}

#[test]
fn a_gate_is_held_against_names_before_the_run() {
    let gate: Gate = "nats.steady.response_p95_us < 5ms".parse().unwrap();
    gate.check_names(&["memory", "nats"], &["steady"]).unwrap();
    let error = gate.check_names(&["memory"], &["steady"]).unwrap_err().to_string();
    assert!(error.contains("there are the subjects memory and the phases steady"), "{error}");
    gate.check_names(&["nats"], &["burst"]).unwrap_err();
    "*.delivery.lost == 0".parse::<Gate>().unwrap().check_names(&["kafka"], &[]).unwrap();
}
