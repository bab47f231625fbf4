//! Thousands of concurrent writes, hundreds of unread streams, thousands of features.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_sqlite::SqliteBackend;

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    Ok(Arc::new(SqliteBackend::file(location.join("store.db"))))
}

metaxy_testkit::sizes!(backend);
