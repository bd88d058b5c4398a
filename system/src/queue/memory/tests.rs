use std::collections::VecDeque;

use futures_util::{FutureExt, poll};
use tokio::time::Instant;

use super::*;
use crate::queue::{Acknowledge, PublishError, Publisher, SubscribeError, Subscriber, Token};

fn options(group: &str, prefetch: usize, acknowledge: Acknowledge) -> SubscribeOptions {
    SubscribeOptions { group: group.to_owned(), prefetch, acknowledge }
}

fn explicit(group: &str) -> SubscribeOptions {
    options(group, 1000, Acknowledge::Explicit)
}

fn open(capacity: usize, full: FullPolicy) -> Memory<u32> {
    Memory::open(MemoryConfig { capacity, full, max_payload_bytes: None }).unwrap()
}

fn send(sender: &MemoryPublisher<u32>, item: u32) -> Result<(), PublishError> {
    sender.send(item).now_or_never().expect("a rejecting queue does not wait")
}

fn take(receiver: &mut MemorySubscriber<u32>) -> MemoryDelivery<u32> {
    receiver.try_receive().unwrap().expect("there is a message")
}

#[test]
fn capacity_counts_what_is_delivered_and_not_acknowledged() {
    let queue = open(2, FullPolicy::Reject);
    let (sender, mut receiver) = (queue.sender().unwrap(), queue.receiver(&explicit("g")).unwrap());
    send(&sender, 1).unwrap();
    send(&sender, 2).unwrap();
    let (first, second) = (take(&mut receiver), take(&mut receiver));
    assert_eq!(send(&sender, 3), Err(PublishError::Full));
    drop(second);
    assert_eq!(send(&sender, 3), Err(PublishError::Full));
    assert_eq!(first.accept_into(), 1);
    send(&sender, 3).unwrap();
    let counted = queue.shared.statistics();
    assert_eq!((counted.accepted, counted.refused), (3, 2));
}

#[test]
fn what_comes_back_is_delivered_first_and_oldest_first() {
    let queue = open(10, FullPolicy::Reject);
    let (sender, mut receiver) = (queue.sender().unwrap(), queue.receiver(&explicit("g")).unwrap());
    (1..=4).for_each(|item| send(&sender, item).unwrap());
    let (one, two, three) = (take(&mut receiver), take(&mut receiver), take(&mut receiver));
    drop(three);
    drop(one);
    assert!(two.give_back(Duration::ZERO));
    let order: Vec<_> = (0..4)
        .map(|_| {
            let delivery = take(&mut receiver);
            (delivery.attempts(), delivery.accept_into())
        })
        .collect();
    assert_eq!(order, [(2, 1), (2, 2), (2, 3), (1, 4)]);
    let counted = queue.shared.statistics();
    assert_eq!((counted.delivered, counted.redelivered, counted.acked, counted.nacked), (7, 3, 4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_comes_after_its_delay_to_whoever_waits() {
    let queue = open(10, FullPolicy::Reject);
    let (sender, mut receiver) = (queue.sender().unwrap(), queue.receiver(&explicit("g")).unwrap());
    let mut other = queue.receiver(&explicit("g")).unwrap();
    send(&sender, 1).unwrap();
    let delivery = take(&mut receiver);
    let start = Instant::now();
    // `other` waits before there is anything to watch the clock for, and `receiver` gives up its watch.
    let waiting = tokio::spawn(async move { other.receive().await.map(MemoryDelivery::accept_into) });
    tokio::task::yield_now().await;
    assert!(delivery.give_back(Duration::from_secs(3)));
    assert!(tokio::time::timeout(Duration::from_secs(1), receiver.receive()).await.is_err());
    assert_eq!(waiting.await.unwrap().unwrap(), 1);
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(3) && waited < Duration::from_millis(3100), "{waited:?}");
}

#[tokio::test]
async fn prefetch_bounds_what_one_subscriber_holds() {
    let queue = open(10, FullPolicy::Reject);
    let sender = queue.sender().unwrap();
    let mut receiver = queue.receiver(&options("g", 1, Acknowledge::Explicit)).unwrap();
    send(&sender, 1).unwrap();
    send(&sender, 2).unwrap();
    let first = receiver.receive().await.unwrap();
    let mut second = Box::pin(receiver.receive());
    assert!(poll!(second.as_mut()).is_pending());
    first.accept_into();
    assert_eq!(second.await.unwrap().accept_into(), 2);
    assert!(queue.receiver(&options("g", 0, Acknowledge::Explicit)).is_err());
}

#[tokio::test]
async fn a_publisher_that_waits_gets_the_room_of_an_acknowledged_message() {
    let queue = open(1, FullPolicy::Wait);
    let (sender, mut receiver) = (queue.sender().unwrap(), queue.receiver(&explicit("g")).unwrap());
    sender.send(1).await.unwrap();
    let mut cancelled = Box::pin(sender.send(2));
    let mut waiting = Box::pin(sender.send(3));
    assert!(poll!(cancelled.as_mut()).is_pending() && poll!(waiting.as_mut()).is_pending());
    // The room goes to the first in line, which is dropped before it could use it.
    take(&mut receiver).accept_into();
    drop(cancelled);
    waiting.await.unwrap();
    assert_eq!(take(&mut receiver).accept_into(), 3);
}

#[tokio::test]
async fn a_dropped_receive_passes_its_wake_up_on() {
    let queue = open(10, FullPolicy::Reject);
    let sender = queue.sender().unwrap();
    let (mut one, mut two) =
        (queue.receiver(&explicit("g")).unwrap(), queue.receiver(&explicit("g")).unwrap());
    let mut cancelled = Box::pin(one.receive());
    assert!(poll!(cancelled.as_mut()).is_pending());
    let waiting = tokio::spawn(async move { two.receive().await.map(MemoryDelivery::accept_into) });
    tokio::task::yield_now().await;
    send(&sender, 7).unwrap();
    drop(cancelled);
    assert_eq!(waiting.await.unwrap().unwrap(), 7);
}

#[test]
fn a_late_group_gets_what_is_published_from_then_on_and_can_be_forgotten() {
    let queue = open(2, FullPolicy::Reject);
    let sender = queue.sender().unwrap();
    send(&sender, 1).unwrap();
    let mut first = queue.receiver(&explicit("first")).unwrap();
    let mut late = queue.receiver(&explicit("late")).unwrap();
    send(&sender, 2).unwrap();
    assert_eq!(take(&mut first).accept_into(), 1);
    assert_eq!(take(&mut first).accept_into(), 2);
    assert_eq!(take(&mut late).accept_into(), 2);
    send(&sender, 3).unwrap();
    send(&sender, 4).unwrap();
    take(&mut first).accept_into();
    take(&mut first).accept_into();
    assert_eq!(send(&sender, 5), Err(PublishError::Full), "the late group has its backlog");
    assert!(!queue.forget_group("late"), "it has a subscriber");
    drop(late);
    assert!(queue.forget_group("late"));
    assert!(!queue.forget_group("first"), "it is the only one");
    send(&sender, 5).unwrap();
    // The place is used again, empty.
    let mut again = queue.receiver(&explicit("late")).unwrap();
    assert!(again.try_receive().unwrap().is_none());
    send(&sender, 6).unwrap();
    assert_eq!(take(&mut again).accept_into(), 6);
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_consumers_and_delivers_what_is_left() {
    let queue = open(10, FullPolicy::Reject);
    let (sender, mut receiver) = (queue.sender().unwrap(), queue.receiver(&explicit("g")).unwrap());
    (1..=3).for_each(|item| send(&sender, item).unwrap());
    let held = take(&mut receiver);
    let closing = {
        let shared = Arc::clone(&queue.shared);
        tokio::spawn(async move { shared.close(Duration::from_secs(10)).await })
    };
    tokio::task::yield_now().await;
    assert_eq!(send(&sender, 4), Err(PublishError::Closed));
    assert!(queue.sender().is_err() && queue.receiver(&explicit("g")).is_err());
    drop(held);
    for expected in 1..=3 {
        assert_eq!(receiver.receive().await.unwrap().accept_into(), expected);
    }
    assert_eq!(receiver.receive().await.unwrap_err(), SubscribeError::Closed);
    assert_eq!(closing.await.unwrap(), Ok(()));
    assert_eq!(queue.shared.close(Duration::ZERO).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn close_ends_at_its_deadline_and_says_what_is_left() {
    let queue = open(10, FullPolicy::Reject);
    let (sender, mut receiver) = (queue.sender().unwrap(), queue.receiver(&explicit("g")).unwrap());
    (1..=3).for_each(|item| send(&sender, item).unwrap());
    let held = take(&mut receiver);
    let start = Instant::now();
    let closed = queue.shared.close(Duration::from_secs(2)).await;
    assert_eq!(closed, Err(QueueError::CloseDeadline { backend: BACKEND, outstanding: 3 }));
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(receiver.receive().await.unwrap_err(), SubscribeError::Closed);
    assert!(!held.give_back(Duration::ZERO), "nothing is delivered again after close");
    assert_eq!(queue.shared.depth().total(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn close_does_not_wait_for_a_group_without_subscribers() {
    let queue = open(10, FullPolicy::Reject);
    send(&queue.sender().unwrap(), 1).unwrap();
    let start = Instant::now();
    let closed = queue.shared.close(Duration::from_secs(60)).await;
    assert_eq!(closed, Err(QueueError::CloseDeadline { backend: BACKEND, outstanding: 1 }));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_batch_stops_at_the_message_that_does_not_fit_and_keeps_the_order() {
    let config = MemoryConfig { capacity: 3, max_payload_bytes: Some(4), ..MemoryConfig::default() };
    let queue = Memory::<Message>::open(config).unwrap();
    let publisher = queue.sender().unwrap();
    let sizes =
        |batch: &VecDeque<(Message, Token)>| batch.iter().map(|(m, _)| m.payload.len()).collect::<Vec<_>>();
    let mut batch: VecDeque<_> =
        [1, 2, 5, 3, 4].iter().map(|size| (Message::new(vec![0; *size]), Token(0))).collect();
    assert_eq!(publisher.publish_batch(&mut batch).await, Ok(2));
    assert_eq!(sizes(&batch), [5, 3, 4]);
    let too_large = PublishError::TooLarge { size: 5, limit: 4 };
    assert_eq!(publisher.publish_batch(&mut batch).await, Err(too_large));
    assert_eq!(sizes(&batch), [5, 3, 4]);
    batch.pop_front();
    assert_eq!(publisher.publish_batch(&mut batch).await, Ok(1));
    assert_eq!(publisher.publish_batch(&mut batch).await, Err(PublishError::Full));
    assert_eq!(sizes(&batch), [4]);
    assert_eq!(queue.statistics().refused, 2);
}

#[tokio::test]
async fn on_receive_needs_no_answer() {
    let queue = Memory::<Message>::open(MemoryConfig { capacity: 1, ..MemoryConfig::default() }).unwrap();
    let publisher = queue.sender().unwrap();
    let mut subscriber = queue.receiver(&options("g", 1, Acknowledge::OnReceive)).unwrap();
    for _ in 0..3 {
        assert!(publisher.publish(Message::new("x"), Token(0)).await.is_ok());
        drop(subscriber.recv().await.unwrap());
    }
    let counted = queue.statistics();
    assert_eq!((counted.delivered, counted.acked, counted.nacked), (3, 3, 0));
}

/// Any mix of threads: nothing is lost, doubled or counted wrongly.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_producers_and_consumers_lose_nothing() {
    const PRODUCERS: u32 = 4;
    const EACH: u32 = 20_000;
    let queue = open(16, FullPolicy::Wait);
    let mut consumers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let mut receiver = queue.receiver(&options("g", 3, Acknowledge::Explicit)).unwrap();
        consumers.spawn(async move {
            let mut sum = 0_u64;
            let mut turn = 0_u32;
            while let Ok(delivery) = receiver.receive().await {
                turn += 1;
                match turn % 10 {
                    0 => drop(delivery),
                    1 => drop(delivery.give_back(Duration::ZERO)),
                    _ => sum += u64::from(delivery.accept_into()),
                }
            }
            sum
        });
    }
    let mut producers = tokio::task::JoinSet::new();
    for producer in 0..PRODUCERS {
        let sender = queue.sender().unwrap();
        producers.spawn(async move {
            for item in 0..EACH {
                sender.send(producer * EACH + item).await.unwrap();
            }
        });
    }
    while let Some(ended) = producers.join_next().await {
        ended.unwrap();
    }
    queue.shared.close(Duration::from_secs(30)).await.unwrap();
    let mut sum = 0;
    while let Some(ended) = consumers.join_next().await {
        sum += ended.unwrap();
    }
    let all = u64::from(PRODUCERS * EACH);
    assert_eq!(sum, all * (all - 1) / 2);
    let counted = queue.shared.statistics();
    assert_eq!((counted.accepted, counted.acked), (all, all));
    assert_eq!(counted.delivered, counted.acked + counted.nacked);
}

/// Threads without a runtime, at a queue so small that all of them sleep and wake.
#[test]
fn threads_block_and_lose_nothing() {
    const EACH: u32 = 5_000;
    let queue = open(2, FullPolicy::Wait);
    let receivers: Vec<_> = (0..3).map(|_| queue.receiver(&explicit("g")).unwrap()).collect();
    let consumers: Vec<_> = receivers
        .into_iter()
        .map(|mut receiver| {
            std::thread::spawn(move || {
                let mut sum = 0_u64;
                while let Ok(delivery) = receiver.receive_blocking() {
                    sum += u64::from(delivery.accept_into());
                }
                sum
            })
        })
        .collect();
    std::thread::scope(|scope| {
        for producer in 0..3 {
            let sender = queue.sender().unwrap();
            scope.spawn(move || {
                (0..EACH).for_each(|item| sender.send_blocking(producer * EACH + item).unwrap());
            });
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(queue.shared.close(Duration::from_secs(30))).unwrap();
    let sum: u64 = consumers.into_iter().map(|consumer| consumer.join().unwrap()).sum();
    let all = u64::from(3 * EACH);
    assert_eq!(sum, all * (all - 1) / 2);
    assert_eq!(queue.sender().err(), Some(QueueError::Closed(BACKEND)));
}
