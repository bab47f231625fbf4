//! What rows have to satisfy to be taken.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::key::FeatureKey;
use crate::store::{BatchCheck, MetadataStore};

/// For each feature that was put the columns that its table has, and those that earlier batches have brought.
#[derive(Default)]
pub(super) struct Checks {
    known: Mutex<BTreeMap<FeatureKey, BatchCheck>>,
}

impl Checks {
    fn known(&self) -> MutexGuard<'_, BTreeMap<FeatureKey, BatchCheck>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks up the table of a feature that has not been put before.
    pub(super) async fn prepare(&self, store: &MetadataStore, key: &FeatureKey) -> Result<()> {
        if !self.known().contains_key(key) {
            let check = store.batch_check(key).await?;
            self.known().entry(key.clone()).or_insert(check);
        }
        Ok(())
    }

    /// The batches in the types of their tables, or the reason why one of them could not be written. Where one is
    /// refused, none has left a trace.
    pub(super) fn accept(
        &self,
        store: &MetadataStore,
        batches: Vec<(FeatureKey, RecordBatch)>,
    ) -> Result<Vec<(FeatureKey, RecordBatch)>> {
        let mut known = self.known();
        let mut grown: BTreeMap<FeatureKey, BatchCheck> = BTreeMap::new();
        let mut accepted = Vec::with_capacity(batches.len());
        for (key, batch) in batches {
            let Some(check) = grown.get(&key).or_else(|| known.get(&key)) else {
                // Forgotten since it was prepared, because a flush has failed; the next flush checks again.
                accepted.push((key, batch));
                continue;
            };
            let (batch, after) = check.accept(store, &batch)?;
            grown.extend(after.map(|after| (key.clone(), after)));
            accepted.push((key, batch));
        }
        known.extend(grown);
        Ok(accepted)
    }

    /// Forgets the tables: they may have been changed by others.
    pub(super) fn forget(&self) {
        self.known().clear();
    }
}
