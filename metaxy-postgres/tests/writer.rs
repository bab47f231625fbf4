//! A killed process loses no rows for which the buffered writer has returned.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::servers::postgres::{self, Database};

/// The file with the URL of the database for the killed processes, beside the directories of the locations.
const URL: &str = "url";

fn database(directory: &Path) -> Database {
    let database = postgres::database().unwrap_or_else(|reason| panic!("{reason}"));
    std::fs::write(directory.join(URL), database.url()).unwrap();
    database
}

/// Opens a backend; each location has its own tables.
async fn backend(location: PathBuf) -> Result<SharedBackend> {
    let url = std::fs::read_to_string(location.with_file_name(URL)).unwrap();
    let number = location.file_name().unwrap_or_default().to_string_lossy();
    let mut config = PostgresConfig::new(url);
    config.table_prefix = Some(format!("location_{number}_"));
    Ok(Arc::new(PostgresBackend::new(config)?))
}

metaxy_testkit::writer_survives_kills!(backend, database);
