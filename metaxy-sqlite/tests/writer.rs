//! A killed process loses no rows for which the buffered writer has returned.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_sqlite::SqliteBackend;

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    Ok(Arc::new(SqliteBackend::file(location.join("store.db"))))
}

metaxy_testkit::writer_survives_kills!(backend);
