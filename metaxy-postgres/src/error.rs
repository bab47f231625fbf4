//! Converts errors of the driver and of the server, by type and by SQLSTATE.

use std::fmt::Display;
use std::io;

use metaxy_core::Error;

use crate::KIND;

/// The code with which a server refuses a connection that no access rule (`pg_hba.conf`) allows.
pub(crate) const ACCESS_RULES: &str = "28000";
/// The server's code for a missing table.
pub(crate) const UNDEFINED_TABLE: &str = "42P01";
/// The server's code for a missing column.
pub(crate) const UNDEFINED_COLUMN: &str = "42703";
/// The server's code for a missing function.
pub(crate) const UNDEFINED_FUNCTION: &str = "42883";

/// The operation during which an error occurred.
#[derive(Clone, Copy, Debug)]
pub(crate) struct During<'a> {
    pub(crate) operation: &'static str,
    pub(crate) table: Option<&'a str>,
}

impl<'a> During<'a> {
    /// Describes work on a table.
    pub(crate) fn table(operation: &'static str, table: &'a str) -> Self {
        Self { operation, table: Some(table) }
    }

    /// Describes work on the whole store.
    pub(crate) fn store(operation: &'static str) -> Self {
        Self { operation, table: None }
    }

    fn described(self) -> String {
        match self.table {
            Some(table) => format!("{} table `{table}`", self.operation),
            None => self.operation.to_owned(),
        }
    }

    /// Converts an error of the driver. Messages of PostgreSQL have no passwords.
    pub(crate) fn error(self, location: &str, error: sqlx::Error) -> Error {
        if let Some(reason) = unreachable_reason(&error) {
            return Error::unreachable(location, reason).with_source(error);
        }
        match &error {
            sqlx::Error::PoolClosed => Error::Closed { store: format!("{KIND} at {location}") },
            sqlx::Error::Configuration(source) => Error::setting("connection_string", source.to_string()),
            sqlx::Error::Database(_) => self.refusal(location, error),
            _ => self.other(error, false),
        }
    }

    /// Converts an error of the server, by its code.
    fn refusal(self, location: &str, error: sqlx::Error) -> Error {
        let code = code(&error);
        let said = error.as_database_error().map(|error| error.message().to_owned()).unwrap_or_default();
        let denied = |said: String| Error::access_denied(location, self.described(), said);
        let missing = |hint: &str| Error::location_not_found(location, format!("{said}; {hint}"));
        let refusal = match (code.as_str(), self.table) {
            ("53100", _) => {
                let location = location.to_owned();
                return Error::StorageFull { location, operation: self.described(), source: error.into() };
            }
            ("42501" | "25006" | "0P000", _) => denied(said),
            ("3D000" | "57P04", _) => missing("create the database, or name another"),
            ("3F000", _) => missing("create the schema, or name another"),
            ("XX001" | "XX002" | "58P01", Some(table)) => Error::corrupt(table, said),
            // Idle too long, too many connections, a server that is starting or stopping, a pooler without a server.
            ("25P03" | "25P04" | "53300", _) => Error::unreachable(location, said),
            (code, _) if code.starts_with("57P") || code.starts_with("08") => Error::unreachable(location, said),
            (code, _) if code.starts_with("28") => denied(said),
            (code, _) => return self.other(error, passes(code)),
        };
        refusal.with_source(error)
    }

    fn other(self, error: sqlx::Error, transient: bool) -> Error {
        match self.table {
            Some(table) => Error::table(KIND, self.operation, table, error).with_transient(transient),
            None => Error::backend(KIND, self.operation, error).with_transient(transient),
        }
    }
}

/// Returns whether the same statement may succeed later: serialization, resources, locks, a time limit, or a table that
/// was dropped after it was found.
fn passes(code: &str) -> bool {
    code.starts_with("40")
        || code.starts_with("53")
        || ["55P03", "55006", "57014", "58030", UNDEFINED_TABLE].contains(&code)
}

/// Returns why the server cannot be reached, if that is the cause of the error.
fn unreachable_reason(error: &sqlx::Error) -> Option<String> {
    Some(match error {
        sqlx::Error::Io(source) => io_reason(source),
        sqlx::Error::Tls(source) => tls_reason(source),
        // The bytes are not those of PostgreSQL's protocol: the connection was interrupted, or another program
        // responds.
        sqlx::Error::Protocol(reason) => {
            format!("the response is not one of PostgreSQL ({reason}); check the server and the port")
        }
        sqlx::Error::PoolTimedOut => {
            "no connection was available within `connect_timeout`; check the server, or raise `pool_size`".to_owned()
        }
        _ => return None,
    })
}

fn io_reason(source: &io::Error) -> String {
    if let Some(tls) = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls_reason(tls);
    }
    match source.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => {
            format!("the connection was lost ({source}); a write in progress is stored completely or not at all")
        }
        _ => source.to_string(),
    }
}

fn tls_reason(source: &(impl Display + ?Sized)) -> String {
    format!("TLS failed: {source}; check `sslmode` and `sslrootcert`")
}

/// Returns the code of an error of the server; empty for other errors.
pub(crate) fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(error: sqlx::Error) -> Error {
        During::table("write", "t").error("postgresql://db/x", error)
    }

    #[test]
    fn errors_of_a_connection_are_transient() {
        let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::HandshakeNotComplete);
        for error in [sqlx::Error::Io(cut), sqlx::Error::Io(tls), sqlx::Error::Protocol("0x00".to_owned())] {
            let error = of(error);
            assert!(matches!(error, Error::Unreachable { .. }) && error.is_transient(), "{error:?}");
        }
    }
}
