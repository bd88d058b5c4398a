//! How the program ends.

use std::process::ExitCode;

/// The program's exit codes. With several reasons, the first of violated, gate, missing, failed counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, and all verdicts hold.
    Done,
    /// The run failed.
    Failed,
    /// Bad usage, profile or configuration.
    Usage,
    /// A gate or threshold failed.
    Gate,
    /// Delivery or consistency was violated.
    Violated,
    /// A required subject could not be started.
    Missing,
    /// Stopped by a signal; what was measured is kept.
    Interrupted,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Gate => 3,
            Self::Violated => 4,
            Self::Missing => 5,
            Self::Interrupted => 130,
        }
    }

    /// The one that counts among several.
    pub fn worst(reasons: impl IntoIterator<Item = Self>) -> Self {
        let order = [Self::Interrupted, Self::Violated, Self::Gate, Self::Missing, Self::Failed, Self::Usage];
        let reasons: Vec<_> = reasons.into_iter().collect();
        order.into_iter().find(|exit| reasons.contains(exit)).unwrap_or(Self::Done)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_the_documented_one() {
        assert_eq!(Exit::worst([Exit::Failed, Exit::Missing, Exit::Gate, Exit::Violated]), Exit::Violated);
        assert_eq!(Exit::worst([Exit::Failed, Exit::Missing, Exit::Gate]), Exit::Gate);
        assert_eq!(Exit::worst([Exit::Failed, Exit::Missing]), Exit::Missing);
        assert_eq!(Exit::worst([]), Exit::Done);
    }
}
