//! Converts errors of `deltalake`, `object_store` and `parquet` into errors of this project.
//!
//! The types of an error and of its sources determine the case, never the words of a message, because messages contain
//! paths and keys of users.

use std::error::Error as StdError;
use std::io;

use delta_kernel::Error as KernelError;
use deltalake::DeltaTableError;
use deltalake::kernel::transaction::TransactionError;
use metaxy_core::error::{BoxError, Error};
use metaxy_core::secret::{mask_error_of, mask_text};
use object_store::Error as StoreError;
use object_store::client::HttpError;
use parquet::errors::ParquetError;

use crate::KIND;

/// The location in errors, and the secrets that they must not show.
#[derive(Clone, Default)]
pub(crate) struct ErrorContext {
    /// The store's location, masked.
    pub location: String,
    /// Texts that may not appear in a message.
    pub secrets: Vec<String>,
}

/// The cause of an error, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Stored bytes are damaged.
    Damaged,
    /// The storage system denies the operation to this user.
    Denied,
    /// There is no space left.
    Full,
    /// Something does not exist.
    Missing,
    /// The storage system cannot be reached at the moment.
    Unreachable,
    /// The storage system has failed in a transient way.
    Passing,
    /// Another writer was faster.
    Raced,
    /// The table needs a feature that is not supported.
    Unsupported,
}

impl ErrorContext {
    /// Converts an error of the object store, in an `operation` on a table or, if that is `None`, on the whole store.
    pub fn store(&self, operation: &'static str, table: Option<&str>, error: StoreError) -> Error {
        self.wrap(operation, table, Box::new(error))
    }

    /// Converts an error of `deltalake`.
    pub fn delta(&self, operation: &'static str, table: &str, error: DeltaTableError) -> Error {
        self.wrap(operation, Some(table), Box::new(error))
    }

    /// Converts an error of `deltalake` in the log of a table: an error that does not come from the storage system
    /// means that the log cannot be read.
    pub fn log(&self, table: &str, error: DeltaTableError) -> Error {
        const OPERATION: &str = "reading the log";
        match cause(&error) {
            None | Some(Cause::Missing) => self.damaged(OPERATION, table, &error),
            Some(_) => self.wrap(OPERATION, Some(table), Box::new(error)),
        }
    }

    /// Converts an error of the Parquet reader in a data file: an error that does not come from the storage system
    /// means that the file cannot be read.
    pub fn parquet(&self, table: &str, file: &str, error: ParquetError) -> Error {
        match cause(&error) {
            Some(Cause::Missing) => missing_file(table, file),
            None | Some(Cause::Damaged) => {
                let reason = format!("the data file `{file}` cannot be read: {}", self.redact(&chain(&error)));
                Error::corrupt(table, reason).with_source(self.masked(&error))
            }
            Some(_) => self.wrap("reading", Some(table), Box::new(error)),
        }
    }

    /// Converts an error of the object store in a data file.
    pub fn file(&self, table: &str, file: &str, error: StoreError) -> Error {
        self.parquet(table, file, ParquetError::External(Box::new(error)))
    }

    /// Returns the text without the secrets.
    pub fn redact(&self, text: &str) -> String {
        mask_text(text, &self.secrets)
    }

    /// Returns the error and its sources, without the secrets.
    pub fn masked(&self, error: &(dyn StdError + 'static)) -> BoxError {
        mask_error_of(error, &self.secrets)
    }

    fn damaged(&self, operation: &str, table: &str, error: &(dyn StdError + 'static)) -> Error {
        let reason = format!("{operation} failed: {}", self.redact(&chain(error)));
        Error::corrupt(table, reason).with_source(self.masked(error))
    }

    fn wrap(&self, operation: &'static str, table: Option<&str>, error: BoxError) -> Error {
        let reason = self.redact(&chain(error.as_ref()));
        let location = match table {
            Some(table) => format!("table `{table}` in {}", self.location),
            None => self.location.clone(),
        };
        let cause = cause(error.as_ref());
        let source = self.masked(error.as_ref());
        match (cause, table) {
            (Some(Cause::Damaged), Some(table)) => self.damaged(operation, table, error.as_ref()),
            (Some(Cause::Raced), Some(table)) => Error::Conflict { table: table.to_owned(), attempts: 1 },
            (Some(Cause::Unsupported), _) => Error::Unsupported {
                what: format!("{location}: {reason}"),
                hint: "it was written with a newer feature of Delta Lake; use the program that wrote it".to_owned(),
            },
            (Some(Cause::Denied), _) => Error::access_denied(location, operation, reason).with_source(source),
            (Some(Cause::Full), _) => {
                Error::StorageFull { location, operation: operation.to_owned(), source: reason.into() }
            }
            (Some(Cause::Unreachable), _) => Error::unreachable(location, reason).with_source(source),
            (Some(Cause::Missing), _) => {
                let hint = format!("check `root_path`, and whether the bucket exists ({reason})");
                Error::location_not_found(location, hint).with_source(source)
            }
            (cause, table) => Error::Backend {
                backend: KIND,
                operation,
                table: table.map(ToOwned::to_owned),
                transient: cause == Some(Cause::Passing),
                // The text of the original source may contain secrets.
                source: reason.into(),
            },
        }
    }
}

fn missing_file(table: &str, file: &str) -> Error {
    Error::corrupt(
        table,
        format!(
            "its log names the data file `{file}`, which does not exist; a vacuum with too short a retention, or \
             another program, has removed it"
        ),
    )
}

/// Returns a message with all its sources, each once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    causes(error).skip(1).fold(error.to_string(), |text, source| {
        let more = source.to_string();
        if text.contains(&more) { text } else { format!("{text}: {more}") }
    })
}

/// Returns an error and its sources, from the outermost to the innermost.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| below(*error))
}

/// Returns the source of an error, even if its type does not return it as such.
fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        return Some(inner);
    }
    match error.downcast_ref::<KernelError>() {
        Some(KernelError::Backtraced { source, .. }) => Some(source.as_ref()),
        Some(KernelError::ObjectStore(source)) => Some(source),
        Some(KernelError::IOError(source)) => Some(source),
        Some(KernelError::Arrow(source)) => Some(source),
        _ => error.source(),
    }
}

/// Returns the outermost cause that a type determines; `None` if there is none.
fn cause(error: &(dyn StdError + 'static)) -> Option<Cause> {
    causes(error).find_map(|error| {
        if let Some(error) = error.downcast_ref::<StoreError>() {
            of_store(error)
        } else if let Some(error) = error.downcast_ref::<io::Error>() {
            of_io(error)
        } else if let Some(error) = error.downcast_ref::<KernelError>() {
            of_kernel(error)
        } else if let Some(error) = error.downcast_ref::<DeltaTableError>() {
            of_delta(error)
        } else if let Some(error) = error.downcast_ref::<TransactionError>() {
            of_transaction(error)
        } else if error.is::<HttpError>() {
            Some(Cause::Unreachable)
        } else {
            of_response(&error.to_string())
        }
    })
}

fn of_store(error: &StoreError) -> Option<Cause> {
    match error {
        StoreError::NotFound { .. } => Some(Cause::Missing),
        // `deltalake` returns `NotSupported` if credentials cannot be obtained.
        StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } | StoreError::NotSupported { .. } => {
            Some(Cause::Denied)
        }
        StoreError::AlreadyExists { .. } | StoreError::Precondition { .. } => Some(Cause::Raced),
        _ => None,
    }
}

fn of_io(error: &io::Error) -> Option<Cause> {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => return Some(Cause::Damaged),
        ErrorKind::ConnectionRefused
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::NotConnected
        | ErrorKind::BrokenPipe => return Some(Cause::Unreachable),
        _ => {}
    }
    // The original error may be a source, with an error number that is more specific.
    let copy = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
    match Error::of_io("", "", copy) {
        Error::StorageFull { .. } => Some(Cause::Full),
        Error::AccessDenied { .. } => Some(Cause::Denied),
        Error::LocationNotFound { .. } => Some(Cause::Missing),
        Error::Unreachable { .. } => Some(Cause::Unreachable),
        error if error.is_transient() => Some(Cause::Passing),
        _ => None,
    }
}

fn of_kernel(error: &KernelError) -> Option<Cause> {
    match error {
        KernelError::Unsupported(_) => Some(Cause::Unsupported),
        KernelError::FileNotFound(_) => Some(Cause::Missing),
        KernelError::FileAlreadyExists(_) => Some(Cause::Raced),
        _ => None,
    }
}

fn of_delta(error: &DeltaTableError) -> Option<Cause> {
    match error {
        DeltaTableError::VersionAlreadyExists(_) => Some(Cause::Raced),
        DeltaTableError::UnsupportedColumnMapping { .. } => Some(Cause::Unsupported),
        _ => None,
    }
}

fn of_transaction(error: &TransactionError) -> Option<Cause> {
    match error {
        TransactionError::VersionAlreadyExists(_)
        | TransactionError::CommitConflict(_)
        | TransactionError::MaxCommitAttempts(_) => Some(Cause::Raced),
        TransactionError::UnsupportedTableFeatures(_) | TransactionError::TableFeaturesRequired(_) => {
            Some(Cause::Unsupported)
        }
        _ => None,
    }
}

/// Returns the cause in a response of a server. The type of such a response is private to `object_store`; its text
/// begins with words of `object_store`, followed by the status and code of the server, and only then by texts of users.
fn of_response(text: &str) -> Option<Cause> {
    let (status, body) = match text.strip_prefix("Server returned non-2xx status code: ") {
        Some(rest) => (rest.get(..3).and_then(|status| status.parse::<u16>().ok()), rest),
        None => (None, text.strip_prefix("Server returned error response: ")?),
    };
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>")).map(|(code, _)| code);
    match (code, status) {
        (Some("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "AuthorizationHeaderMalformed"), _)
        | (Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" | "RequestTimeTooSkewed"), _) => {
            Some(Cause::Denied)
        }
        (Some("InsufficientStorage" | "QuotaExceeded" | "XMinioStorageFull"), _) | (_, Some(507)) => Some(Cause::Full),
        (Some("SlowDown" | "ServiceUnavailable" | "RequestTimeout"), _) => Some(Cause::Unreachable),
        (_, Some(404)) => Some(Cause::Missing),
        (_, Some(408 | 429 | 502 | 503 | 504)) => Some(Cause::Unreachable),
        (Some("InternalError"), _) | (_, Some(500..)) => Some(Cause::Passing),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> ErrorContext {
        ErrorContext { location: "/data".to_owned(), secrets: Vec::new() }
    }

    /// A file of a user whose name consists of words from error messages.
    const PATH: &str = "/data/unsupported feature/connect timeout 503 Service/AccessDenied/object store credential";

    fn local(error: io::Error) -> StoreError {
        crate::table::storage::local_file::failed(std::path::Path::new(PATH), error)
    }

    #[test]
    fn errors_of_files_keep_their_kind() {
        let of = |error: io::Error| context().store("write", Some("t"), local(error));
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            assert!(matches!(of(kind.into()), Error::StorageFull { .. }), "{kind}");
        }
        assert!(matches!(of(io::Error::from_raw_os_error(libc::ENOSPC)), Error::StorageFull { .. }));
        assert!(matches!(of(io::ErrorKind::ReadOnlyFilesystem.into()), Error::AccessDenied { .. }));
        assert!(matches!(of(io::ErrorKind::PermissionDenied.into()), Error::AccessDenied { .. }));
        assert!(matches!(of(io::ErrorKind::InvalidData.into()), Error::Corrupt { .. }));
        let handles = of(io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(handles, Error::Backend { transient: true, .. }), "{handles:?}");
        let other = of(io::Error::from_raw_os_error(libc::EIO));
        assert!(matches!(other, Error::Backend { transient: false, .. }), "{other:?}");
    }

    #[test]
    fn texts_of_users_do_not_affect_the_case() {
        let text = || DeltaTableError::Generic(PATH.to_owned());
        let error = context().delta("committing", "t", text());
        assert!(matches!(error, Error::Backend { transient: false, .. }), "{error:?}");
        assert!(matches!(context().log("t", text()), Error::Corrupt { .. }));
        let full = DeltaTableError::from(local(io::Error::from_raw_os_error(libc::ENOSPC)));
        assert!(matches!(context().delta("committing", "t", full), Error::StorageFull { .. }));
    }

    #[test]
    fn nested_errors_are_found() {
        let full = || local(io::ErrorKind::StorageFull.into());
        let kernel = DeltaTableError::KernelError(KernelError::ObjectStore(full()));
        let wrapped = [
            context().log("t", kernel),
            context().parquet("t", "f", ParquetError::External(Box::new(io::Error::other(full())))),
            context().file("t", "f", full()),
        ];
        for error in wrapped {
            assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
        }
        let unsupported = DeltaTableError::KernelError(KernelError::Unsupported("a feature".to_owned()));
        assert!(matches!(context().log("t", unsupported), Error::Unsupported { .. }));
    }

    #[test]
    fn responses_of_servers_are_distinguished() {
        let of = |answer: &str| of_response(&format!("Server returned non-2xx status code: {answer}"));
        assert_eq!(of("507 Insufficient Storage: "), Some(Cause::Full));
        assert_eq!(of("503 Service Unavailable: <Error><Code>SlowDown</Code></Error>"), Some(Cause::Unreachable));
        assert_eq!(of("500 Internal Server Error: key 507"), Some(Cause::Passing));
        assert_eq!(of("400 Bad Request: <Error><Code>ExpiredToken</Code></Error>"), Some(Cause::Denied));
        assert_eq!(of("400 Bad Request: <Error><Code>InvalidRequest</Code><Key>503</Key></Error>"), None);
        assert_eq!(of_response("the key `Server returned non-2xx status code: 507` is long"), None);
    }
}
