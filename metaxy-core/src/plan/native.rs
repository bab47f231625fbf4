//! Increments by kind of row, and the result of a storage system that runs a plan itself.

use arrow::array::RecordBatch;

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

/// The outcome of a plan that a storage system was given.
#[derive(Debug)]
pub enum NativeOutcome {
    /// It has run, with this result.
    Done(NativeIncrement),
    /// The storage system cannot run it, for this reason.
    Declined(String),
}
