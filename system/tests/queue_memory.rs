//! The in-process queue against the conformance suite, in both full policies.

use std::time::Duration;

use queuebench_system::message::Message;
use queuebench_system::queue::conformance::{self, Capabilities, Factory, Full, Wanted};
use queuebench_system::queue::memory::FullPolicy;
use queuebench_system::queue::{Memory, MemoryConfig, QueueError};

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
        Memory::open(MemoryConfig {
            capacity: wanted.capacity.unwrap_or(10_000),
            full: self.0,
            max_payload_bytes: Some(LIMIT),
        })
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
