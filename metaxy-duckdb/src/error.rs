//! Converts errors of DuckDB into those of metaxy.

use std::io::{self, ErrorKind};

use metaxy_core::Error;
use metaxy_core::secret::{mask_error, mask_url};

use crate::KIND;

/// The operation and its location, for the conversion of DuckDB's errors.
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

    pub(crate) fn of(self, table: &'a str) -> Self {
        Self { table: Some(table), ..self }
    }

    /// Returns the table, or else the file.
    pub(crate) fn table_name(&self) -> &'a str {
        self.table.unwrap_or(self.location)
    }

    /// Converts an error of DuckDB.
    pub(crate) fn error(&self, source: duckdb::Error) -> Error {
        let message = source.to_string();
        let location = self.location.to_owned();
        match kind(&message) {
            Kind::Locked => Error::Locked { location, holder: holder(&message) },
            Kind::Referred => Error::Unsupported {
                what: format!("a new member in a column of table `{}`, to which other tables refer", self.table_name()),
                hint: "drop their foreign keys, or store the value in a separate column".to_owned(),
            },
            Kind::Other => self.backend(source, false),
            Kind::Passing => self.backend(source, true),
            Kind::NotADatabase => self.not_a_store(&message),
            Kind::Damaged => match self.table {
                Some(table) => Error::corrupt(table, reason(&message)).with_source(mask_error(source)),
                None => self.not_a_store(&message),
            },
            Kind::Full => {
                Error::StorageFull { location, operation: self.operation.to_owned(), source: mask_error(source) }
            }
            Kind::Io(kind) => Error::of_io(self.location, self.operation, io::Error::new(kind, reason(&message))),
        }
    }

    fn backend(&self, source: duckdb::Error, transient: bool) -> Error {
        Error::Backend {
            backend: KIND,
            operation: self.operation,
            table: self.table.map(str::to_owned),
            transient,
            source: mask_error(source),
        }
    }

    fn not_a_store(&self, message: &str) -> Error {
        Error::NotAStore { location: self.location.to_owned(), expected: "DuckDB database", reason: reason(message) }
    }

    /// Returns [`During::error`] as a closure, for `map_err`.
    pub(crate) fn fails(self) -> impl Fn(duckdb::Error) -> Error + 'a {
        move |source| self.error(source)
    }
}

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Locked,
    NotADatabase,
    Damaged,
    Full,
    Io(ErrorKind),
    /// A change of a column to which another table refers.
    Referred,
    Passing,
    Other,
}

/// The meanings of DuckDB's messages, in order of precedence. Its binding returns only the text.
const MEANINGS: [(&str, Kind); 28] = [
    ("Could not set lock on file", Kind::Locked),
    ("Conflicting lock is held", Kind::Locked),
    ("has been invalidated", Kind::Passing),
    ("No space left on device", Kind::Full),
    ("Disk quota exceeded", Kind::Full),
    ("File too large", Kind::Full),
    ("Permission denied", Kind::Io(ErrorKind::PermissionDenied)),
    ("Operation not permitted", Kind::Io(ErrorKind::PermissionDenied)),
    ("attached in read-only mode", Kind::Io(ErrorKind::PermissionDenied)),
    ("Read-only file system", Kind::Io(ErrorKind::ReadOnlyFilesystem)),
    ("No such file or directory", Kind::Io(ErrorKind::NotFound)),
    ("Stale file handle", Kind::Io(ErrorKind::StaleNetworkFileHandle)),
    ("Connection timed out", Kind::Io(ErrorKind::TimedOut)),
    ("Too many open files", Kind::Passing),
    ("Input/output error", Kind::Passing),
    ("Could not write", Kind::Passing),
    ("not a valid DuckDB database", Kind::NotADatabase),
    ("version number", Kind::NotADatabase),
    ("Is a directory", Kind::NotADatabase),
    ("Corrupt", Kind::Damaged),
    ("corrupt", Kind::Damaged),
    ("checksum", Kind::Damaged),
    ("Serialization Error", Kind::Damaged),
    ("Failure while replaying WAL", Kind::Damaged),
    ("there are entries that depend on it", Kind::Referred),
    ("Out of Memory", Kind::Passing),
    ("onflict", Kind::Passing),
    ("INTERRUPT", Kind::Passing),
];

fn kind(message: &str) -> Kind {
    let words = without_quotes(message);
    MEANINGS.into_iter().find(|(part, _)| words.contains(part)).map_or(Kind::Other, |(_, kind)| kind)
}

/// Removes quoted parts from a message: paths, names and values, which could contain the same words.
fn without_quotes(message: &str) -> String {
    let mut words = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find(['"', '\'']) {
        let (before, quoted) = rest.split_at(start);
        words.push_str(before);
        let quote = if quoted.starts_with('"') { '"' } else { '\'' };
        // An apostrophe inside a word opens nothing.
        let opens = !before.ends_with(char::is_alphanumeric);
        let inner = &quoted[1..];
        rest = match inner.find(quote).filter(|_| opens) {
            Some(end) => &inner[end + 1..],
            None => inner,
        };
    }
    words + rest
}

/// Returns whether the database refuses all calls until it is opened again.
pub(crate) fn is_broken(error: &duckdb::Error) -> bool {
    let message = error.to_string();
    message.contains("has been invalidated") || message.contains("FATAL Error")
}

/// Returns the message without the class of the error.
fn reason(message: &str) -> String {
    let message = mask_url(message);
    message.split_once("Error: ").map_or(message.as_str(), |(_, reason)| reason).trim().to_owned()
}

/// Returns the process that locks a file: DuckDB says `Conflicting lock is held in /usr/bin/python3.13 (PID 4711) by
/// user root`.
fn holder(message: &str) -> String {
    let named = message.split_once("held in ").map(|(_, rest)| rest);
    let named = named.and_then(|rest| rest.split_once(". ").map_or(Some(rest), |(who, _)| Some(who)));
    named.map_or_else(|| "another process".to_owned(), |who| who.trim().trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_users_do_not_affect_the_case() {
        for (message, expected) in [
            (r#"IO Error: Cannot open file "/data/Permission denied/x.duckdb": No space left on device"#, Kind::Full),
            (r#"Conversion Error: Could not convert string 'Corrupt: No space left on device' to INT32"#, Kind::Other),
            (r#"IO Error: Cannot open file "/x": Permission denied"#, Kind::Io(ErrorKind::PermissionDenied)),
            ("IO Error: Corrupt database file: computed checksum 1 does not match stored checksum 2", Kind::Damaged),
            ("Binder Error: it doesn't know 'checksum' and can't", Kind::Other),
            (
                r#"TransactionContext Error: Failed to commit: Could not write file "/x.wal": File too large"#,
                Kind::Full,
            ),
        ] {
            assert_eq!(kind(message), expected, "{message}");
        }
    }
}
