//! A request to read a table of a backend, and its result.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::columns;
use crate::error::Result;
use crate::filter::Predicate;

/// A stream of batches of one schema.
pub type BatchStream = BoxStream<'static, Result<RecordBatch>>;

/// A request to read a table. The parts apply in the order of the fields below; [`ScanStage`] names the steps after the
/// first. The default reads everything.
#[derive(Clone, Debug, Default)]
pub struct ScanRequest {
    /// Only rows with one of these keys are needed; the core leaves out the others. Backends that find rows by their keys
    /// read less; `None` means that all rows are needed.
    pub keys: Option<Arc<ScanKeys>>,
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

/// The keys of the rows that a scan needs: one row for each, with the names and types of columns of the table, and
/// without nulls. If `keep_latest` is requested, they are some of its id columns.
#[derive(Clone, Debug)]
pub struct ScanKeys(RecordBatch);

impl ScanKeys {
    /// Creates keys: distinct rows without nulls.
    pub fn new(keys: RecordBatch) -> Self {
        Self(keys)
    }

    /// Returns the keys.
    pub fn rows(&self) -> &RecordBatch {
        &self.0
    }

    /// Returns the names of the key columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.schema_ref().fields().iter().map(|field| field.name().as_str())
    }
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

/// The rows that were appended to a table after a position.
#[derive(Debug)]
pub enum Appended {
    /// Every row that was appended after the position and is still there, in the requested columns. Other rows may be
    /// among them.
    Rows {
        /// The rows; no step of a request has been applied.
        rows: Scan,
        /// The number of rows of the whole table, as far as it is known.
        of: Option<u64>,
    },
    /// It cannot be told, for this reason. Rows may have been removed or changed, or the table was made anew.
    CannotTell(String),
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

    /// Returns the version columns by which rows with equal times are ordered, as far as they are requested: the row with
    /// the greatest values is kept.
    pub fn version_order(&self) -> impl Iterator<Item = &'static str> {
        let is_requested = |name: &&str| self.columns.as_ref().is_none_or(|names| names.iter().any(|own| own == name));
        columns::VERSION_ORDER.into_iter().filter(is_requested)
    }
}

/// Returns a stream of batches in memory.
pub fn stream_of(batches: Vec<RecordBatch>) -> BatchStream {
    futures::stream::iter(batches.into_iter().map(Ok)).boxed()
}
