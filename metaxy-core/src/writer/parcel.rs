//! Rows that are written together, under one time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::key::FeatureKey;

use super::room::Place;

/// A batch on its way, or several that have been joined.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) feature: FeatureKey,
    pub(super) batch: RecordBatch,
    /// The hashes of its ids. Two ids of one hash only mean that their rows are written one after the other.
    pub(super) ids: Vec<u64>,
    /// The batches that it was, in their order.
    parts: Vec<Part>,
    /// Whether its rows are complete with versions and times: an earlier process has put them.
    pub(super) is_complete: bool,
    /// The room that it takes, together with others of its put.
    places: Vec<Arc<Place>>,
    bytes: usize,
}

/// A batch as it was put.
#[derive(Debug)]
struct Part {
    rows: usize,
    /// The file that keeps it, where there is a spool directory.
    file: Option<PathBuf>,
}

/// The bytes that a batch keeps in memory while it waits, with the hashes of its ids.
pub(super) fn bytes_in_memory(batch: &RecordBatch) -> usize {
    batch.get_array_memory_size() + batch.num_rows() * size_of::<u64>()
}

impl Entry {
    pub(super) fn new(feature: FeatureKey, batch: RecordBatch, ids: Vec<u64>) -> Self {
        let bytes = bytes_in_memory(&batch);
        let parts = vec![Part { rows: batch.num_rows(), file: None }];
        Self { feature, batch, ids, parts, is_complete: false, places: Vec::new(), bytes }
    }

    /// Keeps some room until it is settled.
    pub(super) fn in_place(mut self, place: Option<Arc<Place>>) -> Self {
        self.places.extend(place);
        self
    }

    /// Gives back its room.
    pub(super) fn leave_place(&mut self) {
        self.places.clear();
    }

    pub(super) fn kept_in(mut self, file: Option<PathBuf>) -> Self {
        self.parts = vec![Part { rows: self.rows(), file }];
        self
    }

    /// What an earlier process has left in a file.
    pub(super) fn left_in(file: PathBuf, feature: FeatureKey, batch: RecordBatch) -> Self {
        Self { is_complete: true, ..Self::new(feature, batch, Vec::new()).kept_in(Some(file)) }
    }

    /// How many batches it was.
    pub(super) fn batches(&self) -> usize {
        self.parts.len()
    }

    /// The files that keep it, where there is a spool directory.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.parts.iter().filter_map(|part| part.file.as_ref())
    }

    /// The batches that it was, each by itself.
    pub(super) fn split(self) -> Vec<Self> {
        let Self { feature, batch, parts, is_complete, places, .. } = self;
        let mut start = 0;
        let part = |part: Part| {
            let rows = batch.slice(start, part.rows);
            start += part.rows;
            let entry = Self::new(feature.clone(), rows, Vec::new()).kept_in(part.file);
            Self { is_complete, places: places.clone(), ..entry }
        };
        parts.into_iter().map(part).collect()
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whether the two could be one batch.
    fn goes_with(&self, other: &Self) -> bool {
        self.is_complete == other.is_complete
            && self.feature == other.feature
            && self.batch.schema_ref() == other.batch.schema_ref()
    }

    /// Takes over what another one stands for; gives back its batch.
    fn absorb(&mut self, other: Self) -> RecordBatch {
        self.parts.extend(other.parts);
        self.places.extend(other.places);
        self.bytes += other.bytes;
        other.batch
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
        }
    }

    /// Nothing more comes in. The answer is its number.
    pub(super) fn close(&mut self) -> u64 {
        self.ids = BTreeMap::new();
        self.number
    }

    /// The batches, neighbours together that could be one.
    pub(super) fn runs(&self) -> Vec<Vec<RecordBatch>> {
        let batches = |run: &[Entry]| run.iter().map(|entry| entry.batch.clone()).collect();
        self.entries.chunk_by(Entry::goes_with).map(batches).collect()
    }

    /// Puts one batch in the place of each run; gives back what is not needed any more.
    pub(super) fn condense(&mut self, joined: Vec<RecordBatch>) -> Vec<RecordBatch> {
        let mut small = Vec::new();
        for entry in std::mem::take(&mut self.entries) {
            match self.entries.last_mut() {
                Some(last) if last.goes_with(&entry) => small.push(last.absorb(entry)),
                _ => self.entries.push(entry),
            }
        }
        let replaced = self.entries.iter_mut().zip(joined);
        small.extend(replaced.map(|(entry, batch)| std::mem::replace(&mut entry.batch, batch)));
        small
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
