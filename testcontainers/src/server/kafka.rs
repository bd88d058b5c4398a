//! Apache Kafka in KRaft mode: one node that is broker and controller.

use std::fmt::Write as _;

use queuebench_system::queue::Durability;

use super::{Layout, MAX_MESSAGE_BYTES};

/// The version that is fetched where none is cached.
pub(crate) const VERSION: &str = "4.1.0";
/// The logging binding that this version's distribution ships and its Maven artifacts leave out.
pub(crate) const LOG_BINDING_VERSION: &str = "2.24.3";
/// The official image.
pub(crate) const IMAGE: &str = "apache/kafka:4.1.0";
/// What `testcontainers/images/build-local.sh` makes where no registry answers.
pub(crate) const LOCAL_IMAGE: &str = "queuebench/kafka:4.1.0";
/// The configuration's file name.
pub(crate) const CONFIG_FILE: &str = "server.properties";
/// The logging configuration's file name.
pub(crate) const LOG_CONFIG_FILE: &str = "log4j2.properties";
/// Heap, as in the distribution's start script.
pub(crate) const HEAP: &str = "-Xms1g -Xmx1g";
/// Collector settings, as in the distribution's start script.
pub(crate) const JVM: &str = "-server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 \
    -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent -Djava.awt.headless=true";

/// `server.properties`. Internal topics get few partitions, as one node makes them all at first use.
pub(crate) fn config(layout: &Layout) -> String {
    let Layout { bind, port, side_port, data_dir, .. } = layout;
    let mut text = String::new();
    for (key, value) in [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.voters", &format!("1@127.0.0.1:{side_port}")),
        ("listeners", &format!("PLAINTEXT://{bind}:{port},CONTROLLER://127.0.0.1:{side_port}")),
        ("advertised.listeners", &format!("PLAINTEXT://127.0.0.1:{port}")),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("controller.listener.names", "CONTROLLER"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("log.dirs", &escape(data_dir)),
        ("auto.create.topics.enable", "false"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", "8"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "8"),
        ("share.coordinator.state.topic.replication.factor", "1"),
        ("share.coordinator.state.topic.min.isr", "1"),
        ("message.max.bytes", &MAX_MESSAGE_BYTES.to_string()),
    ] {
        let _ = writeln!(text, "{key}={value}");
    }
    if layout.durability == Durability::PowerLoss {
        text.push_str("log.flush.interval.messages=1\n");
    }
    text
}

/// Everything to standard output: the way of starting decides where that goes.
pub(crate) fn log_config() -> &'static str {
    "rootLogger.level = INFO\n\
     rootLogger.appenderRefs = stdout\n\
     rootLogger.appenderRef.stdout.ref = stdout\n\
     appender.stdout.type = Console\n\
     appender.stdout.name = stdout\n\
     appender.stdout.layout.type = PatternLayout\n\
     appender.stdout.layout.pattern = %d{ISO8601} %p %m (%c{1})%n\n"
}

/// A cluster id in Kafka's form: 16 bytes in URL-safe base64 without padding, 22 characters. The last
/// character carries two bits, hence always `A`; none starts with a dash, which would look like a flag.
pub(crate) fn cluster_id(random: u128) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut id = String::from("q");
    for step in 0..20 {
        let index = usize::try_from((random >> (step * 6)) & 63).unwrap_or_default();
        id.push(char::from(ALPHABET[index]));
    }
    id.push('A');
    id
}

/// A backslash starts an escape in a properties file.
fn escape(path: &str) -> String {
    path.replace('\\', "\\\\")
}

/// The version that a server's log states, if it does.
pub(crate) fn version_in_log(log: &str) -> Option<String> {
    let rest = log.rsplit_once("Kafka version: ")?.1;
    Some(rest.chars().take_while(|c| !c.is_whitespace()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(durability: Durability) -> Layout {
        Layout {
            identity: cluster_id(7),
            bind: "0.0.0.0",
            port: 9092,
            side_port: 9093,
            data_dir: "/data".to_owned(),
            durability,
            members: Vec::new(),
        }
    }

    #[test]
    fn clients_are_sent_to_loopback_whatever_is_bound() {
        let text = config(&layout(Durability::ProcessCrash));
        assert!(text.contains("listeners=PLAINTEXT://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093\n"));
        assert!(text.contains("advertised.listeners=PLAINTEXT://127.0.0.1:9092\n"));
        assert!(!text.contains("flush.interval"));
        assert!(config(&layout(Durability::PowerLoss)).contains("log.flush.interval.messages=1\n"));
    }

    #[test]
    fn a_cluster_id_has_the_form_that_kafka_checks() {
        for random in [0, 1, u128::MAX, 0x1234_5678_9abc_def0_1234_5678_9abc_def0] {
            let id = cluster_id(random);
            assert_eq!(id.len(), 22);
            assert!(id.starts_with('q') && id.ends_with('A'));
        }
        assert_ne!(cluster_id(1), cluster_id(2));
    }

    #[test]
    fn the_version_is_read_from_the_log() {
        assert_eq!(version_in_log("x INFO Kafka version: 4.1.0 (AppInfoParser)\n").as_deref(), Some("4.1.0"));
        assert_eq!(version_in_log("nothing"), None);
    }
}
