//! Rows that are written together, under one time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use arrow::array::RecordBatch;

use crate::key::FeatureKey;

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) feature: FeatureKey,
    pub(super) batch: RecordBatch,
    /// The hashes of its ids. Two ids of one hash only mean that their rows are written one after the other.
    pub(super) ids: Vec<u64>,
    /// The file that keeps it, where there is a spool directory.
    pub(super) file: Option<PathBuf>,
    /// Whether its rows are complete with versions and times: an earlier process has put them.
    pub(super) is_complete: bool,
    bytes: usize,
}

impl Entry {
    pub(super) fn new(feature: FeatureKey, batch: RecordBatch, ids: Vec<u64>) -> Self {
        let bytes = batch.get_array_memory_size() + ids.len() * size_of::<u64>();
        Self { feature, batch, ids, file: None, is_complete: false, bytes }
    }

    pub(super) fn kept_in(mut self, file: Option<PathBuf>) -> Self {
        self.file = file;
        self
    }

    /// What an earlier process has left in a file.
    pub(super) fn left_in(file: PathBuf, feature: FeatureKey, batch: RecordBatch) -> Self {
        Self { file: Some(file), is_complete: true, ..Self::new(feature, batch, Vec::new()) }
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Bytes that it keeps in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// When a parcel is large enough to be written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

/// The entries of one flush. Of one feature no id comes twice from two puts: rows of one flush share one time, and
/// readers could not tell which of the two was put last.
#[derive(Debug, Default)]
pub(super) struct Parcel {
    pub(super) entries: Vec<Entry>,
    ids: BTreeMap<FeatureKey, HashSet<u64, ahash::RandomState>>,
    rows: usize,
    bytes: usize,
}

impl Parcel {
    /// Whether the entries of a put may come in: there is room, and none of their ids is here already.
    pub(super) fn takes(&self, put: &[Entry], size: Size) -> bool {
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

    pub(super) fn is_full(&self, size: Size) -> bool {
        self.rows >= size.rows || self.bytes >= size.bytes
    }
}

/// How many rows of which features there are, for a log.
pub(super) fn summary<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> String {
    let mut rows: BTreeMap<&FeatureKey, usize> = BTreeMap::new();
    for entry in entries {
        *rows.entry(&entry.feature).or_default() += entry.rows();
    }
    let parts: BTreeSet<String> = rows.iter().map(|(feature, rows)| format!("{rows} of {feature}")).collect();
    parts.into_iter().collect::<Vec<_>>().join(", ")
}
