//! What a parcel becomes before it is written: complete rows, feature by feature.

use std::cmp::Reverse;
use std::collections::VecDeque;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::key::FeatureKey;
use crate::store::{Duplicates, MetadataStore, Preparation, PreparedRows};

use super::parcel::Entry;

/// The rows of one feature in a parcel.
pub(super) struct Load<R> {
    feature: FeatureKey,
    /// Whether they are complete because an earlier process has put them.
    is_left: bool,
    rows: R,
}

impl<R> Load<R> {
    pub(super) fn feature(&self) -> &FeatureKey {
        &self.feature
    }

    pub(super) fn has(&self, entry: &Entry) -> bool {
        self.feature == entry.feature && self.is_left == entry.is_complete
    }
}

impl Load<Vec<RecordBatch>> {
    /// The rows of a parcel by feature.
    pub(super) fn of(entries: &[Entry]) -> Vec<Self> {
        let mut loads: Vec<Self> = Vec::new();
        for entry in entries {
            match loads.iter_mut().find(|load| load.has(entry)) {
                Some(load) => load.rows.push(entry.batch.clone()),
                None => loads.push(Self {
                    feature: entry.feature.clone(),
                    is_left: entry.is_complete,
                    rows: vec![entry.batch.clone()],
                }),
            }
        }
        loads
    }

    /// The batches of a parcel by feature, each by itself, the first to be written last.
    pub(super) fn groups(entries: Vec<Entry>, store: &MetadataStore) -> Vec<Vec<Entry>> {
        let mut loads = Self::of(&entries);
        loads.sort_by_key(|load| Reverse(load.turn(store)));
        let mut groups: Vec<Vec<Entry>> = loads.iter().map(|_| Vec::new()).collect();
        for entry in entries {
            if let Some(place) = loads.iter().position(|load| load.has(&entry)) {
                groups[place].extend(entry.split());
            }
        }
        groups
    }

    /// What an earlier process has left comes first, then dependents.
    fn turn(&self, store: &MetadataStore) -> impl Ord + use<> {
        (!self.is_left, store.graph().write_turn(&self.feature))
    }

    /// What an earlier process has left is complete. Of several rows of one sample the one that was put last counts.
    fn preparation(store: &MetadataStore, is_left: bool, at: i64) -> Preparation {
        if is_left { Preparation::COMPLETE } else { Preparation::of_rows(store.stamping(at), Duplicates::Last) }
    }

    async fn ready(self, store: &MetadataStore, at: i64) -> Result<Load<PreparedRows>> {
        let Self { feature, is_left, rows } = self;
        let rows = store.prepare(&feature, rows, Self::preparation(store, is_left, at)).await?;
        Ok(Load { feature, is_left, rows })
    }
}

impl Load<PreparedRows> {
    /// Writes the rows. Where they bring something new, the table is looked at once more: since they were made ready, the
    /// parcel before them may have brought the same.
    pub(super) async fn append(&self, store: &MetadataStore) -> Result<()> {
        let mut rows = self.rows.clone();
        if rows.changes_table {
            rows = store.prepare(&self.feature, rows.batches, Preparation::COMPLETE).await?;
        }
        store.append(&self.feature, rows).await.map(|_| ())
    }
}

/// A parcel that was made ready before its turn.
pub(super) struct Ready {
    pub(super) parcel: u64,
    pub(super) stamp: i64,
    pub(super) loads: VecDeque<Load<PreparedRows>>,
}

/// Rows as they are appended, under one time, in the order in which they are: what an earlier process has left, then
/// dependents first.
pub(super) async fn ready(
    store: &MetadataStore,
    mut loads: Vec<Load<Vec<RecordBatch>>>,
    at: i64,
) -> Result<VecDeque<Load<PreparedRows>>> {
    loads.sort_by_key(|load| load.turn(store));
    let mut ready = VecDeque::with_capacity(loads.len());
    for load in loads {
        ready.push_back(load.ready(store, at).await?);
    }
    Ok(ready)
}
