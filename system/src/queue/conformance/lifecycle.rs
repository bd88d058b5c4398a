//! Cases about counting and about the end.

use std::time::Duration;

use tokio::task::JoinSet;

use super::support::{
    ack, ensure, eventually, fail, ids, numbered, on_queue, plain, producer, publish_all, receive,
    receive_until_all, said, subscriber, within,
};
use super::{CaseResult, Factory, Verdict};
use crate::queue::{
    Delivery, Outcome, PublishError, Queue, QueueError, Statistics, SubscribeError, Subscriber,
};

/// The counters agree with what was done and with each other.
pub async fn statistics_add_up<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: usize = 60;
    let nack = factory.capabilities().redelivers_after_nack;
    on_queue(factory, plain("statistics_add_up"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        publish_all(&producer, (0..COUNT).map(|number| numbered("count", number)), patience).await?;
        let (mut received, mut acked, mut nacked) = (0_u64, 0_u64, 0_u64);
        let mut missing: std::collections::BTreeSet<String> = ids("count", COUNT).collect();
        while !missing.is_empty() {
            let delivery = receive(&mut subscriber, &format!("receiving after {received}"), patience).await?;
            received += 1;
            if nack && nacked == 0 {
                nacked += 1;
                let what = "giving a message back";
                said(what, within(patience, what, delivery.nack(Duration::ZERO)).await?)?;
            } else {
                missing.remove(delivery.message().id.as_str());
                acked += 1;
                ack(delivery, patience).await?;
            }
        }
        let adds_up = |s: &Statistics| {
            s.accepted == COUNT as u64
                && s.acknowledged == COUNT as u64
                && s.rejected + s.unknown == 0
                && s.delivered == received
                && s.acked == acked
                && s.nacked == nacked
                && s.redelivered == received - COUNT as u64
        };
        let what = format!(
            "statistics of {COUNT} published, {received} received, {acked} acknowledged, {nacked} given back"
        );
        eventually(&what, patience, async || Ok(queue.statistics()), adds_up).await?;
        Ok(())
    })
    .await
}

/// The depth rises with what is published, tells ready from delivered, and falls to nothing.
pub async fn depth_follows<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: u64 = 20;
    if !factory.capabilities().depth {
        return Ok(Verdict::Skipped("the backend does not know its depth"));
    }
    on_queue(factory, plain("depth_follows"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        publish_all(&producer, (0..20).map(|number| numbered("depth", number)), patience).await?;
        let ask = async || said("asking for the depth", queue.depth().await);
        let what = format!("depth after {COUNT} messages");
        eventually(&what, patience, ask, |depth| depth.total().or(depth.ready) == Some(COUNT)).await?;

        let held = receive(&mut subscriber, "receiving one", patience).await?;
        let what = "depth with at least one message in hand";
        eventually(what, patience, ask, |d| d.unacknowledged.is_none_or(|count| count >= 1)).await?;
        let what = "total depth with a message in hand";
        eventually(what, patience, ask, |d| d.total().is_none_or(|total| total == COUNT)).await?;
        let rest: Vec<String> = ids("depth", 20).filter(|id| *id != held.message().id.as_str()).collect();
        ack(held, patience).await?;
        receive_until_all(&mut subscriber, rest, patience).await?;
        let what = "depth after everything was acknowledged";
        eventually(what, patience, ask, |depth| depth.total().or(depth.ready) == Some(0)).await?;
        Ok(())
    })
    .await
}

/// Closing while others publish: every accepted message gets an outcome, every publisher comes to an
/// end with "closed", nothing hangs and nothing panics.
pub async fn close_during_publish<F: Factory>(factory: &F) -> CaseResult {
    const PUBLISHERS: usize = 4;
    const BEFORE_CLOSE: usize = 25;
    on_queue(factory, plain("close_during_publish"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let consumer = tokio::spawn(async move {
            while let Ok(delivery) = subscriber.recv().await {
                let _ = delivery.ack().await;
            }
        });
        let (started, mut running) = tokio::sync::mpsc::channel(PUBLISHERS);
        let mut publishers = JoinSet::new();
        for publisher in 0..PUBLISHERS {
            let producer = producer(queue, patience).await?;
            let started = started.clone();
            publishers.spawn(async move {
                let mut pending = Vec::new();
                for number in 0.. {
                    if number == BEFORE_CLOSE {
                        let _ = started.send(()).await;
                    }
                    let message = numbered(&format!("close-{publisher}"), number);
                    let submitted = tokio::time::timeout(patience, producer.publish(message)).await;
                    match submitted {
                        Ok(Ok(acknowledgement)) => pending.push(acknowledgement),
                        Ok(Err(PublishError::Full)) => tokio::task::yield_now().await,
                        Ok(Err(PublishError::Closed)) => break,
                        Ok(Err(error)) => return Err(format!("a publish failed with: {error}")),
                        Err(_) => return Err(format!("a publish hung for {patience:?}")),
                    }
                    if pending.len() >= 100 {
                        let oldest = pending.remove(0);
                        outcome(oldest, patience).await?;
                    }
                    tokio::task::yield_now().await;
                }
                for acknowledgement in pending {
                    outcome(acknowledgement, patience).await?;
                }
                Ok(())
            });
        }
        for _ in 0..PUBLISHERS {
            within(patience, "the publishers' first messages", running.recv()).await?;
        }
        let closed = within(patience * 2, "closing during publish", queue.close(patience)).await?;
        while let Some(ended) = within(patience * 2, "a publisher's end", publishers.join_next()).await? {
            match ended {
                Ok(result) => said("a publisher", result)?,
                Err(error) => fail!("a publisher panicked: {error}"),
            }
        }
        said("the consumer", within(patience, "the consumer's end", consumer).await?)?;
        said("closing during publish", closed)?;
        let end = queue.statistics();
        ensure!(
            end.accepted == end.acknowledged + end.rejected + end.unknown,
            "after close some accepted messages have no outcome: {end:?}"
        );
        Ok(())
    })
    .await
}

/// Waits for an outcome, whichever it is.
async fn outcome(pending: crate::queue::Acknowledgement, patience: Duration) -> Result<Outcome, String> {
    let waited = tokio::time::timeout(patience, pending).await;
    waited.map_err(|_| format!("an accepted message has no outcome after {patience:?}"))
}

/// After close, publishing is an error, and closing again is not.
pub async fn publish_after_close<F: Factory>(factory: &F) -> CaseResult {
    on_queue(factory, plain("publish_after_close"), async |queue, patience| {
        let producer = producer(queue, patience).await?;
        said("closing", within(patience * 2, "closing", queue.close(patience)).await?)?;
        match within(patience, "publishing after close", producer.publish(numbered("late", 0))).await? {
            Err(PublishError::Closed) => {}
            Err(error) => fail!("publishing after close should fail as closed, but: {error}"),
            Ok(_) => fail!("a closed queue accepted a message"),
        }
        let again = within(patience, "opening a producer after close", queue.publisher(nobody())).await?;
        match again {
            Err(QueueError::Closed(_)) => {}
            Err(error) => fail!("opening a publisher after close should fail as closed, but: {error}"),
            Ok(_) => fail!("a closed queue gave a publisher"),
        }
        said("closing again", within(patience, "closing again", queue.close(patience)).await?)
    })
    .await
}

/// A subscriber that waits when its queue is closed is told so.
pub async fn receive_after_close<F: Factory>(factory: &F) -> CaseResult {
    on_queue(factory, plain("receive_after_close"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let receiving = tokio::spawn(async move { subscriber.recv().await.map(drop) });
        tokio::task::yield_now().await;
        said("closing", within(patience * 2, "closing", queue.close(patience)).await?)?;
        match said("the subscriber", within(patience, "the subscriber's end", receiving).await?)? {
            Err(SubscribeError::Closed) => Ok(()),
            Err(error) => fail!("a subscriber of a closed queue should end as closed, but: {error}"),
            Ok(()) => fail!("a subscriber of an empty, closed queue received a message"),
        }
    })
    .await
}

/// A sink for a publisher that is never to be opened.
fn nobody() -> std::sync::Arc<dyn crate::queue::Completions> {
    struct Nobody;
    impl crate::queue::Completions for Nobody {
        fn complete(&self, _: crate::queue::Token, _: Outcome) {}
    }
    std::sync::Arc::new(Nobody)
}
