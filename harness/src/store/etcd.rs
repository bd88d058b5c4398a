//! etcd over gRPC: lanes share HTTP/2 connections to the leader, and have others to the members for reads that may be
//! stale.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

use super::StoreConfig;
use super::answer::{Answer, Failure, Seen, decode};
use super::client::{Client, Request};
use super::etcd_messages::{
    Compare, HashKvRequest, HashKvResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp,
    StatusRequest, StatusResponse, TxnRequest, TxnResponse,
};

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Between two questions who leads.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// The target of a compare on the revision of the last change.
const MOD: i32 = 2;

pub(super) struct EtcdClient {
    /// Connections to each member.
    members: Vec<Vec<Channel>>,
    leader: Cell<usize>,
    timeout: Duration,
}

impl Client for EtcdClient {
    async fn connect(config: &StoreConfig, lanes: u32) -> Result<Self, String> {
        let connections = lanes.div_ceil(config.clients_per_connection.max(1)).max(1);
        let mut members = Vec::new();
        for endpoint in &config.endpoints {
            let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).map_err(|e| e.to_string())?;
            let endpoint = endpoint.tcp_nodelay(true).connect_timeout(CONNECT_LIMIT);
            members.push((0..connections).map(|_| endpoint.connect_lazy()).collect());
        }
        let timeout_limit = Duration::from_millis(config.timeout_ms);
        let client = Self { members, leader: Cell::new(0), timeout: timeout_limit };
        timeout(timeout_limit, async {
            while !client.find_leader().await {
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        })
        .await
        .map_err(|_| "no member knows a leader".to_owned())?;
        Ok(client)
    }

    async fn send(&self, lane: u32, key: &str, request: Request) -> Result<Answer, Failure> {
        let is_write = request.is_write();
        let answer = match timeout(self.timeout, self.exchange(lane, key, request)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => failure(&status, is_write),
            Err(_) if is_write => Failure::Unknown("no answer in time".to_owned()),
            Err(_) => Failure::Refused("no answer in time".to_owned()),
        };
        let _ = timeout(self.timeout, self.find_leader()).await;
        Err(answer)
    }

    async fn states(&self) -> Result<Vec<(i64, u64)>, String> {
        let mut states = Vec::new();
        for member in &self.members {
            let call = unary::<_, HashKvResponse>(
                &member[0],
                "/etcdserverpb.Maintenance/HashKV",
                HashKvRequest { revision: 0 },
            );
            let answer = timeout(self.timeout, call).await.map_err(|_| "no answer in time".to_owned())?;
            let answer = answer.map_err(|status| status.to_string())?;
            let revision = answer.header.map_or(0, |header| header.revision);
            states.push((revision, u64::from(answer.hash)));
        }
        Ok(states)
    }
}

impl EtcdClient {
    async fn find_leader(&self) -> bool {
        for (index, member) in self.members.iter().enumerate() {
            let call =
                unary::<_, StatusResponse>(&member[0], "/etcdserverpb.Maintenance/Status", StatusRequest {});
            let Ok(Ok(status)) = timeout(CONNECT_LIMIT, call).await else { continue };
            let own = status.header.map_or(0, |header| header.member_id);
            if status.leader != 0 && status.leader == own {
                self.leader.set(index);
                return true;
            }
        }
        false
    }

    fn channel(&self, lane: u32, member: usize) -> &Channel {
        let connections = &self.members[member];
        &connections[lane as usize % connections.len()]
    }

    async fn exchange(&self, lane: u32, key: &str, request: Request) -> Result<Answer, Status> {
        let key_bytes = Bytes::copy_from_slice(key.as_bytes());
        let leader = self.channel(lane, self.leader.get());
        match request {
            Request::Put { value } => {
                let put = PutRequest { key: key_bytes, value };
                let done: PutResponse = unary(leader, "/etcdserverpb.KV/Put", put).await?;
                Ok(Answer::Written(done.header.map_or(0, |header| header.revision)))
            }
            Request::Get { serializable } => {
                let own = lane as usize % self.members.len();
                let channel = if serializable { self.channel(lane, own) } else { leader };
                let range = RangeRequest { key: key_bytes, serializable, ..RangeRequest::default() };
                let found: RangeResponse = unary(channel, "/etcdserverpb.KV/Range", range).await?;
                let seen = |kv: &super::etcd_messages::KeyValue| Seen {
                    value: decode(&kv.value),
                    revision: kv.mod_revision,
                };
                Ok(Answer::Read(found.kvs.first().map(seen)))
            }
            Request::Cas { expected, value } => {
                let compare = Compare { target: MOD, key: key_bytes.clone(), mod_revision: Some(expected) };
                let put = RequestOp { put: Some(PutRequest { key: key_bytes, value }) };
                let txn = TxnRequest { compare: vec![compare], success: vec![put] };
                let done: TxnResponse = unary(leader, "/etcdserverpb.KV/Txn", txn).await?;
                Ok(if done.succeeded {
                    Answer::Written(done.header.map_or(0, |header| header.revision))
                } else {
                    Answer::Conflict
                })
            }
            Request::Range { limit } => {
                // Up to the end of the trial's keys: the slash plus one.
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                let range = RangeRequest {
                    key: key_bytes,
                    range_end: Bytes::from(format!("{folder}0")),
                    limit: i64::from(limit),
                    serializable: false,
                };
                let _: RangeResponse = unary(leader, "/etcdserverpb.KV/Range", range).await?;
                Ok(Answer::Ranged)
            }
        }
    }
}

async fn unary<Q, A>(channel: &Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(format!("not connected: {error}")))?;
    let codec = ProstCodec::<Q, A>::default();
    let answer = client.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

/// Whether a failed call may have been done.
fn failure(status: &Status, is_write: bool) -> Failure {
    let text = status.to_string();
    let certain =
        matches!(
            status.code(),
            Code::InvalidArgument
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::NotFound
                | Code::OutOfRange
        ) || ["not connected", "etcdserver: no leader"].iter().any(|known| status.message().contains(known));
    if certain || !is_write { Failure::Refused(text) } else { Failure::Unknown(text) }
}
