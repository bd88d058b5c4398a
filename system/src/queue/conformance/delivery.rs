//! Cases about what arrives, in which order, and what arrives again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;

use super::support::{
    ack, acknowledged, ensure, fail, id, ids, numbered, on_queue, plain, producer, publish_all, receive,
    receive_until_all, said, submit, subscriber, within,
};
use super::{CaseResult, Factory, Verdict};
use crate::message::Message;
use crate::queue::{Delivery, Queue, Subscriber};

/// Messages of one producer and key arrive in the order in which they were sent, unchanged.
pub async fn ordering_per_key<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: usize = 200;
    const KEYS: usize = 5;
    on_queue(factory, plain("ordering_per_key"), async |queue, patience| {
        let ordered = queue.promise().ordered_per_key;
        let mut subscriber = subscriber(queue, "readers", patience).await?;
        let producer = producer(queue, patience).await?;
        let messages = (0..COUNT).map(|number| {
            Message::new(format!("{number}"))
                .with_id(id("order", number))
                .with_key(format!("key-{}", number % KEYS))
        });
        publish_all(&producer, messages, patience).await?;

        let mut last: BTreeMap<Bytes, usize> = BTreeMap::new();
        let mut missing: BTreeSet<usize> = (0..COUNT).collect();
        while !missing.is_empty() {
            let what = format!("receiving ({} missing)", missing.len());
            let delivery = receive(&mut subscriber, &what, patience).await?;
            let message = delivery.message();
            let number = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok());
            let Some(number) = number else { fail!("a payload arrived changed: {:?}", message.payload) };
            let key = format!("key-{}", number % KEYS);
            ensure!(message.key == key, "message {number} should have key {key}, has {:?}", message.key);
            ensure!(message.id.as_str() == id("order", number), "message {number} has id {}", message.id);
            if missing.remove(&number) {
                let before = last.insert(message.key.clone(), number);
                ensure!(
                    !ordered || before.is_none_or(|before| before < number),
                    "{key}: message {number} came first after {before:?} had come"
                );
            }
            ack(delivery, patience).await?;
        }
        Ok(())
    })
    .await
}

/// What a consumer held when it went away arrives at another consumer of its group.
pub async fn redelivery_after_crash<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: usize = 20;
    on_queue(factory, plain("redelivery_after_crash"), async |queue, patience| {
        let mut first = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        publish_all(&producer, (0..COUNT).map(|number| numbered("crash", number)), patience).await?;

        let mut acked = BTreeSet::new();
        let mut held = Vec::new();
        for number in 0..COUNT / 2 {
            let delivery = receive(&mut first, "receiving before the crash", patience).await?;
            if number % 2 == 0 {
                acked.insert(delivery.message().id.to_string());
                ack(delivery, patience).await?;
            } else {
                held.push(delivery);
            }
        }
        let held_ids: BTreeSet<String> = held.iter().map(|d| d.message().id.to_string()).collect();
        drop(first);
        drop(held);

        let mut second = subscriber(queue, "workers", patience).await?;
        let mut missing: BTreeSet<String> = ids("crash", COUNT).filter(|id| !acked.contains(id)).collect();
        while !missing.is_empty() {
            let what = format!("receiving after the crash what was not acknowledged; missing {missing:?}");
            let delivery = receive(&mut second, &what, patience).await?;
            let id = delivery.message().id.to_string();
            if held_ids.contains(&id) {
                let attempt = delivery.attempt();
                ensure!(attempt.is_none_or(|n| n >= 2), "{id} came again as attempt {attempt:?}");
            }
            missing.remove(&id);
            ack(delivery, patience).await?;
        }
        Ok(())
    })
    .await
}

/// A message given back comes again, and counts its attempts where the backend does.
pub async fn redelivery_after_nack<F: Factory>(factory: &F) -> CaseResult {
    if !factory.capabilities().redelivers_after_nack {
        return Ok(Verdict::Skipped("the backend does not redeliver a single message"));
    }
    on_queue(factory, plain("redelivery_after_nack"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        let messages = (0..3).map(|number| numbered("nack", number).with_key("one key"));
        publish_all(&producer, messages, patience).await?;

        let mut acked = BTreeSet::new();
        let mut given_back = 0;
        while acked.len() < 3 {
            let what = format!("receiving (given back {given_back} times, acknowledged {acked:?})");
            let delivery = receive(&mut subscriber, &what, patience).await?;
            let id = delivery.message().id.to_string();
            ensure!(
                delivery.message().payload == id,
                "{id} came with payload {:?}",
                delivery.message().payload
            );
            if id == "nack-0000" && given_back < 2 {
                let attempt = delivery.attempt();
                given_back += 1;
                ensure!(
                    attempt.is_none_or(|n| n == given_back),
                    "delivery {given_back} of {id} counts as attempt {attempt:?}"
                );
                let what = "giving a message back";
                said(what, within(patience, what, delivery.nack(Duration::ZERO)).await?)?;
            } else {
                ack(delivery, patience).await?;
                acked.insert(id);
            }
        }
        ensure!(given_back == 2, "the first message was delivered {given_back} times, not at least 2");
        Ok(())
    })
    .await
}

/// A receive that is dropped while it waits loses no message.
pub async fn cancelled_receive<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: usize = 50;
    on_queue(factory, plain("cancelled_receive"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "workers", patience).await?;
        let producer = producer(queue, patience).await?;
        let mut missing: BTreeSet<String> = ids("cancel", COUNT).collect();
        let mut taken = Vec::new();
        for number in 0..COUNT {
            // One poll, then dropped: it has a waiter registered, or it has taken what was there.
            let _ = subscriber.recv_batch(8, &mut taken).now_or_never();
            publish_all(&producer, [numbered("cancel", number)], patience).await?;
            let _ = subscriber.recv_batch(8, &mut taken).now_or_never();
            for delivery in taken.drain(..) {
                missing.remove(delivery.message().id.as_str());
                ack(delivery, patience).await?;
            }
        }
        receive_until_all(&mut subscriber, missing, patience).await.map(drop)
    })
    .await
}

/// A message without a payload arrives, empty.
pub async fn empty_payload<F: Factory>(factory: &F) -> CaseResult {
    on_queue(factory, plain("empty_payload"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "readers", patience).await?;
        let producer = producer(queue, patience).await?;
        let sent = submit(&producer, Message::new(Bytes::new()).with_id("empty"), patience).await?;
        acknowledged(sent, "an empty message", patience).await?;
        let delivery = receive(&mut subscriber, "receiving the empty message", patience).await?;
        ensure!(delivery.message().payload.is_empty(), "the payload is not empty: {:?}", delivery.message());
        ensure!(delivery.message().key.is_empty(), "no key was sent: {:?}", delivery.message());
        ack(delivery, patience).await
    })
    .await
}

/// Ids, keys, payloads and header values outside ASCII arrive byte for byte.
pub async fn unicode<F: Factory>(factory: &F) -> CaseResult {
    let headers = factory.capabilities().headers;
    on_queue(factory, plain("unicode"), async |queue, patience| {
        let mut subscriber = subscriber(queue, "leser-α", patience).await?;
        let producer = producer(queue, patience).await?;
        let mut sent = Message::new("tøp 🦀 データ").with_id("id-ünïcode-Ж-🦀").with_key("schlüssel-κλειδί");
        if headers {
            sent.headers.push((Bytes::from_static(b"x-note"), Bytes::from("größe — 大きさ")));
            sent.headers.push((Bytes::from_static(b"x-empty"), Bytes::new()));
        }
        let pending = submit(&producer, sent.clone(), patience).await?;
        acknowledged(pending, "a message in many scripts", patience).await?;
        let delivery = receive(&mut subscriber, "receiving the message in many scripts", patience).await?;
        let got = delivery.message();
        ensure!(got.id == sent.id, "the id was {:?}, arrived as {:?}", sent.id, got.id);
        ensure!(got.key == sent.key, "the key was {:?}, arrived as {:?}", sent.key, got.key);
        ensure!(
            got.payload == sent.payload,
            "the payload was {:?}, arrived as {:?}",
            sent.payload,
            got.payload
        );
        for header in &sent.headers {
            ensure!(got.headers.contains(header), "header {header:?} is not in {:?}", got.headers);
        }
        ack(delivery, patience).await
    })
    .await
}

/// Batches keep the order, lose nothing, and a batch receive takes no more than it was asked for.
pub async fn batches<F: Factory>(factory: &F) -> CaseResult {
    const COUNT: usize = 300;
    const MOST: usize = 32;
    on_queue(factory, plain("batches"), async |queue, patience| {
        let ordered = queue.promise().ordered_per_key;
        let mut subscriber = subscriber(queue, "readers", patience).await?;
        let producer = producer(queue, patience).await?;
        let mut batch: VecDeque<Message> =
            (0..COUNT).map(|number| numbered("batch", number).with_key("one key")).collect();
        let mut pending = Vec::new();
        while !batch.is_empty() {
            let (before, left) = (pending.len(), batch.len());
            let what = "publishing a batch";
            let publishing = producer.publish_batch(&mut batch, &mut pending);
            let accepted = said(what, within(patience, what, publishing).await?)?;
            ensure!(
                accepted > 0 && accepted == left - batch.len() && accepted == pending.len() - before,
                "a batch of {left} counts {accepted} accepted, {} left, {} acknowledgements",
                batch.len(),
                pending.len() - before
            );
            for acknowledgement in pending.drain(..) {
                acknowledged(acknowledgement, "a message of a batch", patience).await?;
            }
        }
        let mut expected = 0;
        let mut taken = Vec::new();
        while expected < COUNT {
            let what = format!("receiving a batch after {expected} messages");
            let count = said(&what, within(patience, &what, subscriber.recv_batch(MOST, &mut taken)).await?)?;
            ensure!(
                count == taken.len() && (1..=MOST).contains(&count),
                "a receive of at most {MOST} says {count} and gave {}",
                taken.len()
            );
            for delivery in taken.drain(..) {
                let got = delivery.message().id.to_string();
                let first = delivery.attempt().is_none_or(|attempt| attempt == 1);
                if got == id("batch", expected) {
                    expected += 1;
                } else {
                    ensure!(!(ordered && first), "{} should come next, {got} came", id("batch", expected));
                    ensure!(!ordered || got < id("batch", expected), "{got} came too early");
                    expected += usize::from(!ordered);
                }
                ack(delivery, patience).await?;
            }
        }
        Ok(())
    })
    .await
}
