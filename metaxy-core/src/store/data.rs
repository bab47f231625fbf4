//! What goes into a store and what comes out.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::{Stream, TryStreamExt};

use crate::backend::BatchStream;
use crate::error::Result;

/// Anything that holds rows: one batch, many, a reader, a part of an [`Increment`](crate::Increment).
pub trait IntoBatches {
    /// The batches.
    ///
    /// # Errors
    /// What a reader says.
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

    /// The schema, also where there are no rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows there are.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.num_rows() == 0
    }

    /// The batches.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// All rows in one batch.
    ///
    /// # Errors
    /// [`Error::Arrow`](crate::Error::Arrow) where a text column would hold more than 2 GiB.
    pub fn to_batch(&self) -> Result<RecordBatch> {
        Ok(concat_batches(&self.schema, &self.batches)?)
    }

    /// The batches; the same call as on a [`RowStream`].
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

    /// The schema of every batch.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// All batches.
    ///
    /// # Errors
    /// What the storage system says while it is read.
    pub async fn collect(self) -> Result<Vec<RecordBatch>> {
        self.stream.try_collect().await
    }

    /// All rows in memory, with their schema.
    ///
    /// # Errors
    /// As [`RowStream::collect`].
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

/// The answer to "which samples have to be processed again?".
#[derive(Clone, Debug)]
pub struct Increment {
    /// Samples that have no row yet: the columns that the dependencies bring, and the versions they will have.
    pub new: Rows,
    /// Samples whose row was made from something else, with the same columns as `new`.
    pub stale: Rows,
    /// Rows that nothing upstream asks for any more, as they are stored.
    pub orphaned: Rows,
}

impl Increment {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.new.is_empty() && self.stale.is_empty() && self.orphaned.is_empty()
    }
}

/// A schema that is shared by hand-made rows.
pub(crate) fn schema_of(batches: &[RecordBatch], otherwise: impl FnOnce() -> SchemaRef) -> SchemaRef {
    batches.first().map_or_else(otherwise, |batch| Arc::clone(batch.schema_ref()))
}
