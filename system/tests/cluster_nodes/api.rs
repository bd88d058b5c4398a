//! The HTTP API as existing clients use it.

use queuebench_system::cluster::{ClusterKit, Options, State};

use crate::support::{PATIENCE, ask, get, options, three, until};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_show_the_same_cluster() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let shown = get(&nodes[0], "/cluster").await;
    assert_eq!(shown["hash_config"]["algorithm"], "md5");
    assert_eq!(shown["hash_config"]["modulo"], 16);
    let partitions = &shown["cluster"]["partition_map"]["partitions"];
    assert_eq!(partitions["partition-0"]["primary_node"], "node-3");
    assert_eq!(partitions["partition-0"]["replica_nodes"], serde_json::json!(["node-2", "node-1"]));
    assert!(shown["cluster"]["nodes"][0]["advertise_addr"].is_null());
    for node in &nodes[1..] {
        assert_eq!(get(node, "/cluster").await, shown);
    }
    for node in &nodes {
        assert_eq!(get(node, "/ready").await["valid_partitions"], 16);
        assert_eq!(get(node, "/partitions").await["count"], 16);
        assert_eq!(get(node, "/nodes?limit=2").await["has_more"], true);
        assert_eq!(get(node, "/nodes?offset=-1").await["offset"], 0);
        let located = get(node, "/partitions/key?key=user:1").await;
        assert_eq!(located["partition"]["id"], "partition-0");
        assert_eq!(located["primary"]["id"], "node-3");
        let statistics = get(node, "/consensus/stats").await;
        assert!(statistics["commit_index"].as_u64().unwrap() > 0 && statistics["term"].as_u64().unwrap() > 0);
        // Who leads may change at any moment on a busy machine.
        let began = std::time::Instant::now();
        loop {
            let (_, leader) = ask(node, "GET", "/consensus/leader", "", "").await;
            let leader: serde_json::Value = serde_json::from_str(&leader).unwrap_or_default();
            let told = leader["leader_id"].is_string()
                && leader["leader_id"] == get(node, "/consensus/stats").await["leader"]
                && !leader["elected_at"].as_str().unwrap().starts_with("0001")
                && get(node, "/health/detailed").await["healthy"] == true;
            if told {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{leader}");
        }
        assert!(get(node, "/metrics").await["request_count"].as_u64().unwrap() > 0);
    }
    for node in nodes {
        node.stop().await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_are_answered_as_documented() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let status = async |method: &str, path: &str, body: &str| {
        ask(&nodes[0], method, path, "", body).await.0.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(status("GET", "/join", "").await, "405");
    assert_eq!(status("POST", "/cluster", "").await, "405");
    assert_eq!(status("GET", "/elsewhere", "").await, "404");
    assert_eq!(status("GET", "/partitions/key", "").await, "400");
    assert_eq!(status("POST", "/join", "{").await, "400");
    let climbing = r#"{"node":{"id":"../x","ip":":1"},"raft_addr":"127.0.0.1:1","raft_id":5}"#;
    assert_eq!(status("POST", "/join", climbing).await, "400");
    assert_eq!(status("PUT", "/custom-data/a/../b", "x").await, "400");
    assert_eq!(status("GET", "/custom-data/none", "").await, "404");
    assert_eq!(status("PUT", "/custom-data/big", &"x".repeat((1 << 20) + 1)).await, "413");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etag_changes_with_the_assignment_and_with_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let head = ask(&nodes[0], "GET", "/cluster", "", "").await.0;
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let unchanged =
        async || ask(&nodes[0], "GET", "/cluster", &format!("if-none-match: {tag}\r\n"), "").await.0;
    nodes[1].set_custom_data("flags", "{}").await.unwrap();
    until("the value everywhere", || nodes.iter().all(|kit| kit.custom_data("flags").is_ok())).await;
    assert!(unchanged().await.contains(" 304 "));
    let leader = nodes.iter().find(|kit| kit.is_leader()).unwrap();
    let victim = nodes.iter().find(|kit| !kit.is_leader()).unwrap();
    leader.remove_node(victim.node_id()).await.unwrap();
    let version = nodes[0].topology().version();
    until("the new assignment", || nodes[0].read(State::rebalance_due_is_none)).await;
    assert!(nodes[0].topology().version() >= version);
    assert!(unchanged().await.contains(" 200 "));
    for node in nodes {
        node.stop().await;
    }
}

trait Due {
    fn rebalance_due_is_none(&self) -> bool;
}

impl Due for State {
    fn rebalance_due_is_none(&self) -> bool {
        self.rebalance_due().is_none()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_send_joins_and_removals_to_the_leader() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let follower = nodes.iter().find(|kit| !kit.is_leader()).unwrap();
    let leader = nodes.iter().find(|kit| kit.is_leader()).unwrap();
    let (head, body) = ask(follower, "POST", "/remove-node", "", r#"{"node_id":"node-9"}"#).await;
    assert!(head.contains(" 307 "), "{head}");
    assert!(head.contains(&format!("location: http://{}/remove-node", leader.node().http_addr())), "{head}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (&body["error"], &body["leader_id"]),
        (&"not the leader".into(), &leader.node_id().as_str().into())
    );
    let (head, _) = ask(leader, "POST", "/remove-node", "", r#"{"node_id":"node-9"}"#).await;
    assert!(head.contains(" 404 "), "{head}");
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_secret_nobody_joins_or_changes_anything() {
    let directory = tempfile::tempdir().unwrap();
    let secret = Options { shared_secret: Some("s3cret".to_owned()), ..options(1, directory.path(), &[]) };
    let secret = Options { replication_factor: 1, ..secret };
    let kit = ClusterKit::start(secret).await.unwrap();
    until("a cluster of one", || kit.topology().partition_count() > 0).await;
    for (method, path) in [
        ("POST", "/join"),
        ("POST", "/remove-node"),
        ("PUT", "/custom-data/k"),
        ("GET", "/custom-data/k"),
        ("POST", "/rebalance"),
        ("GET", "/internal/listed?id=x"),
    ] {
        for header in ["", "authorization: Bearer wrong\r\n"] {
            assert!(
                ask(&kit, method, path, header, "{}").await.0.contains(" 401 "),
                "{method} {path} {header}"
            );
        }
    }
    let right = "authorization: Bearer s3cret\r\n";
    assert!(ask(&kit, "PUT", "/custom-data/k", right, "v").await.0.contains(" 200 "));
    assert_eq!(ask(&kit, "GET", "/custom-data/k", right, "").await.1, "v");
    assert_eq!(get(&kit, "/cluster").await["cluster"]["custom_data"], serde_json::Value::Null);
    kit.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let http_addr = format!("127.0.0.1:{}", taken.local_addr().unwrap().port());
    let error =
        ClusterKit::start(Options { http_addr, ..options(1, directory.path(), &[]) }).await.unwrap_err();
    assert!(error.to_string().contains("failed to start HTTP server"), "{error}");
}

#[test]
fn deployment_files_name_only_variables_that_the_program_knows() {
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_clusternode")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    // However wide the terminal is.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let files = [
        include_str!("../../deploy/cluster/compose.yaml"),
        include_str!("../../deploy/cluster/statefulset.yaml"),
    ];
    let mut named = std::collections::BTreeSet::new();
    for line in files.iter().flat_map(|file| file.lines()) {
        let word = line.trim().trim_start_matches("- name: ").split(':').next().unwrap();
        let variable = word.len() > 3 && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
        named.extend(variable.then_some(word));
    }
    assert!(named.len() >= 10, "{named:?}");
    for variable in named {
        let known = ["=", "]"].iter().any(|end| help.contains(&format!("[env: {variable}{end}")));
        assert!(known, "clusternode knows no {variable}");
    }
}
