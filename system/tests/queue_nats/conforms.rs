//! The shared conformance suite on a real server.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queuebench_system::queue::QueueError;
use queuebench_system::queue::conformance::{self, Capabilities, Factory, Full, Wanted};
use queuebench_system::queue::nats::{Nats, NatsConfig, NatsRetention};

use crate::server::Server;

const MIB: usize = 1024 * 1024;
/// `NATS/1.0`, `Nats-Msg-Id: 1048576` and an empty line: the header block of the suite's largest message.
const HEADER_BYTES: usize = 10 + 22 + 2;

struct Streams {
    server: Mutex<Server>,
    opened: AtomicUsize,
    retention: NatsRetention,
}

impl Factory for Streams {
    type Queue = Nats;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_payload_bytes: Some(MIB),
            // A stream that keeps everything up to its limits stays full.
            full: if self.retention == NatsRetention::WorkQueue { Full::Rejects } else { Full::Never },
            groups: self.retention == NatsRetention::Limits,
            deduplicates: true,
            ..Capabilities::plain(Duration::from_secs(10))
        }
    }

    async fn open(&self, wanted: Wanted) -> Result<Nats, QueueError> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        let config = self.server.lock().unwrap().config(&format!("{}-{number}", wanted.case));
        Nats::open(NatsConfig {
            retention: self.retention,
            max_messages: wanted.capacity.map(|capacity| capacity as u64),
            ack_wait_ms: 1_500,
            ack_timeout_ms: 2_000,
            ping_interval_ms: 500,
            ..config
        })
        .await
    }
}

async fn conforms(retention: NatsRetention) {
    let Some(server) = Server::start(&format!("max_payload: {}", MIB + HEADER_BYTES)) else { return };
    let streams = Streams { server: Mutex::new(server), opened: AtomicUsize::new(0), retention };
    let restart = async || {
        let mut server = streams.server.lock().unwrap();
        server.kill();
        server.run();
        Ok(())
    };
    let report = Box::pin(conformance::run_all_disturbed(&streams, restart)).await;
    println!("{report}");
    report.assert_passed();
}

#[tokio::test]
async fn a_stream_with_limits_conforms() {
    conforms(NatsRetention::Limits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_conforms() {
    conforms(NatsRetention::WorkQueue).await;
}
