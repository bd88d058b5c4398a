//! Cases about what does not fit.

use std::future::Future;
use std::pin::pin;

use bytes::Bytes;
use futures_util::poll;

use super::support::{
    ack, acknowledged, ensure, eventually, fail, numbered, on_queue, plain, producer, publish_all, receive,
    said, submit, subscriber, within,
};
use super::{CaseResult, Factory, Full, Verdict, Wanted};
use crate::message::Message;
use crate::queue::{Delivery, Depth, Outcome, PublishError, Queue, RejectReason};

/// A full queue rejects or waits, as configured, and takes messages again once one is processed.
pub async fn full_queue<F: Factory>(factory: &F) -> CaseResult {
    const CAPACITY: usize = 8;
    let full = factory.capabilities().full;
    if full == Full::Never {
        return Ok(Verdict::Skipped("the backend has no bound that a test could reach"));
    }
    let wanted = Wanted { case: "full_queue", capacity: Some(CAPACITY) };
    on_queue(factory, wanted, async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        publish_all(&producer, (0..CAPACITY).map(|number| numbered("full", number)), patience).await?;
        if full == Full::Rejects {
            match within(patience, "publishing into a full queue", producer.publish(numbered("full", 99)))
                .await?
            {
                Err(PublishError::Full) => {}
                Ok(pending) => match within(patience, "the outcome in a full queue", pending).await? {
                    Outcome::Rejected(RejectReason::Full) => {}
                    other => fail!(
                        "message {} of {CAPACITY} should be rejected as full, is {other:?}",
                        CAPACITY + 1
                    ),
                },
                Err(error) => fail!("message {} of {CAPACITY} should not fit, but: {error}", CAPACITY + 1),
            }
            // Delivered and not yet acknowledged still counts; acknowledged does not.
            let delivery = receive(&mut subscriber, "receiving from the full queue", patience).await?;
            ack(delivery, patience).await?;
            // Room everywhere first: of a composite, the child whose copy was delivered has it at once and
            // another only when its own copy came too. Tried in between, each would take one half of a pair
            // of attempts and be full again.
            if factory.capabilities().depth {
                let ask = async || said("asking for the depth", queue.depth().await);
                let has_room = |depth: &Depth| {
                    depth.total().or(depth.ready).is_some_and(|depth| depth < CAPACITY as u64)
                };
                eventually("depth after an acknowledgement", patience, ask, has_room).await?;
            }
            let end = tokio::time::Instant::now() + patience;
            loop {
                let publishing = producer.publish(numbered("full", CAPACITY));
                match within(patience, "publishing after making room", publishing).await? {
                    Ok(pending) => {
                        if within(patience, "its outcome", pending).await? == Outcome::Acknowledged {
                            break;
                        }
                    }
                    Err(PublishError::Full) => {}
                    Err(error) => fail!("publishing after making room: {error}"),
                }
                ensure!(
                    tokio::time::Instant::now() < end,
                    "still full {patience:?} after an acknowledgement made room"
                );
                // A server frees the room when it has seen the acknowledgement.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        } else {
            let mut waiting = pin!(producer.publish(numbered("full", CAPACITY)));
            ensure!(stays_pending(waiting.as_mut()).await, "a publish into a full queue did not wait");
            let delivery = receive(&mut subscriber, "receiving from the full queue", patience).await?;
            ensure!(
                stays_pending(waiting.as_mut()).await,
                "a publish did not wait though all of the capacity is delivered or ready"
            );
            ack(delivery, patience).await?;
            let pending = match within(patience, "publishing after making room", waiting).await? {
                Ok(pending) => pending,
                Err(error) => fail!("a publish that waited for room failed: {error}"),
            };
            acknowledged(pending, "the message that waited", patience).await?;
        }
        for number in 1..=CAPACITY {
            let delivery = receive(&mut subscriber, &format!("receiving message {number}"), patience).await?;
            ensure!(delivery.message().id.as_str() != "full-0099", "a rejected message arrived");
            ack(delivery, patience).await?;
        }
        Ok(())
    })
    .await
}

/// Lets everything else on the runtime run a few times; whether `future` waits all the same.
async fn stays_pending<T: Future>(mut future: std::pin::Pin<&mut T>) -> bool {
    for _ in 0..20 {
        if poll!(future.as_mut()).is_ready() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

/// 1 MiB arrives (or as much as the backend takes); one byte above the limit is refused, alone.
pub async fn payload_limit<F: Factory>(factory: &F) -> CaseResult {
    const MIB: usize = 1024 * 1024;
    let limit = factory.capabilities().max_payload_bytes;
    on_queue(factory, plain("payload_limit"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "readers", patience).await?;
        let producer = producer(queue, patience).await?;
        let mut sizes = vec![MIB.min(limit.unwrap_or(MIB))];
        sizes.extend(limit.filter(|limit| *limit > MIB));
        for size in sizes {
            let payload: Bytes = (0..size).map(|at| (at % 251).to_le_bytes()[0]).collect();
            let sent = submit(&producer, Message::new(payload.clone()).with_id(format!("{size}")), patience);
            acknowledged(sent.await?, &format!("a payload of {size} bytes"), patience).await?;
            let what = format!("receiving {size} bytes");
            let delivery = receive(&mut subscriber, &what, patience).await?;
            let got = &delivery.message().payload;
            ensure!(*got == payload, "{size} bytes arrived as {} bytes, or changed", got.len());
            ack(delivery, patience).await?;
        }
        let Some(limit) = limit else { return Ok(()) };
        let above = Message::new(vec![7; limit + 1]).with_id("above").with_key("one key");
        match within(patience, "publishing above the limit", producer.publish(above)).await? {
            Err(PublishError::TooLarge { size, limit: said }) => {
                ensure!(size > limit && said < size, "the error says {size} bytes over a limit of {said}");
            }
            Err(error) => fail!("one byte above the limit of {limit} should be too large, but: {error}"),
            Ok(pending) => match within(patience, "the outcome above the limit", pending).await? {
                Outcome::Rejected(RejectReason::TooLarge | RejectReason::Refused) => {}
                other => fail!("one byte above the limit of {limit} should be rejected, is {other:?}"),
            },
        }
        let after = Message::new("after").with_id("after").with_key("one key");
        acknowledged(submit(&producer, after, patience).await?, "the next message", patience).await?;
        let delivery = receive(&mut subscriber, "receiving the next message", patience).await?;
        ensure!(
            delivery.message().payload == "after",
            "{} arrived, not the next message",
            delivery.message().id
        );
        ack(delivery, patience).await
    })
    .await
}
