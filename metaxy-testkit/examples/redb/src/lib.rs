//! A metadata store in a redb file: an example of a backend on a key-value store, which has transactions, and whose
//! file one process at a time can write to.

mod database;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use metaxy_core::backend::{self, AccessMode, BackendInfo, Capabilities, Scan, ScanRequest, ScanStage, StoreBackend};
use metaxy_core::filter::Predicate;
use metaxy_core::registry::BackendRegistration;
use metaxy_core::schema::{conform, grown_schema, slices};
use metaxy_core::{FeatureKey, HashAlgorithm, Result, blocking, ipc};
use redb::{ReadableTable, TableHandle, WriteTransaction};
use tokio::sync::RwLock;

use database::{Database, FIRST, SCHEMA, existing, failed, next_batch, put, rows_of, schema_of};

const KIND: &str = "redb";

/// A store in a redb file. Its settings are what `[stores.<name>.config]` holds in `metaxy.toml`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Redb {
    path: PathBuf,
    #[serde(skip)]
    database: RwLock<Option<Database>>,
}

inventory::submit! {
    BackendRegistration {
        kind: KIND, aliases: &[], crate_name: env!("CARGO_PKG_NAME"), ignored_settings: &[],
        create: |settings| Ok(Arc::new(settings.parse::<Redb>()?)),
    }
}

impl Redb {
    /// A store in this file, which is made when it is first opened for writing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), database: RwLock::default() }
    }

    /// Works on the open file, on a thread that may block.
    async fn with<T: Send + 'static>(&self, work: impl FnOnce(Database) -> Result<T> + Send + 'static) -> Result<T> {
        let database = self.database.read().await.clone().ok_or_else(|| backend::closed(&self.info()))?;
        blocking::run(move || work(database)).await
    }

    /// Makes a change in one transaction: all of it, or nothing if it fails. A second change waits for the first.
    async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.with(move |database| {
            let transaction = database.begin_write()?;
            let done = work(&transaction)?;
            transaction.commit().map_err(failed)?;
            Ok(done)
        })
        .await
    }
}

#[async_trait]
impl StoreBackend for Redb {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.path.display().to_string(),
            default_hash: HashAlgorithm::Xxhash64,
            flat_names: true,
            auto_create_tables: true,
            // Arrow IPC has a form for every type.
            capabilities: Capabilities { writers: backend::Writers::OneProcess, ..Capabilities::default() },
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        let path = self.path.clone();
        let database = blocking::run(move || Database::open(&path, mode)).await?;
        *self.database.write().await = Some(database);
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        let database = self.database.write().await.take();
        // Closing the file syncs it.
        blocking::run(move || Ok(database.map(drop))).await.map(|_| ())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        let name = table.table_name();
        self.with(move |database| match existing(&database.begin_read()?, &name)? {
            Some(rows) => schema_of(&rows, &name),
            None => Ok(None),
        })
        .await
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let (table, name) = (table.clone(), table.table_name());
        self.change(move |transaction| {
            let mut rows = transaction.open_table(rows_of(&name)).map_err(failed)?;
            // A table that is not there yet grows from no column at all.
            let stored = schema_of(&rows, &name)?.unwrap_or_else(|| Schema::empty().into());
            let grown = ipc::encode_schema(&*grown_schema(&table, &stored, &schema)?)?;
            rows.insert(SCHEMA, grown.as_slice()).map_err(failed)?;
            let last = rows.last().map_err(failed)?.map_or(SCHEMA, |(number, _)| number.value());
            let mut numbered = (last + 1..).zip(batches.iter().flat_map(slices));
            numbered.try_for_each(|(number, batch)| put(&mut rows, number, &batch))
        })
        .await
    }

    async fn scan(&self, table: &FeatureKey, _request: &ScanRequest) -> Result<Scan> {
        let name = table.table_name();
        let found = self.with(move |database| {
            let Some(rows) = existing(&database.begin_read()?, &name)? else { return Ok(None) };
            Ok(schema_of(&rows, &name)?.map(|schema| (schema, rows, database)))
        });
        let (schema, rows, database) = found.await?.ok_or_else(|| backend::not_found(&self.info(), table))?;
        let (table, grown) = (table.clone(), schema.clone());
        // The file stays open as long as the stream. Each batch is a call of its own: no thread waits for a slow
        // reader.
        let stream = stream::try_unfold((FIRST, rows, database), move |(next, rows, database)| {
            let (table, schema) = (table.clone(), grown.clone());
            blocking::run(move || {
                let Some((number, batch)) = next_batch(&rows, &table, next)? else { return Ok(None) };
                Ok(Some((conform(&table, &schema, &batch)?, (number + 1, rows, database))))
            })
        });
        Ok(Scan { schema, stream: stream.boxed(), applied: ScanStage::Nothing })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let (table, name, predicate) = (table.clone(), table.table_name(), predicate.clone());
        self.change(move |transaction| {
            // Opening a redb table for writing makes it.
            if !transaction.list_tables().map_err(failed)?.any(|found| found.name() == name) {
                return Ok(0);
            }
            let mut rows = transaction.open_table(rows_of(&name)).map_err(failed)?;
            let Some(schema) = schema_of(&rows, &name)? else { return Ok(0) };
            let (mut next, mut deleted) = (FIRST, 0);
            while let Some((number, batch)) = next_batch(&rows, &table, next)? {
                let rest = predicate.remove_from(&conform(&table, &schema, &batch)?)?;
                match rest.num_rows() {
                    0 => rows.remove(number).map(drop).map_err(failed)?,
                    left if left < batch.num_rows() => put(&mut rows, number, &rest)?,
                    _ => {}
                }
                deleted += (batch.num_rows() - rest.num_rows()) as u64;
                next = number + 1;
            }
            Ok(deleted)
        })
        .await
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        let name = table.table_name();
        self.change(move |transaction| transaction.delete_table(rows_of(&name)).map(drop).map_err(failed)).await
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.with(|database| {
            let transaction = database.begin_read()?;
            let tables = transaction.list_tables().map_err(failed)?;
            Ok(tables.map(|table| table.name().to_owned()).collect())
        })
        .await
    }
}
