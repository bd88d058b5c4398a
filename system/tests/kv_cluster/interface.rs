//! The HTTP API and `kvctl` as their users see them.

use std::process::{Command, Output};

use bytes::Bytes;
use http::{Method, StatusCode};
use queuebench_system::kv::client::HttpAnswer;
use serde_json::Value;

use crate::cluster::Cluster;

fn body(answer: &HttpAnswer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_have_revisions_tags_and_conditions() {
    let cluster = Cluster::start(1, &[]).await;
    let put = async |path: &str, headers: &[(&str, &str)], value: &'static str| {
        cluster.ask(0, Method::PUT, path, headers, value).await.unwrap()
    };
    let first = put("/kv/a/b%20c", &[], "one").await;
    assert_eq!(
        body(&first),
        serde_json::json!({"key": "a/b c", "revision": 2, "version": 1, "created": true})
    );
    let second = put("/kv/a/b%20c", &[("if-match", "\"2\"")], "two").await;
    assert_eq!(body(&second)["version"], 2);
    assert_eq!(
        put("/kv/a/b%20c", &[("if-match", "\"2\"")], "no").await.status,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(
        put("/kv/a/b%20c", &[("if-none-match", "*")], "no").await.status,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(put("/kv/new", &[("if-none-match", "*")], "yes").await.status, StatusCode::OK);
    assert_eq!(put("/kv/", &[], "x").await.status, StatusCode::BAD_REQUEST);

    let got = cluster.get(0, "/kv/a/b%20c").await.unwrap();
    assert_eq!(got.body, "two");
    assert_eq!(got.headers["etag"], "\"3\"");
    assert_eq!(got.headers["x-kv-revision"], "4");
    assert_eq!(got.headers["x-kv-mod-revision"], "3");
    assert_eq!(got.headers["x-kv-version"], "2");
    let head = cluster.ask(0, Method::HEAD, "/kv/a/b%20c", &[], "").await.unwrap();
    assert_eq!((head.status, head.headers["content-length"].to_str().unwrap()), (StatusCode::OK, "3"));
    let missing = cluster.get(0, "/kv/none").await.unwrap();
    assert_eq!(
        (missing.status, body(&missing)["error"].as_str().unwrap()),
        (StatusCode::NOT_FOUND, "key_not_found")
    );

    let deleted = cluster.ask(0, Method::DELETE, "/kv/new", &[], "").await.unwrap();
    assert_eq!(body(&deleted), serde_json::json!({"deleted": 1, "revision": 5}));
    let again = cluster.ask(0, Method::DELETE, "/kv/new", &[], "").await.unwrap();
    assert_eq!((again.status, body(&again)["deleted"].as_i64().unwrap()), (StatusCode::NOT_FOUND, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_write_with_the_same_id_applies_once() {
    let cluster = Cluster::start(1, &[]).await;
    let id = [("idempotency-key", "only-once")];
    let first = cluster.ask(0, Method::PUT, "/kv/k", &id, "1").await.unwrap();
    cluster.ask(0, Method::PUT, "/kv/k", &[], "2").await.unwrap();
    let again = cluster.ask(0, Method::PUT, "/kv/k", &id, "1").await.unwrap();
    assert_eq!(first.body, again.body);
    assert_eq!(cluster.get(0, "/kv/k").await.unwrap().body, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_where_they_stopped() {
    let cluster = Cluster::start(1, &[]).await;
    for key in ["p/1", "p/2", "p/3", "q"] {
        cluster.ask(0, Method::PUT, &format!("/kv/{key}"), &[], "v").await.unwrap();
    }
    let keys = |list: &Value| -> Vec<String> {
        list["kvs"].as_array().unwrap().iter().map(|kv| kv["key"].as_str().unwrap().to_owned()).collect()
    };
    let first = cluster.json(0, "/kv/?prefix=p/&limit=2").await.unwrap();
    assert_eq!((keys(&first), first["more"].as_bool().unwrap()), (vec!["p/1".into(), "p/2".into()], true));
    assert_eq!(first["kvs"][0]["value"], "dg==");
    let rest = cluster.json(0, "/kv/?prefix=p/&limit=2&after=p/2").await.unwrap();
    assert_eq!((keys(&rest), rest["more"].as_bool().unwrap()), (vec!["p/3".into()], false));
    assert_eq!(keys(&cluster.json(0, "/kv/").await.unwrap()).len(), 4);
    assert_eq!(cluster.get(0, "/kv/?limit=x").await.unwrap().status, StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_kept_and_the_alarm_is_cleared_by_hand() {
    let cluster = Cluster::start(1, &["--quota-bytes=4000"]).await;
    let big = Bytes::from(vec![0; 1_600_000]);
    let answer = cluster.ask(0, Method::PUT, "/kv/big", &[], big).await.unwrap();
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut refused = None;
    for number in 0..20 {
        let answer = cluster.ask(0, Method::PUT, &format!("/kv/{number}"), &[], vec![0; 200]).await.unwrap();
        if answer.status == StatusCode::INSUFFICIENT_STORAGE {
            refused = Some(number);
            break;
        }
    }
    assert!(refused.is_some_and(|number| number > 3), "{refused:?}");
    assert_eq!(cluster.json(0, "/alarms").await.unwrap()["alarms"][0], "no_space");
    assert_eq!(
        cluster.ask(0, Method::PUT, "/kv/s", &[], "").await.unwrap().status,
        StatusCode::INSUFFICIENT_STORAGE
    );
    assert_eq!(cluster.get(0, "/kv/0").await.unwrap().status, StatusCode::OK);
    assert_eq!(cluster.ask(0, Method::DELETE, "/kv/0", &[], "").await.unwrap().status, StatusCode::OK);
    assert_eq!(cluster.ask(0, Method::DELETE, "/alarms", &[], "").await.unwrap().status, StatusCode::OK);
    assert_eq!(cluster.json(0, "/alarms").await.unwrap()["alarms"].as_array().unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn followers_redirect_writes_and_serve_linearizable_reads() {
    let cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let follower = (0..3).find(|index| *index != leader).unwrap();
    let answer = cluster.ask(follower, Method::PUT, "/kv/k?x=1", &[], "v").await.unwrap();
    assert_eq!(answer.status, StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(answer.headers["location"], format!("{}/kv/k?x=1", cluster.members[leader].url));
    assert_eq!(answer.headers["x-raft-leader"], cluster.members[leader].name);
    for number in 0..50 {
        cluster.write(Method::PUT, "/kv/k", number.to_string()).await;
        assert_eq!(cluster.get(follower, "/kv/k").await.unwrap().body, number.to_string());
    }
    let state = cluster.json(follower, "/raft/state").await.unwrap();
    assert_eq!(
        (state["role"].as_str(), state["leader"].as_str()),
        (Some("follower"), Some(&*cluster.members[leader].name))
    );
    assert_eq!(state["members"].as_array().unwrap().len(), 3);
    assert_eq!(cluster.get(follower, "/readyz").await.unwrap().status, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_only_serializable_reads_are_answered() {
    let mut cluster = Cluster::start(3, &[]).await;
    cluster.write(Method::PUT, "/kv/k", "v").await;
    cluster.wait_for_equal_state().await;
    let leader = cluster.leader().await;
    for index in (0..3).filter(|index| *index != leader) {
        cluster.kill(index);
    }
    let local = cluster.get(leader, "/kv/k?consistency=serializable").await.unwrap();
    assert_eq!((local.status, &local.body[..]), (StatusCode::OK, &b"v"[..]));
    let read = cluster.get(leader, "/kv/k").await.unwrap();
    assert_eq!(
        (read.status, read.headers["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "1")
    );
}

fn kvctl(seeds: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kvctl")).args(["--seeds", seeds]).args(args).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kvctl_prints_and_exits_as_documented() {
    let mut cluster = Cluster::start(3, &[]).await;
    let leader = cluster.leader().await;
    let dead = (0..3).find(|index| *index != leader).unwrap();
    let alive = (0..3).find(|index| *index != leader && *index != dead).unwrap();
    cluster.kill(dead);
    let seeds = format!("{},{}", cluster.members[dead].url, cluster.members[alive].url);
    let run = |args: &[&str]| {
        let output = kvctl(&seeds, args);
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(run(&["put", "k 1", "v/%"]), (0, "OK\n".into()));
    assert_eq!(run(&["get", "k 1"]), (0, "v/%\n".into()));
    assert_eq!(run(&["get", "none"]), (1, String::new()));
    assert_eq!(run(&["del", "k 1"]), (0, "OK\n".into()));
    assert_eq!(run(&["del", "k 1", "--count"]), (0, "0\n".into()));
    assert_eq!(run(&["frobnicate"]).0, 2);
    let nobody = kvctl(&cluster.members[dead].url, &["--timeout", "0.3", "get", "k"]);
    assert_eq!(nobody.status.code(), Some(3));
}
