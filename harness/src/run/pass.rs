//! One pass of a profile over one subject: what its process is told, and what it leaves.

use super::ensemble::{Around, Finished, perform};
use super::timeline::Timeline;
use super::{Servers, Work};
use crate::plan::mix;
use crate::profile::Profile;
use crate::shard::ShardSpec;
use crate::subject::{Backend, SubjectRequest, configure};
use crate::trial::MessageIds;
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
        let config = configure(request, pass.profile, servers.addresses(request), &name)?;
        let spec = ShardSpec {
            subject: request.name.clone(),
            config,
            profile: pass.profile.clone(),
            seed: self.spec.seed,
            index: pass.index,
            position: pass.position,
            trial_id: self.trial_id(request, &pass.label),
            message_ids: match request.backend {
                Backend::Nats | Backend::Composite => MessageIds::Unique,
                Backend::Memory | Backend::Kafka | Backend::Null => MessageIds::None,
            },
            embedded: request.backend.is_embedded(),
        };
        let folder = format!("{}-{}", safe(&request.name), pass.label);
        let scratch = self.folder.path().join("shards").join(folder);
        let shards = if request.backend.is_embedded() { 1 } else { pass.profile.shards };
        let timeline = Timeline::new(&pass.profile.faults, &servers.breakable(request));
        let pids = || servers.pids(request);
        let around = Around { bar, pids: &pids, timeline: &timeline, stop };
        let finished = perform(&spec, shards, &scratch, &around).await?;
        // What a shard left is in the record and the merged histograms now.
        let _ = std::fs::remove_dir_all(&scratch);
        Ok(finished)
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
