//! A database for each test.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, StructArray};
use metaxy_core::{AccessMode, StoreBackend};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::fixtures::tables::batch;
use metaxy_testkit::servers::postgres::{self, Database};

/// Creates a database.
pub fn database() -> Database {
    postgres::database().unwrap_or_else(|reason| panic!("{reason}"))
}

/// Returns the settings of a database.
pub fn config(url: &str) -> PostgresConfig {
    let mut config = PostgresConfig::new(url);
    config.auto_create_tables = Some(true);
    config.connect_timeout = Some(10.0);
    config
}

/// Opens a backend for writing.
pub async fn open(url: &str) -> PostgresBackend {
    let backend = PostgresBackend::new(config(url)).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    backend
}

/// Returns a row of a root feature with the id column `id`.
pub fn sample() -> RecordBatch {
    let texts = || Arc::new(StringArray::from(vec!["1"])) as ArrayRef;
    let provenance = StructArray::from(batch([("default", texts())]));
    batch([("id", texts()), ("metaxy_provenance_by_field", Arc::new(provenance) as ArrayRef)])
}
