//! The in-process queue, and composites of it, against the conformance suite.

use std::time::Duration;

use queuebench_system::message::Message;
use queuebench_system::queue::composite::Strategy;
use queuebench_system::queue::conformance::{self, Capabilities, Factory, Full, Wanted};
use queuebench_system::queue::memory::FullPolicy;
use queuebench_system::queue::{AnyQueue, CompositeConfig, Memory, MemoryConfig, QueueConfig, QueueError};

struct Memories(FullPolicy);

const LIMIT: usize = 2 * 1024 * 1024;

impl Factory for Memories {
    type Queue = Memory<Message>;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_payload_bytes: Some(LIMIT),
            full: match self.0 {
                FullPolicy::Reject => Full::Rejects,
                FullPolicy::Wait => Full::Waits,
            },
            ..Capabilities::plain(Duration::from_secs(5))
        }
    }

    async fn open(&self, wanted: Wanted) -> Result<Self::Queue, QueueError> {
        Memory::open(memory(wanted, self.0))
    }
}

fn memory(wanted: Wanted, full: FullPolicy) -> MemoryConfig {
    MemoryConfig { capacity: wanted.capacity.unwrap_or(10_000), full, max_payload_bytes: Some(LIMIT) }
}

/// Opened from settings, through the enum.
struct Composites {
    children: usize,
    strategy: Strategy,
    full: FullPolicy,
}

impl Factory for Composites {
    type Queue = AnyQueue;

    fn capabilities(&self) -> Capabilities {
        Capabilities { deduplicates: true, ..Memories(self.full).capabilities() }
    }

    async fn open(&self, wanted: Wanted) -> Result<Self::Queue, QueueError> {
        let child = || QueueConfig::Memory(memory(wanted, self.full));
        let children = (0..self.children).map(|_| child()).collect();
        let config = CompositeConfig { strategy: self.strategy, ..CompositeConfig::new(children) };
        QueueConfig::Composite(config).open().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejecting_queue_conforms() {
    let report = conformance::run_all(&Memories(FullPolicy::Reject)).await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test]
async fn a_waiting_queue_conforms_on_one_thread() {
    let report = conformance::run_all(&Memories(FullPolicy::Wait)).await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_of_two_conforms_when_all_are_needed() {
    let composites = Composites { children: 2, strategy: Strategy::FailFast, full: FullPolicy::Reject };
    Box::pin(conformance::run_all(&composites)).await.assert_passed();
}

#[tokio::test]
async fn a_composite_of_two_conforms_when_one_is_enough() {
    let composites = Composites { children: 2, strategy: Strategy::BestEffort, full: FullPolicy::Wait };
    Box::pin(conformance::run_all(&composites)).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composite_of_three_conforms_when_most_are_needed() {
    let composites = Composites { children: 3, strategy: Strategy::Quorum, full: FullPolicy::Reject };
    Box::pin(conformance::run_all(&composites)).await.assert_passed();
}

#[tokio::test]
async fn a_composite_of_four_conforms() {
    let composites = Composites { children: 4, strategy: Strategy::FailFast, full: FullPolicy::Wait };
    Box::pin(conformance::run_all(&composites)).await.assert_passed();
}
