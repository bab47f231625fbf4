//! The rows of a flush, feature by feature, from what was put to what is appended.

use std::cmp::Reverse;
use std::collections::VecDeque;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::key::FeatureKey;
use crate::store::{MetadataStore, Preparation, PreparedRows};

use super::flush_batch::Entry;

/// The rows of one feature in a flush.
pub(super) struct PendingRows<R> {
    feature: FeatureKey,
    /// Whether the rows are complete because an earlier process has stored them in the spool directory.
    is_from_spool: bool,
    rows: R,
}

impl<R> PendingRows<R> {
    pub(super) fn feature(&self) -> &FeatureKey {
        &self.feature
    }

    pub(super) fn contains(&self, entry: &Entry) -> bool {
        self.feature == entry.feature && self.is_from_spool == entry.is_complete
    }
}

impl PendingRows<Vec<RecordBatch>> {
    /// Groups entries by feature.
    pub(super) fn of(entries: &[Entry]) -> Vec<Self> {
        let mut pending: Vec<Self> = Vec::new();
        for entry in entries {
            match pending.iter_mut().find(|rows| rows.contains(entry)) {
                Some(rows) => rows.rows.push(entry.batch.clone()),
                None => pending.push(Self {
                    feature: entry.feature.clone(),
                    is_from_spool: entry.is_complete,
                    rows: vec![entry.batch.clone()],
                }),
            }
        }
        pending
    }

    /// Groups entries by feature and splits them into the batches that were put; the first group to be written is last.
    pub(super) fn groups(entries: Vec<Entry>, store: &MetadataStore) -> Vec<Vec<Entry>> {
        let mut pending = Self::of(&entries);
        pending.sort_by_key(|rows| Reverse(rows.order(store)));
        let mut groups: Vec<Vec<Entry>> = pending.iter().map(|_| Vec::new()).collect();
        for entry in entries {
            if let Some(index) = pending.iter().position(|rows| rows.contains(&entry)) {
                groups[index].extend(entry.split());
            }
        }
        groups
    }

    /// Orders rows of the spool directory first, then dependents before their dependencies.
    fn order(&self, store: &MetadataStore) -> impl Ord + use<> {
        (!self.is_from_spool, store.graph().write_turn(&self.feature))
    }

    /// Returns how rows are completed: those of the spool directory are complete. Of several rows of one sample the one
    /// that was put last counts.
    fn preparation(store: &MetadataStore, is_from_spool: bool, at: i64) -> Preparation {
        match is_from_spool {
            true => Preparation::COMPLETE,
            false => Preparation::of_puts(store.stamping(at)),
        }
    }

    async fn prepare(self, store: &MetadataStore, at: i64) -> Result<PendingRows<PreparedRows>> {
        let Self { feature, is_from_spool, rows } = self;
        let rows = store.prepare(&feature, rows, Self::preparation(store, is_from_spool, at)).await?;
        Ok(PendingRows { feature, is_from_spool, rows })
    }
}

impl PendingRows<PreparedRows> {
    /// Appends the rows. If they change the table's schema, they are prepared again: the flush before them may have
    /// made the same change since.
    pub(super) async fn append(&self, store: &MetadataStore) -> Result<()> {
        let mut rows = self.rows.clone();
        if rows.changes_table {
            rows = store.prepare(&self.feature, rows.batches, Preparation::COMPLETE).await?;
        }
        store.append(&self.feature, rows).await.map(|_| ())
    }
}

/// A flush batch that was prepared while the one before it was written.
pub(super) struct Prepared {
    /// The number of the flush batch.
    pub(super) number: u64,
    pub(super) stamp: i64,
    pub(super) rows: VecDeque<PendingRows<PreparedRows>>,
}

/// Completes rows under one time. Returns them in the order in which they are appended.
pub(super) async fn prepare(
    store: &MetadataStore,
    mut pending: Vec<PendingRows<Vec<RecordBatch>>>,
    at: i64,
) -> Result<VecDeque<PendingRows<PreparedRows>>> {
    pending.sort_by_key(|rows| rows.order(store));
    let mut prepared = VecDeque::with_capacity(pending.len());
    for rows in pending {
        prepared.push_back(rows.prepare(store, at).await?);
    }
    Ok(prepared)
}
