//! A callback per kind of event, for those who need no whole [`Hooks`].

use std::sync::Arc;

use super::{ClusterKit, builder::Builder};
use crate::cluster::{
    event::{
        Event, HealthChange, LeaseEnd, NodeJoin, NodeLeave, NodeRejoin, PartitionChange, Rebalance,
        RebalanceComplete, StateReplaced,
    },
    hooks::Hooks,
};

/// Calls one function for one kind of event.
struct Callback<W, C> {
    wants: W,
    call: C,
}

impl<W, C> Hooks for Callback<W, C>
where
    W: Fn(&Event) -> bool + Send + Sync + 'static,
    C: Fn(&Event) + Send + Sync + 'static,
{
    fn wants(&self, event: &Event) -> bool {
        (self.wants)(event)
    }

    fn event(&self, event: &Event) {
        (self.call)(event);
    }
}

macro_rules! callbacks {
    ($($(#[$doc:meta])* $name:ident($variant:ident: $payload:ty);)*) => {
        $(
            fn $name(callback: impl Fn(&$payload) + Send + Sync + 'static) -> Arc<dyn Hooks> {
                Arc::new(Callback {
                    wants: |event: &Event| matches!(event, Event::$variant(_)),
                    call: move |event: &Event| {
                        if let Event::$variant(payload) = event {
                            callback(payload);
                        }
                    },
                })
            }
        )*

        /// A callback each, from now on. Several per event are fine; each is told in log order, and one that
        /// is slow delays no other.
        impl ClusterKit {
            $(
                $(#[$doc])*
                pub fn $name(&self, callback: impl Fn(&$payload) + Send + Sync + 'static) {
                    self.add_hooks($name(callback));
                }
            )*
        }

        /// A callback each, from the start on.
        impl Builder {
            $(
                $(#[$doc])*
                pub fn $name(self, callback: impl Fn(&$payload) + Send + Sync + 'static) -> Self {
                    self.hooks($name(callback))
                }
            )*
        }
    };
}

callbacks! {
    /// A node has become a member for the first time.
    on_node_join(NodeJoin: NodeJoin);
    /// A member was started again, or came back; told on that node too.
    on_node_rejoin(NodeRejoin: NodeRejoin);
    /// A member has gone.
    on_node_leave(NodeLeave: NodeLeave);
    /// An assignment is about to change.
    on_rebalance_start(RebalanceStart: Rebalance);
    /// A node has to have a partition's data.
    on_partition_change(PartitionChange: PartitionChange);
    /// An assignment has changed.
    on_rebalance_complete(RebalanceComplete: RebalanceComplete);
    /// A lease has ended, and its locks with it.
    on_lease_end(LeaseEnd: LeaseEnd);
    /// This node sees the cluster's health otherwise than before.
    on_cluster_health_change(HealthChange: HealthChange);
    /// This node was sent the state instead of the commands it missed.
    on_state_replaced(StateReplaced: StateReplaced);
}
