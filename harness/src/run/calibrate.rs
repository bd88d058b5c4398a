//! The harness's own cost, measured in every run against the null subject.

use std::path::Path;

use queuebench_reports::record::Calibration;
use tokio_util::sync::CancellationToken;

use super::ensemble::{Around, perform};
use super::timeline::Timeline;
use crate::profile::{MessageIds, Profile};
use crate::shard::ShardSpec;
use crate::ui::Ui;

const PROFILE: &str = r#"
name = "calibration"
[workload]
payload = "256B"
[[phase]]
name = "warmup"
model = "open"
rate = "10k/s"
duration = "200ms"
measured = false
[[phase]]
name = "open"
model = "open"
rate = "10k/s"
duration = "1s"
[[phase]]
name = "closed"
model = "closed"
in_flight = 256
duration = "500ms"
"#;

/// Measures; nothing when stopped meanwhile.
pub(super) async fn calibrate(
    folder: &Path,
    seed: u64,
    ui: &Ui,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Calibration>> {
    let step = ui.step("measuring the harness itself");
    let spec = ShardSpec {
        subject: "null".to_owned(),
        config: serde_json::json!("null"),
        profile: Profile::parse(PROFILE, "calibration")?,
        seed,
        index: 0,
        position: 0,
        trial_id: 1,
        message_ids: MessageIds::None,
        embedded: true,
    };
    let scratch = folder.join("shards").join("calibration");
    let around = Around {
        bar: &ui.hidden(),
        pids: &Vec::<i32>::new,
        tasks: None,
        timeline: &Timeline::new(&[], &[], None),
        stop,
    };
    let finished = perform(&spec, 1, &scratch, &around).await?;
    let trial = finished.result.record.trial;
    let [_, open, closed] = &trial.phases[..] else {
        step.fail("interrupted");
        return Ok(None);
    };
    let calibration = Calibration {
        offered_per_s: open.offered_per_s.unwrap_or(0.0),
        schedule_lag_p50_us: open.schedule_lag_us.p50,
        schedule_lag_p99_us: open.schedule_lag_us.p99,
        cpu_us_per_message: trial.resources.harness.cpu_us_per_message,
        closed_per_s: Some(closed.achieved_per_s),
    };
    step.done(&format!(
        "own lag p99 {:.0} µs at 10k/s, {:.2} µs CPU per message",
        calibration.schedule_lag_p99_us, calibration.cpu_us_per_message
    ));
    Ok(Some(calibration))
}
