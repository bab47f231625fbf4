//! The conformance suite of all backends, on Delta tables: in a directory, in both layouts, and on S3.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use async_trait::async_trait;
use deltalake::ensure_table_uri;
use futures::TryStreamExt;
use metaxy_core::{Error, FeatureKey, SharedBackend, StoreBackend, columns};
use metaxy_delta::{DeltaBackend, DeltaConfig, Layout};
use metaxy_testkit::servers::s3::{self, Bucket};
use metaxy_testkit::{Load, Location, Result};

struct Directory {
    directory: tempfile::TempDir,
    layout: Layout,
}

fn load() -> Load {
    // Each write is a commit that is on the disk when it returns.
    Load::default().tiny_writes(300)
}

fn settings_table(settings: &DeltaConfig) -> toml::Table {
    toml::Table::try_from(settings).expect("settings are TOML")
}

impl Directory {
    fn new(layout: Layout) -> Result<Self> {
        let directory = tempfile::tempdir().map_err(|error| Error::backend("delta", "make a directory", error))?;
        Ok(Self { directory, layout })
    }

    fn delta_settings(&self) -> DeltaConfig {
        DeltaConfig::new(self.directory.path().join("store").display().to_string()).layout(self.layout)
    }
}

#[async_trait]
impl Location for Directory {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(DeltaBackend::new(self.delta_settings())?))
    }

    fn settings(&self) -> toml::Table {
        settings_table(&self.delta_settings())
    }

    async fn delete_elsewhere(&self, table: &FeatureKey, time: i64) -> Result<bool> {
        let url = DeltaBackend::new(self.delta_settings())?.table_location(table);
        deleted_by_deltalake(&url, HashMap::new(), time).await.map(|()| true)
    }

    fn directory(&self) -> Option<PathBuf> {
        Some(self.directory.path().to_owned())
    }

    fn load(&self) -> Load {
        load()
    }

    fn variant(&self) -> Option<String> {
        let layout = if self.layout == Layout::Flat { "flat" } else { "nested" };
        Some(format!("delta, {layout} layout"))
    }
}

async fn nested_directory() -> Result<Directory> {
    Directory::new(Layout::Nested)
}

async fn flat_directory() -> Result<Directory> {
    Directory::new(Layout::Flat)
}

struct OnS3(Bucket);

impl OnS3 {
    fn delta_settings(&self) -> DeltaConfig {
        let settings = DeltaConfig::new(format!("{}/some/prefix", self.0.url()));
        let options = self.0.storage_options().into_iter();
        options.fold(settings, |settings, (name, value)| settings.storage_option(name, value))
    }
}

#[async_trait]
impl Location for OnS3 {
    async fn backend(&self) -> Result<SharedBackend> {
        Ok(Arc::new(DeltaBackend::new(self.delta_settings())?))
    }

    fn settings(&self) -> toml::Table {
        settings_table(&self.delta_settings())
    }

    async fn delete_elsewhere(&self, table: &FeatureKey, time: i64) -> Result<bool> {
        let url = DeltaBackend::new(self.delta_settings())?.table_location(table);
        deleted_by_deltalake(&url, self.0.storage_options().into_iter().collect(), time).await.map(|()| true)
    }

    fn load(&self) -> Load {
        load()
    }

    fn variant(&self) -> Option<String> {
        Some("delta, on S3".to_owned())
    }
}

async fn s3() -> Result<OnS3> {
    let failed = |reason| Error::backend("delta", "start an S3 server", reason);
    s3::bucket().map(OnS3).map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::backend("delta", "write with deltalake", error)
}

/// Appends a row of a table as deleted, with `deltalake`.
async fn deleted_by_deltalake(table: &str, options: HashMap<String, String>, time: i64) -> Result<()> {
    let url = ensure_table_uri(table).map_err(failed)?;
    let table = deltalake::open_table_with_storage_options(url, options).await.map_err(failed)?;
    let (table, rows) = table.scan_table().await.map_err(failed)?;
    let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(failed)?;
    let Some(rows) = rows.iter().find(|batch| batch.num_rows() > 0) else { return Ok(()) };
    let row = rows.slice(0, 1);
    let position = row.schema_ref().index_of(columns::DELETED_AT)?;
    let mut arrays = row.columns().to_vec();
    arrays[position] =
        cast(&TimestampMicrosecondArray::from(vec![time]), row.schema_ref().field(position).data_type())?;
    let row = RecordBatch::try_new(row.schema(), arrays)?;
    table.write([row]).await.map(drop).map_err(failed)
}

metaxy_testkit::conformance!(nested, nested_directory);
metaxy_testkit::conformance!(flat, flat_directory);
metaxy_testkit::conformance!(on_s3, s3);
