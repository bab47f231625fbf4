//! The backend: implements the core's trait by calls to the other modules.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::executor::block_on_stream;
use futures::stream::BoxStream;
use metaxy_core::backend::{Appended, BatchStream, Position, closed};
use metaxy_core::filter::Predicate;
use metaxy_core::{
    AccessMode, BackendInfo, Capabilities, FeatureKey, HashAlgorithm, Result, Scan, ScanRequest, StoreBackend,
    blocking, fence, file_changes,
};
use rusqlite::Connection;

use crate::KIND;
use crate::catalog::{Catalog, SeenRows};
use crate::changes;
use crate::config::{MEMORY, SqliteConfig};
use crate::connection::{Database, Snapshot};
use crate::error::{CATALOG, During};
use crate::keys;
use crate::location::Location;
use crate::read::{Reading, Since};
use crate::types::{self, check_columns, check_sizes, check_storable};
use crate::write::Writing;

/// A metadata store in a SQLite database.
pub struct SqliteBackend {
    config: SqliteConfig,
    /// The file; `None` for a database in memory.
    path: Option<PathBuf>,
    database: RwLock<Option<Arc<Database>>>,
    /// The newest rows that were seen of each table.
    seen: Mutex<HashMap<FeatureKey, SeenRows>>,
}

impl SqliteBackend {
    /// Creates a backend with these settings, without opening the database.
    ///
    /// # Errors
    /// [`Error::Config`](metaxy_core::Error::Config) for invalid settings.
    pub fn new(config: SqliteConfig) -> Result<Self> {
        config.check()?;
        let path = (config.database != MEMORY).then(|| PathBuf::from(&config.database));
        Ok(Self::at(path, config))
    }

    /// Creates a backend on a file. Opening it for writing creates a missing file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let config = SqliteConfig::new(path.display().to_string());
        Self::at(Some(path), config)
    }

    /// Creates a backend in memory, whose rows are lost when it is closed.
    pub fn in_memory() -> Self {
        Self::at(None, SqliteConfig::new(MEMORY))
    }

    fn at(path: Option<PathBuf>, config: SqliteConfig) -> Self {
        Self { config, path, database: RwLock::new(None), seen: Mutex::default() }
    }

    fn database(&self) -> Result<Arc<Database>> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner).clone();
        database.ok_or_else(|| closed(&self.info()))
    }

    fn replace(&self, database: Option<Arc<Database>>) -> Option<Arc<Database>> {
        std::mem::replace(&mut *self.database.write().unwrap_or_else(PoisonError::into_inner), database)
    }

    /// Runs a short read of a table, or of the list of tables.
    async fn read<T: Send + 'static>(
        &self,
        table: Option<&FeatureKey>,
        operation: &'static str,
        work: impl FnOnce(&Catalog<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (database, prefix) = (self.database()?, self.config.table_prefix.clone());
        let name = table.map_or_else(|| CATALOG.to_owned(), FeatureKey::table_name);
        let guard = if database.is_memory() { Some(database.lock().await) } else { None };
        blocking::run(move || {
            let run = |connection: &Connection| {
                let during = During::new(&database.location, operation).of(&name);
                fence::decode(&name, || work(&Catalog { connection, prefix: &prefix, during }))
            };
            match guard {
                Some(mut guard) => run(database.writer(&mut guard)?),
                // In one transaction: a table that is found is still there when it is read.
                None => Snapshot::take(database.clone())?.read(run),
            }
        })
        .await
    }

    fn reading(&self, table: &FeatureKey, request: ScanRequest, since: Option<Arc<Since>>) -> Result<Reading> {
        let (database, prefix) = (self.database()?, self.config.table_prefix.clone());
        Ok(Reading { database, prefix, key: table.clone(), request, since })
    }

    /// Creates an index on the keys of a large table, the first time that rows are looked up by them. If another process
    /// writes at that time, the table is read as a whole.
    async fn index_for(&self, table: &FeatureKey, request: &ScanRequest) -> Result<()> {
        let database = self.database()?;
        let Some(keys) = &request.keys else { return Ok(()) };
        if database.is_memory() || database.location.mode == AccessMode::ReadOnly {
            return Ok(());
        }
        let key = table.clone();
        let is_missing = self.read(Some(table), "read", move |catalog| match catalog.find(&key)? {
            Some(table) => keys::is_missing(catalog.connection, &table).map_err(|error| catalog.during.error(error)),
            None => Ok(false),
        });
        if is_missing.await? {
            let keys = keys.clone();
            if let Err(error) = self.write(table, move |writing, connection| writing.index(connection, &keys)).await {
                tracing::debug!(table = %table, %error, "the table gets no index now, and is read as a whole");
            }
        }
        Ok(())
    }

    /// Runs a write. Once it has begun, it is completed even if its future is dropped.
    async fn write<T: Send + 'static>(
        &self,
        table: &FeatureKey,
        work: impl FnOnce(&Writing<'_>, &mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (database, prefix) = (self.database()?, self.config.table_prefix.clone());
        let key = table.clone();
        let mut guard = database.lock().await;
        blocking::run(move || {
            let writing = Writing { location: &database.location, prefix: &prefix, key: &key };
            let connection = database.writer(&mut guard)?;
            let answer = work(&writing, connection);
            if answer.is_err() && !database.is_memory() {
                // The state of the connection after an error is unknown.
                *guard = None;
            }
            answer
        })
        .await
    }
}

impl fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBackend").field("config", &self.config).finish_non_exhaustive()
    }
}

#[async_trait]
impl StoreBackend for SqliteBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.config.location(),
            default_hash: HashAlgorithm::Xxhash32,
            flat_names: true,
            auto_create_tables: true,
            capabilities: Capabilities { stores_type: types::stores, ..Capabilities::default() },
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        let (config, path) = (self.config.clone(), self.path.clone());
        let database = blocking::run(move || Database::open(Location::new(&config, path, mode)?)).await?;
        self.replace(Some(Arc::new(database)));
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let Some(database) = self.replace(None) else { return Ok(()) };
        let guard = database.lock().await;
        // The last connection to close moves the write-ahead log into the file.
        blocking::run(move || {
            database.close(guard);
            Ok(())
        })
        .await
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        let key = table.clone();
        self.read(Some(table), "read the schema", move |catalog| Ok(catalog.find(&key)?.map(|table| table.schema)))
            .await
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        self.write(table, move |writing, connection| writing.append(connection, &schema, batches.into_iter().map(Ok)))
            .await
    }

    async fn append_stream(&self, table: &FeatureKey, schema: SchemaRef, batches: BatchStream) -> Result<()> {
        self.write(table, move |writing, connection| writing.append(connection, &schema, block_on_stream(batches)))
            .await
    }

    fn check(&self, table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        rows.schema_ref().fields().iter().try_for_each(|field| check_storable(field.name(), field.data_type()))?;
        check_columns(&table.table_name(), rows.num_columns())?;
        check_sizes(table, rows)
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        self.index_for(table, request).await?;
        self.reading(table, request.clone(), None)?.scan().await
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let predicate = predicate.clone();
        self.write(table, move |writing, connection| writing.delete(connection, &predicate)).await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        self.write(table, |writing, connection| writing.drop_table(connection)).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.read(None, "list the tables", |catalog| catalog.names()).await
    }

    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        let database = self.database()?;
        if database.location.is_immutable {
            return Ok(None);
        }
        let key = table.clone();
        let counted = self.read(Some(table), "read", move |catalog| {
            let Some(table) = catalog.find(&key)? else { return Ok(Some(Position::absent())) };
            let state = changes::state(catalog.connection, &table, catalog.during)?;
            Ok(state.map(|state| state.to_position()))
        });
        match counted.await? {
            Some(position) => Ok(Some(position)),
            None => blocking::run(move || database.position()).await,
        }
    }

    async fn appended(&self, table: &FeatureKey, since: &Position, columns: &[String]) -> Result<Appended> {
        let since = Since::new(since.clone());
        let request = ScanRequest { columns: Some(columns.to_vec()), ..ScanRequest::default() };
        let rows = self.reading(table, request, Some(since.clone()))?.scan().await?;
        Ok(match since.found() {
            Ok(later) => Appended::Rows { rows, of: u64::try_from(later.last).ok() },
            Err(reason) => Appended::CannotTell(reason.to_owned()),
        })
    }

    fn notifications(&self, _tables: &[FeatureKey]) -> Option<BoxStream<'static, ()>> {
        let file = self.database().ok()?.location.path.clone()?;
        // A commit changes the write-ahead log beside the file.
        let mut log = file.clone().into_os_string();
        log.push("-wal");
        Some(file_changes::watch(vec![file, log.into()]))
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        let key = table.clone();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(table).copied().unwrap_or_default();
        let found = self
            .read(Some(table), "read", move |catalog| {
                let Some(table) = catalog.find(&key)? else { return Ok(SeenRows::default()) };
                catalog.newest_stamp(&table, seen)
            })
            .await?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(table.clone(), found);
        Ok(found.newest)
    }
}
