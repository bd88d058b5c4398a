//! Messages that some child has not answered yet: a bounded table, one per publisher.
//!
//! A child's token is a place in the table and the place's generation, so an answer that comes after the
//! message was given up changes nothing. The lock is held for a few loads and stores; outcomes are reported
//! outside it.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::counters::Counters;
use super::health::{Health, Plan};
use super::strategy::{Answers, Strategy};
use super::{Partial, Partials};
use crate::message::MessageId;
use crate::queue::{Completions, Outcome, PublishError, Submitted, Token, UnknownReason};

#[derive(Debug)]
struct Entry {
    generation: u32,
    /// None: free.
    message: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    token: Token,
    id: MessageId,
    answers: Answers,
    /// The children are being handed the message; no outcome is reported yet.
    handing: bool,
    decided: bool,
    /// When it was taken in, in turns of the sweeper.
    turn: u64,
}

#[derive(Debug)]
struct Places {
    entries: Vec<Entry>,
    free: Vec<u32>,
    undecided: usize,
    turn: u64,
}

/// What is to be told once the lock is open.
#[derive(Default)]
struct News {
    outcome: Option<(Token, Outcome)>,
    partial: Option<(Token, MessageId, Answers)>,
    freed: bool,
    settled: bool,
}

pub(super) struct Table {
    places: Mutex<Places>,
    /// As many permits as there are free places.
    permits: Semaphore,
    /// Told when nothing is undecided.
    settled: Notify,
    children: usize,
    strategy: Strategy,
    completions: Arc<dyn Completions>,
    counters: Arc<Counters>,
    health: Arc<Health>,
    partials: Arc<OnceLock<Arc<dyn Partials>>>,
}

/// What every table of a composite shares.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) children: usize,
    pub(super) strategy: Strategy,
    pub(super) counters: Arc<Counters>,
    pub(super) health: Arc<Health>,
    pub(super) partials: Arc<OnceLock<Arc<dyn Partials>>>,
}

impl Table {
    pub(super) fn new(places: u32, common: Common, completions: Arc<dyn Completions>) -> Self {
        let Common { children, strategy, counters, health, partials } = common;
        Self {
            places: Mutex::new(Places {
                entries: (0..places).map(|_| Entry { generation: 0, message: None }).collect(),
                free: (0..places).rev().collect(),
                undecided: 0,
                turn: 0,
            }),
            permits: Semaphore::new(places as usize),
            settled: Notify::new(),
            children,
            strategy,
            completions,
            counters,
            health,
            partials,
        }
    }

    pub(super) fn completions(&self) -> &Arc<dyn Completions> {
        &self.completions
    }

    /// Waits for a place, and keeps it for a message that is about to be handed to the children.
    pub(super) async fn reserve(&self, token: Token, id: MessageId, plan: Plan) -> Token {
        self.permits.acquire().await.expect("the semaphore of places is never closed").forget();
        let mut places = self.places.lock();
        let places = &mut *places;
        let index = places.free.pop().expect("a permit stands for a free place");
        let entry = &mut places.entries[index as usize];
        entry.generation = entry.generation.wrapping_add(1);
        entry.message = Some(Waiting {
            token,
            id,
            answers: Answers::new(self.children, plan.tried, plan.probes),
            handing: true,
            decided: false,
            turn: places.turn,
        });
        places.undecided += 1;
        Token((u64::from(entry.generation) << 32) | u64::from(index))
    }

    /// Takes one child's answer to the message at `place`.
    pub(super) fn answer(&self, place: Token, child: usize, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged => self.health.up(child),
            Outcome::Unknown(UnknownReason::TimedOut | UnknownReason::Disconnected) => {
                self.health.down(child);
            }
            Outcome::Unknown(UnknownReason::Partial) | Outcome::Rejected(_) => {}
        }
        let news = self.change(place, |message| {
            message.answers.take(child, outcome);
        });
        if let Some((_, news)) = news {
            self.tell(news);
        }
    }

    /// All children were handed the message, and `refusal` is the first error if every one refused it.
    pub(super) fn handed(
        &self,
        place: Token,
        refusal: Option<PublishError>,
    ) -> Result<Submitted, PublishError> {
        if let Some(error) = refusal {
            self.give_up(place);
            self.counters.refused.add();
            return Err(error);
        }
        self.counters.accepted.add();
        let Some(((), mut news)) = self.change(place, |message| message.handing = false) else {
            return Ok(Submitted::Pending);
        };
        let at_once = matches!(news.outcome, Some((_, Outcome::Acknowledged)));
        if at_once {
            news.outcome = None;
            self.counters.acknowledged.add();
        }
        self.tell(news);
        Ok(if at_once { Submitted::Acknowledged } else { Submitted::Pending })
    }

    /// Forgets the message at `place` without an outcome.
    pub(super) fn give_up(&self, place: Token) {
        let (index, generation) = split(place);
        let mut places = self.places.lock();
        let entry = &mut places.entries[index];
        if entry.generation != generation || entry.message.is_none() {
            return;
        }
        let message = entry.message.take();
        let undecided = message.as_ref().is_some_and(|message| !message.decided);
        places.undecided -= usize::from(undecided);
        let settled = undecided && places.undecided == 0;
        places.free.push(index_of(place));
        drop(places);
        self.permits.add_permits(1);
        if settled {
            self.settled.notify_waiters();
        }
    }

    /// Changes the message at `place`, if it is still there, and decides anew.
    fn change<R>(&self, place: Token, change: impl FnOnce(&mut Waiting) -> R) -> Option<(R, News)> {
        let (index, generation) = split(place);
        let mut places = self.places.lock();
        let places = &mut *places;
        let entry = places.entries.get_mut(index).filter(|entry| entry.generation == generation)?;
        let message = entry.message.as_mut()?;
        let result = change(message);
        let mut news = News::default();
        if message.handing {
            return Some((result, news));
        }
        if !message.decided
            && let Some(outcome) = message.answers.decide(self.strategy)
        {
            message.decided = true;
            places.undecided -= 1;
            news.settled = places.undecided == 0;
            news.outcome = Some((message.token, outcome));
        }
        if message.answers.pending.is_empty() {
            if let Some(message) = entry.message.take()
                && message.answers.is_partial()
            {
                news.partial = Some((message.token, message.id, message.answers));
            }
            places.free.push(index_of(place));
            news.freed = true;
        }
        Some((result, news))
    }

    fn tell(&self, news: News) {
        if news.freed {
            self.permits.add_permits(1);
        }
        if let Some((token, outcome)) = news.outcome {
            match outcome {
                Outcome::Acknowledged => self.counters.acknowledged.add(),
                Outcome::Rejected(_) => self.counters.rejected.add(),
                Outcome::Unknown(_) => self.counters.unknown.add(),
            }
            self.completions.complete(token, outcome);
        }
        if let (Some((token, id, answers)), Some(partials)) = (news.partial, self.partials.get()) {
            partials.partial(&Partial { token, id, answers });
        }
        if news.settled {
            self.settled.notify_waiters();
        }
    }

    /// One turn of the clock: children that have not answered for `limit` turns are taken for down.
    pub(super) fn sweep(&self, limit: u64) {
        let overdue: Vec<(Token, Answers)> = {
            let mut places = self.places.lock();
            places.turn += 1;
            let turn = places.turn;
            let late = |message: &Waiting| !message.handing && turn - message.turn > limit;
            let entries = places.entries.iter().enumerate();
            entries
                .filter_map(|(index, entry)| {
                    let message = entry.message.as_ref().filter(|message| late(message))?;
                    let place = Token((u64::from(entry.generation) << 32) | index as u64);
                    Some((place, message.answers))
                })
                .collect()
        };
        for (place, answers) in overdue {
            for child in answers.pending.iter() {
                self.answer(place, child, Outcome::Unknown(UnknownReason::TimedOut));
            }
        }
    }

    /// Waits until nothing is undecided.
    pub(super) async fn settle(&self) {
        loop {
            let mut settled = std::pin::pin!(self.settled.notified());
            settled.as_mut().enable();
            if self.undecided() == 0 {
                return;
            }
            settled.await;
        }
    }

    pub(super) fn undecided(&self) -> usize {
        self.places.lock().undecided
    }
}

#[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
fn index_of(place: Token) -> u32 {
    place.0 as u32
}

#[expect(clippy::cast_possible_truncation, reason = "takes the halves")]
fn split(place: Token) -> (usize, u32) {
    (place.0 as u32 as usize, (place.0 >> 32) as u32)
}
