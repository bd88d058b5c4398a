//! The types that openraft is parameterised with, and the two that applications see: [`Command`] and
//! [`Reply`]. Both are opaque bytes, so a command is encoded once by whoever proposes it and the same buffer
//! is shared by the log, every peer connection and the state machine.

use std::fmt;

use bytes::Bytes;
use openraft::{OptionalSend, RaftTypeConfig, TokioRuntime, type_config::alias};
use serde::{Deserialize, Serialize};

/// Number of a node, chosen once for its life and never given to another.
pub type NodeId = u64;

/// What is replicated: an application's command in its own encoding.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying a command answered, in the application's encoding; empty for entries without a command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply(pub Bytes);

/// Where a member is reached. Part of the membership configuration, so every node knows every address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Public URL of the node, without a trailing slash; peer connections use the same address.
    pub url: String,
}

/// openraft's type parameters for every application of this crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Types;

impl RaftTypeConfig for Types {
    type D = Command;
    type R = Reply;
    type NodeId = NodeId;
    type Node = Peer;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = openraft::EntryPayload<Command, NodeId, Peer>;
    type Entry = alias::DefaultEntryOf<Self>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::AnyError;
}

/// Who proposed an entry: term and node, because several nodes may lead in one term, in node order.
pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, NodeId>;
pub(crate) type LogId = alias::LogIdOf<Types>;
pub(crate) type Vote = alias::VoteOf<Types>;
pub(crate) type Entry = alias::EntryOf<Types>;
pub(crate) type Payload = openraft::EntryPayload<Command, NodeId, Peer>;
pub(crate) type Membership = openraft::Membership<NodeId, Peer>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
