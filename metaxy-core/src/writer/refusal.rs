//! What the store refuses, and where it is then.

use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Error;
use crate::key::FeatureKey;

use super::parcel::Entry;

/// A batch that the store has refused and that lies in the directory `rejected` of the spool, with the reason beside it.
/// [`retry_rejected`](super::BufferedMetadataWriter::retry_rejected) takes it back.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RejectedBatch {
    /// Its feature.
    pub feature: FeatureKey,
    /// How many rows it has.
    pub rows: usize,
    /// The file that holds it.
    pub file: PathBuf,
    /// What the store said.
    pub error: Arc<Error>,
}

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Some of the rows, which are going to be refused whenever they come.
    Rows,
    /// The rows, or their table, or the store.
    Unknown,
    /// The store, or something that passes.
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
    /// The file that keeps it, and what to write beside it.
    pub(super) fn file_and_reason(&self) -> (PathBuf, String) {
        let file = self.entry.files().next().cloned().unwrap_or_default();
        (file, format!("{} row(s) of {}: {}", self.entry.rows(), self.entry.feature, self.error))
    }

    /// It lies in another file now.
    pub(super) fn set_aside(self, file: PathBuf) -> RejectedBatch {
        let Self { entry, error } = self;
        RejectedBatch { rows: entry.rows(), feature: entry.feature, file, error: Arc::new(error) }
    }
}
