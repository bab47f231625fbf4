//! Why a command fails, and with which exit code.

use std::io;
use std::path::Path;

use metaxy_core::Error;

/// The result of every fallible function of the command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Arguments that do not fit the features or each other.
    #[error("{0}")]
    Usage(String),
    /// A file whose content cannot be used.
    #[error("{file}: {reason}")]
    File {
        /// The file.
        file: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An operation of the system that failed.
    #[error("cannot {operation}: {source}")]
    Io {
        /// The operation.
        operation: String,
        /// The error of the system.
        source: io::Error,
    },
    /// A directory or bucket that cannot be listed.
    #[error("{prefix} cannot be listed: {reason}")]
    Scan {
        /// The directory or URL.
        prefix: String,
        /// What the storage system says.
        reason: String,
    },
    /// An object of a bucket that cannot be written.
    #[error("{object} cannot be written: {reason}")]
    Upload {
        /// The URL of the object.
        object: String,
        /// What the storage system says.
        reason: String,
    },
    /// A store that is read before anything was written to it.
    #[error(
        "store `{store}` does not exist: there is nothing at {location}; `metaxy write` or `metaxy push` creates it"
    )]
    Absent {
        /// The store.
        store: String,
        /// Its location.
        location: String,
    },
    /// An error of the library.
    #[error(transparent)]
    Library(#[from] Error),
}

impl Failure {
    /// Returns the failure of wrong arguments.
    pub fn usage(reason: impl Into<String>) -> Self {
        Self::Usage(reason.into())
    }

    /// Returns the failure of an operation of the system.
    pub fn io(operation: impl Into<String>, source: io::Error) -> Self {
        Self::Io { operation: operation.into(), source }
    }

    /// Returns the failure of a file that cannot be used.
    pub fn file(file: &Path, reason: impl ToString) -> Self {
        Self::File { file: file.display().to_string(), reason: reason.to_string() }
    }

    /// Returns whether the reader of the output has gone, as `head` does when it has seen enough.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns the exit code: 2 for usage, configuration, definitions and input, 3 for stores and the system.
    pub fn code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File { .. } => 2,
            Self::Io { .. } | Self::Scan { .. } | Self::Upload { .. } | Self::Absent { .. } => 3,
            Self::Library(error) if is_of_store(error) => 3,
            Self::Library(_) => 2,
        }
    }
}

/// Returns whether the store or its rows are the reason, not what the user has given.
fn is_of_store(error: &Error) -> bool {
    matches!(
        error,
        Error::FeatureNotFound { .. }
            | Error::ReadOnly { .. }
            | Error::Closed { .. }
            | Error::TableMissing { .. }
            | Error::LocationNotFound { .. }
            | Error::NotAStore { .. }
            | Error::Locked { .. }
            | Error::Unreachable { .. }
            | Error::AccessDenied { .. }
            | Error::StorageFull { .. }
            | Error::Corrupt { .. }
            | Error::Conflict { .. }
            | Error::Unsupported { .. }
            | Error::UnsupportedType { .. }
            | Error::LimitExceeded { .. }
            | Error::NotPushed { .. }
            | Error::UnusableDefinition { .. }
            | Error::Backend { .. }
            | Error::Task(_)
    )
}
