//! A broker that stops, restarts or freezes. One broker for both, one after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use queuebench_system::queue::{Delivery, Outcome, Publisher, Queue, Token, UnknownReason};

use super::common::{
    Outcomes, PATIENCE, eventually, fresh, number_of, numbered, open, options, own_broker, receive,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_or_freezes_loses_nothing_that_was_acknowledged() {
    let Some(broker) = own_broker().await else { return };
    let mut config = fresh(broker.address(), "faults");
    config.delivery_timeout_ms = 60_000;
    let queue = open(config.clone()).await;
    let outcomes = Outcomes::new();
    let publisher = queue.publisher(outcomes.clone()).await.unwrap();
    let mut subscriber = queue.subscriber(options(queue.config())).await.unwrap();

    // Restarted twice (by SIGKILL, then in order) and frozen once while messages go out.
    let mut sent = 0;
    for fault in 0..3 {
        for _ in 0..500 {
            let _ = publisher.publish(numbered(sent), Token(sent as u64)).await.unwrap();
            sent += 1;
        }
        match fault {
            0 => {
                broker.kill().await.unwrap();
                for _ in 0..200 {
                    let _ = publisher.publish(numbered(sent), Token(sent as u64)).await.unwrap();
                    sent += 1;
                }
                broker.restart().await.unwrap();
            }
            1 => broker.restart().await.unwrap(),
            _ => {
                broker.pause().await.unwrap();
                for _ in 0..200 {
                    let _ = publisher.publish(numbered(sent), Token(sent as u64)).await.unwrap();
                    sent += 1;
                }
                assert!(publisher.flush(Duration::from_millis(300)).await > 0, "a frozen broker answered");
                broker.resume().await.unwrap();
            }
        }
    }
    assert_eq!(publisher.flush(PATIENCE * 2).await, 0);
    assert_eq!(outcomes.len(), sent);
    assert_eq!(outcomes.count(Outcome::Acknowledged), sent, "each was tried again until it was there");

    // The producer is idempotent, so none is there twice; what came before a restart and was answered
    // after it may come again.
    let mut seen = BTreeSet::new();
    let mut twice = 0;
    while seen.len() < sent {
        let delivery = receive(&mut subscriber).await;
        twice += usize::from(!seen.insert(number_of(&delivery)));
        let _ = delivery.ack().await;
    }
    assert_eq!(twice, 0, "nothing was delivered before the end, so nothing came again");
    assert!(queue.statistics().reconnects > 0, "{:?}", queue.statistics());

    // Frozen for longer than the delivery time-out: nobody can say what became of what was sent.
    config.delivery_timeout_ms = 1_500;
    config.request_timeout_ms = 1_000;
    let impatient = open(config).await;
    let outcomes = Outcomes::new();
    let publisher = impatient.publisher(outcomes.clone()).await.unwrap();
    let _ = publisher.publish(numbered(0), Token(0)).await.unwrap();
    assert_eq!(publisher.flush(PATIENCE).await, 0);
    broker.pause().await.unwrap();
    let _ = publisher.publish(numbered(1), Token(1)).await.unwrap();
    eventually("an outcome", async || outcomes.len(), |count| *count == 2).await;
    broker.resume().await.unwrap();
    assert_eq!(outcomes.of(1), Some(Outcome::Unknown(UnknownReason::TimedOut)));

    // Closing while the broker is gone ends at its deadline and leaves no message without an outcome.
    let (outcomes, publisher) = {
        let outcomes = Outcomes::new();
        let publisher = queue.publisher(outcomes.clone()).await.unwrap();
        (outcomes, publisher)
    };
    broker.kill().await.unwrap();
    for number in 0..10 {
        let _ = publisher.publish(numbered(number), Token(number as u64)).await.unwrap();
    }
    let error = queue.close(Duration::from_secs(1)).await.unwrap_err().to_string();
    assert!(error.contains("10 messages unanswered"), "{error}");
    eventually("outcomes after close", async || outcomes.len(), |count| *count == 10).await;
    assert_eq!(outcomes.count(Outcome::Acknowledged), 0);
    broker.stop(PATIENCE).await.unwrap();
}
