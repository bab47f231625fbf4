//! Rows that are written together, under one time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use crate::key::FeatureKey;

/// So many batches of a few rows become one.
const JOINED_AT_ONCE: usize = 64;
/// A batch of this many rows is large enough.
const LARGE: usize = 4096;

/// A batch on its way, or several that have been joined.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) feature: FeatureKey,
    pub(super) batch: RecordBatch,
    /// The hashes of its ids. Two ids of one hash only mean that their rows are written one after the other.
    pub(super) ids: Vec<u64>,
    /// The files that keep it, where there is a spool directory.
    pub(super) files: Vec<PathBuf>,
    /// Whether its rows are complete with versions and times: an earlier process has put them.
    pub(super) is_complete: bool,
    /// How many batches it was.
    pub(super) batches: u64,
    bytes: usize,
}

impl Entry {
    pub(super) fn new(feature: FeatureKey, batch: RecordBatch, ids: Vec<u64>) -> Self {
        let bytes = batch.get_array_memory_size() + ids.len() * size_of::<u64>();
        Self { feature, batch, ids, files: Vec::new(), is_complete: false, batches: 1, bytes }
    }

    pub(super) fn kept_in(mut self, file: Option<PathBuf>) -> Self {
        self.files.extend(file);
        self
    }

    /// What an earlier process has left in a file.
    pub(super) fn left_in(file: PathBuf, feature: FeatureKey, batch: RecordBatch) -> Self {
        Self { files: vec![file], is_complete: true, ..Self::new(feature, batch, Vec::new()) }
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether it waits for others to be joined with.
    fn is_small(&self) -> bool {
        !self.is_complete && self.rows() < LARGE
    }

    fn goes_with(&self, other: &Self) -> bool {
        !self.is_complete
            && !other.is_complete
            && self.feature == other.feature
            && self.batch.schema_ref() == other.batch.schema_ref()
    }

    /// One of several that go with each other; `None` where they would not fit into one.
    fn joined(entries: &[Self]) -> Option<Self> {
        let first = entries.first()?;
        let batch = concat_batches(first.batch.schema_ref(), entries.iter().map(|entry| &entry.batch)).ok()?;
        Some(Self {
            feature: first.feature.clone(),
            batch,
            ids: Vec::new(),
            files: entries.iter().flat_map(|entry| entry.files.iter().cloned()).collect(),
            is_complete: false,
            batches: entries.iter().map(|entry| entry.batches).sum(),
            bytes: entries.iter().map(|entry| entry.bytes).sum(),
        })
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
    /// Its number among all parcels of the writer.
    pub(super) number: u64,
    pub(super) entries: Vec<Entry>,
    ids: BTreeMap<FeatureKey, HashSet<u64, ahash::RandomState>>,
    rows: usize,
    bytes: usize,
}

impl Parcel {
    pub(super) fn new(number: u64) -> Self {
        Self { number, ..Self::default() }
    }

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
            self.join_small_ones();
        }
    }

    /// Whoever puts the last of many small batches joins them: a flush has less to do then, and memory fewer pieces.
    fn join_small_ones(&mut self) {
        let Some(start) = self.entries.len().checked_sub(JOINED_AT_ONCE) else { return };
        let Some((first, others)) = self.entries[start..].split_first() else { return };
        if first.is_small()
            && others.iter().all(|other| other.is_small() && first.goes_with(other))
            && let Some(joined) = Entry::joined(&self.entries[start..])
        {
            self.entries.truncate(start);
            self.entries.push(joined);
        }
    }

    pub(super) fn is_full(&self, size: Size) -> bool {
        self.rows >= size.rows || self.bytes >= size.bytes
    }
}

/// The same rows in as few entries as may be.
pub(super) fn condensed(entries: &[Entry]) -> Vec<Entry> {
    let mut condensed = Vec::new();
    for run in entries.chunk_by(Entry::goes_with) {
        match run {
            [one] => condensed.push(one.clone()),
            several => match Entry::joined(several) {
                Some(joined) => condensed.push(joined),
                None => condensed.extend(several.iter().cloned()),
            },
        }
    }
    condensed
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
