//! A database for each test, and batches to put there.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema};
use futures::TryStreamExt;
use metaxy_core::{AccessMode, FeatureKey, Result, ScanRequest, StoreBackend};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::postgres_server::{self, Database};

/// A new database.
pub fn database() -> Database {
    postgres_server::database().unwrap_or_else(|reason| panic!("{reason}"))
}

/// The settings of a database.
pub fn config(url: &str) -> PostgresConfig {
    let mut config = PostgresConfig::from_url(url);
    config.auto_create_tables = Some(true);
    config.connect_timeout = Some(10.0);
    config
}

/// A backend that is open for writing.
pub async fn open(url: &str) -> PostgresBackend {
    let backend = PostgresBackend::new(config(url)).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    backend
}

/// A key.
pub fn key(text: &str) -> FeatureKey {
    text.parse().unwrap()
}

/// A batch from columns.
pub fn batch<'a>(columns: impl IntoIterator<Item = (&'a str, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        columns.into_iter().map(|(name, array)| (Field::new(name, array.data_type().clone(), true), array)).unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// Writes a batch.
pub async fn append(backend: &PostgresBackend, table: &str, batch: &RecordBatch) -> Result<()> {
    backend.append(&key(table), batch.schema(), vec![batch.clone()]).await
}

/// All rows of a table, in the order of the table.
pub async fn read(backend: &PostgresBackend, table: &str) -> Result<RecordBatch> {
    let scan = backend.scan(&key(table), &ScanRequest::default()).await?;
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await?;
    Ok(concat_batches(&scan.schema, &batches)?)
}
