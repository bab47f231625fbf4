//! What a storage system has to do to hold a metadata store, and the types that pass through.
//!
//! A backend moves Arrow batches in and out of named tables. It knows nothing of features, versions or fallbacks: the
//! core has checked and completed every batch before [`StoreBackend::append`] sees it, and finishes whatever part of a
//! [`ScanRequest`] the backend has left undone. So a backend is four steps:
//!
//! 1. Implement the nine required methods of [`StoreBackend`]; its documentation is the contract.
//! 2. Register a [`BackendRegistration`](crate::registry::BackendRegistration), so that `metaxy.toml` can name it.
//! 3. Run the suite of `metaxy-testkit`, which makes a test of every promise. Its README leads through all of this, with
//!    a whole backend of less than 300 lines.
//! 4. Take more of each [`ScanRequest`], where the storage system can do it better than the core.
//!
//! # Tables
//! A table belongs to one feature. Its columns are the feature's id columns and whatever else the user writes, and the
//! ten system columns of [`columns::ALL`], with the types of [`columns::field`]: texts, times in microseconds UTC, and
//! the two by-field columns, which are structs with one text for each field of the feature. All columns are nullable. A
//! backend treats system columns like any others, except where it takes on [`ScanRequest::keep_latest`].
//!
//! A table grows: users write new columns, and a feature that gains a field gains a member in its by-field columns.
//! [`grown_schema`](crate::schema::grown_schema) says what becomes of a table's schema, and
//! [`conform`](crate::schema::conform) brings rows of an older schema into the grown one.
//!
//! # Errors
//! A condition that has a case of its own in [`Error`] is reported by it, because the core and users react to it:
//! [`Error::Locked`], [`Error::Conflict`] and [`Error::Unreachable`] say that the same call may succeed later. Anything
//! else goes into [`Error::backend`] or [`Error::table`] with its source; [`Error::with_transient`] says that it may pass.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use crate::columns;
use crate::error::{Error, Result};
use crate::filter::Predicate;
use crate::hash::HashAlgorithm;
use crate::key::FeatureKey;
use crate::plan::IncrementPlan;
use crate::schema::bytes_of_rows;

pub use crate::capabilities::{Capabilities, OtherProcesses, Writers};
pub use crate::plan::{Completion, NativeIncrement, NativeLimits, NativeOutcome, NativeRows};
pub use crate::position::{Position, unrepeated};
pub use crate::scan::{Appended, BatchStream, Scan, ScanKeys, ScanRequest, ScanStage, stream_of};

/// What a store is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessMode {
    /// Reading; nothing is created or changed, not even by opening.
    ReadOnly,
    /// Reading and writing; what does not exist yet is created when it is first written.
    ReadWrite,
}

/// What a backend says of itself; fixed for its life.
#[derive(Clone, Debug)]
pub struct BackendInfo {
    /// Its type string, as in `type = "sqlite"`.
    pub kind: &'static str,
    /// Where it keeps its rows, for people to read: a path or URL with every secret masked.
    pub location: String,
    /// The hash algorithm of a store that names none.
    pub default_hash: HashAlgorithm,
    /// Whether features share one flat name space of tables, so that keys that differ in `-` and `_` only collide.
    pub flat_names: bool,
    /// Whether a missing table may be created by a write where the store's settings do not say.
    pub auto_create_tables: bool,
    /// What the storage system can do.
    pub capabilities: Capabilities,
}

impl BackendInfo {
    /// Refuses rows with a column of a type that the storage system cannot hold, by the first of them.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`].
    pub fn check_types(&self, schema: &Schema) -> Result<()> {
        let is_refused = |field: &&FieldRef| !self.capabilities.stores(field.data_type());
        match schema.fields().iter().find(is_refused) {
            None => Ok(()),
            Some(field) => Err(Error::UnsupportedType {
                backend: self.kind,
                column: field.name().clone(),
                data_type: field.data_type().to_string(),
                hint: "store its values in columns of other types".to_owned(),
            }),
        }
    }
}

/// The default of [`StoreBackend::append_stream`] appends pieces of about this size.
const PIECE_BYTES: usize = 64 << 20;

/// Where rows live: one table for each feature, found by the feature's key.
///
/// # Contract
/// - All methods may be called at any time from any thread, several at once. Blocking work runs off the async threads,
///   on those of [`blocking`](crate::blocking); what decodes stored data is [fenced](crate::fence).
/// - Between `open` and `close` every method works; before and after, each gives [`Error::Closed`] (see [`closed`]).
/// - A future that is dropped half way leaves the store as if the call had not been made, or as if it had succeeded,
///   then or a little later. The same goes for a process that is killed.
/// - Several backends on one place, in one process or in many, see the same tables, as far as [`Capabilities`] say.
///   Where two cannot write at once, the second one waits, or gives an error that is transient
///   ([`Error::is_transient`]); no row is lost. If the storage system opens a file only once per process, they
///   [share](crate::shared) it.
/// - A table may be dropped, and created again, between any two calls and while a stream is read. Then a call finds no table, or
///   gives an error that is transient.
/// - Values come back as they went in, nulls as nulls. What the storage system cannot hold is refused by the name that
///   fits: a type by [`Error::UnsupportedType`], a value by [`Error::InvalidValue`], a size by
///   [`Error::LimitExceeded`]. [`Error::Unsupported`] is for what the backend does not do, never for input that is
///   wrong.
/// - No error and no `Debug` output carries a password, key or token; [`secret`](crate::secret) masks them.
///
/// The core checks access: a store that is opened for reading never calls a method that writes.
#[async_trait]
pub trait StoreBackend: Any + Send + Sync + fmt::Debug {
    /// What this backend is.
    fn info(&self) -> BackendInfo;

    /// Makes the store ready. Opening makes no table: with [`AccessMode::ReadWrite`] a missing database may be created,
    /// with [`AccessMode::ReadOnly`] it must not be. A backend is opened once; opening it again after `close` works. A
    /// backend that is dropped without `close` lets go of everything too.
    ///
    /// # Errors
    /// [`Error::LocationNotFound`], [`Error::NotAStore`], [`Error::Locked`], [`Error::Unreachable`],
    /// [`Error::AccessDenied`].
    async fn open(&self, mode: AccessMode) -> Result<()>;

    /// Lets go of everything: files, connections, locks. Closing twice is fine.
    async fn close(&self) -> Result<()>;

    /// The schema of a table, with the Arrow types in which `scan` returns its columns; `None` where there is no table.
    /// These are the types that the core casts to before it appends; they may be others than those that were first
    /// written, if values come back unchanged. An error means that it could not be found out, never that there is none.
    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>>;

    /// Appends rows: all of them or none, visible at once, and durable when the call returns. Creates the table where
    /// it does not exist. There is at least one row; single batches may be empty.
    ///
    /// All batches have `schema`, which holds no encodings (dictionaries, runs) and no types without values (Null), and
    /// types that the backend [stores](Capabilities::stores_type). A column that the table has too comes in the table's
    /// type (the core has cast it to what `schema` said; another writer may have been faster since); columns come in
    /// any order. A column, or a member of a struct column, that the table lacks is added to it and null in older rows;
    /// one that the batches lack becomes null. Column names are case-sensitive, and may be any text. Rows are never
    /// replaced: a sample that is written again has two rows, of which readers take the later one.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`] for what the storage system cannot hold, before anything is written;
    /// [`Error::TypeMismatch`] where another writer has given a column another type; [`Error::Conflict`].
    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()>;

    /// Appends rows that do not fit into memory: like `append`, all of them or none, if the storage system can hold a
    /// write open while the rows arrive. An error in the stream ends the write, and nothing is stored. The default
    /// appends pieces of the stream, each of them whole: an error leaves the pieces before it.
    async fn append_stream(&self, table: &FeatureKey, schema: SchemaRef, mut batches: BatchStream) -> Result<()> {
        let (mut piece, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            bytes += bytes_of_rows(&batch);
            piece.push(batch);
            if bytes >= PIECE_BYTES {
                self.append(table, schema.clone(), std::mem::take(&mut piece)).await?;
                bytes = 0;
            }
        }
        if piece.is_empty() { Ok(()) } else { self.append(table, schema, piece).await }
    }

    /// Refuses rows that `append` would refuse, for their types or values, whatever the table holds. Asked before each
    /// `append`, before rows are buffered, and before any feature of a write is stored, so it is cheap and reads
    /// nothing. The columns are the user's and some of the core's own. The default refuses the types that
    /// [`Capabilities::stores_type`] does not take.
    ///
    /// # Errors
    /// [`Error::UnsupportedType`], [`Error::InvalidValue`], [`Error::LimitExceeded`].
    fn check(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        let _ = table;
        self.info().check_types(rows.schema_ref())
    }

    /// Reads a table, as far into the [`ScanRequest`] as the storage system can take it. Sees one state of the table: no
    /// half of a write, whatever happens while the stream is read. The stream may be dropped before its end, and delays no
    /// other call while it is not read. It may outlive `close`: then it goes on, or gives [`Error::Closed`]. The request
    /// names columns that the table has. What the storage system cannot express is left to the core, never refused.
    ///
    /// # Errors
    /// [`Error::FeatureNotFound`] where there is no table (see [`not_found`]). An error on the way is an item of the stream.
    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan>;

    /// Removes the rows for which the predicate is true, for good, all or none of them; returns how many: 0 where there
    /// is no table. Rows for which it is null stay. The table stays too, even without a row.
    ///
    /// No predicate is refused: [`to_sql`](crate::filter::to_sql) writes it as SQL, and what the storage system cannot
    /// express the backend evaluates on the rows that it scans, with [`Predicate::evaluate`] or
    /// [`Predicate::remove_from`].
    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64>;

    /// Removes a table with all its rows. Afterwards `schema` gives `None`. Removing what is not there is fine.
    async fn drop_table(&self, table: &FeatureKey) -> Result<()>;

    /// The names of all tables, as [`FeatureKey::table_name`] spells them.
    async fn tables(&self) -> Result<Vec<String>>;

    /// Whether a table that exists has a row, or had one before a delete took the last one away: then it answers for its
    /// feature, and no fallback store does in its place. Asked before reads of stores that have fallbacks. The default
    /// says that every table has, which holds where only `append` makes tables. Backends whose tables other programs
    /// may create without a row answer by what they can find out. A table that is not there has held none, or gives
    /// [`Error::FeatureNotFound`].
    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        Ok(self.schema(table).await?.is_some())
    }

    /// The latest time in `metaxy_updated_at` and `metaxy_deleted_at` of a table, in microseconds; `None` where it has no
    /// rows. Asked before each write, so that a machine whose clock is behind writes rows that count all the same. Sees
    /// whatever any writer has written before the call; may be greater by up to a millisecond, never less. The default
    /// scans the two columns. A table that is not there has none, or gives [`Error::FeatureNotFound`].
    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        if self.schema(table).await?.is_none() {
            return Ok(None);
        }
        let times = [columns::UPDATED_AT, columns::DELETED_AT].map(str::to_owned).to_vec();
        let request = ScanRequest { columns: Some(times), ..ScanRequest::default() };
        let mut stream = self.scan(table, &request).await?.stream;
        let mut newest = None;
        while let Some(batch) = stream.next().await {
            newest = newest.max(columns::newest_time(&batch?)?);
        }
        Ok(newest)
    }

    /// Returns the position of a table, without reading rows: if it is equal to an earlier one, no row has changed since.
    /// [`appended`](StoreBackend::appended) returns what has been written after it. Sees whatever any writer has written
    /// before the call. `None` if the backend cannot tell, as by default; then increments are computed from all rows each
    /// time. A missing table is at [`Position::absent`].
    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        let _ = table;
        Ok(None)
    }

    /// Reads what was appended to a table after a position that this backend gave, maybe in another process: every row
    /// that has been added since, whoever added it, if no row has been removed or changed since. Otherwise the answer is
    /// [`Appended::CannotTell`], as by default; a wrong answer loses changes. Rewriting a table's storage without changing
    /// a row, as [`compact`](StoreBackend::compact) does, should not matter.
    async fn appended(&self, table: &FeatureKey, since: &Position, columns: &[String]) -> Result<Appended> {
        let _ = (table, since, columns);
        Ok(Appended::CannotTell(format!("{} does not tell what was appended", self.info().kind)))
    }

    /// Returns a stream with an item whenever one of the tables may have changed, if the storage system notifies of
    /// changes. It is a hint, by which [`watch`](crate::MetadataStore::watch) looks earlier: items may be missing, and there
    /// may be too many. [`file_changes`](crate::file_changes) looks at files. The default is `None`.
    fn notifications(&self, tables: &[FeatureKey]) -> Option<BoxStream<'static, ()>> {
        let _ = tables;
        None
    }

    /// Runs a whole plan inside the storage system, where it can: the same answer as the engine's, with only the
    /// increment crossing the wire. [`NativeOutcome::Declined`] says why it cannot, and the core runs the plan itself.
    /// [`plan::sql`](crate::plan::sql) helps with SQL, and [`executor`](crate::executor) with Arrow arrays.
    async fn resolve_natively(&self, request: NativeRequest<'_>) -> Result<NativeOutcome> {
        let _ = request;
        Ok(NativeOutcome::Declined(format!("{} has no engine of its own", self.info().kind)))
    }

    /// Runs a plan inside the storage system and appends its new and stale rows to the table of the feature, without their
    /// passing through this process: like [`append`](StoreBackend::append), all of them or none. The rows are
    /// [completed](crate::executor::completed) first; no two have the same ids. Returns their number; `None` if it cannot,
    /// as by default: the core then reads the rows and appends them.
    async fn append_natively(&self, request: NativeRequest<'_>, completion: &Completion) -> Result<Option<u64>> {
        let _ = (request, completion);
        Ok(None)
    }

    /// Returns whether [`resolve_natively`](StoreBackend::resolve_natively) can read inputs that are in another backend,
    /// which may be any: [`Any`] tells its type. The default is `false`.
    fn reaches(&self, other: &dyn StoreBackend) -> bool {
        let _ = other;
        false
    }

    /// Returns whether the storage system should run a plan that it may be able to run, if the user leaves the choice to
    /// the store. The core resolves small tables faster than most systems. The default is `true`.
    fn prefers_native(&self, plan: &IncrementPlan) -> bool {
        let _ = plan;
        true
    }

    /// Returns whether increments are computed by a cluster that the settings name. Lazy ones are then computed there too,
    /// and the Arrow engine is refused as the engine of the store. The default is `false`.
    fn computes_on_cluster(&self) -> bool {
        false
    }

    /// Returns where a table is, whether or not it exists, for people and other programs to open it, with every secret
    /// masked. The default is the place of the whole store.
    fn table_location(&self, table: &FeatureKey) -> String {
        let _ = table;
        self.info().location
    }

    /// Rewrites a table's storage so that it is read faster, without changing a row. A table that is not there needs none
    /// of it.
    async fn compact(&self, table: &FeatureKey) -> Result<()> {
        let _ = table;
        Ok(())
    }

    /// Removes what no reader needs any more and is older than `retention`; returns the number of removed objects, none
    /// for a table that is not there.
    async fn vacuum(&self, table: &FeatureKey, retention: Duration) -> Result<u64> {
        let _ = (table, retention);
        Ok(0)
    }
}

/// A plan for a storage system to run.
#[derive(Clone, Copy, Debug)]
pub struct NativeRequest<'a> {
    /// The plan.
    pub plan: &'a IncrementPlan,
    /// The backend of each input's table: the one that is called, or one that it [reaches](StoreBackend::reaches).
    pub inputs: &'a [SharedBackend],
    /// For engines that run in this process.
    pub limits: &'a NativeLimits,
}

/// A backend that is shared.
pub type SharedBackend = Arc<dyn StoreBackend>;

/// The error of a scan of a table that is not there.
pub fn not_found(info: &BackendInfo, table: &FeatureKey) -> Error {
    Error::FeatureNotFound { feature: table.clone(), searched: vec![format!("{} at {}", info.kind, info.location)] }
}

/// The error of a call on a backend that is not open.
pub fn closed(info: &BackendInfo) -> Error {
    Error::Closed { store: format!("{} at {}", info.kind, info.location) }
}

/// The line in the comment of a table by which a storage system remembers that the table has held rows, where it has no
/// better place for what [`StoreBackend::has_held_rows`] answers.
pub const HELD_MARK: &str = "metaxy: has held rows";

/// Returns whether [`HELD_MARK`] is a line of a comment.
pub fn has_held_mark(comment: &str) -> bool {
    comment.lines().any(|line| line == HELD_MARK)
}

/// Returns a comment with [`HELD_MARK`] behind what else it says; `None` if the mark is there.
///
/// ```
/// use metaxy_core::backend::{has_held_mark, with_held_mark};
/// let comment = with_held_mark("Videos of the lab").unwrap();
/// assert!(comment.starts_with("Videos of the lab\n") && has_held_mark(&comment));
/// assert_eq!(with_held_mark(&comment), None);
/// ```
pub fn with_held_mark(comment: &str) -> Option<String> {
    match comment {
        marked if has_held_mark(marked) => None,
        "" => Some(HELD_MARK.to_owned()),
        other => Some(format!("{other}\n{HELD_MARK}")),
    }
}
