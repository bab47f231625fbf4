//! The impact of other definitions, before they are deployed.

use futures::TryStreamExt;

use crate::error::{Error, Result};
use crate::graph::{ChangeKind, FeatureChange, FeatureGraph};
use crate::key::FeatureKey;

use super::MetadataStore;

/// The impact of a change of one feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureImpact {
    /// What differs.
    pub change: FeatureChange,
    /// The number of its samples in the store, or in the fallback that serves it, under the store's own definitions.
    pub rows: u64,
    /// The number of those that have to be made again: all of them if its feature version changes, otherwise none.
    pub outdated: u64,
}

impl MetadataStore {
    /// Returns what other definitions would change, feature by feature: which of them differ from those of this store's
    /// graph, and how many samples would have to be made again. Nothing is changed.
    ///
    /// # Errors
    /// The errors of the backends.
    pub async fn impact(&self, later: &FeatureGraph) -> Result<Vec<FeatureImpact>> {
        let mut impacts = Vec::new();
        for change in later.changes_since(self.graph()) {
            let rows = match change.kind {
                ChangeKind::Added => 0,
                _ => self.count(&change.feature).await?,
            };
            let outdated = if change.kind == ChangeKind::Recomputed { rows } else { 0 };
            impacts.push(FeatureImpact { change, rows, outdated });
        }
        Ok(impacts)
    }

    /// Counts the samples of a feature; none if no store has it.
    async fn count(&self, key: &FeatureKey) -> Result<u64> {
        let rows = match self.read(key).columns(&self.plan(key)?.spec.id_columns).await {
            Err(Error::FeatureNotFound { .. }) => return Ok(0),
            rows => rows?,
        };
        rows.try_fold(0, |count, batch| std::future::ready(Ok(count + batch.num_rows() as u64))).await
    }
}
