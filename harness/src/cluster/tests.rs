//! Clusters that lie: each lie must be found, with the right count; an honest one must not be accused.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use queuebench_reports::record::{Delivery, DeliveryVerdict};
use queuebench_system::cluster::placement::partition_of;
use tokio_util::sync::CancellationToken;

use super::ClusterConfig;
use crate::event::Event;
use crate::plan::{Plan, Shard};
use crate::profile::MessageIds;
use crate::profile::Profile;
use crate::trial::TrialSpec;

const PROFILE: &str = r#"
name = "liar"
[workload]
payload = "64B"
keys = { kind = "uniform", count = 50 }
[[phase]]
name = "lookups"
model = "open"
rate = "500/s"
duration = "400ms"
[[phase]]
name = "writes"
model = "open"
rate = "500/s"
duration = "400ms"
operation = "put-data"
"#;

/// What a node does instead of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    None,
    /// Every 50th lookup names the next partition.
    WrongPartition,
    /// Every 40th write is acknowledged and dropped.
    DroppedWrite,
    /// Every 40th write is kept with another value.
    ChangedValue,
    /// Connections are closed instead of answers.
    Silent,
}

#[derive(Default)]
struct Store {
    values: Mutex<HashMap<String, Vec<u8>>>,
    lookups: AtomicU64,
    writes: AtomicU64,
}

/// One node; all nodes of a cluster share what they hold.
fn node(lie: Lie, store: Arc<Store>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    // Ends with the test's process: nobody connects any more.
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let store = Arc::clone(&store);
            std::thread::spawn(move || serve(connection, lie, &store));
        }
    });
    address
}

fn serve(connection: TcpStream, lie: Lie, store: &Store) -> Option<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let (mut first, mut length) = (String::new(), 0);
        reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let line = line.trim().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        if lie == Lie::Silent {
            return None;
        }
        let mut words = first.split_whitespace();
        let (method, path) = (words.next()?, words.next()?);
        let (status, answer) = answer(lie, store, method, path, body);
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
        reader.get_mut().write_all(&[head.as_bytes(), &answer].concat()).ok()?;
    }
}

fn answer(lie: Lie, store: &Store, method: &str, path: &str, body: Vec<u8>) -> (&'static str, Vec<u8>) {
    let nth = |count: &AtomicU64, every| count.fetch_add(1, Ordering::Relaxed) % every == every - 1;
    if let Some(key) = path.strip_prefix("/partitions/key?key=") {
        let mut partition = partition_of(key.as_bytes(), ClusterConfig::default().partitions);
        if lie == Lie::WrongPartition && nth(&store.lookups, 50) {
            partition.0 = (partition.0 + 1) % 64;
        }
        let answer = serde_json::json!({ "key": key, "partition": { "id": partition }, "primary": { "id": "node-1" } });
        return ("200 OK", answer.to_string().into_bytes());
    }
    let mut values = store.values.lock().expect("nobody panics");
    if method == "PUT" {
        let due = nth(&store.writes, 40);
        let value = if lie == Lie::ChangedValue && due { b"something else".to_vec() } else { body };
        if lie != Lie::DroppedWrite || !due {
            values.insert(path.to_owned(), value);
        }
        return ("200 OK", b"{}".to_vec());
    }
    values.get(path).map_or(("404 Not Found", Vec::new()), |value| ("200 OK", value.clone()))
}

/// A trial over nodes that tell these lies, and what it warned of.
fn trial(lies: &[Lie]) -> (Delivery, Vec<String>) {
    let store = Arc::new(Store::default());
    let config = ClusterConfig {
        endpoints: lies.iter().map(|lie| node(*lie, Arc::clone(&store))).collect(),
        prefix: "t".to_owned(),
        catch_up_ms: 300,
        ..ClusterConfig::default()
    };
    let profile = Arc::new(Profile::parse(PROFILE, "test").expect("a profile"));
    let plan = Arc::new(Plan::new(&profile, 1, Shard::WHOLE).expect("a plan"));
    let spec = TrialSpec {
        subject: "liar".to_owned(),
        index: 0,
        position: 0,
        profile,
        seed: 1,
        shard: Shard::WHOLE,
        trial_id: 1,
        message_ids: MessageIds::None,
        embedded: true,
    };
    let mut warnings = Vec::new();
    let mut hear = |event| {
        if let Event::Warning { text } = event {
            warnings.push(text);
        }
    };
    let outcome = super::run(&config, &plan, &spec, &CancellationToken::new(), &mut hear);
    (outcome.expect("a trial").trial.delivery, warnings)
}

#[test]
fn an_honest_cluster_is_not_accused() {
    let (delivery, warnings) = trial(&[Lie::None, Lie::None]);
    assert_eq!((delivery.attempted, delivery.acknowledged), (400, 400));
    assert_eq!((delivery.verdict, delivery.lost, delivery.corrupted), (DeliveryVerdict::Kept, 0, 0));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_wrong_partition_is_found() {
    let (delivery, _) = trial(&[Lie::WrongPartition]);
    assert_eq!((delivery.verdict, delivery.corrupted, delivery.lost), (DeliveryVerdict::Violated, 4, 0));
    assert!(delivery.violations[0].contains("wrong partition"), "{:?}", delivery.violations);
}

#[test]
fn an_acknowledged_value_that_is_gone_or_another_is_found() {
    for lie in [Lie::DroppedWrite, Lie::ChangedValue] {
        let (delivery, _) = trial(&[lie, lie]);
        assert_eq!((delivery.verdict, delivery.lost), (DeliveryVerdict::Violated, 5), "{lie:?}");
        assert!(delivery.violations[0].contains("missing on some node"), "{:?}", delivery.violations);
    }
}

#[test]
fn a_node_that_does_not_answer_costs_no_lookup_and_proves_nothing() {
    let (delivery, warnings) = trial(&[Lie::Silent, Lie::None]);
    assert_eq!((delivery.verdict, delivery.lost), (DeliveryVerdict::Kept, 0));
    // A write to the silent node may have been made; it is not repeated and not counted as lost.
    assert_eq!(delivery.attempted, delivery.acknowledged + delivery.unknown, "{delivery:?}");
    assert!(delivery.acknowledged >= 200, "lookups go on to the other: {delivery:?}");
    assert!(warnings.iter().any(|text| text.contains("could not be asked")), "{warnings:?}");
}
