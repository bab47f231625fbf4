//! What a writer reports: progress, and what could not be written.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::key::FeatureKey;

use super::refusal::RejectedBatch;

/// The progress of one feature in a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterProgress {
    /// The number of rows that were put.
    pub put: u64,
    /// The number of rows that are in the store.
    pub written: u64,
    /// The number of rows that are neither written nor given back.
    pub pending: u64,
}

/// The rows that a writer has written in its life, by feature.
pub type RowsWritten = BTreeMap<FeatureKey, u64>;

/// The error of a writer, with the rows that could not be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} row(s) could not be written: {error}{}", self.rows(), self.where_kept())]
pub struct WriterError {
    /// The last error.
    #[source]
    pub error: Arc<Error>,
    /// Every batch that was put and is not in the store. The writer no longer has them; the caller may put them again.
    /// If there is a spool directory, they stay there for the next start. If several callers waited, each gets them,
    /// and one of them has to put them again.
    pub unwritten: Vec<(FeatureKey, RecordBatch)>,
    /// The batches that the store has refused and that are kept in the spool directory, since the last call that
    /// reported any.
    pub rejected: Vec<RejectedBatch>,
}

impl WriterError {
    /// Makes the error of a call that did not reach the writer.
    pub(super) fn without_rows(error: Error) -> Self {
        Self { error: Arc::new(error), unwritten: Vec::new(), rejected: Vec::new() }
    }

    fn rows(&self) -> usize {
        let unwritten: usize = self.unwritten.iter().map(|(_, batch)| batch.num_rows()).sum();
        unwritten + self.rejected_rows()
    }

    fn rejected_rows(&self) -> usize {
        self.rejected.iter().map(|batch| batch.rows).sum()
    }

    /// Says in which directory rejected rows are kept.
    fn where_kept(&self) -> String {
        match self.rejected.first().and_then(|first| first.file.parent()) {
            None => String::new(),
            Some(directory) => {
                format!("; {} row(s) are kept in {} until `retry_rejected`", self.rejected_rows(), directory.display())
            }
        }
    }
}

impl From<WriterError> for Error {
    fn from(error: WriterError) -> Self {
        Self::Unwritten { source: error.into() }
    }
}
