//! The state as the Raft plumbing drives it: commands in, answers out, pictures and events published.
//!
//! Readers of the topology never meet the lock that applying takes. Events of entries that were applied
//! before (the log read back at a start) are not told again.

use std::{
    io::{self, Read, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    command::{Command, Outcome, Refusal},
    event::{Event, StateReplaced},
    hooks::EventBus,
    state::State,
    topology::TopologyCell,
};
use crate::raft::machine::Machine;

/// A snapshot is no larger: custom data, members, partitions and leases at their bounds, in JSON.
const SNAPSHOT_BYTES_MAX: u64 = 512 << 20;

/// The replicated state of one node.
#[derive(Debug)]
pub struct ClusterMachine {
    state: RwLock<State>,
    topology: TopologyCell,
    bus: EventBus,
    live: AtomicBool,
    /// Position of the last command applied, for those who wait for one.
    applied: watch::Sender<u64>,
    /// Version of the topology, for those who wait for another.
    version: watch::Sender<u64>,
}

impl Default for ClusterMachine {
    fn default() -> Self {
        Self {
            state: RwLock::default(),
            topology: TopologyCell::default(),
            bus: EventBus::default(),
            live: AtomicBool::new(false),
            applied: watch::Sender::new(0),
            version: watch::Sender::new(0),
        }
    }
}

impl ClusterMachine {
    /// Looks at the state; applying waits meanwhile, so be quick.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read())
    }

    /// Where keys are looked up.
    #[must_use]
    pub fn topology(&self) -> &TopologyCell {
        &self.topology
    }

    /// Where events are told.
    #[must_use]
    pub fn bus(&self) -> &EventBus {
        &self.bus
    }

    /// Tells events from now on.
    pub fn go_live(&self) {
        // Under the lock: an entry is either before it or told of.
        let _state = self.state.write();
        self.live.store(true, Ordering::Release);
    }

    /// Follows the position of the last command applied.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Follows the version of the topology.
    #[must_use]
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn publish(&self, index: u64, state: &State, events: Vec<Event>, topology_changed: bool) {
        if topology_changed {
            self.topology.publish(state.topology());
            self.version.send_replace(state.topology_version());
        }
        if self.live.load(Ordering::Acquire) {
            self.bus.publish(index, events);
        }
        self.applied.send_replace(index);
    }
}

/// Encodes an answer for its proposer.
fn encode(outcome: &Result<Outcome, Refusal>) -> Bytes {
    serde_json::to_vec(outcome).unwrap_or_default().into()
}

/// Decodes the answer to a command.
///
/// # Errors
///
/// When it was written by another version of this program.
pub fn decode(answer: &[u8]) -> Result<Result<Outcome, Refusal>, serde_json::Error> {
    serde_json::from_slice(answer)
}

impl Machine for ClusterMachine {
    type Frozen = State;

    fn apply(&self, index: u64, command: Bytes) -> Bytes {
        let command: Command = match serde_json::from_slice(&command) {
            Ok(command) => command,
            Err(error) => return encode(&Err(Refusal::Invalid(format!("log entry {index}: {error}")))),
        };
        let mut state = self.state.write();
        let applied = state.apply(index, &command);
        self.publish(index, &state, applied.events, applied.topology_changed);
        encode(&applied.outcome)
    }

    fn freeze(&self) -> State {
        self.state.read().clone()
    }

    fn write(frozen: &State, out: &mut dyn Write) -> io::Result<()> {
        serde_json::to_writer(out, frozen).map_err(io::Error::other)
    }

    fn restore(&self, input: &mut dyn Read) -> io::Result<()> {
        let mut bytes = Vec::new();
        input.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut bytes)?;
        let restored = State::from_snapshot(&bytes).map_err(io::Error::other)?;
        let mut state = self.state.write();
        let (from_index, to_index) = (state.applied_index(), restored.applied_index());
        *state = restored;
        let told = vec![Event::StateReplaced(StateReplaced { from_index, to_index })];
        self.publish(to_index, &state, told, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::{ClusterMachine, decode};
    use crate::{
        cluster::{
            command::{ClusterConfig, Command, Operation, Outcome, Refusal},
            hooks::Told,
        },
        raft::machine::Machine,
    };

    fn init() -> bytes::Bytes {
        let cluster_name = "c".to_owned();
        let config = ClusterConfig { cluster_name, partition_count: 16, replication_factor: 3 };
        let command = Command::new(Timestamp::UNIX_EPOCH, Operation::InitCluster(config));
        serde_json::to_vec(&command).unwrap().into()
    }

    #[test]
    fn commands_are_answered() {
        let machine = ClusterMachine::default();
        assert_eq!(decode(&machine.apply(1, init())).unwrap(), Ok(Outcome::Done));
        let refused = decode(&machine.apply(2, bytes::Bytes::from_static(b"{}"))).unwrap();
        assert!(matches!(refused, Err(Refusal::Invalid(reason)) if reason.contains("log entry 2")));
        assert_eq!(*machine.applied().borrow(), 1);
    }

    #[tokio::test]
    async fn a_restored_state_is_shown_and_told() {
        let source = ClusterMachine::default();
        source.apply(7, init());
        let mut snapshot = Vec::new();
        ClusterMachine::write(&source.freeze(), &mut snapshot).unwrap();
        let machine = Arc::new(ClusterMachine::default());
        machine.go_live();
        let mut events = machine.bus().listen();
        machine.restore(&mut &snapshot[..]).unwrap();
        assert_eq!(machine.topology().read().version(), 7);
        let Some(Told::Notice(notice)) = events.next().await else { panic!("not told") };
        assert_eq!(notice.index, 7);
        assert!(machine.restore(&mut &snapshot[1..]).is_err());
        assert_eq!(machine.topology().read().version(), 7, "all or nothing");
    }
}
