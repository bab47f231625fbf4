//! A killed process loses no rows for which the buffered writer has returned.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    let config = DuckDbConfig::new(location.join("store.duckdb").display().to_string());
    Ok(Arc::new(DuckDbBackend::new(config)?))
}

metaxy_testkit::writer_survives_kills!(backend);
