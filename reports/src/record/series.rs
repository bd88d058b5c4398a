//! What happened over time.

use serde::{Deserialize, Serialize};

/// Windows of equal length over a whole trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// Length of a window.
    pub window_s: f64,
    /// In order of time, without gaps.
    pub windows: Vec<Window>,
}

/// One window of a trial. A latency is absent when nothing completed in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Seconds since the trial's start.
    pub start_s: f64,
    /// Messages sent in it.
    pub sent: u64,
    /// Messages acknowledged in it.
    pub acknowledged: u64,
    /// Messages received in it.
    pub received: u64,
    /// Messages rejected in it.
    #[serde(default)]
    pub errors: u64,
    /// Response time of messages acknowledged in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_p50_us: Option<f64>,
    /// Response time of messages acknowledged in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_p95_us: Option<f64>,
    /// Response time of messages acknowledged in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_p99_us: Option<f64>,
    /// Lag of messages sent in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_lag_p99_us: Option<f64>,
    /// End-to-end latency of messages received in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_to_end_p95_us: Option<f64>,
    /// Sent and not yet received when it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<u64>,
    /// CPU of the subject in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_cpu_cores: Option<f64>,
    /// CPU of the harness in cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness_cpu_cores: Option<f64>,
    /// Resident memory of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_rss_bytes: Option<u64>,
    /// Files and sockets that the subject held open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_open_files: Option<u64>,
    /// Tasks alive in the subject's services, where growth is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_tasks: Option<u64>,
}
