//! The checkpoints of an open store: what was resolved before is not read again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::checkpoint::{Checkpoint, CheckpointDirectory};
use crate::key::FeatureKey;

/// The limit of the bytes of keys that a store remembers.
const MOST_BYTES: usize = 64 << 20;
/// The number of checkpoints that a store remembers.
const MOST_ENTRIES: usize = 1_000;

/// The last checkpoint of each feature and set of options, and the directory that keeps them for other processes.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    entries: Mutex<Entries>,
    directory: Option<Arc<CheckpointDirectory>>,
}

#[derive(Debug, Default)]
struct Entries {
    by_use: HashMap<(FeatureKey, String), (u64, Checkpoint)>,
    /// The number of uses.
    uses: u64,
    bytes: usize,
}

impl Remembered {
    pub(super) fn new(directory: Option<Arc<CheckpointDirectory>>) -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), directory })
    }

    /// Returns the last checkpoint of a feature with a definition.
    pub(super) async fn find(&self, feature: &FeatureKey, definition: &str) -> Option<Checkpoint> {
        let found = self.with_entries(|entries| entries.find(feature, definition));
        match (found, &self.directory) {
            (None, Some(directory)) => directory.load(feature, definition).await,
            (found, _) => found,
        }
    }

    /// Remembers the checkpoint of an increment, in place of an earlier one.
    pub(super) async fn keep(&self, checkpoint: &Checkpoint) {
        self.with_entries(|entries| entries.insert(checkpoint.clone()));
        if let Some(directory) = &self.directory {
            directory.save(checkpoint).await;
        }
    }

    fn with_entries<T>(&self, work: impl FnOnce(&mut Entries) -> T) -> T {
        work(&mut self.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Entries {
    fn find(&mut self, feature: &FeatureKey, definition: &str) -> Option<Checkpoint> {
        let (last_use, checkpoint) = self.by_use.get_mut(&(feature.clone(), definition.to_owned()))?;
        self.uses += 1;
        *last_use = self.uses;
        Some(checkpoint.clone())
    }

    fn insert(&mut self, checkpoint: Checkpoint) {
        let key = (checkpoint.feature().clone(), checkpoint.contents().definition.clone());
        self.remove(&key);
        if checkpoint.bytes() > MOST_BYTES {
            return;
        }
        self.uses += 1;
        self.bytes += checkpoint.bytes();
        self.by_use.insert(key, (self.uses, checkpoint));
        while self.bytes > MOST_BYTES || self.by_use.len() > MOST_ENTRIES {
            let oldest = self.by_use.iter().min_by_key(|(_, (last_use, _))| *last_use).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { return };
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &(FeatureKey, String)) {
        if let Some((_, removed)) = self.by_use.remove(key) {
            self.bytes -= removed.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::Schema;

    use super::*;
    use crate::checkpoint::Contents;

    fn checkpoint(feature: &str, keys: usize) -> Checkpoint {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![0; keys]));
        let empty = Arc::new(Schema::empty());
        Checkpoint::new(Contents {
            feature: feature.parse().expect("a key"),
            definition: "d".to_owned(),
            marks: Vec::new(),
            serving: Vec::new(),
            open: vec![RecordBatch::try_from_iter([("id", ids)]).expect("a batch")],
            expected: empty.clone(),
            orphaned: empty,
        })
    }

    #[tokio::test]
    async fn the_least_recently_used_are_forgotten() {
        let remembered = Remembered::default();
        let third = MOST_BYTES / 3 / size_of::<i64>();
        let find = async |name: &str| remembered.find(&name.parse().expect("a key"), "d").await.is_some();
        for name in ["a", "b"] {
            remembered.keep(&checkpoint(name, third - 1_000)).await;
        }
        assert!(find("a").await);
        for name in ["c", "d", "e"] {
            remembered.keep(&checkpoint(name, third / 2)).await;
        }
        let found = [find("a").await, find("b").await, find("c").await, find("d").await, find("e").await];
        assert_eq!(found, [true, false, true, true, true]);
        remembered.keep(&checkpoint("a", 10 * third)).await;
        assert!(!find("a").await, "it is larger than all that may be remembered");
    }
}
