//! Rows that are written together, under one time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::key::FeatureKey;

use super::budget::Permit;

/// A batch that was put, or several that have been merged.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) feature: FeatureKey,
    pub(super) batch: RecordBatch,
    /// The hashes of its ids. If two ids share a hash, their rows are written in two flushes, which does no harm.
    pub(super) ids: Vec<u64>,
    /// The batches that were put, in their order.
    parts: Vec<Part>,
    /// Whether its rows have versions and times already: an earlier process has stored them in the spool directory.
    pub(super) is_complete: bool,
    /// The shares of the memory budget that it holds, shared with other entries of its put.
    permits: Vec<Arc<Permit>>,
    bytes: usize,
}

/// A batch as it was put.
#[derive(Debug)]
struct Part {
    rows: usize,
    /// Its file, if there is a spool directory.
    file: Option<PathBuf>,
}

/// Returns the bytes that a batch takes in memory while it waits, the hashes of its ids included.
pub(super) fn bytes_in_memory(batch: &RecordBatch) -> usize {
    batch.get_array_memory_size() + batch.num_rows() * size_of::<u64>()
}

impl Entry {
    pub(super) fn new(feature: FeatureKey, batch: RecordBatch, ids: Vec<u64>) -> Self {
        let bytes = bytes_in_memory(&batch);
        let parts = vec![Part { rows: batch.num_rows(), file: None }];
        Self { feature, batch, ids, parts, is_complete: false, permits: Vec::new(), bytes }
    }

    /// Holds a share of the memory budget until the entry is settled.
    pub(super) fn with_permit(mut self, permit: Option<Arc<Permit>>) -> Self {
        self.permits.extend(permit);
        self
    }

    /// Gives its shares of the memory budget back.
    pub(super) fn release_permits(&mut self) {
        self.permits.clear();
    }

    pub(super) fn with_file(mut self, file: Option<PathBuf>) -> Self {
        self.parts = vec![Part { rows: self.rows(), file }];
        self
    }

    /// Makes an entry of what an earlier process has stored in a file.
    pub(super) fn from_spool(file: PathBuf, feature: FeatureKey, batch: RecordBatch) -> Self {
        Self { is_complete: true, ..Self::new(feature, batch, Vec::new()).with_file(Some(file)) }
    }

    /// Returns how many batches were merged into it.
    pub(super) fn batches(&self) -> usize {
        self.parts.len()
    }

    /// Returns its files, if there is a spool directory.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.parts.iter().filter_map(|part| part.file.as_ref())
    }

    /// Splits it into the batches that were put.
    pub(super) fn split(self) -> Vec<Self> {
        let Self { feature, batch, parts, is_complete, permits, .. } = self;
        let mut start = 0;
        let part = |part: Part| {
            let rows = batch.slice(start, part.rows);
            start += part.rows;
            let entry = Self::new(feature.clone(), rows, Vec::new()).with_file(part.file);
            Self { is_complete, permits: permits.clone(), ..entry }
        };
        parts.into_iter().map(part).collect()
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Returns whether the two can become one batch.
    fn can_merge_with(&self, other: &Self) -> bool {
        self.is_complete == other.is_complete
            && self.feature == other.feature
            && self.batch.schema_ref() == other.batch.schema_ref()
    }

    /// Takes over the parts and permits of another entry. Returns its batch.
    fn absorb(&mut self, other: Self) -> RecordBatch {
        self.parts.extend(other.parts);
        self.permits.extend(other.permits);
        self.bytes += other.bytes;
        other.batch
    }
}

/// The size at which a flush batch is full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// The entries of one flush. An id occurs in one put at most: rows of one flush share one time, and readers could not
/// tell which of two rows was put last.
#[derive(Debug, Default)]
pub(super) struct FlushBatch {
    /// Its number among all flush batches of the writer.
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
    ids: BTreeMap<FeatureKey, HashSet<u64, ahash::RandomState>>,
    rows: usize,
    bytes: usize,
}

impl FlushBatch {
    pub(super) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

    /// Returns whether the entries of a put may be added: the batch is not full, and has none of their ids.
    pub(super) fn accepts(&self, put: &[Entry], size: Size) -> bool {
        let is_new = |entry: &Entry| match self.ids.get(&entry.feature) {
            Some(known) => entry.ids.iter().all(|id| !known.contains(id)),
            None => true,
        };
        !self.is_full(size) && put.iter().all(is_new)
    }

    pub(super) fn add(&mut self, put: Vec<Entry>) {
        for mut entry in put {
            let ids = std::mem::take(&mut entry.ids);
            self.ids.entry(entry.feature.clone()).or_default().extend(ids);
            self.rows += entry.rows();
            self.bytes += entry.bytes;
            self.entries.push(entry);
        }
    }

    /// Accepts nothing more. Returns its number.
    pub(super) fn close(&mut self) -> u64 {
        self.ids = BTreeMap::new();
        self.number
    }

    /// Returns its batches; neighbours that can be merged stand together.
    pub(super) fn runs(&self) -> Vec<Vec<RecordBatch>> {
        let batches = |run: &[Entry]| run.iter().map(|entry| entry.batch.clone()).collect();
        self.entries.chunk_by(Entry::can_merge_with).map(batches).collect()
    }

    /// Replaces each run by one batch. Returns the batches that are no longer needed.
    pub(super) fn replace_runs(&mut self, merged: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let mut small = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            match self.entries.last_mut() {
                Some(last) if last.can_merge_with(&entry) => small.push(last.absorb(entry)),
                _ => self.entries.push(entry),
            }
        }
        let replaced = self.entries.iter_mut().zip(merged);
        small.extend(replaced.map(|(entry, batch)| std::mem::replace(&mut entry.batch, batch)));
        small
    }

    pub(super) fn is_full(&self, size: Size) -> bool {
        self.rows >= size.rows || self.bytes >= size.bytes
    }
}

/// Returns how many rows of which features there are, for a log.
pub(super) fn summary<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let mut rows: BTreeMap<&FeatureKey, usize> = BTreeMap::new();
    for entry in entries {
        *rows.entry(&entry.feature).or_default() += entry.rows();
    }
    let parts: BTreeSet<String> = rows.iter().map(|(feature, rows)| format!("{rows} of {feature}")).collect();
    parts.into_iter().collect::<Vec<_>>().join(", ")
}
