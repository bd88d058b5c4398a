//! Errors of the queue traits.

use std::time::Duration;

/// The client did not accept a message: nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// At its bound, and the policy is to refuse. Retry later.
    #[error("queue is full")]
    Full,
    /// Closed; no retry will help.
    #[error("queue is closed")]
    Closed,
    /// Over the backend's limit.
    #[error("payload of {size} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// What the message measures.
        size: usize,
        /// What the backend takes.
        limit: usize,
    },
    /// The message cannot be written in the backend's format (for instance a header name with a colon).
    #[error("message cannot be sent to {backend}: {reason}")]
    Invalid {
        /// Which backend.
        backend: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The client itself failed.
    #[error("{backend} client failed: {reason}")]
    Client {
        /// Which backend.
        backend: &'static str,
        /// What it said.
        reason: String,
    },
}

/// Why no further message comes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The queue was closed and everything in it was handed out.
    #[error("queue is closed")]
    Closed,
    /// The client failed and will not recover by itself.
    #[error("{backend} subscription failed: {reason}")]
    Client {
        /// Which backend.
        backend: &'static str,
        /// What it said.
        reason: String,
    },
}

/// An answer to a delivery did not reach the backend, so the message may be delivered again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{backend} did not take the answer: {reason}")]
pub struct AckError {
    /// Which backend.
    pub backend: &'static str,
    /// What it said.
    pub reason: String,
}

/// A queue could not be opened, asked or closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// A setting is impossible; nothing was started.
    #[error("{backend} setting `{setting}`: {reason}")]
    Setting {
        /// Which backend.
        backend: &'static str,
        /// Which setting.
        setting: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// The server did not answer in time.
    #[error("{backend} at {address} did not answer within {waited:?}: {reason}")]
    Unreachable {
        /// Which backend.
        backend: &'static str,
        /// Where it was looked for.
        address: String,
        /// How long.
        waited: Duration,
        /// The last thing that was heard.
        reason: String,
    },
    /// Something of this name is there with other settings; it was left as it is.
    #[error("{backend} `{name}` exists with other settings: {differences}")]
    Clash {
        /// Which backend.
        backend: &'static str,
        /// The stream or topic.
        name: String,
        /// Each setting that differs: what is there and what was wanted.
        differences: String,
    },
    /// The server refused, or the client failed.
    #[error("{backend}: {reason}")]
    Failed {
        /// Which backend.
        backend: &'static str,
        /// What was said.
        reason: String,
    },
    /// The queue was closed before.
    #[error("{0} queue is closed")]
    Closed(&'static str),
    /// Closing took longer than allowed; it is closed all the same.
    #[error("{backend} closed at its deadline with {outstanding} messages unanswered")]
    CloseDeadline {
        /// Which backend.
        backend: &'static str,
        /// Messages without an outcome or without a consumer's answer.
        outstanding: u64,
    },
}
