//! A node is killed and started again, and the others are watched meanwhile.

use std::time::Duration;

use queuebench_reports::record::Death;
use tokio::time::{Instant, sleep, sleep_until};

use super::nodes::{LOOK, NodeError, Nodes};
use crate::cluster::view::View;

/// How long all nodes may take to agree again once the killed one is back.
const RETURN_LIMIT: Duration = Duration::from_secs(30);

/// Kills node `victim` for as long as `lasts` and starts it again; `at_s` is when, on the trial's clock. The
/// others are asked all the time, until they agree or the node is started again.
pub(super) async fn death(
    nodes: &Nodes,
    victim: usize,
    was_leader: bool,
    lasts: Duration,
    at_s: f64,
) -> Result<Death, NodeError> {
    let others = nodes.others(victim);
    let before = nodes.views(&others).await.into_iter().flatten().next().unwrap_or_default();
    let hooks_before = nodes.hooks(&others).await;
    let died = Instant::now();
    nodes.kill(victim).await?;
    let (mut detected, mut agreed) = (None, None);
    while agreed.is_none() && died.elapsed() < lasts {
        let views = nodes.views(&others).await;
        let gone = |view: &View| !view.members.contains(nodes.id(victim));
        if detected.is_none() && views.iter().flatten().any(gone) {
            detected = Some(died.elapsed());
        }
        if nodes.agree(&views, &others) {
            let moved = views[0].as_ref().map_or(0, |view| view.moved_from(&before));
            agreed = Some((died.elapsed(), moved));
        } else {
            sleep(LOOK).await;
        }
    }
    sleep_until(died + lasts).await;
    let hooks = nodes.hooks(&others).await;
    let everybody: Vec<_> = (0..nodes.count()).collect();
    let restarted = Instant::now();
    nodes.start_again(victim).await?;
    let returned = nodes.agreement(&everybody, RETURN_LIMIT).await.map(|_| restarted.elapsed());
    let seconds = |span: Duration| span.as_secs_f64();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Death {
        node: nodes.id(victim).to_owned(),
        was_leader,
        nodes: count(nodes.count()),
        at_s,
        detected_s: detected.map(seconds),
        agreed_s: agreed.map(|(after, _)| seconds(after)),
        returned_s: returned.map(seconds),
        partitions: count(before.partitions.len()),
        partitions_moved: agreed.map_or(0, |(_, moved)| count(moved)),
        hooks_delivered: hooks.0.saturating_sub(hooks_before.0),
        hooks_missed: hooks.1.saturating_sub(hooks_before.1),
    })
}
