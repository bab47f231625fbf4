//! One error type for the whole project.
//!
//! Every message names what is wrong, the location, and the way out; `source` is the cause, if there is one. Backends
//! use [`Error::Backend`] for an error of their storage system unless a named case fits. No error holds a secret:
//! locations and causes are masked by [`secret`](crate::secret) first.

mod display;
mod io;
mod problem;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::hash::{HashAlgorithm, InvalidHash};
use crate::key::{FeatureKey, InvalidKey};

pub use display::nearest;
pub(crate) use display::{config_location, known_types};
pub use problem::FileProblem;

use display::{at_origin, config_message, did_you_mean, in_brackets, in_context, join_path, join_stores, on_table};

/// The result of every fallible call of this project.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The source of an [`Error`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The error of every fallible call of this project. `Debug` shows the message and the causes that it does not name,
/// one a line, so that a `main` that returns a [`Result`] tells what is wrong.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    // ---- definitions -------------------------------------------------------------------------------------------
    /// A feature or field key that breaks the rules of keys.
    #[error(transparent)]
    InvalidKey(#[from] InvalidKey),
    /// A hash algorithm or a truncation of hashes that does not exist.
    #[error(transparent)]
    InvalidHash(#[from] InvalidHash),
    /// A definition that contradicts itself; `reason` says how to repair it.
    #[error("feature `{feature}`: {reason}")]
    InvalidSpec {
        /// The feature.
        feature: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Two features of one graph have the same key.
    #[error("feature `{0}` is defined twice; give one of the two another key")]
    DuplicateFeature(FeatureKey),
    /// Two features have the same table.
    #[error("features `{first}` and `{second}` have the same table `{table}`; rename one of them")]
    TableCollision {
        /// The first feature.
        first: FeatureKey,
        /// The second feature.
        second: FeatureKey,
        /// The name of their table.
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
        /// The missing feature.
        dependency: FeatureKey,
        /// The nearest key that exists.
        nearest: Option<String>,
    },
    /// Features that depend on each other.
    #[error("features depend on each other in a cycle: {}; remove one of these dependencies", join_path(.0))]
    DependencyCycle(
        /// The cycle; its first key is repeated at its end.
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
        /// The missing field, as `feature.field`.
        dependency: String,
        /// The nearest field that exists.
        nearest: Option<String>,
    },
    /// A field without upstream fields, in a feature that has dependencies.
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
    /// A rename to or from a system column, or of two columns to one name.
    #[error("feature `{feature}`: column `{from}` of `{dependency}` cannot be renamed to `{to}`: {reason}")]
    InvalidRename {
        /// The feature.
        feature: FeatureKey,
        /// The dependency whose column is renamed.
        dependency: FeatureKey,
        /// The old name.
        from: String,
        /// The new name.
        to: String,
        /// Why it is not possible.
        reason: String,
    },
    /// Two dependencies have a column of the same name.
    #[error(
        "feature `{feature}`: column `{column}` comes from both `{first}` and `{second}`; rename it in one of the \
         dependencies, or leave it out with `select`"
    )]
    ColumnCollision {
        /// The feature.
        feature: FeatureKey,
        /// The column.
        column: String,
        /// The first dependency that has it.
        first: FeatureKey,
        /// The second dependency that has it.
        second: FeatureKey,
    },
    /// A feature that the graph does not have.
    #[error("feature `{key}` is not in the graph{}", did_you_mean(.nearest))]
    UnknownFeature {
        /// The key.
        key: FeatureKey,
        /// The nearest key that exists.
        nearest: Option<String>,
    },

    /// A push of a project without features.
    #[error(
        "project `{project}` has no features to push: the graph has none, or only those of other projects; define them, \
         or open the store with the graph that has them"
    )]
    NothingToPush {
        /// The project.
        project: String,
    },
    /// Definitions that were never pushed to a store.
    #[error("store `{store}` has no pushed definitions{selection}; push them first, or ask for others")]
    NotPushed {
        /// The store.
        store: String,
        /// What was asked for: ` of project `films``; empty for everything.
        selection: String,
    },
    /// Features of other projects that have other versions than are expected.
    #[error(
        "features of other projects have other versions in store `{store}` than are expected: {features}; look at what has \
         changed, then write the lock file again with `metaxy lock`, or correct the definition with `external`"
    )]
    ExternalVersions {
        /// The store.
        store: String,
        /// The features with their versions.
        features: String,
    },
    /// A pushed definition that cannot be used. See [`PushedDefinition`](crate::PushedDefinition).
    #[error("the definition of `{feature}` that project `{project}` pushed at {recorded_at} cannot be used: {reason}")]
    UnusableDefinition {
        /// The feature.
        feature: String,
        /// The project.
        project: String,
        /// The time of the row, in UTC.
        recorded_at: String,
        /// What is wrong and what to do.
        reason: String,
        /// The error of the definition.
        #[source]
        source: Option<BoxError>,
    },
    /// Problems in feature files: all of them, in the order of the files. The message has one line for each, as
    /// `file:line:column: message`.
    #[error("{}", problem::lines(.problems))]
    FeatureFiles {
        /// The problems, at least one.
        problems: Vec<FileProblem>,
    },

    // ---- data --------------------------------------------------------------------------------------------------
    /// A batch, table or selection lacks a column.
    #[error(
        "feature `{feature}`: there is no column `{column}`{}; columns: {}",
        in_context(.context),
        .available.join(", ")
    )]
    MissingColumn {
        /// The feature.
        feature: FeatureKey,
        /// The column.
        column: String,
        /// Where the column is missing.
        context: String,
        /// The existing columns.
        available: Vec<String>,
    },
    /// A column that does not meet its requirements.
    #[error("feature `{feature}`, column `{column}`: {reason}")]
    InvalidColumn {
        /// The feature.
        feature: FeatureKey,
        /// The column.
        column: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// An id column with nulls.
    #[error("feature `{feature}`: id column `{column}` has {count} null value(s); give every sample an id")]
    NullId {
        /// The feature.
        feature: FeatureKey,
        /// The id column.
        column: String,
        /// The number of nulls.
        count: usize,
    },
    /// One write with several rows of one sample.
    #[error(
        "feature `{feature}`: one write has {count} rows of the sample {id}; write one row of each sample, or open the \
         store with `duplicates = \"last\"`, which keeps the last row"
    )]
    DuplicateId {
        /// The feature.
        feature: FeatureKey,
        /// The sample, as `column=value` of each id column.
        id: String,
        /// The number of its rows.
        count: usize,
    },
    /// A value that cannot be stored as it is.
    #[error("table `{table}`, column `{column}`, row {row}: {reason}")]
    InvalidValue {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The index of the row in its batch.
        row: usize,
        /// What is wrong with the value and what to do.
        reason: String,
    },
    /// Something larger or deeper than the library or the storage system accepts.
    #[error("{what} exceeds the limit of {limit}: {hint}")]
    LimitExceeded {
        /// What exceeds the limit.
        what: String,
        /// The limit, with its unit.
        limit: String,
        /// What to do instead.
        hint: String,
    },
    /// A resolve of a root feature without samples.
    #[error(
        "feature `{0}` has no dependencies that determine its samples; pass them with `samples`, with their column \
         `metaxy_provenance_by_field`"
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
    /// A column whose type differs from that of the stored table.
    #[error(
        "table `{table}`: column `{column}` has the stored type {stored}, but {given} was given; cast it, or use \
         another name"
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
    /// A filter that does not parse. The message shows the text with a caret under the position of the error.
    #[error("the filter does not parse: {message}\n  {filter}\n  {}^", " ".repeat(*.column))]
    FilterSyntax {
        /// The filter's text, on one line.
        filter: String,
        /// What is wrong.
        message: String,
        /// The position in characters, from 0.
        column: usize,
    },
    /// A filter names a column that does not exist.
    #[error(
        "the filter `{filter}` names the column `{column}`, which does not exist{}; columns: {}",
        did_you_mean(.nearest),
        .available.join(", ")
    )]
    FilterColumn {
        /// The filter.
        filter: String,
        /// The column.
        column: String,
        /// The nearest column that exists.
        nearest: Option<String>,
        /// The existing columns.
        available: Vec<String>,
    },
    /// A filter that compares values of types that cannot be compared.
    #[error("the filter `{filter}` cannot be evaluated: {reason}")]
    FilterType {
        /// The filter.
        filter: String,
        /// Which types, and what to do.
        reason: String,
    },

    // ---- stores ------------------------------------------------------------------------------------------------
    /// A feature that has no table in the store or in its fallbacks.
    #[error("feature `{feature}` is not in {}; write it first, or check `fallback_stores`", join_stores(.searched))]
    FeatureNotFound {
        /// The feature.
        feature: FeatureKey,
        /// The stores that were searched, in order.
        searched: Vec<String>,
    },
    /// A write to a store that is open for reading only.
    #[error("store `{store}` is open for reading only; open it with `AccessMode::ReadWrite` to {operation}")]
    ReadOnly {
        /// The store.
        store: String,
        /// The operation.
        operation: &'static str,
    },
    /// A change of rows of a table that belongs to the store itself.
    #[error("cannot {operation} `{feature}`: keys that start with `metaxy-system` belong to the store itself")]
    ReservedFeature {
        /// The feature.
        feature: FeatureKey,
        /// The operation.
        operation: &'static str,
    },
    /// Structs that cannot be converted into rows, or rows that cannot be converted into the structs.
    #[error("structs and rows cannot be converted into each other: {source}")]
    Structs {
        /// The reason.
        source: BoxError,
    },
    /// A data frame that cannot be converted into rows, or rows that cannot be converted into a data frame.
    #[error("column `{column}` cannot be converted between rows and data frames; cast it, or leave it out: {source}")]
    DataFrame {
        /// The column; `*` for the whole frame.
        column: String,
        /// The reason.
        source: BoxError,
    },
    /// A call on a store that has been closed.
    #[error("store `{store}` is closed; open it again")]
    Closed {
        /// The store.
        store: String,
    },
    /// A missing table in a store that may not create tables.
    #[error(
        "table `{table}` does not exist in {location}, and `auto_create_tables` is off; create the table, or switch \
         it on"
    )]
    TableMissing {
        /// The table.
        table: String,
        /// The location of the store.
        location: String,
    },
    /// A location that does not exist. See [`Error::location_not_found`].
    #[error("{location} does not exist: {hint}")]
    LocationNotFound {
        /// The location.
        location: String,
        /// What to do.
        hint: String,
        /// The error of the storage system.
        #[source]
        source: Option<BoxError>,
    },
    /// A location with something other than a store of this kind.
    #[error("{location} is not a {expected}: {reason}")]
    NotAStore {
        /// The location.
        location: String,
        /// What was expected there.
        expected: &'static str,
        /// What was found.
        reason: String,
    },
    /// A store that is locked by another process or connection.
    #[error("{location} is locked by {holder}; close it there, or open it for reading when no one writes to it")]
    Locked {
        /// The location.
        location: String,
        /// Who holds the lock, as far as is known.
        holder: String,
    },
    /// A store that cannot be reached. See [`Error::unreachable`].
    #[error("{location} cannot be reached: {reason}")]
    Unreachable {
        /// The location.
        location: String,
        /// Why, and what to do.
        reason: String,
        /// The error of the storage system.
        #[source]
        source: Option<BoxError>,
    },
    /// A storage system that denies the operation to this user. See [`Error::access_denied`].
    #[error("{location} refuses to {operation}: {reason}")]
    AccessDenied {
        /// The location.
        location: String,
        /// The operation.
        operation: String,
        /// Why, and what to do.
        reason: String,
        /// The error of the storage system.
        #[source]
        source: Option<BoxError>,
    },
    /// A location without free space: a full disk, an exhausted quota.
    #[error("{location} has no space left to {operation}: {source}; free some space, and try again")]
    StorageFull {
        /// The location.
        location: String,
        /// The operation.
        operation: String,
        /// The error of the storage system.
        #[source]
        source: BoxError,
    },
    /// Damaged stored data. See [`Error::corrupt`].
    #[error("table `{table}` is damaged: {reason}")]
    Corrupt {
        /// The table.
        table: String,
        /// What was found.
        reason: String,
        /// The error of the reader.
        #[source]
        source: Option<BoxError>,
    },
    /// An operation that the definition of a feature does not allow.
    #[error("cannot {operation} `{feature}`: {reason}; {hint}")]
    NotApplicable {
        /// The feature.
        feature: FeatureKey,
        /// The operation.
        operation: &'static str,
        /// Why it does not apply to the feature.
        reason: &'static str,
        /// The way out.
        hint: &'static str,
    },
    /// A write that other writers have overtaken in every attempt.
    #[error("table `{table}`: other writers were faster in {attempts} attempt(s) in a row; try again")]
    Conflict {
        /// The table.
        table: String,
        /// The number of attempts.
        attempts: usize,
    },
    /// A writer that has given up. `flush` returns the unwritten rows.
    #[error(
        "the writer of store `{store}` has given up; call `flush`, which returns the unwritten rows, and it accepts \
         rows again: {source}"
    )]
    WriterFailed {
        /// The store.
        store: String,
        /// The error on which it gave up.
        #[source]
        source: Arc<Error>,
    },
    /// Rows that a writer could not write. The source is its [`WriterError`](crate::writer::WriterError), which has them.
    #[error("{source}")]
    Unwritten {
        /// The error of the writer.
        #[source]
        source: BoxError,
    },
    /// Something that the library or a backend cannot do. Input that is wrong has cases of its own.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// What is not supported.
        what: String,
        /// What to do instead.
        hint: String,
    },
    /// An error of a storage system that no named case describes.
    #[error("{backend}: {operation} failed{}: {source}", on_table(.table))]
    Backend {
        /// The type of the backend.
        backend: &'static str,
        /// The operation.
        operation: &'static str,
        /// The table, if there is one.
        table: Option<String>,
        /// Whether the same call may succeed later (busy, connection lost, time-out).
        transient: bool,
        /// The error of the storage system.
        #[source]
        source: BoxError,
    },

    // ---- chains, registry, configuration -----------------------------------------------------------------------
    /// Stores of one fallback chain with different hash algorithms.
    #[error(
        "{}store `{store}` hashes with {expected}, its fallback `{fallback}` with {found}; give both the same \
         `hash_algorithm`", at_origin(.origin)
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
        origin: Option<String>,
    },
    /// A store type without a registered backend.
    #[error("{}there is no store type `{kind}`{}; {}", at_origin(.origin), in_brackets(.hint), known_types(.known))]
    UnknownBackend {
        /// The store type.
        kind: String,
        /// The registered types.
        known: Vec<String>,
        /// Which crate to add, or which type is similar.
        hint: Option<String>,
        /// Where the configuration names it.
        origin: Option<String>,
    },
    /// Two backends of one store type.
    #[error("the store type `{kind}` is registered twice, by `{first}` and by `{second}`; link only one of them")]
    DuplicateBackend {
        /// The store type.
        kind: String,
        /// The first crate.
        first: &'static str,
        /// The second crate.
        second: &'static str,
    },
    /// A configuration that cannot be used.
    #[error("{}", config_message(.file, *.line, .key, .reason))]
    Config {
        /// The file, if there is one.
        file: Option<PathBuf>,
        /// The line in it, from 1.
        line: Option<usize>,
        /// The path of the key (`stores.dev.database`); empty for the whole file.
        key: String,
        /// What is wrong and what to do.
        reason: String,
    },

    // ---- runtime -----------------------------------------------------------------------------------------------
    /// An error of an Arrow kernel.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A background task that ended early. The program is at fault, not the data.
    #[error("a background task ended early: {0}")]
    Task(String),
}

impl Error {
    /// Returns whether the same call may succeed when it is made again: a busy file, a lost connection, a faster
    /// writer.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Backend { transient, .. } => *transient,
            Self::Conflict { .. } | Self::Locked { .. } | Self::Unreachable { .. } | Self::StorageFull { .. } => true,
            _ => false,
        }
    }

    /// Returns the error of a setting that cannot be used. The core adds the file and the line of the setting.
    pub fn setting(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config { file: None, line: None, key: key.into(), reason: reason.into() }
    }

    /// Returns a final [`Error::Backend`] with an error of a storage system.
    pub fn backend(backend: &'static str, operation: &'static str, source: impl Into<BoxError>) -> Self {
        Self::Backend { backend, operation, table: None, transient: false, source: source.into() }
    }

    /// Returns a final [`Error::Backend`] with an error of a storage system that concerns a table.
    pub fn table(
        backend: &'static str,
        operation: &'static str,
        table: impl fmt::Display,
        source: impl Into<BoxError>,
    ) -> Self {
        Self::Backend { backend, operation, table: Some(table.to_string()), transient: false, source: source.into() }
    }

    /// Returns an [`Error::LocationNotFound`] without a source.
    pub fn location_not_found(location: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self::LocationNotFound { location: location.to_string(), hint: hint.into(), source: None }
    }

    /// Returns an [`Error::Unreachable`] without a source.
    pub fn unreachable(location: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::Unreachable { location: location.to_string(), reason: reason.into(), source: None }
    }

    /// Returns an [`Error::AccessDenied`] without a source.
    pub fn access_denied(location: impl fmt::Display, operation: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::AccessDenied {
            location: location.to_string(),
            operation: operation.into(),
            reason: reason.into(),
            source: None,
        }
    }

    /// Returns an [`Error::Corrupt`] without a source.
    pub fn corrupt(table: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::Corrupt { table: table.to_string(), reason: reason.into(), source: None }
    }

    /// Sets the source, in the cases that have an optional one; other cases stay as they are. The source must not hold
    /// secrets: see [`mask_error`](crate::secret::mask_error).
    #[must_use]
    pub fn with_source(mut self, cause: impl Into<BoxError>) -> Self {
        if let Self::LocationNotFound { source, .. }
        | Self::Unreachable { source, .. }
        | Self::AccessDenied { source, .. }
        | Self::Corrupt { source, .. } = &mut self
        {
            *source = Some(cause.into());
        }
        self
    }

    /// Sets whether an [`Error::Backend`] is transient; other cases stay as they are.
    #[must_use]
    pub fn with_transient(mut self, value: bool) -> Self {
        if let Self::Backend { transient, .. } = &mut self {
            *transient = value;
        }
        self
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        display::with_causes(self, f)
    }
}

impl From<tokio::task::JoinError> for Error {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task(error.to_string())
    }
}
