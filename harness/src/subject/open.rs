//! Opens a subject's queue and does something with it, whichever kind it is.
//!
//! One `match` per trial: inside, everything is compiled for the one backend, so the measured path has no
//! dispatch; only a composite's children are dispatched by kind, per message.

use std::sync::Arc;

use queuebench_system::message::Message;
use queuebench_system::queue::kafka::Kafka;
use queuebench_system::queue::memory::Memory;
use queuebench_system::queue::nats::Nats;
use queuebench_system::queue::{Queue, QueueConfig};

use super::null::Null;
use super::pipeline::Pipeline;
use super::{SettingsError, SubjectConfig};

/// Something to do with any queue.
pub trait Task {
    /// What comes out.
    type Output;

    /// Does it.
    fn run<Q: Queue>(self, queue: Arc<Q>) -> Self::Output;
}

/// Opens the queue that `config` describes and gives it to `task`. Connections that opening makes live on
/// `runtime`.
///
/// # Errors
/// When the queue cannot be opened.
pub fn with_queue<T: Task>(
    subject: &str,
    config: &SubjectConfig,
    runtime: &tokio::runtime::Runtime,
    task: T,
) -> Result<T::Output, SettingsError> {
    let failed = |source| SettingsError::Queue { subject: subject.to_owned(), source };
    Ok(match config {
        SubjectConfig::Null => task.run(Arc::new(Null::default())),
        SubjectConfig::Memory(config) => {
            task.run(Arc::new(Memory::<Message>::open(config.clone()).map_err(failed)?))
        }
        SubjectConfig::Nats(config) => {
            task.run(Arc::new(runtime.block_on(Nats::open((**config).clone())).map_err(failed)?))
        }
        SubjectConfig::Composite(config) => {
            let opened = runtime.block_on(QueueConfig::Composite(config.clone()).open());
            task.run(Arc::new(opened.map_err(failed)?))
        }
        SubjectConfig::Pipeline(config) => {
            task.run(Arc::new(Pipeline::open(config.clone()).map_err(failed)?))
        }
        SubjectConfig::Kafka(config) => {
            task.run(Arc::new(runtime.block_on(Kafka::open((**config).clone())).map_err(failed)?))
        }
    })
}
