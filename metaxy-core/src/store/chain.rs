//! Chains of stores: the first store that has a feature serves all of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::FutureExt;
use futures::future::BoxFuture;

use crate::error::{Error, Result};
use crate::graph::FeaturePlan;
use crate::key::FeatureKey;
use crate::plan::PlanTable;

use super::{Fallback, MetadataStore};

/// A feature's table in the store that serves it.
pub(super) struct FeatureSource {
    pub(super) store: MetadataStore,
    pub(super) schema: SchemaRef,
}

impl FeatureSource {
    pub(super) fn plan_table(&self, feature: &FeaturePlan) -> PlanTable {
        PlanTable { schema: self.schema.clone(), feature_version: feature.feature_version.clone() }
    }
}

impl MetadataStore {
    /// Returns the schema of the feature's own table, even if it has no rows.
    pub(super) async fn own_table(&self, key: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.inner.backend.schema(key).await
    }

    /// Returns whether the own table counts even if fallbacks have rows: a delete may have emptied it. A table that was
    /// created in advance and has never held a row does not count.
    pub(super) async fn has_held_rows(&self, key: &FeatureKey) -> Result<bool> {
        match self.inner.backend.has_held_rows(key).await {
            // The table was dropped in the time between.
            Err(Error::FeatureNotFound { .. }) => Ok(false),
            held => held,
        }
    }

    /// Returns the store that serves a feature: the fallbacks are searched depth first, in the order of their lists. A
    /// table that has never held a row serves the feature only if no other store has a table that has.
    pub(super) async fn serving(&self, key: &FeatureKey) -> Result<Option<FeatureSource>> {
        let mut never_filled = None;
        let source = self.serving_beyond(key, &mut BTreeSet::new(), &mut never_filled).await?;
        Ok(source.or(never_filled))
    }

    /// Searches the stores that are not in `searched`: several paths may lead to one store.
    fn serving_beyond<'a>(
        &'a self,
        key: &'a FeatureKey,
        searched: &'a mut BTreeSet<usize>,
        never_filled: &'a mut Option<FeatureSource>,
    ) -> BoxFuture<'a, Result<Option<FeatureSource>>> {
        async move {
            if !searched.insert(self.identity()) {
                return Ok(None);
            }
            if let Some(schema) = self.own_table(key).await? {
                let own = FeatureSource { store: self.clone(), schema };
                // Without fallbacks no other store can serve the feature, so one call to the backend is saved.
                if self.inner.fallbacks.is_empty() && searched.len() == 1 || self.has_held_rows(key).await? {
                    return Ok(Some(own));
                }
                never_filled.get_or_insert(own);
            }
            for fallback in &self.inner.fallbacks {
                let store = fallback.open().await.map_err(|error| self.as_fallback(fallback, error))?;
                self.check_hash(&store)?;
                if let Some(source) = store.serving_beyond(key, searched, never_filled).await? {
                    let (store, fallback) = (self.name(), source.store.name());
                    tracing::info!(feature = %key, store, fallback, "a fallback store serves the feature");
                    return Ok(Some(source));
                }
            }
            Ok(None)
        }
        .boxed()
    }

    /// Replaces the hint of a missing location, which says how to create it: a fallback is never written.
    fn as_fallback(&self, fallback: &Fallback, error: Error) -> Error {
        match error {
            Error::LocationNotFound { location, source, .. } => {
                let hint = format!(
                    "it is the location of store `{name}`, a fallback of `{}`, which never writes to it; open `{name}` \
                     itself for writing to create it, or remove it from `fallback_stores`",
                    self.name(),
                    name = fallback.name(),
                );
                Error::LocationNotFound { location, hint, source }
            }
            error => error,
        }
    }

    /// Returns the names of this store and all its fallbacks, in the order in which they are searched.
    async fn chain(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.collect_chain(&mut BTreeSet::new(), &mut names).await;
        names
    }

    fn collect_chain<'a>(&'a self, seen: &'a mut BTreeSet<usize>, names: &'a mut Vec<String>) -> BoxFuture<'a, ()> {
        async move {
            if !seen.insert(self.identity()) {
                return;
            }
            names.push(self.inner.name.clone());
            for fallback in &self.inner.fallbacks {
                match fallback.open().await {
                    Ok(store) => store.collect_chain(seen, names).await,
                    Err(_) => names.push(fallback.name().to_owned()),
                }
            }
        }
        .boxed()
    }

    /// Returns a number that is unique among open stores.
    pub(super) fn identity(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    pub(super) async fn not_found(&self, key: &FeatureKey) -> Error {
        Error::FeatureNotFound { feature: key.clone(), searched: self.chain().await }
    }

    /// Checks that the stores hash alike; otherwise their rows cannot be compared.
    pub(super) fn check_hash(&self, fallback: &MetadataStore) -> Result<()> {
        let (own, other) = (self.inner.hasher, fallback.inner.hasher);
        if own.algorithm() == other.algorithm() {
            return Ok(());
        }
        Err(Error::HashAlgorithmMismatch {
            store: self.inner.name.clone(),
            expected: own.algorithm(),
            fallback: fallback.inner.name.clone(),
            found: other.algorithm(),
            origin: None,
        })
    }
}
