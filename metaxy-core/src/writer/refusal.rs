//! Rows that the store refuses.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::key::FeatureKey;

use super::flush_batch::Entry;

/// A batch that the store has refused. It is in the directory `rejected` of the spool, with the reason in a file beside
/// it, until [`retry_rejected`](super::BufferedMetadataWriter::retry_rejected) takes it back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RejectedBatch {
    /// The feature of its rows.
    pub feature: FeatureKey,
    /// The number of its rows.
    pub rows: usize,
    /// The file that holds it.
    pub file: PathBuf,
    /// The error of the store.
    pub error: Arc<Error>,
}

/// The cause of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Some of the rows, which will be refused again.
    Rows,
    /// The rows, or their table, or the store.
    Unknown,
    /// The store, or something transient.
    Store,
}

impl Blame {
    pub(super) fn of(error: &Error) -> Self {
        match error {
            error if error.is_transient() => Self::Store,
            Error::InvalidColumn { .. }
            | Error::MissingColumn { .. }
            | Error::NullId { .. }
            | Error::DuplicateId { .. }
            | Error::InvalidValue { .. }
            | Error::LimitExceeded { .. }
            | Error::UnsupportedType { .. }
            | Error::TypeMismatch { .. }
            | Error::Arrow(_) => Self::Rows,
            Error::Backend { .. }
            | Error::Corrupt { .. }
            | Error::TableMissing { .. }
            | Error::Task(_)
            | Error::Unsupported { .. } => Self::Unknown,
            _ => Self::Store,
        }
    }
}

/// A batch that cannot be stored.
pub(super) struct Refused {
    pub(super) entry: Entry,
    pub(super) error: Error,
}

impl Refused {
    /// Returns its file, and the reason to write beside it.
    pub(super) fn file_and_reason(&self) -> (PathBuf, String) {
        let file = self.entry.files().next().cloned().unwrap_or_default();
        (file, format!("{} row(s) of {}: {}", self.entry.rows(), self.entry.feature, self.error))
    }

    /// Makes the report of a batch that was moved to `file`.
    pub(super) fn rejected_as(self, file: PathBuf) -> RejectedBatch {
        let Self { entry, error } = self;
        RejectedBatch { rows: entry.rows(), feature: entry.feature, file, error: Arc::new(error) }
    }
}
