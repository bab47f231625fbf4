//! A process that is killed loses nothing that its buffered writer had promised to keep.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::crash::{self, Victim};

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    Ok(Arc::new(SqliteBackend::file(location.join("store.db"))))
}

async fn survives(test: &str, victim: Victim, kills: usize) {
    let directory = tempfile::tempdir().unwrap();
    crash::survives_kills(test, victim, kills, directory.path(), backend).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn spooled_batches_survive() {
    survives("spooled_batches_survive", Victim::SpoolingWriter, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_batches_survive() {
    survives("flushed_batches_survive", Victim::Writer, 40).await;
}
