//! What a producer does with one slot of the plan, in open and closed phases alike: build the message,
//! remember it, hand it over; and, on the other side, settle it when its outcome arrives.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use queuebench_system::message::{Message, MessageId};
use queuebench_system::queue::{
    Completions, Outcome, PublishError, Publisher, RejectReason, Submitted, Token,
};

use super::blocks::{Blocks, Lengths, Piece};
use super::in_flight::{InFlight, Sent};
use crate::clock::{self, Nanos};
use crate::envelope::{self, Envelope};
use crate::ledger::ProducerLedger;
use crate::plan::Plan;
use crate::profile::MessageIds;
use crate::recorder::{AckRecorder, Progress, SendRecorder};

/// The acknowledging side of one producer.
#[derive(Debug)]
pub(super) struct Settlement {
    pub(super) in_flight: InFlight,
    pub(super) progress: Progress,
    /// Locked by whichever thread learns of an outcome; there is one at a time, so it does not contend.
    pub(super) books: Mutex<Books>,
}

/// What is known of the messages of one producer.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) recorder: AckRecorder,
    pub(super) ledger: ProducerLedger,
}

impl Settlement {
    pub(super) fn new(capacity: u32, recorder: AckRecorder) -> Self {
        let books = Books { recorder, ledger: ProducerLedger::default() };
        Self { in_flight: InFlight::new(capacity), progress: Progress::default(), books: Mutex::new(books) }
    }

    fn settle(&self, message: Sent, outcome: Outcome, now: Nanos) {
        let phase = usize::from(message.phase);
        let mut books = self.books.lock();
        match outcome {
            Outcome::Acknowledged => {
                books.ledger.acknowledge(message.sequence);
                books.recorder.acknowledge(phase, message.due, message.sent, now);
                Progress::add(&self.progress.done, 1);
            }
            Outcome::Rejected(_) => {
                books.ledger.reject(message.sequence);
                books.recorder.reject(phase, now);
                Progress::add(&self.progress.failed, 1);
            }
            Outcome::Unknown(_) => {
                books.recorder.unknown[phase] += 1;
                Progress::add(&self.progress.unknown, 1);
            }
        }
    }
}

impl Completions for Settlement {
    fn complete(&self, token: Token, outcome: Outcome) {
        let slot = u32::try_from(token.0).expect("tokens are slots of our table");
        self.settle(self.in_flight.read(slot), outcome, clock::now());
        self.in_flight.free(slot);
    }
}

/// The sending side of one producer.
pub(super) struct Sender<P> {
    pub(super) id: u16,
    pub(super) publisher: P,
    pub(super) settlement: Arc<Settlement>,
    pub(super) recorder: SendRecorder,
    pub(super) sent: Arc<Progress>,
    plan: Arc<Plan>,
    trial_id: u64,
    message_ids: MessageIds,
    sequence: u64,
    blocks: Blocks,
}

/// One message to send.
pub(super) struct Due {
    pub(super) phase: u16,
    /// Place in the phase's plan.
    pub(super) slot: u64,
    /// When it is due; absent in a closed phase.
    pub(super) at: Option<Nanos>,
    /// Where it is remembered.
    pub(super) place: u32,
}

impl<P: Publisher> Sender<P> {
    pub(super) fn new(
        id: u16,
        publisher: P,
        settlement: Arc<Settlement>,
        sent: Arc<Progress>,
        plan: Arc<Plan>,
        recorder: SendRecorder,
        spec: &super::TrialSpec,
    ) -> Self {
        Self {
            id,
            publisher,
            settlement,
            recorder,
            sent,
            plan,
            trial_id: spec.trial_id,
            message_ids: spec.message_ids,
            sequence: 0,
            blocks: Blocks::default(),
        }
    }

    /// How many sequences were taken.
    pub(super) fn attempted(&self) -> u64 {
        self.sequence
    }

    /// Sends one message. A refusal is recorded; only a client that cannot go on is an error. Where the fate
    /// is known at once, the place is given back for the next message, or for
    /// [`free`](InFlight::free).
    pub(super) async fn send(&mut self, due: Due) -> Result<Option<u32>, PublishError> {
        let sequence = self.sequence;
        self.sequence += 1;
        let now = clock::now();
        // In a closed phase a message is due when it is sent.
        let at = due.at.unwrap_or(now);
        let message = self.build(&due, at, sequence);
        let sent = Sent { due: at, sent: now, sequence, phase: due.phase };
        self.settlement.in_flight.fill(due.place, sent);
        self.recorder.send(usize::from(due.phase), at, now);
        Progress::add(&self.sent.done, 1);
        match self.publisher.publish(message, Token(u64::from(due.place))).await {
            Ok(Submitted::Pending) => Ok(None),
            Ok(Submitted::Acknowledged) => {
                self.settlement.settle(sent, Outcome::Acknowledged, clock::now());
                Ok(Some(due.place))
            }
            Err(error) => {
                let reason = match error {
                    PublishError::Full => RejectReason::Full,
                    PublishError::TooLarge { .. } => RejectReason::TooLarge,
                    PublishError::Closed | PublishError::Invalid { .. } | PublishError::Client { .. } => {
                        RejectReason::NotSent
                    }
                };
                self.settlement.settle(sent, Outcome::Rejected(reason), clock::now());
                // A full queue is a result; all others would fail again for ever.
                if error == PublishError::Full { Ok(Some(due.place)) } else { Err(error) }
            }
        }
    }

    fn build(&mut self, due: &Due, at: Nanos, sequence: u64) -> Message {
        let phase = &self.plan.phases[usize::from(due.phase)];
        let body = phase.bodies.of_slot(due.slot);
        let key = phase.keys.of_slot(due.slot);
        let key_name = self.plan.keys.get(key as usize).map_or(&[][..], |name| name);
        let Piece { id: mut id_text, key: mut key_text, mut payload } = self.blocks.take(Lengths {
            id: if self.message_ids == MessageIds::Unique { ID_LEN } else { 0 },
            key: key_name.len(),
            payload: envelope::LEN + body.len(),
        });
        let id = match self.message_ids {
            MessageIds::None => MessageId::default(),
            MessageIds::Unique => {
                id_text.extend_from_slice(&message_id(self.trial_id, self.id, sequence));
                MessageId::from_utf8(id_text.freeze()).expect("hexadecimal digits are UTF-8")
            }
        };
        key_text.extend_from_slice(key_name);
        Envelope { trial_id: self.trial_id, sequence, due: at, key, producer: self.id, phase: due.phase }
            .seal(body, &mut payload);
        Message {
            id,
            key: if key_name.is_empty() { Bytes::new() } else { key_text.freeze() },
            payload: payload.freeze(),
            headers: Vec::new(),
        }
    }
}

const ID_LEN: usize = 36;

/// Sixteen digits of the trial, four of the producer, fourteen of the sequence, two dashes.
fn message_id(trial: u64, producer: u16, sequence: u64) -> [u8; ID_LEN] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; ID_LEN];
    let mut write = |range: std::ops::Range<usize>, mut value: u64| {
        for at in range.rev() {
            text[at] = DIGITS[usize::from(value.to_le_bytes()[0] & 15)];
            value >>= 4;
        }
    };
    write(0..16, trial);
    write(17..21, u64::from(producer));
    write(22..36, sequence);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_unique_and_readable() {
        let text = |t, p, s| String::from_utf8(message_id(t, p, s).to_vec()).unwrap();
        assert_eq!(text(0xabc, 1, 255), "0000000000000abc-0001-000000000000ff");
        assert_ne!(text(1, 2, 3), text(1, 3, 2));
    }
}
