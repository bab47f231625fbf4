//! What DuckDB says, as errors of this project.

use metaxy_core::Error;
use metaxy_core::secret::{mask_error, mask_url};

use crate::KIND;

/// What is being done, and where: for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct During<'a> {
    pub(crate) location: &'a str,
    pub(crate) operation: &'static str,
    pub(crate) table: Option<&'a str>,
}

impl<'a> During<'a> {
    pub(crate) fn new(location: &'a str, operation: &'static str) -> Self {
        Self { location, operation, table: None }
    }

    pub(crate) fn on(self, table: &'a str) -> Self {
        Self { table: Some(table), ..self }
    }

    /// The error for what DuckDB said.
    pub(crate) fn failed(&self, source: duckdb::Error) -> Error {
        let message = mask_url(&source.to_string());
        let location = self.location.to_owned();
        let has = |part: &str| message.contains(part);
        if has("Could not set lock on file") || has("Conflicting lock is held") {
            return Error::Locked { location, holder: holder(&message) };
        }
        if has("not a valid DuckDB database") || has("version number") || has("Is a directory") {
            return not_a_store(location, &message);
        }
        if has("Corrupt") || has("checksum") || has("Serialization Error") {
            return not_a_store(location, &message);
        }
        if has("Permission denied") || has("Read-only file system") {
            return Error::AccessDenied { location, operation: self.operation.to_owned(), reason: message };
        }
        Error::Backend {
            backend: KIND,
            operation: self.operation,
            table: self.table.map(str::to_owned),
            transient: may_pass(&message),
            source: mask_error(source),
        }
    }

    /// Closure form of [`During::failed`], for `map_err`.
    pub(crate) fn fails(self) -> impl Fn(duckdb::Error) -> Error + 'a {
        move |source| self.failed(source)
    }
}

/// Whether a full disk, a lack of memory or another writer is to blame.
fn may_pass(message: &str) -> bool {
    const PASSING: [&str; 10] = [
        "No space left on device",
        "File too large",
        "Disk quota exceeded",
        "Could not write",
        "Out of Memory",
        "Conflict",
        "conflict",
        "Interrupted",
        "INTERRUPT",
        "has been invalidated",
    ];
    PASSING.iter().any(|part| message.contains(part))
}

/// Whether the database refuses everything until it is opened anew.
pub(crate) fn is_broken(error: &duckdb::Error) -> bool {
    let message = error.to_string();
    message.contains("has been invalidated") || message.contains("FATAL Error")
}

fn not_a_store(location: String, message: &str) -> Error {
    let reason = message.split_once("Error: ").map_or(message, |(_, reason)| reason);
    Error::NotAStore { location, expected: "DuckDB database", reason: reason.trim().to_owned() }
}

/// Who holds a file: DuckDB says `Conflicting lock is held in /usr/bin/python3.13 (PID 4711) by user root`.
fn holder(message: &str) -> String {
    let named = message.split_once("held in ").map(|(_, rest)| rest);
    let named = named.and_then(|rest| rest.split_once(". ").map_or(Some(rest), |(who, _)| Some(who)));
    named.map_or_else(|| "another process".to_owned(), |who| who.trim().trim_end_matches('.').to_owned())
}
