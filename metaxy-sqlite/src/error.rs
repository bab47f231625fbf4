//! What SQLite says, as the errors of metaxy.

use metaxy_core::Error;
use metaxy_core::secret::{mask_error, mask_url};
use rusqlite::ErrorCode;

use crate::KIND;
use crate::connection::Place;

/// What was being done, and where; turns SQLite's errors into named ones.
#[derive(Clone, Copy)]
pub(crate) struct During<'a> {
    pub(crate) place: &'a Place,
    pub(crate) operation: &'static str,
    pub(crate) table: Option<&'a str>,
}

impl<'a> During<'a> {
    pub(crate) fn new(place: &'a Place, operation: &'static str) -> Self {
        Self { place, operation, table: None }
    }

    pub(crate) fn of(self, table: &'a str) -> Self {
        Self { table: Some(table), ..self }
    }

    /// The error for what SQLite said.
    pub(crate) fn error(&self, error: rusqlite::Error) -> Error {
        let location = self.place.location.clone();
        let reason = || mask_url(&error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Locked {
                location,
                holder: format!(
                    "another connection that writes (waited {} ms, see `busy_timeout_ms`)",
                    self.place.busy_timeout.as_millis()
                ),
            },
            Some(ErrorCode::NotADatabase) => Error::NotAStore {
                location,
                expected: "SQLite database",
                reason: "its first bytes are others".to_owned(),
            },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                Error::AccessDenied { location, operation: self.operation.to_owned(), reason: reason() }
            }
            Some(ErrorCode::CannotOpen) => self.place.why_not_opened(self.operation, &reason()),
            Some(ErrorCode::DatabaseCorrupt) => Error::Corrupt {
                table: self.table.unwrap_or("?").to_owned(),
                reason: format!("{} in {location}", reason()),
            },
            code => {
                let passing = code == Some(ErrorCode::DiskFull);
                match self.table {
                    Some(table) => Error::table(KIND, self.operation, table, mask_error(error)).with_transient(passing),
                    None => Error::backend(KIND, self.operation, mask_error(error)).with_transient(passing),
                }
            }
        }
    }
}

/// What is wrong with the rows of a table.
pub(crate) fn corrupt(table: &str, reason: impl Into<String>) -> Error {
    Error::Corrupt { table: table.to_owned(), reason: reason.into() }
}
