//! One error type for the whole project.
//!
//! Every case names the thing that is wrong, the place, and the way out. Backends wrap what their storage system says
//! in [`Error::Backend`] unless a named case fits. No case carries a secret: locations are masked before they get here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::hash::{HashAlgorithm, UnsupportedHash};
use crate::key::{FeatureKey, InvalidKey};

/// What every fallible call of this project returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The source of an [`Error`], kept for `std::error::Error::source`.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Everything that can go wrong, by name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- definitions -------------------------------------------------------------------------------------------
    /// A feature or field key that does not follow the rules of keys.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// A definition that contradicts itself; `reason` says how to mend it.
    #[error("feature `{feature}`: {reason}")]
    InvalidSpec {
        /// The feature that is defined.
        feature: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Two features of one graph have the same key.
    #[error("feature `{0}` is defined twice; give one of the two another key")]
    DuplicateFeature(FeatureKey),
    /// Two features would live in the same table.
    #[error("features `{first}` and `{second}` would share the table `{table}`; rename one of them")]
    TableCollision {
        /// The one.
        first: FeatureKey,
        /// The other.
        second: FeatureKey,
        /// Their table name.
        table: String,
    },
    /// A field key occurs twice in a feature.
    #[error("feature `{feature}`: field `{field}` is defined twice; field keys must be unique")]
    DuplicateField {
        /// The feature.
        feature: String,
        /// The field.
        field: String,
    },
    /// A feature without id columns.
    #[error("feature `{feature}`: the list of id columns is empty; name at least one column that identifies a sample")]
    NoIdColumns {
        /// The feature.
        feature: String,
    },
    /// A feature depends on one that the graph does not have.
    #[error("feature `{feature}` depends on `{dependency}`, which the graph does not have{}", did_you_mean(.nearest))]
    MissingDependency {
        /// The dependent feature.
        feature: FeatureKey,
        /// What it depends on.
        dependency: FeatureKey,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// Features that depend on each other.
    #[error("features depend on each other in a circle: {}", join_path(.0))]
    DependencyCycle(
        /// The circle; its first key stands again at its end.
        Vec<FeatureKey>,
    ),
    /// A field depends on a field that does not exist.
    #[error(
        "field `{field}` of feature `{feature}` depends on `{dependency}`, which does not exist{}",
        did_you_mean(.nearest)
    )]
    MissingFieldDependency {
        /// The feature.
        feature: FeatureKey,
        /// The dependent field.
        field: String,
        /// `feature.field` that was asked for.
        dependency: String,
        /// The nearest field that exists.
        nearest: Option<String>,
    },
    /// No upstream field feeds a field, though its feature has dependencies.
    #[error(
        "field `{field}` of feature `{feature}` depends on no upstream field; name its `deps` or give a dependency \
         another fields_mapping"
    )]
    NoParentFields {
        /// The feature.
        feature: FeatureKey,
        /// The field.
        field: String,
    },
    /// A rename that would produce a system column, an id column, or one name twice.
    #[error("feature `{feature}`: renaming `{from}` of `{dependency}` to `{to}` is not possible: {reason}")]
    InvalidRename {
        /// The feature.
        feature: FeatureKey,
        /// The dependency whose column is renamed.
        dependency: FeatureKey,
        /// The old name.
        from: String,
        /// The new name.
        to: String,
        /// Why not.
        reason: String,
    },
    /// Two dependencies bring a column of the same name.
    #[error(
        "feature `{feature}`: column `{column}` comes from both `{first}` and `{second}`; rename it in one of the \
         dependencies, or leave it out with `select`"
    )]
    ColumnCollision {
        /// The feature.
        feature: FeatureKey,
        /// The column.
        column: String,
        /// The dependency that has it first.
        first: FeatureKey,
        /// The dependency that has it again.
        second: FeatureKey,
    },
    /// A feature that the graph does not know.
    #[error("feature `{key}` is not in the graph{}", did_you_mean(.nearest))]
    UnknownFeature {
        /// What was asked for.
        key: FeatureKey,
        /// The nearest key that exists.
        nearest: Option<String>,
    },

    // ---- data --------------------------------------------------------------------------------------------------
    /// A batch, table or selection lacks a column.
    #[error("feature `{feature}`: there is no column `{column}`{}; columns: {}", in_context(.context), .available.join(", "))]
    MissingColumn {
        /// The feature.
        feature: FeatureKey,
        /// The column.
        column: String,
        /// Where it was looked for.
        context: String,
        /// The columns that are there.
        available: Vec<String>,
    },
    /// A column that is there, but not as it has to be.
    #[error("feature `{feature}`, column `{column}`: {reason}")]
    InvalidColumn {
        /// The feature.
        feature: FeatureKey,
        /// The column.
        column: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An id column holds nulls.
    #[error("feature `{feature}`: id column `{column}` holds {count} null value(s); every sample needs an id")]
    NullId {
        /// The feature.
        feature: FeatureKey,
        /// The id column.
        column: String,
        /// How many.
        count: usize,
    },
    /// One call writes two rows of one sample.
    #[error(
        "feature `{feature}`: one write holds {count} rows of the sample {id}; a sample has one row in a write: leave the \
         others out, or open the store with `duplicates = \"last\"`, which keeps the last one"
    )]
    DuplicateId {
        /// The feature.
        feature: FeatureKey,
        /// The sample, as `column=value` of each id column.
        id: String,
        /// How many rows it has in the call.
        count: usize,
    },
    /// A value that cannot be stored as it is.
    #[error("table `{table}`, column `{column}`, row {row}: {reason}")]
    InvalidValue {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row, from 0, in its batch.
        row: usize,
        /// What is wrong with the value and what to do.
        reason: String,
    },
    /// Something that is larger or deeper than this library takes.
    #[error("{what} exceeds the limit of {limit}: {hint}")]
    LimitExceeded {
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
        /// The way out.
        hint: String,
    },
    /// A root feature was resolved without samples.
    #[error(
        "feature `{0}` has no dependencies, so nothing says which samples it should have; pass them with `samples`, \
         with their `metaxy_provenance_by_field`"
    )]
    RootWithoutSamples(FeatureKey),
    /// A type that the storage system cannot hold.
    #[error("{backend} cannot store column `{column}` of type {data_type}: {hint}")]
    UnsupportedType {
        /// The backend.
        backend: &'static str,
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: String,
        /// What to do instead.
        hint: String,
    },
    /// A column's type differs from that of the stored table.
    #[error(
        "table `{table}`: column `{column}` is stored as {stored}, but {given} was given; cast it, or use another name"
    )]
    TypeMismatch {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The stored type.
        stored: String,
        /// The given type.
        given: String,
    },

    // ---- filters -----------------------------------------------------------------------------------------------
    /// A filter that does not parse. The message shows the text with a caret under the place.
    #[error("the filter does not parse: {message}\n  {filter}\n  {}^", " ".repeat(*.column))]
    FilterSyntax {
        /// The filter's text, on one line.
        filter: String,
        /// What is wrong.
        message: String,
        /// Where, in characters from 0.
        column: usize,
    },
    /// A filter names a column that does not exist.
    #[error("the filter `{filter}` names the column `{column}`, which does not exist{}; columns: {}", did_you_mean(.nearest), .available.join(", "))]
    FilterColumn {
        /// The filter.
        filter: String,
        /// The column.
        column: String,
        /// The nearest column that exists.
        nearest: Option<String>,
        /// The columns that are there.
        available: Vec<String>,
    },
    /// A filter compares things that cannot be compared.
    #[error("the filter `{filter}` cannot be evaluated: {reason}")]
    FilterType {
        /// The filter.
        filter: String,
        /// What does not fit.
        reason: String,
    },

    // ---- stores ------------------------------------------------------------------------------------------------
    /// A feature has no rows to read: neither the store nor its fallbacks have a table for it.
    #[error("feature `{feature}` is not in {}; write it first, or check `fallback_stores`", join_places(.searched))]
    FeatureNotFound {
        /// The feature.
        feature: FeatureKey,
        /// The stores that were searched, in order.
        searched: Vec<String>,
    },
    /// A call that writes, on a store opened for reading.
    #[error("store `{store}` is open for reading only; open it with AccessMode::ReadWrite to {operation}")]
    ReadOnly {
        /// The store.
        store: String,
        /// What was tried.
        operation: &'static str,
    },
    /// A call that changes rows of a table that stores keep for themselves.
    #[error("cannot {operation} `{feature}`: keys that begin with `metaxy-system` belong to the store itself")]
    ReservedFeature {
        /// The feature.
        feature: FeatureKey,
        /// What was tried.
        operation: &'static str,
    },
    /// Structs that are no rows, or rows that are no such structs.
    #[error("structs and rows do not fit each other: {source}")]
    Structs {
        /// What does not fit.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A call on a store that has been closed.
    #[error("store `{store}` is closed; open it again")]
    Closed {
        /// The store.
        store: String,
    },
    /// A table has to be created, but the store may not create tables.
    #[error(
        "table `{table}` does not exist in {location}, and `auto_create_tables` is off; create the table, or switch it on"
    )]
    TableMissing {
        /// The table.
        table: String,
        /// The store's place.
        location: String,
    },
    /// A place that does not exist.
    #[error("{location} does not exist: {hint}")]
    LocationNotFound {
        /// The place.
        location: String,
        /// What to do.
        hint: String,
    },
    /// A place that holds something else than a store of this kind.
    #[error("{location} is not a {expected}: {reason}")]
    NotAStore {
        /// The place.
        location: String,
        /// What was expected there.
        expected: &'static str,
        /// What was found.
        reason: String,
    },
    /// A store that somebody else holds.
    #[error("{location} is held by {holder}; close it there, or open it for reading when nobody writes")]
    Locked {
        /// The place.
        location: String,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// A store that cannot be reached.
    #[error("{location} cannot be reached: {reason}")]
    Unreachable {
        /// The place.
        location: String,
        /// Why.
        reason: String,
    },
    /// A store that refuses the caller.
    #[error("{location} refuses to {operation}: {reason}")]
    AccessDenied {
        /// The place.
        location: String,
        /// What was tried.
        operation: String,
        /// What it said.
        reason: String,
    },
    /// A place without room: a full disk, an exhausted quota.
    #[error("{location} has no room left to {operation}: {source}; free some, and try again")]
    StorageFull {
        /// The place.
        location: String,
        /// What was tried.
        operation: String,
        /// What the storage system said.
        #[source]
        source: BoxError,
    },
    /// Stored data that cannot be what was written.
    #[error("table `{table}` is damaged: {reason}")]
    Corrupt {
        /// The table.
        table: String,
        /// What was found.
        reason: String,
    },
    /// Another writer was faster, as often as it was tried.
    #[error("table `{table}`: another writer was faster {attempts} time(s) in a row; try again")]
    Conflict {
        /// The table.
        table: String,
        /// How often it was tried.
        attempts: usize,
    },
    /// Something that this backend, or this combination, does not do.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// What.
        what: String,
        /// The way out.
        hint: String,
    },
    /// What a storage system said, where no named case fits.
    #[error("{backend}: {operation} failed{}: {source}", place(.table))]
    Backend {
        /// The backend's type string.
        backend: &'static str,
        /// What was done.
        operation: &'static str,
        /// The table, where there is one.
        table: Option<String>,
        /// Whether the same call may succeed later (busy, connection lost, time-out).
        transient: bool,
        /// What the storage system said.
        #[source]
        source: BoxError,
    },

    // ---- chains, registry, configuration -----------------------------------------------------------------------
    /// Stores of one fallback chain hash differently.
    #[error(
        "{}store `{store}` hashes with {expected}, its fallback `{fallback}` with {found}; a chain needs one algorithm: \
         give both the same `hash_algorithm`", at_place(.place)
    )]
    HashAlgorithmMismatch {
        /// The store.
        store: String,
        /// Its algorithm.
        expected: HashAlgorithm,
        /// The fallback.
        fallback: String,
        /// The fallback's algorithm.
        found: HashAlgorithm,
        /// Where the configuration names the fallback.
        place: Option<String>,
    },
    /// A backend type that nobody has registered.
    #[error("{}there is no store type `{kind}`{}; {}", at_place(.place), in_brackets(.hint), known_types(.known))]
    UnknownBackend {
        /// The type string.
        kind: String,
        /// The types that are linked in.
        known: Vec<String>,
        /// Which crate to add, or which type may be meant.
        hint: Option<String>,
        /// Where the configuration names it.
        place: Option<String>,
    },
    /// Two backends claim one type string.
    #[error("the store type `{kind}` is registered twice, by `{first}` and by `{second}`; link only one of them")]
    DuplicateBackend {
        /// The type string.
        kind: String,
        /// The one.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// A configuration that cannot be used.
    #[error("{}", config_message(.file, *.line, .key, .reason))]
    Config {
        /// The file, where there is one.
        file: Option<PathBuf>,
        /// The line in it, from 1.
        line: Option<usize>,
        /// The key's path (`stores.dev.database`), empty where the whole file is meant.
        key: String,
        /// What is wrong and what to do.
        reason: String,
    },

    // ---- plumbing ----------------------------------------------------------------------------------------------
    /// An Arrow kernel failed.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A background task died; this is a defect of the program, not of the data.
    #[error("a background task died: {0}")]
    Task(String),
}

impl Error {
    /// Whether the same call may succeed when it is made again: a busy file, a lost connection, a writer that was faster.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend { transient, .. } => *transient,
            Self::Conflict { .. } | Self::Locked { .. } | Self::Unreachable { .. } | Self::StorageFull { .. } => true,
            _ => false,
        }
    }

    /// Wraps what a storage system said, as an error that is final.
    pub fn backend(backend: &'static str, operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Backend { backend, operation, table: None, transient: false, source: source.into() }
    }

    /// Wraps what a storage system said about a table, as an error that is final.
    pub fn table(
        backend: &'static str,
        operation: &'static str,
        table: impl fmt::Display,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend { backend, operation, table: Some(table.to_string()), transient: false, source: source.into() }
    }

    /// What a file system said of a place, as the case that it is: full, denied, missing, unreachable.
    pub fn of_io(location: impl fmt::Display, operation: &'static str, error: io::Error) -> Self {
        use io::ErrorKind;
        let (location, reason) = (location.to_string(), error.to_string());
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                Self::StorageFull { location, operation: operation.to_owned(), source: error.into() }
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::AccessDenied { location, operation: operation.to_owned(), reason }
            }
            ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => {
                Self::LocationNotFound { location, hint: reason }
            }
            ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::StaleNetworkFileHandle => Self::Unreachable { location, reason },
            kind => {
                let transient =
                    matches!(kind, ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::ResourceBusy)
                        || is_out_of_handles(&error);
                let source = format!("{location}: {error}").into();
                Self::Backend { backend: "files", operation, table: None, transient, source }
            }
        }
    }

    /// Says of a [`Error::Backend`] whether it may pass; other cases stay as they are.
    #[must_use]
    pub fn with_transient(self, value: bool) -> Self {
        match self {
            Self::Backend { backend, operation, table, source, .. } => {
                Self::Backend { backend, operation, table, transient: value, source }
            }
            other => other,
        }
    }
}

/// Whether a process, or the system, has no file handle left: others are closed in a moment.
fn is_out_of_handles(error: &io::Error) -> bool {
    #[cfg(unix)]
    return matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
    #[cfg(not(unix))]
    return false;
}

impl From<UnsupportedHash> for Error {
    fn from(error: UnsupportedHash) -> Self {
        Self::Unsupported { what: error.what, hint: error.hint }
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task(error.to_string())
    }
}

/// The candidate nearest to `name`, if one is near enough to be a slip of the finger.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.chars().count().min(candidate.chars().count()) / 3)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

fn in_brackets(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()
}

fn at_place(place: &Option<String>) -> String {
    place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default()
}

pub(crate) fn known_types(known: &[String]) -> String {
    match known {
        [] => "this program links no backend crate".to_owned(),
        known => format!("known types: {}", known.join(", ")),
    }
}

fn in_context(context: &str) -> String {
    if context.is_empty() { String::new() } else { format!(" in {context}") }
}

fn place(table: &Option<String>) -> String {
    table.as_ref().map(|table| format!(" on table `{table}`")).unwrap_or_default()
}

fn join_path(path: &[FeatureKey]) -> String {
    path.iter().map(ToString::to_string).collect::<Vec<_>>().join(" -> ")
}

fn join_places(places: &[String]) -> String {
    match places {
        [] => "the store".to_owned(),
        [one] => format!("store {one}"),
        [first, rest @ ..] => format!("store {first} nor in its fallbacks {}", rest.join(", ")),
    }
}

fn config_message(file: &Option<PathBuf>, line: Option<usize>, key: &str, reason: &str) -> String {
    match config_place(file.as_deref(), line, key) {
        place if place.is_empty() => reason.to_owned(),
        place => format!("{place}: {reason}"),
    }
}

/// A place in a configuration: the file and line, and the path of the key.
pub(crate) fn config_place(file: Option<&Path>, line: Option<usize>, key: &str) -> String {
    let file = match (file, line) {
        (Some(file), Some(line)) => Some(format!("{}:{line}", file.display())),
        (Some(file), None) => Some(file.display().to_string()),
        (None, Some(line)) => Some(format!("line {line}")),
        (None, None) => None,
    };
    let key = Some(key).filter(|key| !key.is_empty()).map(|key| format!("`{key}`"));
    [file, key].into_iter().flatten().collect::<Vec<_>>().join(": ")
}
