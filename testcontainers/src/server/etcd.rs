//! etcd: one member of a cluster that is started as a whole.

use super::Layout;

/// The version that is built where none is installed.
pub(crate) const VERSION: &str = "3.6.6";
/// The Go package of that version. Its module replaces its own dependencies, so `go install` refuses it and
/// a module of ours asks for it.
pub(crate) const GO_PACKAGE: &str = "go.etcd.io/etcd/server/v3";
/// The oldest release line that is used from `PATH`. Members of 3.4, which Debian ships, do not answer the
/// probe when they are three.
pub(crate) const OLDEST: (u32, u32) = (3, 6);
/// The configuration's file name.
pub(crate) const CONFIG_FILE: &str = "etcd.yaml";

/// The configuration file. etcd flushes before it answers, so every durability class is met.
pub(crate) fn config(layout: &Layout) -> String {
    let client = format!("http://{}:{}", layout.bind, layout.port);
    let peer = format!("http://{}:{}", layout.bind, layout.side_port);
    let members: Vec<String> =
        layout.members.iter().map(|(name, port)| format!("{name}=http://127.0.0.1:{port}")).collect();
    format!(
        "name: {name:?}\n\
         data-dir: {data:?}\n\
         listen-client-urls: {client:?}\n\
         advertise-client-urls: \"http://127.0.0.1:{port}\"\n\
         listen-peer-urls: {peer:?}\n\
         initial-advertise-peer-urls: \"http://127.0.0.1:{side_port}\"\n\
         initial-cluster: {members:?}\n\
         initial-cluster-state: new\n\
         logger: zap\n",
        name = layout.identity,
        data = layout.data_dir,
        port = layout.port,
        side_port = layout.side_port,
        members = members.join(","),
    )
}

#[cfg(test)]
mod tests {
    use queuebench_system::queue::Durability;

    use super::*;

    #[test]
    fn every_member_knows_all_members() {
        let layout = Layout {
            identity: "b".to_owned(),
            bind: "127.0.0.1",
            port: 1,
            side_port: 2,
            data_dir: "/data".to_owned(),
            durability: Durability::PowerLoss,
            members: vec![("a".to_owned(), 4), ("b".to_owned(), 2)],
        };
        let text = config(&layout);
        assert!(text.contains("name: \"b\"\n"));
        assert!(text.contains("initial-cluster: \"a=http://127.0.0.1:4,b=http://127.0.0.1:2\"\n"));
    }
}
