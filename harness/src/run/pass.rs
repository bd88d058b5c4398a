//! One pass of a profile over one subject: what its process is told, and what it leaves.

use anyhow::Context as _;

use super::ensemble::{Around, Finished, perform};
use super::nodes::Nodes;
use super::services::{Services, TaskWatch};
use super::timeline::Timeline;
use super::{Servers, Work};
use crate::cluster::ClusterConfig;
use crate::plan::mix;
use crate::profile::{MessageIds, Profile};
use crate::shard::ShardSpec;
use crate::subject::{Addresses, Backend, SubjectConfig, SubjectRequest, configure};
use crate::ui::TrialBar;
use tokio_util::sync::CancellationToken;

/// Which pass.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    /// Unique among the passes over this subject; part of the names of what it creates on servers.
    pub(super) label: String,
    /// The round, from 0.
    pub(super) index: u32,
    /// Place in the order of the round, from 0.
    pub(super) position: u32,
    /// The load.
    pub(super) profile: &'a Profile,
}

impl Work {
    /// Runs it to its end.
    pub(super) async fn pass(
        &self,
        request: &SubjectRequest,
        pass: &Pass<'_>,
        servers: &Servers,
        bar: &TrialBar,
        stop: &CancellationToken,
    ) -> anyhow::Result<Finished> {
        let name = format!("qb-{}-{}-{}", self.short_id, safe(&request.name), pass.label);
        let mut config = configure(request, pass.profile, servers.addresses(request), &name)?;
        let services = self.services(&mut config, servers.addresses(request), &name).await?;
        let nodes = self.nodes(&mut config, &name, bar).await?;
        let spec = ShardSpec {
            subject: request.name.clone(),
            config,
            profile: pass.profile.clone(),
            seed: self.spec.seed,
            index: pass.index,
            position: pass.position,
            trial_id: self.trial_id(request, &pass.label),
            message_ids: pass.profile.workload.message_ids.unwrap_or(match request.backend {
                Backend::Nats | Backend::Composite => MessageIds::Unique,
                // The pipeline names its messages itself.
                _ => MessageIds::None,
            }),
            embedded: request.backend.is_embedded(),
        };
        let folder = format!("{}-{}", safe(&request.name), pass.label);
        let scratch = self.folder.path().join("shards").join(&folder);
        // A store's history is one file; a pipeline's ids and a cluster's values are held in one process.
        let one = request.backend.is_embedded()
            || request.backend.is_store()
            || request.backend.has_own_processes();
        let shards = if one { 1 } else { pass.profile.shards };
        let timeline = Timeline::new(&pass.profile.faults, &servers.breakable(request), nodes.as_ref());
        let pids = || {
            let mut pids = servers.pids(request);
            pids.extend(services.iter().flat_map(Services::pids));
            pids.extend(nodes.iter().flat_map(Nodes::pids));
            pids
        };
        // Asking the services costs them a little, so only a soak does.
        let watched =
            pass.profile.judge_growth.then(|| services.as_ref().map(Services::watch_tasks)).flatten();
        let tasks = watched.as_ref().map(TaskWatch::count);
        let around = Around { bar, pids: &pids, tasks, timeline: &timeline, stop };
        let finished = perform(&spec, shards, &scratch, &around).await;
        drop(watched);
        // Services and nodes end in order also when the trial failed.
        let mut problems = match services {
            Some(services) => services.stop().await,
            None => Vec::new(),
        };
        drop(timeline);
        if let Some(nodes) = nodes {
            problems.extend(nodes.stop().await);
        }
        let mut finished = finished?;
        finished.warnings.extend(problems);
        if finished.result.store.is_some() {
            self.keep_history(&scratch, &folder)?;
        }
        // What a shard left is in the record and the merged histograms now.
        let _ = std::fs::remove_dir_all(&scratch);
        Ok(finished)
    }

    /// Starts the services of a pipeline subject and fills in their addresses; nothing for any other.
    async fn services(
        &self,
        config: &mut serde_json::Value,
        addresses: Addresses<'_>,
        name: &str,
    ) -> anyhow::Result<Option<Services>> {
        // A store's settings are no queue's.
        let Ok(SubjectConfig::Pipeline(mut pipeline)) = serde_json::from_value(config.clone()) else {
            return Ok(None);
        };
        let logs = self.folder.path().join("logs");
        let services = Services::start(&mut pipeline, addresses, name, &logs).await?;
        *config = serde_json::to_value(SubjectConfig::Pipeline(pipeline))?;
        Ok(Some(services))
    }

    /// Starts the nodes of a cluster subject and fills in where they are; nothing for any other.
    async fn nodes(
        &self,
        config: &mut serde_json::Value,
        name: &str,
        bar: &TrialBar,
    ) -> anyhow::Result<Option<Nodes>> {
        let Some(settings) = config.get("cluster") else { return Ok(None) };
        let mut cluster: ClusterConfig = serde_json::from_value(settings.clone())?;
        bar.remark(&format!("starting {} nodes", cluster.nodes));
        let folder = self.folder.path();
        let data = folder.join("shards").join(format!("{name}-data"));
        let nodes = Nodes::start(&mut cluster, name, &data, &folder.join("logs")).await?;
        *config = serde_json::json!({ "cluster": cluster });
        Ok(Some(nodes))
    }

    /// The history of a store's trial stays with the run, for `queuebench verify`.
    fn keep_history(&self, scratch: &std::path::Path, name: &str) -> anyhow::Result<()> {
        let folder = self.folder.path().join("histories");
        std::fs::create_dir_all(&folder)?;
        std::fs::rename(scratch.join(crate::store::HISTORY_FILE), folder.join(format!("{name}.jsonl")))
            .context("keeping the history")
    }

    /// Differs between the passes of a run, and between runs.
    fn trial_id(&self, request: &SubjectRequest, label: &str) -> u64 {
        let hash = |text: &str| text.bytes().fold(0, |hash, byte| mix(hash, u64::from(byte)));
        mix(mix(xxhash_rust::xxh3::xxh3_64(self.record.id.as_bytes()), hash(&request.name)), hash(label))
    }
}

/// Letters, digits and dashes only: good in a file name, a stream's and a topic's.
fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
}
