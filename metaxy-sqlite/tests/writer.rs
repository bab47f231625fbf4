//! A process that is killed loses nothing that its buffered writer had promised to keep.

use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::crash::{self, Victim};

async fn survives(test: &str, victim: Victim, kills: usize) {
    let directory = tempfile::tempdir().unwrap();
    let backend = async |location: std::path::PathBuf| {
        Ok(Arc::new(SqliteBackend::file(location.join("store.db"))) as SharedBackend)
    };
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
