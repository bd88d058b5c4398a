//! Which image is used, and whether it can be had.
//!
//! One that the user named is used or is an error. Otherwise the official one is used if it is here, else
//! the stand-in that `images/build-local.sh` makes, else the official one is pulled.

use std::time::Duration;

use bollard::errors::Error;
use testcontainers::GenericImage;
use testcontainers::runners::AsyncRunner;
use tokio::time::timeout;

use super::engine::{Engine, explain};
use crate::backend::Backend;
use crate::error::StartError;
use crate::options::StartOptions;
use crate::server::{kafka, nats};

/// How long the registry may take to say whether it has an image, before a pull is tried.
const REGISTRY_LIMIT: Duration = Duration::from_secs(10);

/// What would be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// This one, which is here.
    Present(String),
    /// This one, once it is pulled.
    Pull(String),
}

/// Decides without pulling.
pub(crate) async fn choose(
    engine: &Engine,
    backend: Backend,
    options: &StartOptions,
) -> Result<Choice, StartError> {
    let (official, local) = match backend {
        Backend::Nats => (nats::IMAGE, nats::LOCAL_IMAGE),
        Backend::Kafka => (kafka::IMAGE, kafka::LOCAL_IMAGE),
        Backend::Etcd | Backend::Kv => {
            let reason = format!("{backend} is started natively only");
            return Err(StartError::Image { image: backend.name().to_owned(), reason });
        }
    };
    let wanted = options.image.as_deref();
    for image in wanted.map_or_else(|| vec![official, local], |image| vec![image]) {
        match engine.docker.inspect_image(image).await {
            Ok(_) => return Ok(Choice::Present(image.to_owned())),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
            Err(error) => return Err(StartError::Engine { reason: explain(&error) }),
        }
    }
    let image = wanted.unwrap_or(official).to_owned();
    let unreachable = |reason: String| StartError::Image { image: image.clone(), reason };
    match timeout(REGISTRY_LIMIT, engine.docker.inspect_registry_image(&image, None)).await {
        Ok(Ok(_)) => Ok(Choice::Pull(image)),
        // A private image may be hidden from strangers; the pull brings the user's credentials.
        Ok(Err(Error::DockerResponseServerError { status_code: 401 | 403, .. })) => Ok(Choice::Pull(image)),
        Ok(Err(error)) => Err(unreachable(explain(&error))),
        Err(_) => Err(unreachable(format!("the registry did not answer within {REGISTRY_LIMIT:?}"))),
    }
}

/// Makes sure that the image is here; returns its name.
pub(crate) async fn obtain(
    engine: &Engine,
    backend: Backend,
    options: &StartOptions,
) -> Result<String, StartError> {
    let image = match choose(engine, backend, options).await? {
        Choice::Present(image) => return Ok(image),
        Choice::Pull(image) => image,
    };
    let step = format!("pulling {image}, once");
    options.progress.say(&step);
    let waited = options.prepare_limit;
    match timeout(waited, generic(&image).pull_image()).await {
        Ok(Ok(_)) => Ok(image),
        Ok(Err(error)) => Err(StartError::Image { image, reason: explain(&error) }),
        Err(_) => Err(StartError::PrepareLimit { what: step, waited }),
    }
}

/// The testcontainers image of this reference.
pub(crate) fn generic(image: &str) -> GenericImage {
    let (name, tag) = split(image);
    GenericImage::new(name, tag)
}

/// Name and tag. A colon before the last slash belongs to a registry's port; of `name@sha256:…` the part
/// after the colon is treated as the tag, so that both halves joined by a colon give the reference back.
fn split(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_split_at_the_tag() {
        assert_eq!(split("nats:2.12"), ("nats", "2.12"));
        assert_eq!(split("localhost:5000/nats"), ("localhost:5000/nats", "latest"));
        assert_eq!(split("localhost:5000/nats:2"), ("localhost:5000/nats", "2"));
        assert_eq!(split("nats@sha256:abc"), ("nats@sha256", "abc"));
    }

    /// The script that makes the stand-ins states the versions too; they must be the same.
    #[test]
    fn the_stand_ins_are_made_in_the_versions_that_are_looked_for() {
        let script = include_str!("../../images/build-local.sh");
        assert!(script.contains(&format!("nats_version={}\n", nats::VERSION)));
        assert!(script.contains(&format!("kafka_version={}\n", kafka::VERSION)));
        assert!(script.contains(&format!("log_binding_version={}\n", kafka::LOG_BINDING_VERSION)));
        assert!(script.contains(nats::GO_PACKAGE));
        assert_eq!(nats::LOCAL_IMAGE, format!("queuebench/nats:{}", nats::VERSION));
        assert_eq!(kafka::LOCAL_IMAGE, format!("queuebench/kafka:{}", kafka::VERSION));
        assert_eq!(kafka::IMAGE, format!("apache/kafka:{}", kafka::VERSION));
    }
}
