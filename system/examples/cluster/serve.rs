//! A node of an example: the coordination library with hooks, and a store beside it.

use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use queuebench_system::cluster::{ClusterKit, health::HealthSettings};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
};

use crate::{
    Mode,
    copy::{Copier, Follow},
    http::Http,
    route::{self, Shared},
    store::Store,
};

/// Members that do not answer are removed after about this long.
const HEALTH: HealthSettings = HealthSettings {
    interval: Duration::from_secs(1),
    timeout: Duration::from_secs(1),
    failure_threshold: 3,
};

struct Settings {
    node_id: String,
    http_port: u16,
    kv_port: u16,
    join: Option<String>,
    data_dir: PathBuf,
    partitions: u32,
    replication_factor: usize,
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

impl Settings {
    fn from_environment() -> Result<Self, String> {
        let missing = || "NODE_ID, HTTP_PORT, and KV_PORT required".to_owned();
        let given = |name: &str| env::var(name).ok().filter(|text| !text.is_empty());
        let port = |name: &str| {
            let text = given(name).ok_or_else(missing)?;
            text.parse::<u16>().map_err(|_| format!("{name} {text:?} is not a port"))
        };
        Ok(Self {
            node_id: given("NODE_ID").ok_or_else(missing)?,
            http_port: port("HTTP_PORT")?,
            kv_port: port("KV_PORT")?,
            join: given("JOIN_ADDR"),
            data_dir: given("DATA_DIR").unwrap_or_else(|| "./clusterkit-data".to_owned()).into(),
            partitions: number("PARTITION_COUNT", 64),
            replication_factor: number("REPLICATION_FACTOR", 3),
        })
    }
}

pub(crate) async fn run(mode: Mode) -> Result<(), Box<dyn Error>> {
    let settings = Settings::from_environment()?;
    let store = Arc::new(Store::open(&settings.data_dir)?);
    let http = Http::new();
    let kit: Arc<OnceLock<ClusterKit>> = Arc::default();
    let copier = Arc::new(Copier {
        me: settings.node_id.clone(),
        store: store.clone(),
        http: http.clone(),
        runtime: Handle::current(),
    });
    let known = kit.clone();
    let members = move || known.get().map_or_else(Vec::new, |kit| kit.snapshot().nodes().to_vec());
    // Bound before the cluster is told of it.
    let listener = TcpListener::bind(("127.0.0.1", settings.kv_port)).await?;
    let mut builder = ClusterKit::builder(&settings.node_id, format!(":{}", settings.http_port))
        .cluster_name("example")
        .data_dir(settings.data_dir.join("cluster"))
        .partitions(settings.partitions)
        .replication_factor(settings.replication_factor)
        .health_check(HEALTH);
    if mode != Mode::CustomData {
        let hooks = Follow { copier, members: Arc::new(members) };
        builder = builder.service("kv", format!(":{}", settings.kv_port)).hooks(Arc::new(hooks));
    }
    if let Some(join) = &settings.join {
        builder = builder.join(join);
    }
    let started = builder.start().await?;
    let _ = kit.set(started.clone());
    let own_data = tokio::spawn(custom_data(started.clone(), mode, settings.join.is_none()));
    let shared = Shared { mode, kit: started.clone(), store, http };
    let serve = axum::serve(listener, route::router(shared));
    let mut terminate = signal(SignalKind::terminate())?;
    let ended = tokio::select! {
        served = serve => served.map_err(Into::into),
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
        reason = started.failed() => Err(reason.into()),
    };
    own_data.abort();
    started.stop().await;
    ended
}

/// The values of the custom-data example: set by the node that begins the cluster, read by everybody.
async fn custom_data(kit: ClusterKit, mode: Mode, begins: bool) {
    if mode != Mode::CustomData {
        return;
    }
    let values = [
        ("feature_flags", r#"{"dark_mode":true,"beta":false}"#),
        ("app_config", r#"{"timeout_s":30,"retries":3}"#),
        ("global_counter", r#"{"value":42}"#),
    ];
    let patience = Duration::from_secs(60);
    if begins && kit.wait_for_partitions(patience).await.is_ok() {
        for (key, value) in values {
            // A node that comes back must not undo what was set meanwhile.
            if kit.custom_data(key).is_ok() {
                continue;
            }
            match kit.set_custom_data(key, value).await {
                Ok(()) => tracing::info!(key, value, "set"),
                Err(error) => tracing::error!(%error, key, "not set"),
            }
        }
    }
    for (key, _) in values {
        while kit.custom_data(key).is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        tracing::info!(key, value = ?kit.custom_data(key), "read");
    }
}
