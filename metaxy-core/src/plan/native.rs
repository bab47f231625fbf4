//! Increments by kind of row, and the result of a storage system that runs a plan itself.

use std::fmt;
use std::path::PathBuf;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::key::FeatureKey;

/// The kind of a row of an increment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum RowKind {
    /// A sample without a current row.
    New = 0,
    /// A sample whose current row has other versions.
    Stale = 1,
    /// A current row that nothing upstream expects.
    Orphaned = 2,
}

/// An increment that a storage system has computed itself, with the same columns as from the Arrow engine.
#[derive(Debug, Default)]
pub struct NativeIncrement {
    /// Samples without a current row.
    pub new: Vec<RecordBatch>,
    /// Samples whose current row has other versions.
    pub stale: Vec<RecordBatch>,
    /// Current rows that nothing upstream expects.
    pub orphaned: Vec<RecordBatch>,
}

/// The rows of an increment as a storage system computes them, each batch with its kind; orphaned rows come last.
pub struct NativeRows(BoxStream<'static, Result<(RowKind, RecordBatch)>>);

impl NativeRows {
    /// Returns the rows of a stream. Dropping it stops the work.
    pub fn new(rows: BoxStream<'static, Result<(RowKind, RecordBatch)>>) -> Self {
        Self(rows)
    }

    /// Returns the rows.
    pub fn into_stream(self) -> BoxStream<'static, Result<(RowKind, RecordBatch)>> {
        self.0
    }
}

impl From<NativeIncrement> for NativeRows {
    fn from(increment: NativeIncrement) -> Self {
        let NativeIncrement { new, stale, orphaned } = increment;
        let kinds = [(RowKind::New, new), (RowKind::Stale, stale), (RowKind::Orphaned, orphaned)];
        let rows =
            kinds.into_iter().flat_map(|(kind, batches)| batches.into_iter().map(move |batch| Ok((kind, batch))));
        Self(futures::stream::iter(rows).boxed())
    }
}

impl fmt::Debug for NativeRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NativeRows").finish_non_exhaustive()
    }
}

/// What a storage system that computes in this process may use for a plan: the settings of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NativeLimits {
    /// The bytes that it may hold (`memory_limit`).
    pub memory: usize,
    /// The directory for rows that do not fit (`temp_dir`).
    pub directory: PathBuf,
}

/// What makes new and stale rows of an increment complete rows of the feature's table:
/// [`completed`](crate::executor::completed) adds it. There is no more to it, so that it can be sent to other processes.
#[derive(Clone, Debug)]
pub struct Completion {
    /// The feature.
    pub feature: FeatureKey,
    /// Its id columns.
    pub id_columns: Vec<String>,
    /// The schema of the complete rows, as [`append`](crate::StoreBackend::append) gets it.
    pub schema: SchemaRef,
    /// One row with the columns that increments lack: the time of the write, and the versions of the definitions.
    pub stamp: RecordBatch,
}

/// The outcome of a plan that a storage system was given.
#[derive(Debug)]
pub enum NativeOutcome {
    /// It has run, with this result.
    Done(NativeIncrement),
    /// It runs while its rows are read.
    Rows(NativeRows),
    /// The storage system cannot run it, for this reason.
    Declined(String),
}
