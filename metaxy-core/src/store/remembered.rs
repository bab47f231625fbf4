//! Empty increments that an open store remembers: as long as no table has changed, they are the answer, and nothing is
//! read.
//!
//! Positions are asked only for a feature whose last increment was empty too, so that other resolves pay nothing.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, join_all};

use crate::key::FeatureKey;
use crate::plan::ResolveOptions;
use crate::position::Position;

use super::{Increment, MetadataStore};

/// What is known of features that were up to date, one entry for each.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<FeatureKey, UpToDate>>);

/// An empty increment.
#[derive(Clone, Debug)]
struct UpToDate {
    options: ResolveOptions,
    increment: Increment,
    /// The positions of the tables before they were read; `None` if they were not asked for.
    positions: Option<Vec<Position>>,
}

/// The positions of the tables before a resolve, and the answer if they have not changed since.
pub(super) enum Look {
    /// The increment is empty, as it was before.
    Unchanged(Increment),
    /// The tables have to be read.
    Read(Option<Vec<Position>>),
}

impl Remembered {
    fn entries(&self) -> MutexGuard<'_, HashMap<FeatureKey, UpToDate>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the last increment of a feature with these options, if it was empty.
    fn find(&self, key: &FeatureKey, options: &ResolveOptions) -> Option<UpToDate> {
        self.entries().get(key).filter(|known| &known.options == options).cloned()
    }

    /// Remembers the increment of a feature if it is empty, otherwise forgets an earlier one with these options.
    pub(super) fn note(
        &self,
        key: &FeatureKey,
        options: ResolveOptions,
        positions: Option<Vec<Position>>,
        increment: &Increment,
    ) {
        let is_empty = [&increment.new, &increment.stale, &increment.orphaned].iter().all(|rows| rows.num_rows() == 0);
        let mut entries = self.entries();
        if is_empty {
            entries.insert(key.clone(), UpToDate { options, increment: increment.clone(), positions });
        } else if entries.get(key).is_some_and(|known| known.options == options) {
            entries.remove(key);
        }
    }
}

impl MetadataStore {
    /// Looks whether the tables of a feature are as they were when its last increment was empty.
    pub(super) async fn look(&self, key: &FeatureKey, options: &ResolveOptions) -> Look {
        let Some(known) = self.inner.remembered.find(key, options) else { return Look::Read(None) };
        let positions = self.positions(key).await;
        match positions.is_some() && positions == known.positions {
            true => {
                tracing::debug!(feature = %key, "no table has changed since the feature was found up to date");
                Look::Unchanged(known.increment)
            }
            false => Look::Read(positions),
        }
    }

    /// Returns the positions of all tables from which a feature's increment is made, in every store that may serve them;
    /// `None` if one cannot be told.
    async fn positions(&self, key: &FeatureKey) -> Option<Vec<Position>> {
        let deps = &self.plan(key).ok()?.spec.deps;
        let inputs = deps.iter().map(|dep| self.input_positions(dep.feature()));
        let (own, inputs) = futures::join!(self.own_position(key), join_all(inputs));
        let inputs = inputs.into_iter().collect::<Option<Vec<_>>>()?;
        Some(inputs.into_iter().flatten().chain([own?]).collect())
    }

    async fn input_positions(&self, key: &FeatureKey) -> Option<Vec<Position>> {
        let mut found = Vec::new();
        self.add_positions(key, &mut BTreeSet::new(), &mut found).await.then_some(found)
    }

    /// Adds the positions of a table in this store and its fallbacks, in each once. Returns whether all can be told: a
    /// store that cannot be opened now may serve the table later.
    fn add_positions<'a>(
        &'a self,
        key: &'a FeatureKey,
        seen: &'a mut BTreeSet<usize>,
        found: &'a mut Vec<Position>,
    ) -> BoxFuture<'a, bool> {
        async move {
            if !seen.insert(self.identity()) {
                return true;
            }
            let Some(position) = self.own_position(key).await else { return false };
            found.push(position);
            for fallback in &self.inner.fallbacks {
                let Ok(store) = fallback.open().await else { return false };
                if !store.add_positions(key, seen, found).await {
                    return false;
                }
            }
            true
        }
        .boxed()
    }

    /// Returns the position of a table in this store. If that fails, reading the table shows why.
    async fn own_position(&self, key: &FeatureKey) -> Option<Position> {
        self.inner.backend.position(key).await.ok().flatten()
    }
}
