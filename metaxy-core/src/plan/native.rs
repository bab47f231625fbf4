//! What a storage system gives that runs a plan itself.

use arrow::array::RecordBatch;

/// An increment that a storage system has computed itself; columns as the engine gives them.
#[derive(Debug, Default)]
pub struct NativeIncrement {
    /// Samples without a current row.
    pub new: Vec<RecordBatch>,
    /// Samples whose current row has other versions.
    pub stale: Vec<RecordBatch>,
    /// Current rows that nothing upstream asks for.
    pub orphaned: Vec<RecordBatch>,
}

/// What becomes of a plan that a storage system is asked to run.
#[derive(Debug)]
pub enum NativeOutcome {
    /// It has run.
    Done(NativeIncrement),
    /// The storage system cannot run it, for this reason.
    Declined(String),
}
