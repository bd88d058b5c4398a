use std::sync::Mutex;

use futures_util::FutureExt;

use super::*;
use crate::queue::{RejectReason, UnknownReason};

/// A publisher that accepts and keeps the tokens, for the test to answer.
#[derive(Clone)]
struct Asked {
    tokens: Arc<Mutex<Vec<Token>>>,
    accepts: usize,
}

impl Publisher for Asked {
    async fn publish(&self, _: Message, token: Token) -> Result<Submitted, PublishError> {
        let mut tokens = self.tokens.lock().unwrap();
        if tokens.len() >= self.accepts {
            return Err(PublishError::Full);
        }
        tokens.push(token);
        Ok(Submitted::Pending)
    }

    async fn publish_batch(&self, batch: &mut VecDeque<(Message, Token)>) -> Result<usize, PublishError> {
        let mut count = 0;
        while let Some((message, token)) = batch.pop_front() {
            if let Err(error) = self.publish(message.clone(), token).await {
                batch.push_front((message, token));
                return if count == 0 { Err(error) } else { Ok(count) };
            }
            count += 1;
        }
        Ok(count)
    }

    async fn flush(&self, _: Duration) -> usize {
        0
    }
}

fn asked(slots: u32, accepts: usize) -> (Producer<Asked>, Arc<Mutex<Vec<Token>>>) {
    let tokens = Arc::new(Mutex::new(Vec::new()));
    let publisher = Asked { tokens: Arc::clone(&tokens), accepts };
    (Producer { publisher, slots: Arc::new(Slots::new(slots)) }, tokens)
}

fn submit(producer: &Producer<Asked>) -> Acknowledgement {
    producer.publish(Message::new("x")).now_or_never().expect("a slot is free").expect("it accepts")
}

#[test]
fn every_outcome_arrives_as_it_was_reported() {
    let (producer, tokens) = asked(8, 100);
    for outcome in [
        Outcome::Acknowledged,
        Outcome::Rejected(RejectReason::Full),
        Outcome::Rejected(RejectReason::TooLarge),
        Outcome::Rejected(RejectReason::Refused),
        Outcome::Rejected(RejectReason::NotSent),
        Outcome::Unknown(UnknownReason::TimedOut),
        Outcome::Unknown(UnknownReason::Disconnected),
        Outcome::Unknown(UnknownReason::Partial),
    ] {
        let mut pending = submit(&producer);
        assert_eq!((&mut pending).now_or_never(), None);
        producer.slots.complete(tokens.lock().unwrap().pop().unwrap(), outcome);
        assert_eq!(pending.now_or_never(), Some(outcome));
    }
    assert_eq!(producer.in_flight(), 0);
}

#[tokio::test]
async fn publishing_waits_for_a_slot_and_an_outcome_frees_one() {
    let (producer, tokens) = asked(2, 100);
    let (first, _second) = (submit(&producer), submit(&producer));
    let mut third = Box::pin(producer.publish(Message::new("third")));
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    producer.slots.complete(tokens.lock().unwrap()[0], Outcome::Acknowledged);
    assert_eq!(first.await, Outcome::Acknowledged);
    drop(third.await.unwrap());
    assert_eq!(producer.in_flight(), 2);
}

#[test]
fn a_dropped_acknowledgement_keeps_its_slot_until_the_answer_comes() {
    let (producer, tokens) = asked(1, 100);
    drop(submit(&producer));
    assert_eq!(producer.in_flight(), 1);
    producer.slots.complete(tokens.lock().unwrap()[0], Outcome::Acknowledged);
    assert_eq!(producer.in_flight(), 0);

    let answered = submit(&producer);
    producer.slots.complete(tokens.lock().unwrap()[1], Outcome::Acknowledged);
    drop(answered);
    assert_eq!(producer.in_flight(), 0);
}

#[test]
fn an_answer_to_an_earlier_message_of_a_slot_is_ignored() {
    let (producer, tokens) = asked(1, 100);
    let first = submit(&producer);
    let late = tokens.lock().unwrap()[0];
    producer.slots.complete(late, Outcome::Acknowledged);
    assert_eq!(first.now_or_never(), Some(Outcome::Acknowledged));
    let mut second = submit(&producer);
    producer.slots.complete(late, Outcome::Rejected(RejectReason::Refused));
    assert_eq!((&mut second).now_or_never(), None);
    producer.slots.complete(Token(u64::MAX), Outcome::Acknowledged);
    assert_eq!((&mut second).now_or_never(), None);
}

#[test]
fn a_refused_message_takes_no_slot() {
    let (producer, _) = asked(4, 0);
    let refused = producer.publish(Message::new("x")).now_or_never().unwrap();
    assert!(matches!(refused, Err(PublishError::Full)));
    assert_eq!(producer.in_flight(), 0);
}

#[test]
fn a_batch_hands_over_what_has_slots_and_is_accepted_and_keeps_the_rest_in_order() {
    let (producer, tokens) = asked(4, 3);
    let mut batch: VecDeque<Message> = (0..6).map(|n| Message::new(format!("{n}"))).collect();
    let mut pending = Vec::new();
    let accepted = producer.publish_batch(&mut batch, &mut pending).now_or_never().unwrap();
    assert_eq!(accepted, Ok(3));
    assert_eq!(pending.len(), 3);
    assert_eq!(producer.in_flight(), 3);
    let left: Vec<_> = batch.iter().map(|message| message.payload.clone()).collect();
    assert_eq!(left, ["3", "4", "5"]);
    let refused = producer.publish_batch(&mut batch, &mut pending).now_or_never().unwrap();
    assert_eq!(refused, Err(PublishError::Full));
    assert_eq!((batch.len(), pending.len(), producer.in_flight()), (3, 3, 3));
    for token in tokens.lock().unwrap().iter() {
        producer.slots.complete(*token, Outcome::Acknowledged);
    }
    for acknowledgement in pending {
        assert_eq!(acknowledgement.now_or_never(), Some(Outcome::Acknowledged));
    }
    assert_eq!(producer.in_flight(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_another_thread_wake_their_own_message() {
    const COUNT: u64 = 20_000;
    let (producer, tokens) = asked(16, usize::MAX);
    let slots = Arc::clone(&producer.slots);
    let answers = std::thread::spawn(move || {
        let mut answered = 0;
        while answered < COUNT {
            for token in std::mem::take(&mut *tokens.lock().unwrap()) {
                slots.complete(token, Outcome::Acknowledged);
                answered += 1;
            }
            std::thread::yield_now();
        }
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let producer = producer.clone();
        tasks.spawn(async move {
            for number in 0..COUNT / 4 {
                let pending = producer.publish(Message::new("x")).await.unwrap();
                if number % 3 == 0 {
                    drop(pending);
                } else {
                    assert_eq!(pending.await, Outcome::Acknowledged);
                }
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    answers.join().unwrap();
    assert_eq!(producer.in_flight(), 0);
}
