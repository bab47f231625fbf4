//! Converts errors of SQLite into those of metaxy.

use metaxy_core::error::{BoxError, Error};
use metaxy_core::secret::{mask_error_of, mask_text};
use rusqlite::{ErrorCode, ffi};

use crate::KIND;
use crate::location::Location;

/// The name of the catalog's table, for errors that concern no other table.
pub(crate) const CATALOG: &str = "metaxy$tables";

/// The operation and its location, for the conversion of SQLite's errors.
#[derive(Clone, Copy)]
pub(crate) struct During<'a> {
    location: &'a Location,
    operation: &'static str,
    table: Option<&'a str>,
}

impl<'a> During<'a> {
    pub(crate) fn new(location: &'a Location, operation: &'static str) -> Self {
        Self { location, operation, table: None }
    }

    pub(crate) fn of(self, table: &'a str) -> Self {
        Self { table: Some(table), ..self }
    }

    /// Converts an error of SQLite.
    pub(crate) fn error(&self, error: rusqlite::Error) -> Error {
        use rusqlite::Error as E;
        let Some(said) = error.sqlite_error() else {
            return match error {
                E::InvalidColumnType(..)
                | E::FromSqlConversionFailure(..)
                | E::IntegralValueOutOfRange(..)
                | E::Utf8Error(..) => self.corrupt(error),
                other => self.other(other, false),
            };
        };
        match (said.code, said.extended_code) {
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => self.locked(),
            (ErrorCode::NotADatabase, _) => Error::NotAStore {
                location: self.location.name.clone(),
                expected: "SQLite database",
                reason: "its header is not that of a SQLite file".to_owned(),
            },
            // If SQLite cannot grow the index of the log, its error for a full disk is a different one.
            (ErrorCode::DiskFull, _) | (_, ffi::SQLITE_IOERR_SHMSIZE) => self.full(error),
            (ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => {
                self.location.denied(self.operation, &self.shown(&error)).with_source(self.masked(&error))
            }
            (ErrorCode::CannotOpen, _) => {
                self.location.why_not_opened(self.operation, &self.shown(&error)).with_source(self.masked(&error))
            }
            (ErrorCode::DatabaseCorrupt, _) => self.corrupt(error),
            (ErrorCode::TooBig, _) => self.too_large(),
            (code, extended) => self.other(error, may_pass(code, extended)),
        }
    }

    /// Returns the text of an error without secrets: it may contain the path.
    fn shown(&self, error: &rusqlite::Error) -> String {
        mask_text(&error.to_string(), &self.location.secrets)
    }

    /// Returns an error without secrets, as a source.
    fn masked(&self, error: &rusqlite::Error) -> BoxError {
        mask_error_of(error, &self.location.secrets)
    }

    fn locked(&self) -> Error {
        let waited = self.location.busy_timeout.as_millis();
        Error::Locked {
            location: self.location.name.clone(),
            holder: format!("another connection that writes (waited {waited} ms, see `busy_timeout_ms`)"),
        }
    }

    fn full(&self, error: rusqlite::Error) -> Error {
        Error::StorageFull {
            location: self.location.name.clone(),
            operation: self.operation.to_owned(),
            source: self.masked(&error),
        }
    }

    fn too_large(&self) -> Error {
        Error::LimitExceeded {
            what: format!("a row of table `{}`", self.table.unwrap_or(CATALOG)),
            limit: "1,000,000,000 bytes in SQLite".to_owned(),
            hint: "store large data in files, and their paths in the table".to_owned(),
        }
    }

    fn corrupt(&self, error: rusqlite::Error) -> Error {
        let reason = format!("{} in {}", self.shown(&error), self.location.name);
        corrupt(self.table.unwrap_or(CATALOG), reason).with_source(self.masked(&error))
    }

    fn other(&self, error: rusqlite::Error, transient: bool) -> Error {
        let error = self.masked(&error);
        match self.table {
            Some(table) => Error::table(KIND, self.operation, table, error),
            None => Error::backend(KIND, self.operation, error),
        }
        .with_transient(transient)
    }
}

/// Returns whether the same call may succeed later: memory is short, or a device or an exhausted quota has refused a
/// write.
fn may_pass(code: ErrorCode, extended: i32) -> bool {
    code == ErrorCode::OutOfMemory
        || [ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_NOMEM].contains(&extended)
}

/// Returns the error for a damaged table.
pub(crate) fn corrupt(table: &str, reason: impl Into<String>) -> Error {
    Error::corrupt(table, reason)
}
