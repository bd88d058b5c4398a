use std::collections::BTreeSet;

use pretty_assertions::assert_eq;

use super::*;
use crate::{
    record::{Backlog, Capacity, CapacityLimit, CapacitySearch, Death, Fault, Probe, ProbeKind},
    sample,
    statistics::summarize,
};

/// Every value of an attribute, in order.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(&start).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
}

/// Tags close in the order in which they open.
fn assert_nested(html: &str) {
    let void = ["meta", "link", "br", "line", "rect", "circle", "polyline", "polygon", "img", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        rest = &rest[at + 1..];
        let end = rest.find('>').expect("every tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "before …{}", &rest[..rest.len().min(80)]);
            continue;
        }
        let name = tag.split([' ', '\n', '/']).next().unwrap();
        if void.contains(&name) || tag.ends_with('/') {
            continue;
        }
        if name == "script" || name == "style" {
            let close = format!("</{name}>");
            rest = &rest[rest.find(&close).expect("it ends") + close.len()..];
            continue;
        }
        open.push(name);
    }
    assert_eq!(open, Vec::<&str>::new());
}

/// What holds for every page, whatever the record.
fn assert_sound(html: &str) {
    assert_nested(html);
    let ids = attributes(html, "id");
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "ids are unique");
    for reference in attributes(html, "aria-labelledby").iter().flat_map(|list| list.split(' ')) {
        assert!(unique.contains(&reference), "{reference} is there");
    }
    for target in attributes(html, "href") {
        let id = target.strip_prefix('#').expect("links stay in the page");
        assert!(unique.contains(&id), "{target} leads somewhere");
    }
    assert!(attributes(html, "src").is_empty(), "nothing is loaded");
    let without_namespace = html.replace("http://www.w3.org/2000/svg", "");
    assert!(!without_namespace.contains("http://") && !without_namespace.contains("https://"));
    assert!(!html.contains("@import") && !html.contains("url("));
    for picture in html.split("<svg ").skip(1) {
        let picture = picture.split("</svg>").next().unwrap();
        let head = picture.split('>').next().unwrap();
        assert!(head.contains("role=\"img\""), "{head}");
        assert!(picture.contains("<title id=") && picture.contains("<desc id="), "{head}");
        assert!(!picture.contains('#'), "colours are roles, not literals");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{head}");
    }
    assert!(!html.contains("NaN"), "no figure is not a number");
}

#[test]
fn a_report_is_one_sound_page() {
    let (run, histograms) = sample::run();
    let html = html(&run, &histograms).unwrap();
    assert_sound(&html);
    assert!(html.len() < 2_000_000, "{} bytes", html.len());
    let order = [
        "<h1",
        "class=\"limits\"",
        "id=\"response\"",
        "id=\"throughput\"",
        "id=\"time\"",
        "id=\"percentiles\"",
        "id=\"parts\"",
        "id=\"rate\"",
        "id=\"cost\"",
        "id=\"delivery\"",
        "id=\"settings\"",
        "id=\"again\"",
        "id=\"record\"",
    ];
    let places: Vec<usize> =
        order.iter().map(|mark| html.find(mark).unwrap_or_else(|| panic!("{mark}"))).collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn every_chart_has_its_data_beside_it() {
    let (run, histograms) = sample::run();
    let html = html(&run, &histograms).unwrap();
    for figure in html.split("<figure>").skip(1) {
        let figure = figure.split("</figure>").next().unwrap();
        assert!(figure.contains("<svg ") && figure.contains("<details>") && figure.contains("<tbody>"));
    }
    assert_eq!(html.matches("<figure>").count(), 23);
}

#[test]
fn the_embedded_record_is_the_record() {
    let (run, histograms) = sample::run();
    let html = html(&run, &histograms).unwrap();
    let start = html.find("id=\"record\">").unwrap() + "id=\"record\">".len();
    let json = html[start..].split("</script>").next().unwrap();
    assert_eq!(serde_json::from_str::<Run>(json).unwrap(), run);
}

#[test]
fn whatever_a_record_contains_stays_text() {
    let hostile = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7777*9999 }}\u{1}";
    let (mut run, _) = sample::raw(1);
    run.subjects.truncate(1);
    let subject = &mut run.subjects[0];
    subject.name = hostile.to_owned();
    subject.version = hostile.to_owned();
    subject.settings.insert(hostile.to_owned(), hostile.into());
    let trial = &mut subject.trials[0];
    trial.phases.iter_mut().for_each(|phase| phase.name.push_str(hostile));
    trial.delivery.violations.push(hostile.to_owned());
    trial.faults.push(Fault { kind: hostile.into(), target: hostile.into(), start_s: 5.0, end_s: Some(7.0) });
    run.profile["name"] = hostile.into();
    run.command = hostile.to_owned();
    run.id = hostile.to_owned();
    run.environment.cpu_model = hostile.to_owned();
    run.skipped[0].reason = hostile.to_owned();
    run.compared = hostile.to_owned();
    summarize(&mut run);
    let mut histograms = Histograms::default();
    let mut recorded = crate::histograms::new_histogram();
    recorded.record(1_000_000).unwrap();
    let phase = run.subjects[0].trials[0].phases[1].name.clone();
    for kind in crate::histograms::Kind::ALL {
        let key = crate::histograms::Key::new(hostile, 0, phase.as_str(), kind);
        histograms.add(key, crate::histograms::Span::default(), &recorded).unwrap();
    }
    let page = html(&run, &histograms).unwrap();
    assert_sound(&page);
    assert!(!page.contains("<img"), "no markup from the record");
    assert_eq!(page.matches("<script").count(), 2, "only our own");
    assert!(!page.contains("77762223"), "no template in the record is run");
    assert_sound(&html_pair((&run, &histograms), (&run, &histograms)).unwrap());
}

#[test]
fn records_with_little_in_them_still_draw() {
    let none = Histograms::default();
    let (mut empty, _) = sample::raw(0);
    summarize(&mut empty);
    let page = html(&empty, &none).unwrap();
    assert_sound(&page);
    assert!(page.contains("Nothing was measured."));
    empty.subjects.clear();
    assert_sound(&html(&empty, &none).unwrap());

    let (mut killed, _) = sample::raw(1);
    killed.partial = true;
    killed.finished_at = None;
    killed.calibration = None;
    killed.subjects[3].trials.clear();
    for subject in &mut killed.subjects {
        for trial in &mut subject.trials {
            trial.series.windows.clear();
            trial.phases[1].response_us = crate::record::Latency::default();
        }
    }
    summarize(&mut killed);
    let page = html(&killed, &none).unwrap();
    assert_sound(&page);
    assert!(page.contains("△ Interrupted"));
}

#[test]
fn faults_and_backlogs_are_drawn() {
    let (mut run, histograms) = sample::raw(3);
    for trial in run.subjects.iter_mut().flat_map(|subject| &mut subject.trials) {
        trial.faults.push(Fault {
            kind: "restart".into(),
            target: "broker".into(),
            start_s: 14.0,
            end_s: Some(16.0),
        });
        trial.backlog =
            Some(Backlog { messages: 120_000, build_s: 8.0, drain_per_s: 41_000.0, time_to_parity_s: 3.4 });
    }
    summarize(&mut run);
    let page = html(&run, &histograms).unwrap();
    assert_sound(&page);
    assert!(page.contains("class=\"f fault\"") && page.contains(">restart</text>"));
    assert!(page.contains("id=\"backlog\"") && page.contains("120,000") && page.contains("41,000&#x2f;s"));
    assert!(page.contains("restart of broker at 14 s"), "said in words, too");
}

#[test]
fn deaths_of_nodes_are_drawn_and_said() {
    let (mut run, histograms) = sample::raw(3);
    let death = |index: u32, agreed_s| Death {
        node: "node-2".into(),
        was_leader: index == 1,
        nodes: 3,
        at_s: 4.0,
        detected_s: Some(1.5),
        agreed_s,
        returned_s: Some(0.7),
        partitions: 64,
        partitions_moved: 41,
        hooks_delivered: 92,
        hooks_missed: 0,
    };
    for trial in &mut run.subjects[0].trials {
        trial.deaths = vec![death(trial.index, (trial.index < 2).then_some(2.25))];
    }
    summarize(&mut run);
    let page = html(&run, &histograms).unwrap();
    assert_sound(&page);
    assert!(page.contains("id=\"deaths\"") && page.contains("41 of 64") && page.contains("Hooks delivered"));
    let said = crate::answer::answer(&run).details.join("\n");
    assert!(said.contains("known after 1.50 s and agreed on after 2.25 s, 41 partitions moved"), "{said}");
    assert!(said.contains("in 1 the others did not agree"), "{said}");
}

#[test]
fn a_subject_keeps_its_colour_everywhere() {
    let (mut run, histograms) = sample::run();
    run.subjects.rotate_left(2);
    let page = html(&run, &histograms).unwrap();
    assert!(page.contains("<span class=\"key s2\"></span>kafka"), "whatever its place in the record");
    assert!(page.contains("class=\"t b s2\" x=\"52\" y=\"12\">kafka</text>"));
}

#[test]
fn two_runs_are_matched_by_subject_and_phase() {
    let (run, histograms) = sample::run();
    let mut later = sample::raw(3).0;
    for phase in later.subjects[1].trials.iter_mut().flat_map(|trial| &mut trial.phases) {
        phase.response_us.p95 *= 1.5;
    }
    later.subjects.remove(0);
    later.environment.kernel = "6.9".to_owned();
    summarize(&mut later);
    let page = html_pair((&run, &histograms), (&later, &histograms)).unwrap();
    assert_sound(&page);
    assert!(page.contains("memory is only in A."));
    assert!(page.contains("kernel 6.9"), "what may explain a difference is listed");
    assert!(
        page.contains("B is worse in response p95 of nats in steady-2k, response p95 of nats in steady-10k")
    );
    assert!(page.contains("1.50 ×"));
    let same = html_pair((&run, &histograms), (&run, &histograms)).unwrap();
    assert!(same.contains("No difference between A and B could be shown."));
}

#[test]
fn charts_also_stand_alone() {
    let (run, histograms) = sample::run();
    let charts = charts(&run, &histograms).unwrap();
    let names: BTreeSet<&String> = charts.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), charts.len());
    for (name, svg) in &charts {
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>"), "{name}");
        assert!(svg.contains("prefers-color-scheme:dark"), "{name} knows both schemes");
        assert_nested(svg);
    }
}

fn probe(kind: ProbeKind, rate: f64, p99: f64, holds: bool) -> Probe {
    let response_us = crate::record::Latency { count: 1_000, p50: p99 / 9.0, p99, ..Default::default() };
    Probe {
        kind,
        offered_per_s: rate,
        achieved_per_s: rate,
        load_verdict: crate::record::LoadVerdict::Ok,
        response_us,
        end_to_end_us: response_us,
        lost: 0,
        violations: Vec::new(),
        holds,
        reason: (!holds).then(|| "response p99 is 9.1 ms".to_owned()),
    }
}

#[test]
fn a_search_for_the_highest_rate_is_answered_drawn_and_tabled() {
    let (mut run, histograms) = sample::raw(3);
    let found = |subject: &str, highest_per_s: Option<f64>, limited_by| Capacity {
        subject: subject.to_owned(),
        highest_per_s,
        limited_by,
        probes: vec![
            probe(ProbeKind::Growth, 1_000.0, 900.0, highest_per_s.is_some()),
            probe(ProbeKind::Growth, 64_000.0, 9_100.0, false),
            probe(ProbeKind::Confirmation, 42_100.0, 4_100.0, highest_per_s.is_some()),
        ],
    };
    run.capacity = Some(CapacitySearch {
        slo: vec!["response_p99_us < 5ms".to_owned()],
        bounds_per_s: [1.0, 1e6],
        precision: 0.05,
        confirmations: 3,
        subjects: vec![
            found("memory", Some(1e6), CapacityLimit::UpperBound),
            found("nats", Some(42_100.0), CapacityLimit::Slo),
            found("kafka", None, CapacityLimit::Slo),
        ],
    });
    run.gates = vec![crate::gate::GateResult {
        gate: "nats.probe.response_p99_us < 4ms".to_owned(),
        subject: "nats".to_owned(),
        phase: "probe".to_owned(),
        metric: "response_p99_us".to_owned(),
        value: Some(4_100.0),
        limit: Some(4_000.0),
        holds: false,
    }];
    summarize(&mut run);
    assert!(
        run.comparisons.iter().all(|c| c.metric == "throughput_per_s"),
        "rates differ, so only they compare"
    );
    let said = crate::answer::answer(&run);
    assert_eq!(
        said.headline,
        "With response p99 < 5ms, memory carries at least 1,000,000 messages/s and nats carries 42,100 messages/s. \
         kafka holds it at no rate that was tried."
    );
    let html = html(&run, &histograms).unwrap();
    assert_sound(&html);
    for wanted in [
        "chart-capacity-wide",
        "chart-capacity-narrow",
        "objective 5 ms",
        "Highest rate",
        "42,100",
        "✗</span> broken",
    ] {
        assert!(html.contains(wanted), "{wanted}");
    }
    let table = crate::terminal::summary(&run, None);
    assert!(table.contains("42,100") && table.contains("at least") && table.contains("none"), "{table}");

    // A broken promise anywhere in the search is one of the run.
    run.capacity.as_mut().unwrap().subjects[1].probes[1].violations.push("1 message was lost".to_owned());
    summarize(&mut run);
    assert_eq!(run.verdicts.delivery, Some(crate::record::DeliveryVerdict::Violated));
}
