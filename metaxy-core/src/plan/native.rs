//! The result of a storage system that runs a plan itself.

use arrow::array::RecordBatch;

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
