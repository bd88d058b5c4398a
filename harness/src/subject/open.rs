//! Opens a subject's queue and does something with it, whichever kind it is.
//!
//! One `match` per trial: inside, everything is compiled for the one backend, so the measured path has no
//! dispatch; only a composite's children are dispatched by kind, per message.

use std::sync::Arc;
use std::time::Duration;

use queuebench_system::message::Message;
use queuebench_system::queue::kafka::Kafka;
use queuebench_system::queue::memory::Memory;
use queuebench_system::queue::nats::Nats;
use queuebench_system::queue::{Queue, QueueError};

use super::null::Null;
use super::pipeline::Pipeline;
use super::{SettingsError, SubjectConfig, topic};

/// Something to do with any queue.
pub trait Task {
    /// What comes out.
    type Output;

    /// Does it. There is a queue for each topic, at least one.
    fn run<Q: Queue>(self, topics: Vec<Arc<Q>>) -> Self::Output;
}

/// How long closing and removing what was opened in vain may take.
const UNDO_DEADLINE: Duration = Duration::from_secs(5);

/// Opens the queue that `config` describes, once for each of `topics`, and gives them to `task`. Connections
/// that opening makes live on `runtime`.
///
/// # Errors
/// When a queue cannot be opened; those opened before it are closed and removed again.
pub fn with_queues<T: Task>(
    subject: &str,
    config: &SubjectConfig,
    topics: u16,
    runtime: &tokio::runtime::Runtime,
    task: T,
) -> Result<T::Output, SettingsError> {
    let failed = |source| SettingsError::Queue { subject: subject.to_owned(), source };
    Ok(match config {
        SubjectConfig::Null => task.run(open(topics, runtime, |_| Ok(Null::default())).map_err(failed)?),
        SubjectConfig::Memory(config) => {
            let one = |_| Memory::<Message>::open(config.clone());
            task.run(open(topics, runtime, one).map_err(failed)?)
        }
        SubjectConfig::Nats(config) => {
            let one = |topic| runtime.block_on(Nats::open(topic::nats(config, topic)));
            task.run(open(topics, runtime, one).map_err(failed)?)
        }
        SubjectConfig::Composite(config) => {
            let one = |topic| runtime.block_on(topic::composite(config, topic).open());
            task.run(open(topics, runtime, one).map_err(failed)?)
        }
        SubjectConfig::Pipeline(config) => {
            task.run(open(topics, runtime, |_| Pipeline::open(config.clone())).map_err(failed)?)
        }
        SubjectConfig::Kafka(config) => {
            let one = |topic| runtime.block_on(Kafka::open(topic::kafka(config, topic)));
            task.run(open(topics, runtime, one).map_err(failed)?)
        }
    })
}

fn open<Q: Queue>(
    topics: u16,
    runtime: &tokio::runtime::Runtime,
    one: impl Fn(u16) -> Result<Q, QueueError>,
) -> Result<Vec<Arc<Q>>, QueueError> {
    let mut opened: Vec<Arc<Q>> = Vec::new();
    for topic in 0..topics {
        match one(topic) {
            Ok(queue) => opened.push(Arc::new(queue)),
            Err(error) => {
                for queue in opened {
                    // The first error is the one to tell.
                    runtime.block_on(async {
                        let _ = queue.close(UNDO_DEADLINE).await;
                        let _ = tokio::time::timeout(UNDO_DEADLINE, queue.remove()).await;
                    });
                }
                return Err(error);
            }
        }
    }
    Ok(opened)
}
