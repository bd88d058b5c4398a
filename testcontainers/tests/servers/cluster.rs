//! Clusters of etcd and of our own store, broken one by one.

use std::process::{Command, Output};

use queuebench_testcontainers::{Backend, Cluster, StartError, StartOptions, Via, require, start_cluster};

use crate::common;

/// One key-value request over etcd's own HTTP gateway, by a member that has to have a majority.
fn ask(cluster: &Cluster, member: usize, path: &str, body: &str) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "10", "--data", body])
        .arg(format!("http://{}{path}", cluster.members()[member].address()))
        .output()
        .unwrap()
}

#[tokio::test]
async fn an_etcd_cluster_keeps_its_data_through_the_loss_of_a_member() {
    let options: StartOptions = common::options(Via::Native);
    let cluster = match start_cluster(Backend::Etcd, 3, &options).await {
        Ok(cluster) => cluster,
        Err(error @ StartError::MissingToolchain { .. }) => {
            return require::skip(&["etcd", "native"], &error);
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(cluster.members().len(), 3);
    assert_eq!(cluster.addresses().split(',').count(), 3);
    assert!(cluster.members()[0].version().starts_with("3."));
    // `a` = `1`, in base64.
    let put = ask(&cluster, 0, "/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#);
    assert!(put.status.success(), "{put:?}");

    cluster.members()[0].kill().await.unwrap();
    common::eventually("the two others elect a leader", async || {
        let range = ask(&cluster, 1, "/v3/kv/range", r#"{"key":"YQ=="}"#);
        String::from_utf8_lossy(&range.stdout).contains("MQ==")
    })
    .await;
    cluster.members()[0].restart().await.unwrap();
    let range = ask(&cluster, 0, "/v3/kv/range", r#"{"key":"YQ=="}"#);
    assert!(String::from_utf8_lossy(&range.stdout).contains("MQ=="), "{range:?}");
    cluster.stop(common::STOP).await.unwrap();
    assert!(!cluster.members().iter().any(|member| common::is_listening(member.address())));
}

#[tokio::test]
async fn a_queue_is_no_cluster() {
    let error = start_cluster(Backend::Nats, 3, &common::options(Via::Native)).await.unwrap_err();
    assert!(matches!(error, StartError::Option { option: "backend", .. }), "{error}");
}

#[tokio::test]
async fn a_cluster_of_our_own_store_keeps_its_data_through_the_loss_of_its_leader() {
    let options: StartOptions = common::options(Via::Native);
    let cluster = match start_cluster(Backend::Kv, 3, &options).await {
        Ok(cluster) => cluster,
        Err(error @ StartError::MissingToolchain { .. }) => {
            return require::skip(&["kv", "native"], &error);
        }
        Err(error) => panic!("{error}"),
    };
    let urls: Vec<String> = cluster.members().iter().map(|m| format!("http://{}", m.address())).collect();
    let client = queuebench_system::kv::client::KvClient::new(&urls, std::time::Duration::from_secs(20));
    client.put(b"a", "1".into()).await.unwrap();
    let http = queuebench_system::kv::client::HttpClient::new();
    let leader = http.get(&format!("{}/raft/leader", urls[0])).await.unwrap();
    let leader: serde_json::Value = serde_json::from_slice(&leader.body).unwrap();
    let leader = urls.iter().position(|url| leader["url"] == **url).unwrap();

    cluster.members()[leader].kill().await.unwrap();
    client.put(b"b", "2".into()).await.unwrap();
    assert_eq!(client.get(b"a", false).await.unwrap().unwrap().body, "1");
    cluster.members()[leader].restart().await.unwrap();
    assert_eq!(client.get(b"b", false).await.unwrap().unwrap().body, "2");
    cluster.stop(common::STOP).await.unwrap();
    assert!(!cluster.members().iter().any(|member| common::is_listening(member.address())));
}
