//! What an increment was computed from.

use std::fmt;

/// What an increment was computed from. The rows of the increment are the same in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// All rows of its tables.
    AllRows {
        /// Why a checkpoint was not enough; `None` if there was none.
        reason: Option<String>,
    },
    /// The rows of the samples that may have changed since a checkpoint.
    Changes {
        /// The number of their keys.
        keys: usize,
    },
    /// No row: no table has changed since the feature was up to date.
    Unchanged,
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllRows { reason: None } => f.write_str("all rows"),
            Self::AllRows { reason: Some(reason) } => write!(f, "all rows, because {reason}"),
            Self::Changes { keys: 1 } => f.write_str("the 1 key that may have changed"),
            Self::Changes { keys } => write!(f, "the {keys} keys that may have changed"),
            Self::Unchanged => f.write_str("no row, because no table has changed"),
        }
    }
}
