//! The backend: tables of one schema of a PostgreSQL database.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use async_trait::async_trait;
use futures::stream::BoxStream;
use metaxy_core::backend::{BatchStream, NativeOutcome, NativeRequest, Position, closed, not_found};
use metaxy_core::filter::Predicate;
use metaxy_core::{
    AccessMode, BackendInfo, Capabilities, FeatureKey, HashAlgorithm, Result, Scan, ScanRequest, StoreBackend,
};

use crate::KIND;
use crate::catalog::{self, TableName};
use crate::config::{PostgresConfig, Settings};
use crate::connection::{Counters, Session};
use crate::delete;
use crate::error::During;
use crate::native;
use crate::read;
use crate::server::held;
use crate::server::newest;
use crate::server::notifications;
use crate::server::position;
use crate::types;
use crate::write::{self, Given};

/// A metadata store in the tables of a PostgreSQL schema.
pub struct PostgresBackend {
    settings: Settings,
    session: RwLock<Option<Arc<Session>>>,
    counters: Arc<Counters>,
}

/// The bytes of rows that were transferred since the backend was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent to the server.
    pub sent: u64,
    /// Bytes received from the server.
    pub received: u64,
}

impl PostgresBackend {
    /// Creates a backend with these settings, without connecting.
    ///
    /// # Errors
    /// [`Error::Config`](metaxy_core::Error::Config) that names the invalid setting.
    pub fn new(config: PostgresConfig) -> Result<Self> {
        Ok(Self { settings: config.check()?, session: RwLock::new(None), counters: Arc::default() })
    }

    /// Returns the bytes of rows that were transferred, without those of the protocol.
    pub fn traffic(&self) -> Traffic {
        let (sent, received) = self.counters.read();
        Traffic { sent, received }
    }

    fn session(&self) -> Result<Arc<Session>> {
        let session = self.session.read().unwrap_or_else(PoisonError::into_inner);
        session.clone().ok_or_else(|| closed(&self.info()))
    }

    fn replace(&self, session: Option<Arc<Session>>) -> Option<Arc<Session>> {
        std::mem::replace(&mut *self.session.write().unwrap_or_else(PoisonError::into_inner), session)
    }

    fn name(&self, session: &Session, key: &FeatureKey) -> Result<TableName> {
        TableName::new(&session.schema, &self.settings.table_prefix, key)
    }
}

impl fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBackend").field("location", &self.settings.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl StoreBackend for PostgresBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.settings.location.clone(),
            default_hash: HashAlgorithm::Xxhash32,
            flat_names: true,
            auto_create_tables: self.settings.auto_create_tables,
            capabilities: Capabilities { stores_type: types::stores, ..Capabilities::default() },
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        let session = Session::open(&self.settings, mode, self.counters.clone()).await?;
        if let Some(previous) = self.replace(Some(Arc::new(session))) {
            previous.close().await;
        }
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        if let Some(session) = self.replace(None) {
            session.close().await;
        }
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let found = catalog::table(&mut connection, &name).await?;
        connection.done();
        Ok(found.map(|table| table.schema()))
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        write::append(&session, &name, &schema, Given::Batches(batches), self.settings.nested_as_jsonb).await
    }

    async fn append_stream(&self, table: &FeatureKey, schema: SchemaRef, batches: BatchStream) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        write::append(&session, &name, &schema, Given::Stream(batches), self.settings.nested_as_jsonb).await
    }

    fn check(&self, _table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        let is_typed = |field: &&FieldRef| *field.data_type() != DataType::Null;
        let check = |field: &FieldRef| types::storage(field.name(), field.data_type()).map(drop);
        rows.schema_ref().fields().iter().filter(is_typed).try_for_each(check)
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let found = catalog::table(&mut connection, &name).await?;
        connection.done();
        let table = found.ok_or_else(|| not_found(&self.info(), &name.key))?;
        read::scan(session, &name, &table, request)
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let during = During::table("delete from", &name.plain);
        let mut connection = session.begin(during).await?;
        let Some(table) = catalog::table(&mut connection, &name).await? else {
            connection.commit(during).await?;
            return Ok(0);
        };
        delete::delete(connection, &name, &table, predicate).await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        delete::drop_table(&session, &name).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        let session = self.session()?;
        let mut connection = session.connection().await?;
        let names = catalog::tables(&mut connection, &session.schema).await?;
        connection.done();
        let prefix = &self.settings.table_prefix;
        Ok(names.iter().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect())
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let found = newest::newest_stamp(&mut connection, &name).await?;
        connection.done();
        Ok(found)
    }

    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let found = held::has_held_rows(&mut connection, &name).await?;
        connection.done();
        Ok(found)
    }

    async fn position(&self, table: &FeatureKey) -> Result<Option<Position>> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let found = position::position(&mut connection, &name).await?;
        connection.done();
        Ok(found)
    }

    fn notifications(&self, tables: &[FeatureKey]) -> Option<BoxStream<'static, ()>> {
        let session = self.session().ok()?;
        let names = tables.iter().map(|table| self.name(&session, table)).collect::<Result<Vec<_>>>().ok()?;
        session.notifies.then(|| notifications::listen(session, names))
    }

    async fn resolve_natively(&self, request: NativeRequest<'_>) -> Result<NativeOutcome> {
        native::resolve(self.session()?, &self.settings.table_prefix, request.plan).await
    }

    /// Runs `VACUUM (ANALYZE)`, which makes the space of deleted rows reusable and updates the planner's statistics.
    async fn compact(&self, table: &FeatureKey) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        if catalog::table(&mut connection, &name).await?.is_some() {
            let during = During::table("compact", &name.plain);
            connection.execute(during, &format!("VACUUM (ANALYZE) {}", name.quoted)).await?;
        }
        connection.done();
        Ok(())
    }

    /// Does nothing: the server removes old rows itself (`autovacuum`).
    async fn vacuum(&self, _table: &FeatureKey, _retention: Duration) -> Result<u64> {
        Ok(0)
    }
}
