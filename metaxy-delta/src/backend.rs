//! The backend: implements the core's trait by calls to the other modules.

use std::any::Any;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
#[cfg(feature = "ballista")]
use metaxy_core::backend::Completion;
use metaxy_core::backend::{
    Appended, BatchStream, NativeOutcome, NativeRequest, Position, SharedBackend, closed, not_found,
};
use metaxy_core::filter::Predicate;
use metaxy_core::plan::IncrementPlan;
use metaxy_core::{
    AccessMode, BackendInfo, Capabilities, FeatureKey, HashAlgorithm, Result, Scan, ScanRequest, StoreBackend,
    file_changes,
};

use crate::KIND;
use crate::catalog::{self, Existing};
use crate::config::DeltaConfig;
use crate::connection::Session;
use crate::error::ErrorContext;
use crate::location::{Layout, Root};
use crate::table::storage::LOG_DIRECTORY;
use crate::table::{compact, remove, vacuum};
use crate::types::{self, check_storable};
use crate::{delete, native, read, write};

/// A metadata store on Delta Lake.
pub struct DeltaBackend {
    config: DeltaConfig,
    root: Root,
    context: ErrorContext,
    session: RwLock<Option<Arc<Session>>>,
}

impl DeltaBackend {
    /// Creates a backend with these settings, without opening the store.
    ///
    /// # Errors
    /// [`Error::Config`](metaxy_core::Error::Config) for invalid settings.
    pub fn new(config: DeltaConfig) -> Result<Self> {
        config.check()?;
        let root = config.root()?;
        let context = ErrorContext { location: root.display(), secrets: config.secrets() };
        Ok(Self { config, root, context, session: RwLock::default() })
    }

    fn session(&self) -> Result<Arc<Session>> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner).clone();
        session.ok_or_else(|| closed(&self.info()))
    }

    fn replace(&self, session: Option<Arc<Session>>) {
        *self.session.write().unwrap_or_else(PoisonError::into_inner) = session;
    }

    /// Returns the open store, for a call that writes.
    async fn writing(&self) -> Result<Arc<Session>> {
        let session = self.session()?;
        session.check_commits().await?;
        Ok(session)
    }

    /// Returns the open stores of the inputs of a plan.
    fn sessions(&self, inputs: &[SharedBackend]) -> Result<Vec<Arc<Session>>> {
        inputs.iter().map(|input| delta(input.as_ref()).unwrap_or(self).session()).collect()
    }

    /// Returns a table, or an error if it does not exist.
    async fn existing(&self, key: &FeatureKey) -> Result<Existing> {
        catalog::find(self.session()?.as_ref(), key).await?.ok_or_else(|| not_found(&self.info(), key))
    }
}

impl fmt::Debug for DeltaBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeltaBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Returns the backend if it is one of this crate.
fn delta(backend: &dyn StoreBackend) -> Option<&DeltaBackend> {
    (backend as &dyn Any).downcast_ref()
}

#[async_trait]
impl StoreBackend for DeltaBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.context.location.clone(),
            default_hash: HashAlgorithm::Xxhash32,
            flat_names: self.config.layout == Layout::Flat,
            auto_create_tables: true,
            capabilities: Capabilities { stores_type: types::stores, ..Capabilities::default() },
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        let session = Session::open(&self.config, &self.root, &self.context, mode).await?;
        self.replace(Some(Arc::new(session)));
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.replace(None);
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        let found = catalog::find(self.session()?.as_ref(), table).await?;
        Ok(found.map(|(_, state)| state.schema.logical.clone()))
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let session = self.writing().await?;
        write::append(session.table(table)?, schema, batches).await
    }

    async fn append_stream(&self, table: &FeatureKey, schema: SchemaRef, batches: BatchStream) -> Result<()> {
        let session = self.writing().await?;
        write::append_stream(session.table(table)?, schema, batches).await
    }

    fn check(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        let known = self.session()?.table(table)?;
        check_storable(table, known.known_schema().as_deref(), &known.partition_by, rows)
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let (table, state) = self.existing(table).await?;
        read::scan(table, state, request)
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let session = self.writing().await?;
        delete::delete(session.table(table)?, predicate).await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        let session = self.writing().await?;
        remove::drop_table(&session.table(table)?).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        catalog::names(self.session()?.as_ref()).await
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        match catalog::find(self.session()?.as_ref(), table).await? {
            Some(existing) => catalog::newest_stamp(existing).await,
            None => Ok(None),
        }
    }

    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        match catalog::find(self.session()?.as_ref(), table).await? {
            Some((table, state)) => table.position(&state).await,
            None => Ok(Some(Position::absent())),
        }
    }

    async fn appended(&self, table: &FeatureKey, since: &Position, columns: &[String]) -> Result<Appended> {
        let (table, state) = self.existing(table).await?;
        read::appended(table, state, since, columns).await
    }

    fn notifications(&self, tables: &[FeatureKey]) -> Option<BoxStream<'static, ()>> {
        let session = self.session().ok()?;
        let logs = tables.iter().filter_map(|key| session.table(key).ok()?.directory.clone());
        let logs: Vec<PathBuf> = logs.map(|directory| directory.join(LOG_DIRECTORY)).collect();
        (!logs.is_empty()).then(|| file_changes::watch(logs))
    }

    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        catalog::has_held_rows(self.existing(table).await?).await
    }

    /// The Arrow engine reads the same files with the same readers: no measurement shows DataFusion faster, in one process.
    fn prefers_native(&self, _: &IncrementPlan) -> bool {
        self.computes_on_cluster()
    }

    fn computes_on_cluster(&self) -> bool {
        self.config.scheduler.is_some()
    }

    /// One query reads the tables of several Delta stores.
    fn reaches(&self, other: &dyn StoreBackend) -> bool {
        delta(other).is_some()
    }

    async fn resolve_natively(&self, request: NativeRequest<'_>) -> Result<NativeOutcome> {
        let inputs = self.sessions(request.inputs)?;
        native::resolve(&self.session()?, &inputs, request.plan, request.limits).await
    }

    #[cfg(feature = "ballista")]
    async fn append_natively(&self, request: NativeRequest<'_>, completion: &Completion) -> Result<Option<u64>> {
        let inputs = self.sessions(request.inputs)?;
        native::append(&self.writing().await?, &inputs, request.plan, request.limits, completion).await
    }

    fn table_location(&self, table: &FeatureKey) -> String {
        self.root.table_location(table)
    }

    async fn compact(&self, table: &FeatureKey) -> Result<()> {
        let session = self.writing().await?;
        compact::compact(&session.table(table)?).await
    }

    async fn vacuum(&self, table: &FeatureKey, retention: Duration) -> Result<u64> {
        let session = self.writing().await?;
        vacuum::vacuum(&session.table(table)?, retention).await
    }
}
