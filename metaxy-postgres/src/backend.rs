//! The backend: tables of one schema of a PostgreSQL database.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use async_trait::async_trait;
use metaxy_core::backend::{NativeIncrement, closed, not_found};
use metaxy_core::filter::Predicate;
use metaxy_core::plan::IncrementPlan;
use metaxy_core::{
    AccessMode, BackendInfo, Error, FeatureKey, HashAlgorithm, Result, Scan, ScanRequest, StoreBackend, columns,
};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Row};

use crate::KIND;
use crate::catalog::{self, Column, Table, TableName, plan_write};
use crate::config::{PostgresConfig, Settings};
use crate::copy::{self, RowReader};
use crate::held;
use crate::insert;
use crate::native;
use crate::session::{self, Connection, Counters, Session, UNDEFINED_COLUMN, UNDEFINED_TABLE};
use crate::sql::{self, Pushdown, quote};
use crate::types;

/// Metadata in the tables of a PostgreSQL schema.
pub struct PostgresBackend {
    settings: Settings,
    session: RwLock<Option<Arc<Session>>>,
    counters: Arc<Counters>,
}

/// Bytes of rows that went over the wire since the backend was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the server.
    pub sent: u64,
    /// From the server.
    pub received: u64,
}

impl PostgresBackend {
    /// A backend from its settings. Opens nothing.
    ///
    /// # Errors
    /// [`Error::Config`] that names the setting that does not fit.
    pub fn new(config: PostgresConfig) -> Result<Self> {
        Ok(Self { settings: config.check()?, session: RwLock::new(None), counters: Arc::default() })
    }

    /// How many bytes of rows went over the wire, without what the protocol adds.
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

    pub(crate) fn name(&self, session: &Session, key: &FeatureKey) -> Result<TableName> {
        TableName::new(session, &self.settings.table_prefix, key)
    }

    /// A table that has to exist, and a connection to go on with.
    async fn existing(&self, session: &Session, name: &TableName) -> Result<(Connection, Table)> {
        let mut connection = session.connection().await?;
        let table = catalog::table(&mut connection, session, name).await?;
        match table {
            Some(table) => Ok((connection, table)),
            None => {
                connection.done();
                Err(not_found(&self.info(), &name.key))
            }
        }
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
        let found = catalog::table(&mut connection, &session, &name).await?;
        connection.done();
        Ok(found.map(|table| table.schema()))
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        execute(&session, &mut connection, "write", &name, "BEGIN").await?;
        let columns = self.prepare(&session, &mut connection, &name, &schema).await?;
        if insert::is_better(&columns, &batches) {
            insert::insert(&session, &mut connection, &name, &columns, &batches).await?;
        } else {
            copy_in(&session, &mut connection, &name, columns, batches).await?;
        }
        execute(&session, &mut connection, "write", &name, "COMMIT").await?;
        connection.done();
        Ok(())
    }

    fn check(&self, _table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
        let is_typed = |field: &&FieldRef| *field.data_type() != DataType::Null;
        let check = |field: &FieldRef| types::storage(field.name(), field.data_type()).map(drop);
        rows.schema_ref().fields().iter().filter(is_typed).try_for_each(check)
    }

    async fn scan(&self, table: &FeatureKey, request: &ScanRequest) -> Result<Scan> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let (connection, table) = self.existing(&session, &name).await?;
        connection.done();
        let schema = table.schema();
        let pushdown = Pushdown::new(&table, request);
        let needed = request.columns_needed(&schema, pushdown.applied);
        let relation = pushdown.relation(&name, &table, request, &needed, false);
        let indices = needed.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
        let columns: Vec<&Column> = indices.iter().filter_map(|index| table.columns.get(*index)).collect();
        let outputs: Vec<String> = columns.iter().map(|column| sql::output(column)).collect();
        let query = format!("SELECT {} {}", outputs.join(", "), relation.sql());
        let reader = RowReader::new(&name.plain, columns.iter().map(|column| (column.name.as_str(), &column.storage)))?;
        let schema = Arc::new(schema.project(&indices)?);
        let stream = copy::batches(schema.clone(), copy::read(session, query, reader, copy::Planner::AsItIs));
        Ok(Scan { schema, stream, applied: pushdown.applied })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let (mut connection, table) = self.existing(&session, &name).await?;
        let condition = match sql::condition(&table, predicate) {
            Ok(condition) => condition,
            Err(reason) => {
                return Err(Error::Unsupported {
                    what: format!("deleting rows of `{}` by this filter", name.plain),
                    hint: format!("{reason}; write the filter with other columns"),
                });
            }
        };
        let statement = format!("DELETE FROM {} AS t WHERE {condition}", name.quoted);
        execute(&session, &mut connection, "delete from", &name, "BEGIN").await?;
        let deleted = execute(&session, &mut connection, "delete from", &name, &statement).await?;
        if deleted > 0 {
            held::mark_if_empty(&session, &mut connection, &name).await?;
        }
        execute(&session, &mut connection, "delete from", &name, "COMMIT").await?;
        connection.done();
        Ok(deleted)
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let statement = format!("DROP TABLE IF EXISTS {}", name.quoted);
        change(&session, &mut connection, "drop", &name, &statement).await?;
        connection.done();
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<String>> {
        let session = self.session()?;
        let mut connection = session.connection().await?;
        let failed = |error| session.error("list tables", None, error);
        let rows = sqlx::query(
            "SELECT c.relname::text AS name FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname",
        )
        .bind(&session.schema)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
        connection.done();
        let mut names = Vec::with_capacity(rows.len());
        for row in rows {
            let name: String = row.try_get("name").map_err(failed)?;
            names.extend(name.strip_prefix(&self.settings.table_prefix).map(str::to_owned));
        }
        Ok(names)
    }

    async fn newest_stamp(&self, table: &FeatureKey) -> Result<Option<i64>> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let newest = |column: &str| {
            let column = quote(column);
            format!("(extract(epoch FROM max({column}) FILTER (WHERE isfinite({column}))) * 1000000)::bigint")
        };
        let (updated, deleted) = (newest(columns::UPDATED_AT), newest(columns::DELETED_AT));
        let query = format!("SELECT greatest({updated}, {deleted}) FROM {}", name.quoted);
        let failed = |error| session.error("read", Some(&name.plain), error);
        let row = match sqlx::query(AssertSqlSafe(query)).fetch_one(&mut *connection).await {
            // There is no such table, or another program's, which has no times.
            Err(error) if [UNDEFINED_TABLE, UNDEFINED_COLUMN].contains(&session::code(&error).as_str()) => {
                return Ok(None);
            }
            row => row.map_err(failed)?,
        };
        let found = row.try_get(0).map_err(failed)?;
        connection.done();
        Ok(found)
    }

    async fn has_held_rows(&self, table: &FeatureKey) -> Result<bool> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        let held = held::has_held_rows(&session, &mut connection, &name).await?;
        connection.done();
        Ok(held)
    }

    async fn resolve_natively(&self, plan: &IncrementPlan) -> Result<Result<NativeIncrement, String>> {
        native::resolve(self, self.session()?, plan).await
    }

    /// `VACUUM (ANALYZE)`: space of deleted rows is used again, and the planner learns what the table holds.
    async fn compact(&self, table: &FeatureKey) -> Result<()> {
        let session = self.session()?;
        let name = self.name(&session, table)?;
        let mut connection = session.connection().await?;
        if catalog::table(&mut connection, &session, &name).await?.is_some() {
            let statement = format!("VACUUM (ANALYZE) {}", name.quoted);
            execute(&session, &mut connection, "compact", &name, &statement).await?;
        }
        connection.done();
        Ok(())
    }

    /// Old rows are the server's own business (`autovacuum`); nothing is left to remove.
    async fn vacuum(&self, _table: &FeatureKey, _retention: Duration) -> Result<u64> {
        Ok(0)
    }
}

impl PostgresBackend {
    /// Creates or changes the table where the schema asks for it; gives the columns to write.
    async fn prepare(
        &self,
        session: &Session,
        connection: &mut PgConnection,
        name: &TableName,
        schema: &SchemaRef,
    ) -> Result<Vec<Column>> {
        let nested = self.settings.nested_as_jsonb;
        let table = catalog::table(connection, session, name).await?;
        let plan = plan_write(name, table.as_ref(), schema, nested)?;
        if plan.changes.is_empty() {
            return Ok(plan.columns);
        }
        // Another writer may be about to make the same change: one after the other, and each looks again.
        execute(session, connection, "change", name, &catalog::lock(name)).await?;
        let table = catalog::table(connection, session, name).await?;
        let plan = plan_write(name, table.as_ref(), schema, nested)?;
        if !plan.changes.is_empty() {
            let operation = if table.is_none() { "create" } else { "change" };
            execute(session, connection, operation, name, &plan.changes).await?;
        }
        Ok(plan.columns)
    }
}

/// Runs a statement in a transaction: where the call is given up, the server undoes it, rather than to do it when nobody
/// expects it any more. Gives the number of rows that it changed.
async fn change(
    session: &Session,
    connection: &mut PgConnection,
    operation: &'static str,
    name: &TableName,
    statement: &str,
) -> Result<u64> {
    execute(session, connection, operation, name, "BEGIN").await?;
    let changed = execute(session, connection, operation, name, statement).await?;
    execute(session, connection, operation, name, "COMMIT").await?;
    Ok(changed)
}

/// Runs statements; gives the number of rows that the last one changed.
async fn execute(
    session: &Session,
    connection: &mut PgConnection,
    operation: &'static str,
    name: &TableName,
    statements: &str,
) -> Result<u64> {
    let results = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await;
    results.map(|result| result.rows_affected()).map_err(|error| session.error(operation, Some(&name.plain), error))
}

/// Sends the rows. An error leaves the transaction open; cutting the connection undoes it.
async fn copy_in(
    session: &Session,
    connection: &mut PgConnection,
    name: &TableName,
    columns: Vec<Column>,
    batches: Vec<RecordBatch>,
) -> Result<()> {
    let failed = |error| session.error("write", Some(&name.plain), error);
    let names: Vec<String> = columns.iter().map(|column| quote(&column.name)).collect();
    let statement = format!("COPY {} ({}) FROM STDIN (FORMAT binary)", name.quoted, names.join(", "));
    let mut copy = connection.copy_in_raw(&statement).await.map_err(failed)?;
    let mut chunks = copy::encode(name.clone(), columns, batches);
    let mut whole = false;
    while let Some(chunk) = chunks.recv().await {
        let chunk = chunk?;
        session.counters.add_sent(chunk.bytes.len());
        whole = chunk.is_last;
        copy.send(chunk.bytes).await.map_err(failed)?;
    }
    // Without the last chunk the encoder has died on the way, and rows are missing.
    if !whole {
        return Err(Error::Task("the encoder of rows ended before its last row".to_owned()));
    }
    copy.finish().await.map_err(failed)?;
    Ok(())
}
