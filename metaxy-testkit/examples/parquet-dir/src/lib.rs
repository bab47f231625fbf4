//! A metadata store that is a directory of Parquet files: an example of a backend, whole and small.

mod files;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use async_trait::async_trait;
use futures::TryStreamExt;
use metaxy_core::backend::{self, AccessMode, BackendInfo, Capabilities, Scan, ScanRequest, ScanStage, StoreBackend};
use metaxy_core::filter::Predicate;
use metaxy_core::registry::BackendRegistration;
use metaxy_core::schema::grown_schema;
use metaxy_core::{FeatureKey, HashAlgorithm, Result};
use tokio::sync::RwLock;

use files::{Files, State};

const KIND: &str = "parquet-dir";

/// A store in a directory of Parquet files. Its settings are what `[stores.<name>.config]` holds in `metaxy.toml`.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetDir {
    path: PathBuf,
    #[serde(skip)]
    files: RwLock<Option<Files>>,
}

inventory::submit! {
    BackendRegistration {
        kind: KIND, aliases: &[], crate_name: env!("CARGO_PKG_NAME"), ignored_settings: &[],
        create: |settings| Ok(Arc::new(settings.parse::<ParquetDir>()?)),
    }
}

impl ParquetDir {
    /// A store in this directory, which is made when it is first opened for writing.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), files: RwLock::default() }
    }

    async fn files(&self) -> Result<Files> {
        self.files.read().await.clone().ok_or_else(|| backend::closed(&self.info()))
    }
}

#[async_trait]
impl StoreBackend for ParquetDir {
    fn info(&self) -> BackendInfo {
        BackendInfo {
            kind: KIND,
            location: self.path.display().to_string(),
            default_hash: HashAlgorithm::Xxhash32,
            flat_names: true,
            auto_create_tables: true,
            capabilities: Capabilities {
                // What Parquet has no type for. All else that a store can do this one does.
                stores_type: |data_type| !matches!(data_type, DataType::Interval(_) | DataType::Union(_, _)),
                ..Capabilities::default()
            },
        }
    }

    async fn open(&self, mode: AccessMode) -> Result<()> {
        *self.files.write().await = Some(Files::open(&self.path, mode).await?);
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        *self.files.write().await = None;
        Ok(())
    }

    async fn schema(&self, table: &FeatureKey) -> Result<Option<SchemaRef>> {
        Ok(self.files().await?.state(&table.table_name()).await?.schema)
    }

    async fn append(&self, table: &FeatureKey, schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<()> {
        let (files, name) = (self.files().await?, table.table_name());
        let new = files.write(&name, schema.clone(), batches).await?;
        loop {
            let mut state = files.state(&name).await?;
            // A table that is not there yet grows from no column at all.
            let stored = state.schema.unwrap_or_else(|| Schema::empty().into());
            state.schema = Some(grown_schema(table, &stored, &schema)?);
            state.data.push(new.clone());
            if files.commit(&name, state).await? {
                return Ok(());
            }
        }
    }

    async fn scan(&self, table: &FeatureKey, _request: &ScanRequest) -> Result<Scan> {
        let files = self.files().await?;
        let State { schema, data, .. } = files.state(&table.table_name()).await?;
        let schema = schema.ok_or_else(|| backend::not_found(&self.info(), table))?;
        let stream = files.rows(table, &schema, data);
        // A store that can filter would do it here, and say how far it has come; the core does the rest.
        Ok(Scan { schema, stream, applied: ScanStage::Nothing })
    }

    async fn delete(&self, table: &FeatureKey, predicate: &Predicate) -> Result<u64> {
        let (files, name) = (self.files().await?, table.table_name());
        loop {
            let mut state = files.state(&name).await?;
            let Some(schema) = state.schema.clone() else { return Ok(0) };
            let mut rows = files.clone().rows(table, &schema, state.data);
            let (mut kept, mut deleted) = (Vec::new(), 0);
            while let Some(batch) = rows.try_next().await? {
                let rest = predicate.remove_from(&batch)?;
                deleted += (batch.num_rows() - rest.num_rows()) as u64;
                kept.push(rest);
            }
            state.data = vec![files.write(&name, schema, kept).await?];
            if files.commit(&name, state).await? {
                return Ok(deleted);
            }
        }
    }

    async fn drop_table(&self, table: &FeatureKey) -> Result<()> {
        let (files, name) = (self.files().await?, table.table_name());
        while let state @ State { schema: Some(_), .. } = files.state(&name).await? {
            if files.commit(&name, State { schema: None, data: Vec::new(), ..state }).await? {
                break;
            }
        }
        Ok(())
    }

    async fn tables(&self) -> Result<Vec<String>> {
        self.files().await?.tables().await
    }
}
