//! The NATS backend against the conformance suite, on servers started as a run starts them: natively and in
//! a container. A way that is not open on this machine is left out with its reason; with
//! `QUEUEBENCH_REQUIRE` it is a failure.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use queuebench_system::queue::conformance::{self, Capabilities, Factory, Full, Wanted};
use queuebench_system::queue::nats::{Nats, NatsConfig, NatsRetention};
use queuebench_system::queue::{Durability, Queue, QueueError};
use queuebench_testcontainers::{Backend, Running, StartError, StartOptions, Via, require, start};

struct Streams {
    server: Running,
    opened: AtomicUsize,
}

impl Streams {
    fn config(&self, stream: String) -> NatsConfig {
        NatsConfig {
            servers: vec![format!("nats://{}", self.server.address().trim_start_matches("nats://"))],
            subject: format!("test.{stream}"),
            stream,
            monitor_url: self.server.monitoring_url(),
            ..NatsConfig::default()
        }
    }
}

impl Factory for Streams {
    type Queue = Nats;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            full: Full::Rejects,
            groups: false,
            deduplicates: true,
            ..Capabilities::plain(Duration::from_secs(15))
        }
    }

    async fn open(&self, wanted: Wanted) -> Result<Nats, QueueError> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        Nats::open(NatsConfig {
            retention: NatsRetention::WorkQueue,
            max_messages: wanted.capacity.map(|capacity| capacity as u64),
            ack_wait_ms: 2_000,
            ack_timeout_ms: 2_000,
            ping_interval_ms: 500,
            ..self.config(format!("{}-{number}", wanted.case))
        })
        .await
    }
}

/// The server, or none if its way is not open here.
async fn open(options: StartOptions) -> Option<Running> {
    let via = options.via;
    match start(Backend::Nats, options).await {
        Ok(running) => Some(running),
        Err(
            error @ (StartError::NoWay { .. }
            | StartError::MissingToolchain { .. }
            | StartError::Engine { .. }
            | StartError::Image { .. }),
        ) => {
            require::skip(&["nats", &via.to_string()], &error);
            None
        }
        Err(error) => panic!("{error}"),
    }
}

async fn conforms(via: Via) {
    let Some(server) = open(StartOptions { via, ..StartOptions::default() }).await else { return };
    let streams = Streams { server, opened: AtomicUsize::new(0) };
    let restart = async || {
        streams.server.kill().await.map_err(|error| error.to_string())?;
        streams.server.restart().await.map_err(|error| error.to_string())
    };
    let report = Box::pin(conformance::run_all_disturbed(&streams, restart)).await;
    println!("{report}");
    report.assert_passed();
    streams.server.stop(Duration::from_secs(20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_conforms_on_a_native_server() {
    conforms(Via::Native).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_conforms_in_a_container() {
    conforms(Via::Docker).await;
}

/// The durability class is a setting of the server, and its own word is the proof.
#[tokio::test]
async fn the_server_itself_says_which_durability_it_keeps() {
    for durability in [Durability::ProcessCrash, Durability::PowerLoss] {
        let options = StartOptions { via: Via::Native, durability, ..StartOptions::default() };
        let Some(server) = open(options).await else { return };
        let streams = Streams { server, opened: AtomicUsize::new(0) };
        let config = streams.config("DURABLE".to_owned());
        let wanted = NatsConfig { durability: Durability::PowerLoss, ..config.clone() };
        let promised = Nats::open(wanted).await;
        let queue = Nats::open(config).await.unwrap();
        let settings = queue.effective_settings().await.unwrap();
        if durability == Durability::PowerLoss {
            assert_eq!(promised.unwrap().promise().durability, Durability::PowerLoss);
            assert_eq!(settings["jetstream.sync_always"], "true");
        } else {
            let error = promised.unwrap_err();
            assert!(matches!(error, QueueError::Setting { setting: "durability", .. }), "{error}");
            assert!(!settings.contains_key("jetstream.sync_always"), "{settings:?}");
        }
        streams.server.stop(Duration::from_secs(20)).await.unwrap();
    }
}
