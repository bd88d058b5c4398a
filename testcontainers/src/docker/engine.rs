//! The container engine: whether it answers, and whether it is of this machine.

use std::time::Duration;

use bollard::Docker;
use testcontainers::core::client::docker_client_instance;
use tokio::time::timeout;

use crate::error::StartError;
use crate::options::ContainerNetwork;

/// How long an engine may take to answer at all.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// An engine that answers.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    pub(crate) version: String,
    /// Whether containers can use the network that this process uses.
    shares_host: bool,
    /// Rootless engines run a container's root as the engine's user.
    pub(crate) rootless: bool,
    /// The engine maps users; a container of ours has to opt out to own its files.
    pub(crate) remaps_users: bool,
}

impl Engine {
    /// Connects the way the testcontainers crate does (`DOCKER_HOST`, its properties file, the default
    /// socket) and asks the engine about itself.
    pub(crate) async fn connect() -> Result<Self, StartError> {
        let engine = |reason: String| StartError::Engine { reason };
        let docker = docker_client_instance().await.map_err(|error| engine(error.to_string()))?;
        let info = timeout(ANSWER_LIMIT, docker.info())
            .await
            .map_err(|_| engine(format!("no answer within {ANSWER_LIMIT:?}")))?
            .map_err(|error| engine(explain(&error)))?;
        let security = info.security_options.unwrap_or_default();
        let has = |word: &str| security.iter().any(|option| option.contains(word));
        let rootless = has("name=rootless");
        let own_kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        Ok(Self {
            docker,
            version: info.server_version.unwrap_or_default(),
            shares_host: !rootless && info.kernel_version.as_deref() == Some(own_kernel.as_str()),
            rootless,
            remaps_users: has("name=userns"),
        })
    }

    /// Which of the two networks a container gets.
    pub(crate) fn network(&self, wanted: ContainerNetwork) -> ContainerNetwork {
        match wanted {
            ContainerNetwork::Auto if self.shares_host => ContainerNetwork::Host,
            ContainerNetwork::Auto => ContainerNetwork::Published,
            chosen => chosen,
        }
    }
}

/// An error with its causes: the outermost one alone ("error in the hyper legacy client") helps nobody.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
