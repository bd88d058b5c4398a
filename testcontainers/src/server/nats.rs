//! nats-server: one node with JetStream on file storage.

use std::fmt::Write as _;

use queuebench_system::queue::Durability;

use super::{Layout, MAX_MESSAGE_BYTES};

/// The version that is built where none is installed.
pub(crate) const VERSION: &str = "2.15.2";
/// The oldest release line that is used from `PATH`.
pub(crate) const OLDEST: (u32, u32) = (2, 12);
/// The Go package of that version.
pub(crate) const GO_PACKAGE: &str = "github.com/nats-io/nats-server/v2";
/// The official image.
pub(crate) const IMAGE: &str = "nats:2.12.2";
/// What `testcontainers/images/build-local.sh` makes where no registry answers.
pub(crate) const LOCAL_IMAGE: &str = "queuebench/nats:2.15.2";
/// The configuration's file name.
pub(crate) const CONFIG_FILE: &str = "nats.conf";

/// The configuration file. Strings are quoted, so a path with spaces stays one word.
pub(crate) fn config(layout: &Layout) -> String {
    let mut text = format!(
        "server_name: {name:?}\n\
         listen: \"{bind}:{port}\"\n\
         http: \"{bind}:{side_port}\"\n\
         max_payload: {MAX_MESSAGE_BYTES}\n\
         jetstream {{\n  store_dir: {data:?}\n",
        name = layout.identity,
        bind = layout.bind,
        port = layout.port,
        side_port = layout.side_port,
        data = layout.data_dir,
    );
    if layout.durability == Durability::PowerLoss {
        text.push_str("  sync_interval: always\n");
    }
    let _ = writeln!(text, "}}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_power_loss_syncs_each_message() {
        let mut layout = Layout {
            identity: "q-1".to_owned(),
            bind: "127.0.0.1",
            port: 4222,
            side_port: 8222,
            data_dir: "/a b/data".to_owned(),
            durability: Durability::ProcessCrash,
            members: Vec::new(),
        };
        assert!(!config(&layout).contains("sync_interval"));
        assert!(config(&layout).contains("store_dir: \"/a b/data\""));
        layout.durability = Durability::PowerLoss;
        assert!(config(&layout).contains("sync_interval: always"));
    }
}
