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
