//! Our own key-value store: one member of a cluster that is started as a whole.

use super::Layout;

/// The arguments' file name: one a line.
pub(crate) const CONFIG_FILE: &str = "kvnode.args";

/// The arguments. A node flushes before it answers, so every durability class is met.
pub(crate) fn config(layout: &Layout) -> String {
    let peers: Vec<String> = layout
        .members
        .iter()
        .filter(|(name, _)| *name != layout.identity)
        .map(|(_, port)| format!("http://127.0.0.1:{port}"))
        .collect();
    let mut lines = vec![
        format!("--id={}", layout.identity),
        format!("--addr={}:{}", layout.bind, layout.port),
        format!("--advertise=http://127.0.0.1:{}", layout.port),
        format!("--data={}", layout.data_dir),
    ];
    if !peers.is_empty() {
        lines.push(format!("--peers={}", peers.join(",")));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use queuebench_system::queue::Durability;

    use super::*;

    #[test]
    fn every_member_knows_the_others() {
        let layout = Layout {
            identity: "b".to_owned(),
            bind: "127.0.0.1",
            port: 2,
            side_port: 9,
            data_dir: "/data".to_owned(),
            durability: Durability::PowerLoss,
            members: vec![("a".to_owned(), 1), ("b".to_owned(), 2), ("c".to_owned(), 3)],
        };
        let text = config(&layout);
        assert!(text.contains("--id=b\n--addr=127.0.0.1:2\n"), "{text}");
        assert!(text.ends_with("--peers=http://127.0.0.1:1,http://127.0.0.1:3\n"), "{text}");
    }
}
