//! Rows that are written to a store and read from it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::{Stream, TryStreamExt};

use crate::backend::BatchStream;
use crate::checkpoint::Checkpoint;
use crate::engine;
use crate::error::Result;

use super::Basis;

/// A source of rows: one batch, several, a reader, or a part of an [`Increment`](crate::Increment).
pub trait IntoBatches {
    /// Returns the batches.
    ///
    /// # Errors
    /// The errors of a reader.
    fn into_batches(self) -> Result<Vec<RecordBatch>>;
}

impl IntoBatches for RecordBatch {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(vec![self])
    }
}

impl IntoBatches for &RecordBatch {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(vec![self.clone()])
    }
}

impl IntoBatches for Vec<RecordBatch> {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(self)
    }
}

impl IntoBatches for &[RecordBatch] {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(self.to_vec())
    }
}

impl IntoBatches for Box<dyn RecordBatchReader + Send> {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(self.collect::<Result<_, _>>()?)
    }
}

impl IntoBatches for Rows {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(self.batches)
    }
}

impl IntoBatches for &Rows {
    fn into_batches(self) -> Result<Vec<RecordBatch>> {
        Ok(self.batches.clone())
    }
}

/// The rows of a write: in memory, or a stream, which may hold more than fits into memory. A [`RowStream`] and any other
/// [`BatchStream`] is read to its end before anything is written.
pub trait IntoRows {
    /// Returns the rows.
    ///
    /// # Errors
    /// Those of a reader.
    fn into_rows(self) -> Result<RowsToWrite>;
}

/// The rows of a write.
pub struct RowsToWrite(pub(super) GivenRows);

pub(super) enum GivenRows {
    Batches(Vec<RecordBatch>),
    Stream(BatchStream),
}

impl<T: IntoBatches> IntoRows for T {
    fn into_rows(self) -> Result<RowsToWrite> {
        Ok(RowsToWrite(GivenRows::Batches(self.into_batches()?)))
    }
}

impl IntoRows for RowStream {
    fn into_rows(self) -> Result<RowsToWrite> {
        self.stream.into_rows()
    }
}

impl IntoRows for BatchStream {
    fn into_rows(self) -> Result<RowsToWrite> {
        Ok(RowsToWrite(GivenRows::Stream(self)))
    }
}

impl IntoRows for RowsToWrite {
    fn into_rows(self) -> Result<RowsToWrite> {
        Ok(self)
    }
}

impl fmt::Debug for RowsToWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            GivenRows::Batches(batches) => f.debug_list().entries(batches).finish(),
            GivenRows::Stream(_) => f.write_str("a stream"),
        }
    }
}

/// Rows in memory: batches of one schema.
#[derive(Clone, Debug)]
pub struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Rows {
    pub(crate) fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { schema, batches }
    }

    /// Returns the schema, even if there are no rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the number of rows.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.num_rows() == 0
    }

    /// Returns the batches.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// Returns all rows in one batch.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) if a text column would hold more than 2 GiB.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        Ok(concat_batches(&self.schema, &self.batches)?)
    }

    /// Returns the batches, as [`RowStream::collect`] does.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        Ok(self.batches)
    }
}

/// Rows as they are read: a stream of batches of one schema.
pub struct RowStream {
    schema: SchemaRef,
    stream: BatchStream,
}

impl RowStream {
    pub(crate) fn new(schema: SchemaRef, stream: BatchStream) -> Self {
        Self { schema, stream }
    }

    pub(crate) fn into_parts(self) -> (SchemaRef, BatchStream) {
        (self.schema, self.stream)
    }

    /// Returns the schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns all batches.
    ///
    /// # Errors
    /// The errors of the storage system while it is read.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        self.stream.try_collect().await
    }

    /// Returns all rows in memory, with their schema.
    ///
    /// # Errors
    /// The errors of [`RowStream::collect`].
    pub async fn rows(self) -> Result<Rows> {
        let schema = self.schema.clone();
        Ok(Rows::new(schema, self.collect().await?))
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The samples of a feature that have to be processed.
///
/// `new` and `stale` have a row for each upstream row. If the feature aggregates (N:1), each of its samples has several
/// such rows, all with the sample's versions: [`groups`](Increment::groups) returns them by sample, and one result is
/// written for each group. If it expands (1:N), there is one row for each parent, from which several children are made.
#[derive(Clone, Debug)]
pub struct Increment {
    /// Samples that have no row yet: the columns of the dependencies, and the versions that the samples will have.
    pub new: Rows,
    /// Samples whose row was made from different input versions, with the same columns as `new`.
    pub stale: Rows,
    /// Rows that nothing upstream expects: as they are stored or, if the feature expands, one for each parent with its
    /// ids and versions. [`delete_rows`](crate::MetadataStore::delete_rows) accepts both.
    pub orphaned: Rows,
    /// The columns by which expected rows and stored ones are matched.
    pub(super) matched_by: Vec<String>,
    pub(super) basis: Basis,
    pub(super) checkpoint: Option<Checkpoint>,
}

impl Increment {
    /// Returns whether nothing is new, stale or orphaned.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.stale.is_empty() && self.orphaned.is_empty()
    }

    /// Returns an empty increment, for tables that have not changed since a checkpoint.
    pub(super) fn unchanged(checkpoint: &Checkpoint, matched_by: Vec<String>) -> Self {
        let none = |schema: &SchemaRef| Rows::new(schema.clone(), Vec::new());
        let contents = checkpoint.contents();
        Self {
            new: none(&contents.expected),
            stale: none(&contents.expected),
            orphaned: none(&contents.orphaned),
            matched_by,
            basis: Basis::Unchanged,
            checkpoint: Some(checkpoint.clone()),
        }
    }

    /// Returns what it was computed from.
    pub fn basis(&self) -> &Basis {
        &self.basis
    }

    /// Returns the state of the tables from which it was computed, for [`since`](crate::store::ResolveRequest::since).
    /// `None` if a backend does not tell the position of a table, if the samples were given, if the comparison was skipped,
    /// or if the increment has more than a million rows.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Returns the samples to process: the batches of `new` and then those of `stale`.
    pub fn to_process(&self) -> impl Iterator<Item = &RecordBatch> {
        self.new.batches().iter().chain(self.stale.batches())
    }

    /// Returns the rows of `new` and then of `stale`, one batch for each group: the rows that are equal in the columns
    /// by which samples are matched. For N:1 these are all rows of one result; for 1:N the parent; otherwise a single
    /// sample.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) if a text column of one group would hold more than 2 GiB.
    pub fn groups(&self) -> Result<impl Iterator<Item = RecordBatch> + use<>> {
        let new = Grouped::new(&self.new, &self.matched_by)?;
        let stale = Grouped::new(&self.stale, &self.matched_by)?;
        Ok(new.groups().chain(stale.groups()))
    }

    /// Divides the rows of `new` and `stale` into at most `n` parts of about equal size, one for each worker. No group
    /// is divided.
    ///
    /// # Errors
    /// The errors of [`Increment::groups`].
    pub fn portions(&self, n: usize) -> Result<Vec<Rows>> {
        let n = n.max(1);
        let mut portions: Vec<Vec<RecordBatch>> = vec![Vec::new(); n];
        for rows in [&self.new, &self.stale] {
            let parts = Grouped::new(rows, &self.matched_by)?.portions(n);
            portions.iter_mut().zip(parts).for_each(|(portion, part)| portion.extend(part));
        }
        let portions = portions.into_iter().filter(|batches| !batches.is_empty());
        Ok(portions.map(|batches| Rows::new(batches[0].schema(), batches)).collect())
    }
}

/// Rows sorted by group: batches of whole groups, with the number of rows of each group.
struct Grouped(Vec<(RecordBatch, Vec<usize>)>);

impl Grouped {
    fn new(rows: &Rows, columns: &[String]) -> Result<Self> {
        Ok(Self(if rows.is_empty() { Vec::new() } else { engine::by_key(rows, columns)? }))
    }

    fn groups(self) -> impl Iterator<Item = RecordBatch> {
        self.0.into_iter().flat_map(|(rows, sizes)| {
            let mut end = 0;
            sizes.into_iter().map(move |size| {
                end += size;
                rows.slice(end - size, size)
            })
        })
    }

    /// Returns at most `n` parts of whole groups; a part ends when it has its share of the rows.
    fn portions(self, n: usize) -> Vec<Vec<RecordBatch>> {
        let total: usize = self.0.iter().map(|(rows, _)| rows.num_rows()).sum();
        let (mut parts, mut seen) = (vec![Vec::new()], 0);
        for (rows, sizes) in self.0 {
            let (mut start, mut end) = (0, 0);
            for size in sizes {
                end += size;
                let is_full = (seen + end) * n >= total * parts.len();
                if let (true, Some(part)) = (is_full, parts.last_mut()) {
                    part.push(rows.slice(start, end - start));
                    parts.push(Vec::new());
                    start = end;
                }
            }
            if let (true, Some(part)) = (start < end, parts.last_mut()) {
                part.push(rows.slice(start, end - start));
            }
            seen += end;
        }
        parts
    }
}

/// Returns the schema of batches that the user has built.
pub(crate) fn schema_of(batches: &[RecordBatch], otherwise: impl FnOnce() -> SchemaRef) -> SchemaRef {
    batches.first().map_or_else(otherwise, |batch| Arc::clone(batch.schema_ref()))
}
