//! Checkpoints: what an increment knew, so that a later one reads only what has changed since.
//!
//! A checkpoint is a cache. Without it an increment is computed from all rows, with the same result.

mod codec;
mod directory;

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

use crate::key::FeatureKey;
use crate::position::Position;

pub(crate) use directory::CheckpointDirectory;

/// The state of all tables of a feature when its increment was computed, and the samples that were in the increment.
///
/// An [`Increment`](crate::Increment) [carries](crate::Increment::checkpoint) one. With
/// [`since`](crate::store::ResolveRequest::since) the next resolve reads only rows that have come since and the samples
/// that they affect. [`to_bytes`](Checkpoint::to_bytes) and [`from_bytes`](Checkpoint::from_bytes) keep it across
/// processes; stores can do that [themselves](crate::store::StoreBuilder::checkpoints).
#[derive(Clone)]
pub struct Checkpoint(Arc<Contents>);

/// The contents of a checkpoint.
#[derive(Debug)]
pub(crate) struct Contents {
    pub(crate) feature: FeatureKey,
    /// A hash of the definitions and options that the increment was computed with.
    pub(crate) definition: String,
    /// The positions of all tables that took part, in every store that may serve them.
    pub(crate) marks: Vec<Mark>,
    /// The store that served each table.
    pub(crate) serving: Vec<Serving>,
    /// The keys of the rows of the increment; the batches of its kinds may differ in their types.
    pub(crate) open: Vec<RecordBatch>,
    /// The schemas of new and stale rows, and of orphaned ones.
    pub(crate) expected: SchemaRef,
    pub(crate) orphaned: SchemaRef,
}

/// The position of a table in one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub(crate) feature: FeatureKey,
    /// The backend and location of the store.
    pub(crate) store: String,
    pub(crate) position: Position,
}

/// The store that served a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Serving {
    pub(crate) feature: FeatureKey,
    pub(crate) store: String,
}

impl Checkpoint {
    pub(crate) fn new(contents: Contents) -> Self {
        Self(Arc::new(contents))
    }

    pub(crate) fn contents(&self) -> &Contents {
        &self.0
    }

    /// Returns the feature whose increment it belongs to.
    pub fn feature(&self) -> &FeatureKey {
        &self.0.feature
    }

    /// Returns the size in memory of the keys that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.0.open.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

impl Contents {
    /// Returns whether the increment was empty, with this definition and with all tables at these positions.
    pub(crate) fn is_empty_at(&self, definition: &str, marks: &[Mark]) -> bool {
        self.open.iter().all(|keys| keys.num_rows() == 0) && self.definition == definition && self.marks == marks
    }

    /// Returns the position of a table in a store.
    pub(crate) fn position(&self, feature: &FeatureKey, store: &str) -> Option<&Position> {
        position_in(&self.marks, feature, store)
    }
}

/// Returns the position of a table in a store; `None` if several stores of a chain have the same place, such as those of
/// one database with different prefixes.
pub(crate) fn position_in<'a>(marks: &'a [Mark], feature: &FeatureKey, store: &str) -> Option<&'a Position> {
    let mut found = marks.iter().filter(|mark| mark.feature == *feature && mark.store == store);
    let first = found.next()?;
    found.next().is_none().then_some(&first.position)
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let contents = &*self.0;
        f.debug_struct("Checkpoint")
            .field("feature", &contents.feature)
            .field("marks", &contents.marks)
            .field("open", &contents.open.iter().map(RecordBatch::num_rows).sum::<usize>())
            .finish_non_exhaustive()
    }
}
