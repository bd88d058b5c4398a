//! Cases about several consumers.

use std::collections::BTreeSet;

use super::support::{
    ack, ensure, id, ids, numbered, on_queue, plain, producer, publish_all, receive_until_all, said,
    subscriber,
};
use super::{CaseResult, Factory, Failure, Verdict};
use crate::queue::{Delivery, Subscriber};

/// Two consumers of one group get all messages between them, and both get some.
pub async fn two_consumers_share<F: Factory>(factory: &F) -> CaseResult {
    const ROUND: usize = 40;
    on_queue(factory, plain("two_consumers_share"), async |queue, patience| {
        let mut one = subscriber(queue, "workers", patience).await?;
        let mut two = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        // A broker may hand over the first rounds to one consumer while it still assigns the work, so
        // rounds go on until both had some.
        let mut shares = [0_u32; 2];
        let mut published = 0;
        let mut missing: BTreeSet<String> = BTreeSet::new();
        let end = tokio::time::Instant::now() + patience;
        while published == 0 || shares.contains(&0) {
            ensure!(
                tokio::time::Instant::now() < end,
                "after {published} messages and {patience:?} the shares are {shares:?}"
            );
            let round = published..published + ROUND;
            published += ROUND;
            missing.extend(round.clone().map(|number| id("share", number)));
            publish_all(&producer, round.map(|number| numbered("share", number)), patience).await?;
            while !missing.is_empty() {
                let waited = tokio::time::timeout(patience, async {
                    // The one that waited longer goes first, so that neither starves the other.
                    if shares[0] <= shares[1] {
                        tokio::select! { biased; got = one.recv() => (0, got), got = two.recv() => (1, got) }
                    } else {
                        tokio::select! { biased; got = two.recv() => (1, got), got = one.recv() => (0, got) }
                    }
                });
                let (consumer, got) = waited.await.map_err(|_| {
                    Failure::new(format!(
                        "{} of {published} messages reached neither consumer",
                        missing.len()
                    ))
                })?;
                let delivery = said("receiving", got)?;
                let id = delivery.message().id.to_string();
                let again = delivery.attempt().is_some_and(|attempt| attempt == 1);
                ensure!(missing.remove(&id) || !again, "{id} was delivered twice as a first attempt");
                shares[consumer] += 1;
                ack(delivery, patience).await?;
            }
        }
        Ok(())
    })
    .await
}

/// Every group gets every message.
pub async fn two_groups_each_get_all<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: usize = 100;
    if !factory.capabilities().groups {
        return Ok(Verdict::Skipped("the queue is configured for one group"));
    }
    on_queue(factory, plain("two_groups_each_get_all"), async |queue, patience| {
        let mut left = subscriber(queue, "left", patience).await?;
        let mut right = subscriber(queue, "right", patience).await?;
        let producer = producer(queue, patience).await?;
        publish_all(&producer, (0..COUNT).map(|number| numbered("group", number)), patience).await?;
        for (name, group) in [("left", &mut left), ("right", &mut right)] {
            let seen = receive_until_all(group, ids("group", COUNT), patience).await;
            let seen = seen.map_err(|failure| Failure::new(format!("group {name}: {failure}")))?;
            ensure!(seen.len() == COUNT, "group {name} got {} different messages of {COUNT}", seen.len());
        }
        Ok(())
    })
    .await
}
