//! What `deltalake`, `object_store` and `parquet` say, as errors of this project.

use std::error::Error as StdError;

use deltalake::DeltaTableError;
use metaxy_core::error::{BoxError, Error};
use metaxy_core::secret::{MASK, mask_url};
use object_store::Error as StoreError;

use crate::config::KIND;

/// Knows the place that errors name, and the secrets that they must not.
#[derive(Clone, Default)]
pub(crate) struct ErrorContext {
    /// The store's place, masked.
    pub location: String,
    /// Texts that may not appear in a message.
    pub secrets: Vec<String>,
}

/// What went wrong, by what the caller can do about it.
enum Cause {
    Damaged,
    Missing,
    Denied,
    Unreachable,
    Other,
}

impl ErrorContext {
    /// An error of the object store, met while doing `operation` on a table, or on the whole store where that is none.
    pub fn store(&self, operation: &'static str, table: Option<&str>, error: StoreError) -> Error {
        self.wrap(operation, table, Box::new(error))
    }

    /// An error of `deltalake`.
    pub fn delta(&self, operation: &'static str, table: &str, error: DeltaTableError) -> Error {
        let text = chain(&error);
        let lower = text.to_lowercase();
        if lower.contains("unsupported") && (lower.contains("feature") || lower.contains("version")) {
            return Error::Unsupported {
                what: format!("table `{table}`: {}", self.redact(&text)),
                hint: "it was written with a newer feature of Delta Lake; read it with the program that wrote it"
                    .into(),
            };
        }
        if is_storage(&error) || lower.contains("object store") && !lower.contains("not found") {
            return self.wrap(operation, Some(table), Box::new(error));
        }
        Error::Corrupt { table: table.to_owned(), reason: format!("{operation} failed: {}", self.redact(&text)) }
    }

    /// An error of the Parquet reader, met in a data file.
    pub fn parquet(&self, table: &str, file: &str, error: parquet::errors::ParquetError) -> Error {
        match find_store_error(&error) {
            Some(StoreError::NotFound { .. }) => missing_file(table, file),
            Some(_) if !is_damage(&error) => self.wrap("reading", Some(table), Box::new(error)),
            _ => Error::Corrupt {
                table: table.to_owned(),
                reason: format!("the data file `{file}` cannot be read: {}", self.redact(&chain(&error))),
            },
        }
    }

    /// An error of the object store, met in a data file.
    pub fn file(&self, table: &str, file: &str, error: StoreError) -> Error {
        match error {
            StoreError::NotFound { .. } => missing_file(table, file),
            error => self.parquet(table, file, parquet::errors::ParquetError::External(Box::new(error))),
        }
    }

    /// The text without the secrets.
    pub fn redact(&self, text: &str) -> String {
        mask_url(&self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK)))
    }

    fn wrap(&self, operation: &'static str, table: Option<&str>, error: BoxError) -> Error {
        let reason = self.redact(&chain(error.as_ref()));
        let location = match table {
            Some(table) => format!("table `{table}` in {}", self.location),
            None => self.location.clone(),
        };
        match cause(error.as_ref(), &reason) {
            Cause::Damaged => Error::Corrupt {
                table: table.unwrap_or_default().to_owned(),
                reason: format!("{operation} failed: {reason}"),
            },
            Cause::Denied => Error::AccessDenied { location, operation: operation.to_owned(), reason },
            Cause::Unreachable => Error::Unreachable { location, reason },
            Cause::Missing => Error::LocationNotFound {
                location,
                hint: format!("check `root_path`, and whether the bucket exists ({reason})"),
            },
            Cause::Other => Error::Backend {
                backend: KIND,
                operation,
                table: table.map(ToOwned::to_owned),
                transient: false,
                // The source's own text might hold what the message must not.
                source: reason.into(),
            },
        }
    }
}

fn missing_file(table: &str, file: &str) -> Error {
    Error::Corrupt {
        table: table.to_owned(),
        reason: format!(
            "its log names the data file `{file}`, which does not exist; a vacuum with too short a retention, or \
             another program, has removed it"
        ),
    }
}

/// A message with all that caused it, each said once.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| (*error).source())
}

fn find_store_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a StoreError> {
    causes(error).find_map(|error| error.downcast_ref::<StoreError>())
}

/// Whether a file or directory that is not there is to blame.
pub(crate) fn is_missing(error: &(dyn StdError + 'static)) -> bool {
    let mut io = causes(error).filter_map(|error| error.downcast_ref::<std::io::Error>());
    matches!(find_store_error(error), Some(StoreError::NotFound { .. }))
        || io.any(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn is_damage(error: &(dyn StdError + 'static)) -> bool {
    matches!(cause(error, ""), Cause::Damaged)
}

fn is_storage(error: &(dyn StdError + 'static)) -> bool {
    find_store_error(error).is_some_and(|error| !matches!(error, StoreError::NotFound { .. }))
}

fn cause(error: &(dyn StdError + 'static), text: &str) -> Cause {
    let io = causes(error).find_map(|error| error.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    match (find_store_error(error), io) {
        (Some(StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }), _) => Cause::Denied,
        (_, Some(std::io::ErrorKind::PermissionDenied)) => Cause::Denied,
        (_, Some(std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)) => Cause::Damaged,
        (Some(StoreError::NotFound { .. }), _) => Cause::Missing,
        _ if ["NoSuchBucket", "ContainerNotFound"].iter().any(|code| text.contains(code)) => Cause::Missing,
        _ if ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403 Forbidden", "401 Unauthorized"]
            .iter()
            .any(|code| text.contains(code)) =>
        {
            Cause::Denied
        }
        _ if ["error sending request", "connect", "timed out", "timeout", "dns error", "503 Service", "credential"]
            .iter()
            .any(|sign| text.to_lowercase().contains(sign)) =>
        {
            Cause::Unreachable
        }
        _ => Cause::Other,
    }
}
