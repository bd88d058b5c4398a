//! All shards of one trial, from their start to one result: heard, conducted, watched and joined.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use queuebench_reports::histograms::Histograms;
use queuebench_reports::record;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::conductor::Conductor;
use super::process::{News, ShardProcess};
use super::sampler::{Sampler, SubjectUsage};
use super::timeline::Timeline;
use crate::clock;
use crate::event::{Event, Order};
use crate::plan::Shard;
use crate::shard::{self, ShardResult, ShardSpec};
use crate::ui::TrialBar;

/// What the shards of a trial left, joined.
pub(super) struct Finished {
    pub(super) result: ShardResult,
    pub(super) histograms: Histograms,
    pub(super) usage: SubjectUsage,
    pub(super) warnings: Vec<String>,
    pub(super) faults: Vec<record::Fault>,
    pub(super) deaths: Vec<record::Death>,
}

/// What happens around the shards while they work.
pub(super) struct Around<'a> {
    pub(super) bar: &'a TrialBar,
    /// The subject's processes; asked again while faults change them.
    pub(super) pids: &'a dyn Fn() -> Vec<i32>,
    /// Tasks of the subject's services, if they are watched.
    pub(super) tasks: Option<Arc<AtomicU64>>,
    pub(super) timeline: &'a Timeline<'a>,
    pub(super) stop: &'a CancellationToken,
}

/// Why a trial's processes left nothing.
#[derive(Debug, thiserror::Error)]
pub enum ShardFailure {
    /// One said why.
    #[error("{0}")]
    Failed(String),
    /// They took longer than their plan can explain.
    #[error("it did not end within {0:?} and was killed")]
    TimeLimit(Duration),
}

/// Beyond the planned duration: connecting, overrun, catching up, draining, closing.
const SLACK: Duration = Duration::from_secs(120);
/// After a stop signal.
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// How often cues are considered beside when a shard says something.
const CUE_INTERVAL: Duration = Duration::from_millis(20);
/// Events that wait to be heard; a shard that says more waits.
const NEWS_MAX: usize = 256;

/// Runs the trial in `of` shards, whose folders are below `out`.
pub(super) async fn perform(
    spec: &ShardSpec,
    of: u16,
    out: &Path,
    around: &Around<'_>,
) -> anyhow::Result<Finished> {
    let &Around { bar, pids, ref tasks, timeline, stop } = around;
    let (tell, mut news) = mpsc::channel::<News>(NEWS_MAX);
    let shard = |index| ShardProcess::start(spec, Shard { index, of }, out, tell.clone());
    // The first one creates what the trial needs on the servers; the others find it there.
    let mut shards = vec![shard(0)?];
    let mut speaking = 1_usize;
    let mut conductor = (of > 1).then(|| Conductor::new(&spec.profile, of, Instant::now()));

    let mut sampler = Sampler::new(&pids()).with_tasks(tasks.clone());
    let mut warnings = Vec::new();
    let (origin, started) = oneshot::channel();
    let mut origin = Some(origin);
    let play = async {
        match started.await {
            Ok(origin) => timeline.play(origin, bar).await,
            // The trial ended before its load began.
            Err(_) => Ok(()),
        }
    };
    tokio::pin!(play);
    let mut played = timeline.is_empty();
    let time_limit = spec.profile.planned_duration() * 2 + spec.profile.drain_deadline.0 * 2 + SLACK;
    let deadline = tokio::time::sleep(time_limit);
    tokio::pin!(deadline);
    let mut stopping = false;
    // The first shard removes what it created, so it ends when the others have.
    let mut last_order = None;
    let mut sample = tokio::time::interval(Sampler::INTERVAL);
    let mut cue = tokio::time::interval(CUE_INTERVAL);
    while speaking > 0 {
        tokio::select! {
            Some((index, said)) = news.recv() => {
                let Some(event) = said else {
                    speaking -= 1;
                    if speaking == 1
                        && let Some(order) = last_order.take()
                    {
                        shards[0].order(&order).await;
                    }
                    if conductor.as_ref().is_some_and(|conductor| !conductor.has_ended()) && !stopping {
                        // The others would wait for it for ever.
                        stopping = true;
                        shards.iter().for_each(ShardProcess::terminate);
                    }
                    continue;
                };
                if let Some(conductor) = &mut conductor {
                    conductor.hear(index, &event, Instant::now());
                    if shards.len() == 1 && matches!(event, Event::Waiting { .. }) {
                        for index in 1..of {
                            shards.push(shard(index)?);
                            speaking += 1;
                        }
                    }
                }
                match event {
                    Event::Warning { text } => {
                        bar.warn(&text);
                        warnings.push(text);
                    }
                    Event::Started { at_ns, .. } => {
                        if let Some(origin) = origin.take() {
                            sampler.begin();
                            let _ = origin.send(at_ns);
                        }
                    }
                    Event::Progress(_) | Event::Waiting { .. } => match &conductor {
                        Some(conductor) => bar.event(&Event::Progress(conductor.totals())),
                        None => bar.event(&event),
                    },
                    event if index == 0 => bar.event(&event),
                    _ => {}
                }
            },
            _ = cue.tick(), if conductor.is_some() => {
                let order = conductor.as_mut().and_then(|c| c.decide(Instant::now(), clock::now()));
                match order {
                    Some(order @ Order::End { .. }) => {
                        give(&mut shards[1..], &order).await;
                        last_order = Some(order);
                    }
                    Some(order) => give(&mut shards, &order).await,
                    None => {}
                }
            }
            _ = sample.tick() => {
                if !timeline.is_empty() {
                    sampler.follow(pids());
                }
                sampler.sample();
            }
            result = &mut play, if !played => {
                played = true;
                result?;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                shards.iter().for_each(ShardProcess::terminate);
                deadline.as_mut().reset(tokio::time::Instant::now() + STOP_LIMIT);
            }
            () = &mut deadline => {
                for shard in &mut shards {
                    shard.kill().await?;
                }
                return Err(ShardFailure::TimeLimit(time_limit).into());
            }
        }
    }
    sampler.sample();
    drop(origin);
    if !played && !stopping {
        // What was broken is mended before the next trial.
        play.await?;
    }
    let folders: Vec<PathBuf> = shards.iter().map(|shard| shard.out().to_owned()).collect();
    for shard in shards {
        shard.wait().await?;
    }
    let (result, histograms) = match &folders[..] {
        [folder] if of == 1 => shard::read(folder)?,
        folders => {
            warnings.push(
                "latencies over time are the highest of its shards in each window, an upper bound".to_owned(),
            );
            crate::merge::merge(folders)?
        }
    };
    let (faults, deaths) = timeline.take();
    Ok(Finished { result, histograms, usage: sampler.finish(), warnings, faults, deaths })
}

async fn give(shards: &mut [ShardProcess], order: &Order) {
    for shard in shards {
        shard.order(order).await;
    }
}
