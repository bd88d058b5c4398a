//! A realistic run, the same at every call: four subjects, three interleaved trials, a warm-up and three measured
//! phases, with its histograms. Latencies are drawn from log-normal distributions with a heavy tail, everything
//! else follows from them. Tests change what they are about.

#![allow(
    clippy::cast_possible_truncation,
    dead_code,
    reason = "small invented figures; not every user needs all"
)]

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use indexmap::IndexMap;
use queuebench_reports::{
    histograms::{Histograms, Key, Kind, Span, new_histogram},
    record::*,
};
use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64;
use serde_json::json;

/// One subject of the sample.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) provisioner: Provisioner,
    pub(crate) durability: Durability,
    /// Median service time at 2,000 messages per second.
    pub(crate) median_us: f64,
    /// Highest rate.
    pub(crate) capacity_per_s: f64,
    pub(crate) cpu_us: f64,
    pub(crate) rss_mib: u64,
}

const PLANS: [Plan; 4] = [
    Plan {
        name: "memory",
        version: "0.1.0",
        provisioner: Provisioner::Embedded,
        durability: Durability::Volatile,
        median_us: 9.0,
        capacity_per_s: 1_450_000.0,
        cpu_us: 3.1,
        rss_mib: 22,
    },
    Plan {
        name: "nats",
        version: "2.15.2",
        provisioner: Provisioner::Docker,
        durability: Durability::ProcessCrash,
        median_us: 310.0,
        capacity_per_s: 61_800.0,
        cpu_us: 19.5,
        rss_mib: 64,
    },
    Plan {
        name: "kafka",
        version: "4.1.0",
        provisioner: Provisioner::Docker,
        durability: Durability::ProcessCrash,
        median_us: 1_400.0,
        capacity_per_s: 118_200.0,
        cpu_us: 11.2,
        rss_mib: 812,
    },
    Plan {
        name: "composite",
        version: "nats 2.15.2 + kafka 4.1.0",
        provisioner: Provisioner::Docker,
        durability: Durability::ProcessCrash,
        median_us: 1_550.0,
        capacity_per_s: 39_500.0,
        cpu_us: 33.0,
        rss_mib: 880,
    },
];

/// Name, model, offered rate, measured, start, end.
type PhasePlan = (&'static str, Model, Option<f64>, bool, f64, f64);

const PHASES: [PhasePlan; 4] = [
    ("warmup", Model::Open, Some(2_000.0), false, 0.0, 3.0),
    ("steady-2k", Model::Open, Some(2_000.0), true, 3.0, 11.0),
    ("steady-10k", Model::Open, Some(10_000.0), true, 11.0, 19.0),
    ("saturation", Model::Closed, None, true, 19.0, 27.0),
];

const WINDOW_S: f64 = 0.5;
/// Latencies drawn per window; each stands for many.
const DRAWS: u32 = 120;
const IN_FLIGHT: u64 = 256;

/// The sample, summarized.
pub(crate) fn run() -> (Run, Histograms) {
    let (mut run, histograms) = raw(3);
    queuebench_reports::statistics::summarize(&mut run);
    (run, histograms)
}

/// The sample before statistics, with any number of trials; made once per process.
pub(crate) fn raw(trials: u32) -> (Run, Histograms) {
    static MADE: Mutex<BTreeMap<u32, (Run, Histograms)>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(trials).or_insert_with(|| make(trials)).clone()
}

fn make(trials: u32) -> (Run, Histograms) {
    let mut histograms = Histograms::default();
    let subjects = PLANS
        .iter()
        .enumerate()
        .map(|(place, plan)| {
            let trials = (0..trials)
                .map(|index| {
                    let position = (place as u32 + PLANS.len() as u32 - index % 4) % 4;
                    trial(plan, index, position, &mut histograms)
                })
                .collect();
            Subject {
                name: plan.name.to_owned(),
                backend: plan.name.to_owned(),
                version: plan.version.to_owned(),
                provisioner: plan.provisioner,
                durability: plan.durability,
                settings: settings(plan),
                trials,
                summary: IndexMap::new(),
            }
        })
        .collect();
    let run = Run {
        format: FORMAT.to_owned(),
        id: "20261120T104200Z-standard-4f2a".to_owned(),
        started_at: "2026-11-20T10:42:00Z".to_owned(),
        finished_at: Some("2026-11-20T10:46:51Z".to_owned()),
        partial: false,
        compared: "queues".to_owned(),
        command: "queuebench compare queues --profile standard --seed 7".to_owned(),
        seed: 7,
        profile: json!({
            "name": "standard",
            "trials": trials,
            "workload": { "payload": "256B", "producers": 2, "consumers": 2, "partitions": 4 },
        }),
        environment: Environment {
            cpu_model: "AMD EPYC 7B13".to_owned(),
            cores: 2,
            memory_bytes: 24 << 30,
            os: "Debian GNU/Linux 12".to_owned(),
            kernel: "6.1.0-28-amd64".to_owned(),
            rustc: "1.95.0".to_owned(),
            git_commit: Some("8155956".to_owned()),
            container_engine: Some(ContainerEngine {
                name: "docker".to_owned(),
                version: "27.3.1".to_owned(),
            }),
            virtualization: Some("kvm".to_owned()),
            data_filesystem: Some("ext4".to_owned()),
            cpu_governor: None,
            load_average_1m: Some(0.2),
        },
        subjects,
        comparisons: Vec::new(),
        skipped: vec![Skipped {
            subject: "redpanda".to_owned(),
            reason: "no such image here, and the registry did not answer within 5 s".to_owned(),
        }],
        warnings: Vec::new(),
        capacity: None,
        gates: Vec::new(),
        calibration: Some(Calibration {
            offered_per_s: 10_000.0,
            schedule_lag_p50_us: 18.0,
            schedule_lag_p99_us: 41.0,
            cpu_us_per_message: 0.6,
            closed_per_s: Some(2_450_000.0),
        }),
        verdicts: Verdicts::default(),
    };
    (run, histograms)
}

fn settings(plan: &Plan) -> Settings {
    let mut settings = Settings::new();
    match plan.name {
        "memory" => {
            settings.insert("capacity".into(), json!(65_536));
            settings.insert("on_full".into(), json!("wait"));
        }
        "nats" => {
            settings.insert("storage".into(), json!("file"));
            settings.insert("max_ack_pending".into(), json!(4_096));
            settings.insert("server.sync_interval".into(), json!("2m0s"));
            settings.insert("server.stream.num_replicas".into(), json!(1));
        }
        _ => {
            settings.insert("acks".into(), json!("all"));
            settings.insert("enable.idempotence".into(), json!(true));
            settings.insert("linger.ms".into(), json!(1));
            settings.insert("server.log.flush.interval.messages".into(), json!("9223372036854775807"));
        }
    }
    settings
}

fn trial(plan: &Plan, index: u32, position: u32, histograms: &mut Histograms) -> Trial {
    let mut rng = Pcg64::seed_from_u64(u64::from(index) << 8 ^ plan.name.len() as u64 ^ plan.rss_mib);
    let drift = 1.0 + (rng.random::<f64>() - 0.5) * 0.08;
    let trial_start_s = f64::from(index * 4 + position) * 30.0;
    let mut windows = Vec::new();
    let mut phases = Vec::new();
    let mut acknowledged_in_all = 0_u64;
    for (name, model, offered, measured, start_s, end_s) in PHASES {
        let rate = offered.unwrap_or(plan.capacity_per_s * drift).min(plan.capacity_per_s);
        let busy = 1.0 + 1.5 * rate / plan.capacity_per_s;
        let median_us = match model {
            Model::Open => plan.median_us * drift * busy,
            Model::Closed => IN_FLIGHT as f64 / rate * 1e6,
        };
        let seconds = end_s - start_s;
        let acknowledged = (rate * seconds) as u64;
        acknowledged_in_all += acknowledged;
        let mut of_phase = [new_histogram(), new_histogram(), new_histogram(), new_histogram()];
        for window in 0..(seconds / WINDOW_S) as u32 {
            let mut recorded = new_histogram();
            for _ in 0..DRAWS {
                let service_us = median_us * tail(&mut rng);
                let lag_us = 18.0 * tail(&mut rng).min(8.0);
                let far_us = service_us * 1.25 + 40.0;
                let response_us = if model == Model::Open { service_us + lag_us } else { service_us };
                for (histogram, us) in of_phase.iter_mut().zip([response_us, service_us, lag_us, far_us]) {
                    histogram.saturating_record((us * 1_000.0) as u64);
                }
                recorded.saturating_record((response_us * 1_000.0) as u64);
            }
            let us = |q: f64| Some(recorded.value_at_quantile(q) as f64 / 1_000.0);
            let count = (rate * WINDOW_S) as u64;
            windows.push(Window {
                start_s: start_s + f64::from(window) * WINDOW_S,
                sent: count,
                acknowledged: count,
                received: count,
                errors: 0,
                response_p50_us: us(0.5),
                response_p95_us: us(0.95),
                response_p99_us: us(0.99),
                schedule_lag_p99_us: Some(41.0),
                end_to_end_p95_us: us(0.95).map(|v| v * 1.25 + 40.0),
                backlog: Some((rate * median_us / 1e6) as u64),
                subject_cpu_cores: (plan.name != "memory")
                    .then(|| (rate * plan.cpu_us / 1e6 * (0.95 + 0.1 * rng.random::<f64>())).min(1.6)),
                harness_cpu_cores: Some((rate * 2.0 / 1e6 + 0.02).min(1.9)),
                subject_rss_bytes: (plan.name != "memory")
                    .then(|| (plan.rss_mib << 20) - (3 << 20) + (windows.len() as u64 * (3 << 20) / 54)),
                ..Window::default()
            });
        }
        let [response, service, lag, far] = &of_phase;
        phases.push(Phase {
            name: name.to_owned(),
            model,
            measured,
            start_s,
            end_s,
            offered_per_s: offered,
            achieved_per_s: acknowledged as f64 / seconds,
            received_per_s: acknowledged as f64 / seconds,
            errors: 0,
            unknown: 0,
            load_verdict: LoadVerdict::Ok,
            in_flight: Some(if model == Model::Open { 4_096 } else { IN_FLIGHT }),
            response_us: Latency::from_nanoseconds(response),
            service_us: Latency::from_nanoseconds(service),
            schedule_lag_us: Latency::from_nanoseconds(lag),
            end_to_end_us: Latency::from_nanoseconds(far),
            extra: Settings::new(),
        });
        for (kind, histogram) in Kind::ALL.into_iter().zip(&of_phase) {
            let span = Span { start_s: trial_start_s + start_s, length_s: seconds };
            histograms.add(Key::new(plan.name, index, name, kind), span, histogram).expect("same range");
        }
    }
    let embedded = plan.provisioner == Provisioner::Embedded;
    let usage = |cpu_us: f64, rss_mib: u64| Usage {
        cpu_s: cpu_us * acknowledged_in_all as f64 / 1e6,
        cpu_us_per_message: cpu_us,
        rss_peak_bytes: rss_mib << 20,
        disk_written_bytes: acknowledged_in_all * 300,
        network_bytes: Some(acknowledged_in_all * 600),
    };
    let cpu_us = plan.cpu_us * (0.97 + 0.06 * rng.random::<f64>());
    Trial {
        index,
        position,
        phases,
        delivery: delivery(acknowledged_in_all),
        resources: Resources {
            subject: if embedded { Usage::default() } else { usage(cpu_us, plan.rss_mib + u64::from(index)) },
            harness: usage(if embedded { cpu_us } else { 2.1 }, if embedded { plan.rss_mib } else { 31 }),
            subject_observed: !embedded,
        },
        faults: Vec::new(),
        series: Series { window_s: WINDOW_S, windows },
        backlog: None,
        deaths: Vec::new(),
    }
}

/// A ledger without a blemish.
pub(crate) fn delivery(messages: u64) -> Delivery {
    Delivery {
        attempted: messages,
        acknowledged: messages,
        rejected: 0,
        unknown: 0,
        received: messages,
        lost: 0,
        duplicated: 0,
        reordered: 0,
        corrupted: 0,
        stray: 0,
        reordered_redelivered: 0,
        resurrected: 0,
        drain_deadline_passed: false,
        promise: Promise { delivery: "at-least-once".to_owned(), ordered_per_key: true },
        verdict: DeliveryVerdict::Kept,
        violations: Vec::new(),
    }
}

/// Log-normal with a share of slow ones, around one.
fn tail(rng: &mut Pcg64) -> f64 {
    // The sum of twelve uniforms is near enough to a normal deviate.
    let normal: f64 = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
    let slow = if rng.random::<f64>() < 0.004 { 4.0 } else { 1.0 };
    (normal * 0.35).exp() * slow
}
