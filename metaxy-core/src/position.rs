//! Positions: points in the history of a table, by which a store knows that nothing has changed.

use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// A point in the history of a table, known to the backend that gave it. If two positions of one table are equal, no row
/// of the table has changed between them, whoever may write to it. Positions that differ say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Position(String);

impl Position {
    /// Creates a position from the backend's own description of it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The position of a table that is not there.
    pub fn absent() -> Self {
        Self("absent".to_owned())
    }

    /// Returns the description.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns a random text, for positions that count from something which does not last, such as an open connection: with
/// it in front they never equal those of another one, in any process.
pub fn unrepeated() -> String {
    let random = || RandomState::new().hash_one(std::time::SystemTime::now());
    format!("{:016x}{:016x}", random(), random())
}
