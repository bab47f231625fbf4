//! Thousands of concurrent writes, hundreds of unread streams, thousands of features.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_duckdb::DuckDbBackend;

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    Ok(Arc::new(DuckDbBackend::file(location.join("store.duckdb"))?))
}

metaxy_testkit::sizes!(backend);
