//! The store that users open: a backend, a graph of features, and fallback stores.

mod append;
mod append_stream;
mod blocking_store;
mod buffered;
mod cascade;
mod chain;
mod checks;
mod children;
mod clock;
mod data;
mod delete;
mod display;
mod duplicates;
mod explain;
mod fallback;
mod impact;
mod known;
mod lazy;
mod made_from;
mod maintain;
mod named;
mod positions;
mod read;
mod rebase;
mod remembered;
mod resolve;
mod stamp;
#[cfg(feature = "serde")]
mod structs;
mod system;
mod trace;
mod transfer;
mod watch;
mod write;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::backend::{AccessMode, BackendInfo, SharedBackend, StoreBackend};
use crate::checkpoint::CheckpointDirectory;
use crate::columns;
use crate::error::{Error, Result};
use crate::graph::{FeatureGraph, FeaturePlan};
use crate::hash::{HashAlgorithm, MIN_TRUNCATION, RowHasher};
use crate::key::{FeatureKey, IntoFeatureKey, invalid_project};
use crate::memory::MemoryPool;

pub use crate::engine::IncrementCounts;
pub use blocking_store::BlockingStore;
pub use cascade::{CascadeRequest, CascadeSummary};
pub use children::Replaced;
pub use clock::{Clock, SystemClock};
pub use data::{Increment, IntoBatches, IntoRows, RowStream, Rows, RowsToWrite};
pub use delete::DeleteRequest;
pub use duplicates::Duplicates;
pub use explain::{ExplainedField, ExplainedInput, Explanation, InputRow, SampleState};
pub use fallback::Fallback;
pub use impact::FeatureImpact;
pub use lazy::{IncrementStream, LazyIncrement};
pub use maintain::FeatureLocation;
pub use read::ReadRequest;
pub use rebase::RebaseRequest;
pub use resolve::{Basis, InputProgress, ResolveRequest};
#[cfg(feature = "serde")]
pub use structs::{StructRows, structs};
pub use transfer::{CopyProgress, CopyRequest, CopySummary};
pub use watch::Watch;
pub use write::WriteRequest;

pub(crate) use append::{Preparation, PreparedRows};
pub(crate) use buffered::BatchCheck;

use clock::{Stamps, TableStamps};
use remembered::Remembered;
use trace::call;

/// The first part of the keys of tables that the store uses itself.
pub(crate) const SYSTEM_PREFIX: &str = "metaxy-system";

/// An open metadata store. Cheap to clone; all clones are the same store.
///
/// Every method accepts anything that names a feature: `"raw/video"`, `["raw", "video"]`, a key, a spec. Methods with
/// options return a builder that runs when it is awaited.
#[derive(Clone)]
pub struct MetadataStore {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    name: String,
    backend: SharedBackend,
    info: BackendInfo,
    mode: AccessMode,
    graph: FeatureGraph,
    project: Option<String>,
    hasher: RowHasher,
    fallbacks: Vec<Fallback>,
    auto_create_tables: bool,
    materialization_id: Option<String>,
    duplicates: Duplicates,
    maps: bool,
    versioning_engine: VersioningEngine,
    stamps: Arc<Stamps>,
    table_stamps: Arc<TableStamps>,
    pool: Arc<MemoryPool>,
    remembered: Arc<Remembered>,
}

/// The engine that computes increments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersioningEngine {
    /// The storage system if it can, otherwise the Arrow engine.
    #[default]
    Auto,
    /// The storage system; the resolve fails if it cannot.
    Native,
    /// The Arrow engine, in this process.
    Arrow,
}

/// Configures a store.
#[derive(Debug)]
pub struct StoreBuilder {
    backend: SharedBackend,
    graph: FeatureGraph,
    name: Option<String>,
    project: Option<String>,
    hash_algorithm: Option<HashAlgorithm>,
    hash_truncation_length: usize,
    fallbacks: Vec<Fallback>,
    auto_create_tables: Option<bool>,
    materialization_id: Option<String>,
    duplicates: Duplicates,
    maps: bool,
    versioning_engine: VersioningEngine,
    clock: Option<Arc<dyn Clock>>,
    memory_limit: Option<usize>,
    temp_dir: Option<PathBuf>,
    partitions: Option<usize>,
    checkpoints: Option<PathBuf>,
}

impl StoreBuilder {
    /// Sets the store's name in messages; by default the backend's type and location.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets the project to which the features of the graph belong, for [`push`](MetadataStore::push).
    #[must_use]
    pub fn project(mut self, name: impl Into<String>) -> Self {
        self.project = Some(name.into());
        self
    }

    /// Sets the hash algorithm of rows; by default the backend's. All stores of a chain need the same.
    #[must_use]
    pub fn hash_algorithm(mut self, algorithm: HashAlgorithm) -> Self {
        self.hash_algorithm = Some(algorithm);
        self
    }

    /// Sets the number of characters that are kept of every row hash, at least 8; by default that of the graph.
    #[must_use]
    pub fn hash_truncation_length(mut self, length: usize) -> Self {
        self.hash_truncation_length = length;
        self
    }

    /// Adds a fallback store, which serves features that this store does not have; searched after those added before.
    #[must_use]
    pub fn fallback(mut self, store: impl Into<Fallback>) -> Self {
        self.fallbacks.push(store.into());
        self
    }

    /// Sets whether a write may create a table; by default the backend decides.
    #[must_use]
    pub fn auto_create_tables(mut self, create: bool) -> Self {
        self.auto_create_tables = Some(create);
        self
    }

    /// Sets how a write handles several rows of one sample; by default it refuses them.
    #[must_use]
    pub fn duplicates(mut self, duplicates: Duplicates) -> Self {
        self.duplicates = duplicates;
        self
    }

    /// Sets whether new tables store their by-field columns as maps, like the Python package's `enable_map_datatype`;
    /// by default they are structs. Existing tables are not changed.
    #[must_use]
    pub fn enable_map_datatype(mut self, enable: bool) -> Self {
        self.maps = enable;
        self
    }

    /// Sets the value of `metaxy_materialization_id` for writes that set none.
    #[must_use]
    pub fn materialization_id(mut self, id: impl Into<String>) -> Self {
        self.materialization_id = Some(id.into());
        self
    }

    /// Sets the engine that computes increments.
    #[must_use]
    pub fn versioning_engine(mut self, engine: VersioningEngine) -> Self {
        self.versioning_engine = engine;
        self
    }

    /// Limits the bytes of rows that resolves, reads, copies, rebases and streamed writes of this store hold in memory;
    /// rows beyond the limit are written to files in [`temp_dir`](Self::temp_dir). A quarter of it is for rows as they are
    /// read, the rest for computed data. ([`LazyIncrement`] names what is not bounded.) By default all stores of the
    /// process share one limit: `METAXY_MEMORY_LIMIT` (`4GB`, `512MiB`) or, if it is not set, half of the memory of the
    /// machine or its control group.
    ///
    /// An [`Increment`] and collected rows are held in memory in addition to that;
    /// [`lazy`](ResolveRequest::lazy) returns an increment as a stream.
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// Sets the directory for rows that do not fit into memory; by default the system's directory for temporary files.
    /// The files have no names, so they are removed when the process ends, however it ends.
    #[must_use]
    pub fn temp_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.temp_dir = Some(directory.into());
        self
    }

    /// Sets the directory where the [checkpoints](crate::Checkpoint) of increments are kept, so that another process reads
    /// only what has changed since; by default an open store remembers its own. Any number of processes and stores may
    /// share a directory, and its files may be removed at any time.
    #[must_use]
    pub fn checkpoints(mut self, directory: impl Into<PathBuf>) -> Self {
        self.checkpoints = Some(directory.into());
        self
    }

    /// Sets into how many partitions rows are divided at a time if they exceed the memory limit. It is for tests: the
    /// answer does not depend on it.
    #[doc(hidden)]
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// Sets the clock that stamps rows; by default the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Opens the store. Opening writes nothing.
    ///
    /// # Errors
    /// [`Error::TableCollision`], [`Error::HashAlgorithmMismatch`], [`Error::Config`] for an invalid name of the
    /// project, and the errors of the backend: [`Error::LocationNotFound`], [`Error::NotAStore`], [`Error::Locked`], [`Error::Unreachable`],
    /// [`Error::AccessDenied`].
    pub async fn open(self, mode: AccessMode) -> Result<MetadataStore> {
        let info = self.backend.info();
        let name = self.name.clone().unwrap_or_else(|| format!("{} at {}", info.kind, info.location));
        call!("open", store = name, kind = info.kind, mode = tracing::field::debug(mode))
            .run(self.open_as(name, info, mode))
            .await
    }

    async fn open_as(self, name: String, info: BackendInfo, mode: AccessMode) -> Result<MetadataStore> {
        self.project.as_deref().map_or(Ok(()), check_project)?;
        if self.versioning_engine == VersioningEngine::Arrow && self.backend.computes_on_cluster() {
            return Err(Error::setting(
                "versioning_engine",
                "it is `arrow`, but the settings of the store name a cluster that computes increments; leave one of the \
                 two out",
            ));
        }
        let algorithm = self.hash_algorithm.unwrap_or(info.default_hash);
        let truncation = self.hash_truncation_length;
        let pool = MemoryPool::of_store(self.memory_limit, self.temp_dir.as_deref())?;
        let pool = match self.partitions {
            Some(partitions) => pool.with_partitions(partitions),
            None => pool,
        };
        let place = format!("{} at {}", info.kind, info.location);
        let checkpoints = self.checkpoints.map(|directory| CheckpointDirectory::new(directory, place));
        let inner = Inner {
            name,
            hasher: RowHasher::new(algorithm, truncation)?,
            mode,
            graph: self.graph,
            project: self.project,
            fallbacks: self.fallbacks,
            auto_create_tables: self.auto_create_tables.unwrap_or(info.auto_create_tables),
            materialization_id: self.materialization_id,
            duplicates: self.duplicates,
            maps: self.maps,
            versioning_engine: self.versioning_engine,
            stamps: self.clock.map_or_else(Stamps::system, Stamps::new),
            table_stamps: Arc::default(),
            remembered: Remembered::new(checkpoints),
            pool,
            backend: self.backend,
            info,
        };
        let store = MetadataStore { inner: Arc::new(inner) };
        store.check_table_names()?;
        for fallback in store.inner.fallbacks.iter().filter_map(Fallback::opened) {
            store.check_hash(fallback)?;
        }
        store.inner.backend.open(mode).await?;
        Ok(store)
    }
}

impl MetadataStore {
    /// Begins to configure a store with a backend and its features.
    pub fn builder(backend: impl IntoBackend, graph: FeatureGraph) -> StoreBuilder {
        StoreBuilder {
            backend: backend.into_backend(),
            name: None,
            project: None,
            hash_algorithm: None,
            hash_truncation_length: graph.hash_truncation_length().max(MIN_TRUNCATION),
            fallbacks: Vec::new(),
            auto_create_tables: None,
            materialization_id: None,
            duplicates: Duplicates::default(),
            maps: false,
            versioning_engine: VersioningEngine::default(),
            clock: None,
            memory_limit: None,
            temp_dir: None,
            partitions: None,
            checkpoints: None,
            graph,
        }
    }

    /// Returns the same store with other definitions. Rows of other feature versions become history.
    ///
    /// # Errors
    /// [`Error::TableCollision`].
    pub fn with_graph(&self, graph: FeatureGraph) -> Result<Self> {
        let store = self.with(|inner| inner.graph = graph);
        store.check_table_names()?;
        Ok(store)
    }

    /// Returns the same store with a change.
    fn with(&self, change: impl FnOnce(&mut Inner)) -> Self {
        let mut inner = self.inner.as_ref().clone();
        change(&mut inner);
        Self { inner: Arc::new(inner) }
    }

    /// Returns the store's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the mode in which it was opened.
    pub fn access_mode(&self) -> AccessMode {
        self.inner.mode
    }

    /// Returns the graph of its features.
    pub fn graph(&self) -> &FeatureGraph {
        &self.inner.graph
    }

    /// Returns the project to which the features of its graph belong, if it is set.
    pub fn project(&self) -> Option<&str> {
        self.inner.project.as_deref()
    }

    /// Returns the hasher of its rows.
    pub fn hasher(&self) -> RowHasher {
        self.inner.hasher
    }

    /// Returns its storage system.
    pub fn backend(&self) -> &SharedBackend {
        &self.inner.backend
    }

    /// Closes files and connections, for every clone of the store; fallbacks stay open.
    ///
    /// # Errors
    /// The errors of the backend.
    pub async fn close(&self) -> Result<()> {
        self.inner.backend.close().await
    }

    /// Returns whether this store, without its fallbacks, has a feature: rows of any version, or a table whose rows
    /// were deleted. `false` after [`drop_feature`](Self::drop_feature), and for a table that was created in advance
    /// and has never held a row.
    ///
    /// # Errors
    /// The errors of the backend; an unreachable store is an error, never `false`.
    pub async fn has_feature(&self, feature: impl IntoFeatureKey) -> Result<bool> {
        let key = feature.into_feature_key()?;
        Ok(self.own_table(&key).await?.is_some() && self.has_held_rows(&key).await?)
    }

    /// Returns the name of the store that serves a feature: this one, or the first fallback that has it.
    ///
    /// # Errors
    /// The errors of the backends.
    pub async fn store_of(&self, feature: impl IntoFeatureKey) -> Result<Option<String>> {
        let key = feature.into_feature_key()?;
        Ok(self.serving(&key).await?.map(|source| source.store.inner.name.clone()))
    }

    fn check_table_names(&self) -> Result<()> {
        if !self.inner.info.flat_names {
            return Ok(());
        }
        let mut tables = std::collections::BTreeMap::new();
        for plan in self.inner.graph.features() {
            let key = &plan.spec.key;
            if let Some(first) = tables.insert(key.table_name(), key.clone()) {
                return Err(Error::TableCollision { first, second: key.clone(), table: key.table_name() });
            }
        }
        Ok(())
    }

    fn plan(&self, key: &FeatureKey) -> Result<&FeaturePlan> {
        self.inner.graph.plan(key)
    }
}

impl fmt::Debug for MetadataStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetadataStore")
            .field("name", &self.inner.name)
            .field("kind", &self.inner.info.kind)
            .field("location", &self.inner.info.location)
            .field("mode", &self.inner.mode)
            .field("fallbacks", &self.inner.fallbacks)
            .finish_non_exhaustive()
    }
}

/// A backend, shared or owned.
pub trait IntoBackend {
    /// Returns the shared backend.
    fn into_backend(self) -> SharedBackend;
}

impl<B: StoreBackend> IntoBackend for B {
    fn into_backend(self) -> SharedBackend {
        Arc::new(self)
    }
}

impl IntoBackend for SharedBackend {
    fn into_backend(self) -> SharedBackend {
        self
    }
}

impl<B: StoreBackend> IntoBackend for Arc<B> {
    fn into_backend(self) -> SharedBackend {
        self
    }
}

/// Checks the name of a project.
pub(crate) fn check_project(name: &str) -> Result<()> {
    invalid_project(name).map_or(Ok(()), |reason| Err(Error::setting("project", reason)))
}

/// Checks that a table has the columns that carry versions, without which it is not a table of a metadata store.
fn check_system_columns(key: &FeatureKey, schema: &arrow::datatypes::Schema) -> Result<()> {
    let needed = [columns::FEATURE_VERSION, columns::UPDATED_AT, columns::DELETED_AT, columns::DATA_VERSION_BY_FIELD];
    match needed.into_iter().find(|name| schema.column_with_name(name).is_none()) {
        None => Ok(()),
        Some(column) => Err(Error::corrupt(
            key.table_name(),
            format!("it has no column `{column}`, so it was not written by a metadata store"),
        )),
    }
}
