//! Chains of stores: the first that has a feature serves all of it.

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
    /// The schema of the feature's own table, whether or not it has rows now.
    pub(super) async fn own_table(&self, key: &FeatureKey) -> Result<Option<SchemaRef>> {
        self.inner.backend.schema(key).await
    }

    /// Whether the own table counts although fallbacks may have rows: a delete may have emptied it, but one that was
    /// created beforehand and never filled says nothing.
    pub(super) async fn has_held_rows(&self, key: &FeatureKey) -> Result<bool> {
        match self.inner.backend.has_held_rows(key).await {
            // Dropped between the two looks.
            Err(Error::FeatureNotFound { .. }) => Ok(false),
            held => held,
        }
    }

    /// The store that serves a feature, found in the order of the fallback list, each with its own fallbacks. A table
    /// that has never held a row serves it only where no other store has one that has.
    pub(super) async fn serving(&self, key: &FeatureKey) -> Result<Option<FeatureSource>> {
        let mut never_filled = None;
        let source = self.serving_beyond(key, &mut BTreeSet::new(), &mut never_filled).await?;
        Ok(source.or(never_filled))
    }

    /// The same, without the stores that have been searched: many ways may lead to one store.
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
                // Without fallbacks nothing else can answer, so the question need not be asked.
                if self.inner.fallbacks.is_empty() && searched.len() == 1 || self.has_held_rows(key).await? {
                    return Ok(Some(own));
                }
                never_filled.get_or_insert(own);
            }
            for fallback in &self.inner.fallbacks {
                let store = fallback.open().await.map_err(|error| self.as_fallback(fallback, error))?;
                self.check_hash(&store)?;
                if let Some(source) = store.serving_beyond(key, searched, never_filled).await? {
                    tracing::info!(feature = %key, store = self.name(), fallback = source.store.name(), "a fallback store answers");
                    return Ok(Some(source));
                }
            }
            Ok(None)
        }
        .boxed()
    }

    /// Changes the hint of a missing store, which says how to create it: a fallback is never written.
    fn as_fallback(&self, fallback: &Fallback, error: Error) -> Error {
        match error {
            Error::LocationNotFound { location, source, .. } => {
                let hint = format!(
                    "it is that of store `{name}`, which `{}` falls back on and never writes to; open `{name}` itself for \
                     writing to create it, or take it out of `fallback_stores`",
                    self.name(),
                    name = fallback.name(),
                );
                Error::LocationNotFound { location, hint, source }
            }
            error => error,
        }
    }

    /// The names of this store and all its fallbacks, in the order in which they are searched.
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

    /// What tells one open store from another.
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.inner).addr()
    }

    pub(super) async fn not_found(&self, key: &FeatureKey) -> Error {
        Error::FeatureNotFound { feature: key.clone(), searched: self.chain().await }
    }

    /// Stores that hash differently cannot compare their rows.
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
