//! What a backend is asked to read, and its answer.

use std::collections::BTreeSet;
use std::fmt;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::columns;
use crate::error::Result;
use crate::filter::Predicate;

/// A stream of batches of one schema.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// What to read from a table. The parts apply in the order of the fields below; [`ScanStage`] names the steps. The default
/// is everything.
#[derive(Clone, Debug, Default)]
pub struct ScanRequest {
    /// Keep the rows for which this is true, before anything else (the feature version).
    pub row_filter: Option<Predicate>,
    /// Then keep one row for each combination of these id columns: the one with the greatest
    /// `coalesce(metaxy_deleted_at, metaxy_updated_at)`; if several are equal, which only other programs write, exactly
    /// one, at every scan the same.
    pub keep_latest: Option<Vec<String>>,
    /// Then keep the rows for which this is true (deleted rows, the user's filters).
    pub filter: Option<Predicate>,
    /// Of those the columns that are asked for; `None` means all. May be empty: then only the number of rows counts.
    pub columns: Option<Vec<String>>,
}

/// How far a backend has taken a [`ScanRequest`]: this step and all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScanStage {
    /// Nothing: all rows of the table come. (Rows that `row_filter` refuses may be missing all the same.)
    Nothing,
    /// `row_filter`. (Rows that `filter` refuses must still be there where `keep_latest` is asked for: it decides first.)
    RowFilter,
    /// `row_filter` and `keep_latest`.
    KeepLatest,
    /// `row_filter`, `keep_latest` and `filter`.
    Filter,
}

/// An answer to a [`ScanRequest`].
pub struct Scan {
    /// The schema of every batch in the stream.
    pub schema: SchemaRef,
    /// The rows; their order means nothing.
    pub stream: BatchStream,
    /// What has been applied; the core applies the rest.
    pub applied: ScanStage,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("schema", &self.schema).field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl ScanRequest {
    /// The columns that the batches must have when the backend has applied `stage`, in the table's order: those that
    /// are asked for and those that the remaining steps look at. More columns do no harm.
    pub fn columns_needed(&self, table: &SchemaRef, stage: ScanStage) -> Vec<String> {
        let all = || table.fields().iter().map(|field| field.name().clone());
        let Some(columns) = &self.columns else { return all().collect() };
        let mut needed: BTreeSet<String> = columns.iter().cloned().collect();
        if stage < ScanStage::RowFilter {
            needed.extend(self.row_filter.iter().flat_map(Predicate::columns));
        }
        if let (true, Some(ids)) = (stage < ScanStage::KeepLatest, &self.keep_latest) {
            needed.extend(ids.iter().cloned());
            needed.extend([columns::UPDATED_AT.to_owned(), columns::DELETED_AT.to_owned()]);
        }
        if stage < ScanStage::Filter {
            needed.extend(self.filter.iter().flat_map(Predicate::columns));
        }
        all().filter(|name| needed.contains(name)).collect()
    }
}

/// Turns batches that are already there into a stream.
pub fn stream_of(batches: Vec<RecordBatch>) -> BatchStream {
    futures::stream::iter(batches.into_iter().map(Ok)).boxed()
}
