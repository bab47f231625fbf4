//! Errors of file systems as named cases.

use std::fmt;
use std::io::{self, ErrorKind};

use super::Error;

impl Error {
    /// Returns the error for an error of a file system: full, denied, missing, unreachable, or else [`Error::Backend`].
    pub fn of_io(location: impl fmt::Display, operation: &'static str, error: io::Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Self::StorageFull {
                location: location.to_string(),
                operation: operation.to_owned(),
                source: error.into(),
            },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::access_denied(location, operation, reason).with_source(error)
            }
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                Self::location_not_found(location, reason).with_source(error)
            }
            ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::StaleNetworkFileHandle => Self::unreachable(location, reason).with_source(error),
            kind => {
                let transient =
                    matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy)
                        || is_out_of_handles(&error);
                let source = format!("{location}: {error}").into();
                Self::Backend { backend: "files", operation, table: None, transient, source }
            }
        }
    }
}

/// Returns whether the process, or the system, has no file handle left. Others are closed soon.
fn is_out_of_handles(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    #[cfg(not(unix))]
    return false;
}
