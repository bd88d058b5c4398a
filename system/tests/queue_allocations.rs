//! The promise that a message costs no allocation, proved by counting them. A program of its own, since the
//! counting allocator serves the whole process.

#![expect(clippy::unwrap_used, reason = "what a test sets up fails by panicking")]
#![expect(unsafe_code, reason = "an allocator can be counted only by being one")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use queuebench_system::message::Message;
use queuebench_system::queue::{
    Acknowledge, Completions, Delivery, Memory, MemoryConfig, Outcome, Producer, Publisher, Queue,
    QueueConfig, SubscribeOptions, Subscriber, Token,
};

/// The system's allocator, counting the calls of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that is ending has no counter any more.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes unchanged to the system's allocator; counting touches no memory that it manages.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`, which are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by way of the functions here.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from `System` by way of the functions here.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread while `work` runs.
async fn allocations(work: impl Future<Output = ()>) -> u64 {
    let before = ALLOCATIONS.get();
    work.await;
    ALLOCATIONS.get() - before
}

fn options(acknowledge: Acknowledge) -> SubscribeOptions {
    SubscribeOptions { group: "g".to_owned(), prefetch: 100, acknowledge }
}

/// Shares its bytes with every clone from the start, as messages cut from one buffer do.
fn message() -> Message {
    Message::new(bytes::Bytes::from_static(b"payload")).with_id("id")
}

struct Nobody;

impl Completions for Nobody {
    fn complete(&self, _: Token, _: Outcome) {}
}

/// 1,000 messages after a warm-up, each published, received and acknowledged.
async fn allocations_of(queue: &impl Queue, acknowledge: Acknowledge) -> u64 {
    let publisher = queue.publisher(Arc::new(Nobody)).await.unwrap();
    let mut subscriber = queue.subscriber(options(acknowledge)).await.unwrap();
    let message = message();
    // The first clone of an owned buffer makes it shared.
    drop(message.clone());
    let mut round = async |count: u64| {
        for number in 0..count {
            let _ = publisher.publish(message.clone(), Token(number)).await.unwrap();
            let delivery = subscriber.recv().await.unwrap();
            assert_eq!(delivery.message(), &message);
            delivery.ack().await.unwrap();
        }
    };
    round(10).await;
    allocations(round(1_000)).await
}

#[tokio::test]
async fn the_counter_counts() {
    let one = allocations(async { drop(std::hint::black_box(Box::new(7))) }).await;
    assert_eq!(one, 1);
}

#[tokio::test]
async fn a_message_through_the_memory_queue_allocates_nothing() {
    let queue = Memory::<Message>::open(MemoryConfig::default()).unwrap();
    assert_eq!(allocations_of(&queue, Acknowledge::Explicit).await, 0);
    let queue = Memory::<Message>::open(MemoryConfig::default()).unwrap();
    assert_eq!(allocations_of(&queue, Acknowledge::OnReceive).await, 0);
}

#[tokio::test]
async fn the_enum_over_all_backends_allocates_nothing() {
    let queue = QueueConfig::Memory(MemoryConfig::default()).open().await.unwrap();
    assert_eq!(allocations_of(&queue, Acknowledge::Explicit).await, 0);
}

#[tokio::test]
async fn an_acknowledgement_future_allocates_nothing() {
    let queue = Memory::<Message>::open(MemoryConfig::default()).unwrap();
    let producer = Producer::open(&queue, 8).await.unwrap();
    let mut subscriber = queue.subscriber(options(Acknowledge::Explicit)).await.unwrap();
    let message = message();
    drop(message.clone());
    let mut round = async |count: u64| {
        for _ in 0..count {
            assert_eq!(producer.publish(message.clone()).await.unwrap().await, Outcome::Acknowledged);
            subscriber.recv().await.unwrap().ack().await.unwrap();
        }
    };
    // Long enough that the runtime has made this task yield before, and has grown its own lists.
    round(1_000).await;
    assert_eq!(allocations(round(1_000)).await, 0);
}

/// Many messages waiting at once: the boxes and the ring are made once and used again.
#[tokio::test]
async fn filling_and_emptying_again_allocates_nothing() {
    let queue = Memory::<[u64; 19]>::open(MemoryConfig::default()).unwrap();
    let sender = queue.sender().unwrap();
    let mut receiver = queue.receiver(&options(Acknowledge::Explicit)).unwrap();
    let mut round = async || {
        for _ in 0..1_000 {
            sender.send([1; 19]).await.unwrap();
        }
        for _ in 0..1_000 {
            receiver.receive().await.unwrap().accept();
        }
    };
    round().await;
    assert_eq!(allocations(round()).await, 0);
}
