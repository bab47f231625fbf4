//! Empty increments that an open store remembers: as long as no table has changed, they are the answer, and nothing is
//! read.
//!
//! Positions are asked only for a feature whose last increment was empty too, so that other resolves pay nothing.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::future::try_join_all;

use crate::error::Result;
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

    /// Remembers the increment of a feature if it is empty, otherwise forgets the feature.
    pub(super) fn note(
        &self,
        key: &FeatureKey,
        options: ResolveOptions,
        positions: Option<Vec<Position>>,
        increment: &Increment,
    ) {
        let is_empty = [&increment.new, &increment.stale, &increment.orphaned].iter().all(|rows| rows.num_rows() == 0);
        match is_empty {
            true => self.entries().insert(key.clone(), UpToDate { options, increment: increment.clone(), positions }),
            false => self.entries().remove(key),
        };
    }
}

impl MetadataStore {
    /// Looks whether the tables of a feature are as they were when its last increment was empty.
    pub(super) async fn look(&self, key: &FeatureKey, options: &ResolveOptions) -> Result<Look> {
        let Some(known) = self.inner.remembered.find(key, options) else { return Ok(Look::Read(None)) };
        let positions = self.positions(key).await?;
        match positions.is_some() && positions == known.positions {
            true => {
                tracing::debug!(feature = %key, "no table has changed since the feature was found up to date");
                Ok(Look::Unchanged(known.increment))
            }
            false => Ok(Look::Read(positions)),
        }
    }

    /// Returns the positions of all tables from which a feature's increment is made; `None` if one cannot be told, or if
    /// inputs may come from other stores.
    async fn positions(&self, key: &FeatureKey) -> Result<Option<Vec<Position>>> {
        if !self.inner.fallbacks.is_empty() {
            return Ok(None);
        }
        let inputs = self.plan(key)?.spec.deps.iter().map(|dep| dep.feature());
        let positions = inputs.chain([key]).map(|table| self.inner.backend.position(table));
        Ok(try_join_all(positions).await?.into_iter().collect())
    }
}
