//! A request to read a table of a backend, and its result.

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

/// A request to read a table. The parts apply in the order of the fields below; [`ScanStage`] names the steps. The
/// default reads everything.
#[derive(Clone, Debug, Default)]
pub struct ScanRequest {
    /// Keeps the rows for which this is true, before the other steps (the feature version).
    pub row_filter: Option<Predicate>,
    /// Then keeps one row for each combination of these id columns: the one with the greatest
    /// `coalesce(metaxy_deleted_at, metaxy_updated_at)`; if several are equal, which only other programs write, exactly
    /// one, the same in every scan.
    pub keep_latest: Option<Vec<String>>,
    /// Then keeps the rows for which this is true (deleted rows, the user's filters).
    pub filter: Option<Predicate>,
    /// Then keeps these columns; `None` means all. May be empty: then only the number of rows counts.
    pub columns: Option<Vec<String>>,
}

/// The last step of a [`ScanRequest`] that a backend has applied, after all steps before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScanStage {
    /// No step: all rows of the table are returned. (Rows that `row_filter` refuses may be missing.)
    Nothing,
    /// `row_filter`. (If `keep_latest` is requested, rows that `filter` refuses must not be missing: it is applied
    /// first.)
    RowFilter,
    /// `row_filter` and `keep_latest`.
    KeepLatest,
    /// `row_filter`, `keep_latest` and `filter`.
    Filter,
}

/// The result of a [`ScanRequest`].
pub struct Scan {
    /// The schema of every batch in the stream.
    pub schema: SchemaRef,
    /// The rows, in no particular order.
    pub stream: BatchStream,
    /// The steps that have been applied; the core applies the rest.
    pub applied: ScanStage,
}

impl fmt::Debug for Scan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("schema", &self.schema).field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl ScanRequest {
    /// Returns the columns that the batches must have if the backend has applied `stage`, in the table's order: the
    /// requested ones and those that the remaining steps read. Additional columns are allowed.
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

/// Returns a stream of batches in memory.
pub fn stream_of(batches: Vec<RecordBatch>) -> BatchStream {
    futures::stream::iter(batches.into_iter().map(Ok)).boxed()
}
