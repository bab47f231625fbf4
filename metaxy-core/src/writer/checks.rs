//! Checks rows before they are accepted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::key::FeatureKey;
use crate::store::{BatchCheck, MetadataStore};

/// The columns of the table of each feature that was put, those of earlier batches included.
#[derive(Default)]
pub(super) struct Checks {
    known: Mutex<BTreeMap<FeatureKey, Arc<BatchCheck>>>,
    /// Lets one of many producers that begin at once read the schema.
    reading: tokio::sync::Mutex<()>,
}

impl Checks {
    fn known(&self) -> MutexGuard<'_, BTreeMap<FeatureKey, Arc<BatchCheck>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the schema of a feature that has not been put before.
    pub(super) async fn prepare(&self, store: &MetadataStore, key: &FeatureKey) -> Result<()> {
        if self.known().contains_key(key) {
            return Ok(());
        }
        let _turn = self.reading.lock().await;
        if !self.known().contains_key(key) {
            let check = store.batch_check(key).await?;
            self.known().insert(key.clone(), Arc::new(check));
        }
        Ok(())
    }

    /// Returns the batches in the types of their tables, or the reason why one of them could not be written. If one is
    /// refused, nothing of the others is remembered.
    pub(super) fn accept(
        &self,
        store: &MetadataStore,
        batches: Vec<(FeatureKey, RecordBatch)>,
    ) -> Result<Vec<(FeatureKey, RecordBatch)>> {
        if let Some(checks) = self.that_take_as_it_is(&batches) {
            let taken = batches.into_iter().zip(checks);
            return taken.map(|((key, batch), check)| Ok((key, check.take_as_it_is(store, batch)?))).collect();
        }
        let mut known = self.known();
        let mut grown: BTreeMap<FeatureKey, Arc<BatchCheck>> = BTreeMap::new();
        let mut accepted = Vec::with_capacity(batches.len());
        for (key, batch) in batches {
            let Some(check) = grown.get(&key).or_else(|| known.get(&key)) else {
                // Forgotten since it was prepared, because a flush has failed; the next flush checks again.
                accepted.push((key, batch));
                continue;
            };
            let (batch, after) = check.accept(store, &batch)?;
            grown.extend(after.map(|after| (key.clone(), Arc::new(after))));
            accepted.push((key, batch));
        }
        known.extend(grown);
        Ok(accepted)
    }

    /// Returns the check of each batch, if every batch has the schema of an earlier one: then no lock is needed.
    fn that_take_as_it_is(&self, batches: &[(FeatureKey, RecordBatch)]) -> Option<Vec<Arc<BatchCheck>>> {
        let known = self.known();
        let check = |(key, batch): &(FeatureKey, RecordBatch)| {
            known.get(key).filter(|check| check.takes_as_it_is(batch.schema_ref())).cloned()
        };
        batches.iter().map(check).collect()
    }

    /// Forgets the tables: other programs may have changed them.
    pub(super) fn forget(&self) {
        self.known().clear();
    }
}
