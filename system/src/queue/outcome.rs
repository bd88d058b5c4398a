//! The fate of a published message.

/// The caller's name for one published message, given back with its outcome. Unique among the messages
/// without an outcome, of one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token(pub u64);

/// What [`Publisher::publish`](super::Publisher::publish) knows when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Submitted {
    /// Already acknowledged; the completions sink will not be called.
    Acknowledged,
    /// Accepted by the client; the completions sink will be called once.
    Pending,
}

/// The fate of a message that the client accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The backend has it, to the configured durability.
    Acknowledged,
    /// The backend certainly does not have it.
    Rejected(RejectReason),
    /// No clear answer came. It may or may not be there: neither lost nor failed.
    Unknown(UnknownReason),
}

/// Why a backend refused a message for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// The queue is at its limit.
    #[error("the queue is full")]
    Full,
    /// Larger than the backend takes.
    #[error("the message is larger than the backend takes")]
    TooLarge,
    /// The backend answered with an error.
    #[error("the backend refused the message")]
    Refused,
    /// Never left the client, because it was closed or a transaction was aborted.
    #[error("the client was closed before the message left it")]
    NotSent,
}

/// Why there is no clear answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownReason {
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
    /// The connection broke before the answer came.
    #[error("the connection broke before the answer came")]
    Disconnected,
    /// Some children of a composite have it and others do not.
    #[error("only some of the children have it")]
    Partial,
}
