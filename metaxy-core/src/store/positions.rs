//! The positions of the tables of a feature, in every store that may serve them.

use std::collections::BTreeSet;

use futures::FutureExt;
use futures::future::{BoxFuture, try_join_all};

use crate::checkpoint::Mark;
use crate::error::Result;
use crate::key::FeatureKey;

use super::MetadataStore;

impl MetadataStore {
    /// Returns the positions of all tables from which a feature's increment is made; `None` if one cannot be told.
    pub(super) async fn marks(&self, key: &FeatureKey) -> Result<Option<Vec<Mark>>> {
        let deps = &self.plan(key)?.spec.deps;
        let inputs = try_join_all(deps.iter().map(|dep| self.input_marks(dep.feature())));
        let (own, inputs) = futures::try_join!(self.own_mark(key), inputs)?;
        let inputs: Option<Vec<_>> = inputs.into_iter().collect();
        Ok(inputs.zip(own).map(|(inputs, own)| inputs.into_iter().flatten().chain([own]).collect()))
    }

    /// Returns the backend and the location, by which a checkpoint recognizes the store.
    pub(super) fn place(&self) -> String {
        format!("{} at {}", self.inner.info.kind, self.inner.info.location)
    }

    async fn input_marks(&self, key: &FeatureKey) -> Result<Option<Vec<Mark>>> {
        let mut found = Vec::new();
        Ok(self.add_marks(key, &mut BTreeSet::new(), &mut found).await?.then_some(found))
    }

    /// Adds the positions of a table in this store and its fallbacks, in each once. Returns whether all can be told: a
    /// store that cannot be opened now may serve the table later.
    fn add_marks<'a>(
        &'a self,
        key: &'a FeatureKey,
        seen: &'a mut BTreeSet<usize>,
        found: &'a mut Vec<Mark>,
    ) -> BoxFuture<'a, Result<bool>> {
        async move {
            if !seen.insert(self.identity()) {
                return Ok(true);
            }
            let Some(mark) = self.own_mark(key).await? else { return Ok(false) };
            found.push(mark);
            for fallback in &self.inner.fallbacks {
                let Ok(store) = fallback.open().await else { return Ok(false) };
                if !store.add_marks(key, seen, found).await? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        .boxed()
    }

    /// Returns the position of a table in this store.
    async fn own_mark(&self, key: &FeatureKey) -> Result<Option<Mark>> {
        let position = self.inner.backend.position(key).await?;
        Ok(position.map(|position| Mark { feature: key.clone(), store: self.place(), position }))
    }
}
