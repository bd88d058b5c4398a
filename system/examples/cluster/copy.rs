//! Following the partitions: what a node's hooks do when partitions change hands.
//!
//! A node that gets a partition asks everybody who had it for their records and merges them. A node that
//! comes back offers what it still holds to whoever is in charge now: a write that only it had taken before
//! it died is not lost. Both are done by the hook itself, one after the other: the library calls it on a
//! thread that may block, and keeps what follows in a queue.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use queuebench_system::cluster::{
    Hooks, Node, PartitionId,
    event::{NodeRejoin, PartitionChange, RejoinKind},
};
use serde::Deserialize;
use serde_json::json;
use tokio::runtime::Handle;

use crate::{
    http::{Http, kv_url},
    store::{Record, Store},
};

/// A source is asked so often before it is given up; another one, or its own return, makes up for it.
const ATTEMPTS: u32 = 5;

/// What `/kv/migrate` answers.
#[derive(Debug, Deserialize)]
struct Migration {
    keys: BTreeMap<String, String>,
    #[serde(default)]
    records: BTreeMap<String, Record>,
}

pub(crate) struct Copier {
    pub(crate) me: String,
    pub(crate) store: Arc<Store>,
    pub(crate) http: Http,
    pub(crate) runtime: Handle,
}

impl Copier {
    async fn pull(&self, partition: PartitionId, source: &Node) {
        let Some(address) = source.services.get("kv") else { return };
        let url = format!("{}/kv/migrate?partition={partition}", kv_url(address));
        for attempt in 1..=ATTEMPTS {
            let (status, body) = self.http.get(&url).await;
            if status == 200
                && let Ok(told) = serde_json::from_slice::<Migration>(&body)
            {
                let plain = told.keys.into_iter().filter(|(key, _)| !told.records.contains_key(key));
                // A store without versions is merged as the oldest there could be.
                let plain = plain.map(|(key, value)| (key, Record { version: 0, value: Some(value) }));
                let mut copied = 0;
                for (key, record) in plain.chain(told.records.clone()) {
                    match self.store.put(&key, &record) {
                        Ok(()) => copied += 1,
                        Err(error) => tracing::error!(%error, key, "not stored"),
                    }
                }
                tracing::info!(%partition, from = %source.id, copied, "copied");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100) * attempt).await;
        }
        tracing::warn!(%partition, from = %source.id, "not copied: no answer");
    }

    /// Offers a record to the nodes in charge of it through any of them.
    async fn offer_everything(&self, cluster: &[Arc<Node>]) {
        let records = self.store.select(|_| true);
        tracing::info!(records = records.len(), "offering what this node still holds");
        for node in cluster.iter().filter(|node| node.id.as_str() != self.me) {
            let Some(address) = node.services.get("kv") else { continue };
            let url = format!("{}/kv/merge", kv_url(address));
            for page in records.chunks(1_000) {
                let page: BTreeMap<_, _> = page.iter().cloned().collect();
                if !self.http.post(&url, &json!(page)).await {
                    tracing::warn!(to = %node.id, "not taken");
                    break;
                }
            }
        }
    }
}

/// The hooks of a node that has a [`Copier`].
pub(crate) struct Follow {
    pub(crate) copier: Arc<Copier>,
    /// Set once the node runs: the hooks are there before it.
    pub(crate) members: Arc<dyn Fn() -> Vec<Arc<Node>> + Send + Sync>,
}

impl Hooks for Follow {
    fn partition_change(&self, change: &PartitionChange) {
        if change.copy_to.id.as_str() != self.copier.me || change.already_holder {
            return;
        }
        let pull_all = async {
            for source in &change.copy_from {
                self.copier.pull(change.partition, source).await;
            }
        };
        self.copier.runtime.block_on(pull_all);
    }

    fn node_rejoin(&self, rejoin: &NodeRejoin) {
        if rejoin.node.id.as_str() == self.copier.me && rejoin.kind == RejoinKind::Returned {
            self.copier.runtime.block_on(self.copier.offer_everything(&(self.members)()));
        }
    }

    fn missed(&self, events: u64) {
        tracing::error!(events, "events were lost, the store may lack partitions");
    }
}
