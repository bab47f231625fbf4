//! A process that is killed loses nothing that its buffered writer had promised to keep.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::crash::{self, Victim};
use metaxy_testkit::postgres_server;

/// Where the processes that are killed find the database: a file beside the directories of the locations.
const URL: &str = "url";

/// Each location has tables of its own.
async fn backend(location: PathBuf) -> Result<SharedBackend> {
    let url = std::fs::read_to_string(location.with_file_name(URL)).unwrap();
    let number = location.file_name().unwrap_or_default().to_string_lossy();
    let mut config = PostgresConfig::from_url(url);
    config.table_prefix = Some(format!("location_{number}_"));
    Ok(Arc::new(PostgresBackend::new(config)?))
}

async fn survives(test: &str, victim: Victim, kills: usize) {
    let directory = tempfile::tempdir().unwrap();
    let database =
        (!crash::is_victim()).then(|| postgres_server::database().unwrap_or_else(|reason| panic!("{reason}")));
    if let Some(database) = &database {
        std::fs::write(directory.path().join(URL), database.url()).unwrap();
    }
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
