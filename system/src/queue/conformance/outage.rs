//! The case about a broker that goes away and returns.

use std::collections::{BTreeMap, BTreeSet};

use super::support::{
    ack, ensure, fail, id, ids, numbered, on_queue, plain, producer, publish_all, receive, said, subscriber,
    within,
};
use super::{CaseResult, Factory};
use crate::queue::{Delivery, Outcome, Producer, PublishError, Publisher, Queue};

/// Messages published before, during and after a broker restart all arrive. A message whose fate is not
/// clear is published again under its id; a backend that deduplicates delivers it once all the same.
pub async fn broker_restart<F: Factory>(
    factory: &F,
    disturb: impl AsyncFnOnce() -> Result<(), String>,
) -> CaseResult {
    const BEFORE: usize = 50;
    const DURING: usize = 50;
    let deduplicates = factory.capabilities().deduplicates;
    on_queue(factory, plain("broker_restart"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        publish_all(&producer, (0..BEFORE).map(|number| numbered("outage", number)), patience).await?;
        let held = receive(&mut subscriber, "receiving before the restart", patience).await?;
        let held_id = held.message().id.to_string();

        let restarting = within(patience * 3, "the restart", disturb());
        let publishing = async {
            for number in BEFORE..BEFORE + DURING {
                publish_until_acknowledged(&producer, number, patience * 3).await?;
                tokio::task::yield_now().await;
            }
            Ok(())
        };
        let (restarted, published) = tokio::join!(restarting, publishing);
        said("the restart", restarted?)?;
        published?;
        drop(held);

        let mut missing: BTreeSet<String> = ids("outage", BEFORE + DURING).collect();
        let mut first_attempts: BTreeMap<String, u32> = BTreeMap::from([(held_id, 1)]);
        while let Some(next) = missing.first() {
            let what = format!("receiving after the restart; {} missing, first {next}", missing.len());
            let delivery = receive(&mut subscriber, &what, patience * 2).await?;
            let id = delivery.message().id.to_string();
            if delivery.attempt() == Some(1) {
                *first_attempts.entry(id.clone()).or_insert(0) += 1;
            }
            missing.remove(&id);
            // The answer may be lost with the old connection; then the message comes again.
            let _ = within(patience, "acknowledging", delivery.ack()).await?;
        }
        if deduplicates {
            let double: Vec<_> = first_attempts.iter().filter(|(_, count)| **count > 1).collect();
            ensure!(double.is_empty(), "published again under the same id and stored twice: {double:?}");
        }
        let after = numbered("outage-after", 0);
        publish_all(&producer, [after], patience).await?;
        loop {
            let delivery =
                receive(&mut subscriber, "receiving a message sent after the restart", patience).await?;
            let last = delivery.message().id.as_str() == id("outage-after", 0);
            ack(delivery, patience).await?;
            if last {
                break;
            }
        }
        let end = queue.statistics();
        ensure!(end.acknowledged >= (BEFORE + DURING) as u64, "too few acknowledged: {end:?}");
        Ok(())
    })
    .await
}

async fn publish_until_acknowledged<P: Publisher>(
    producer: &Producer<P>,
    number: usize,
    patience: std::time::Duration,
) -> Result<(), super::Failure> {
    let end = tokio::time::Instant::now() + patience;
    loop {
        let what = format!("publishing message {number} across the restart");
        let said = match within(patience, &what, producer.publish(numbered("outage", number))).await? {
            Ok(pending) => match within(patience, &what, pending).await? {
                Outcome::Acknowledged => return Ok(()),
                other => format!("{other:?}"),
            },
            Err(PublishError::Closed) => fail!("{what}: the queue closed itself"),
            Err(error) => error.to_string(),
        };
        ensure!(tokio::time::Instant::now() < end, "{what}: still {said} after {patience:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
