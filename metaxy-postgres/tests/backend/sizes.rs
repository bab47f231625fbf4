//! Thousands of concurrent writes, hundreds of unread streams, thousands of features.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use metaxy_core::{Result, SharedBackend};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::servers::postgres::Database;

use super::support::{config, database};

/// The file with the URL of the database, beside the location.
const URL: &str = "url";

fn set_up(directory: &Path) -> Database {
    let database = database();
    std::fs::write(directory.join(URL), database.url()).unwrap();
    database
}

async fn backend(location: PathBuf) -> Result<SharedBackend> {
    let url = std::fs::read_to_string(location.with_file_name(URL)).unwrap();
    Ok(Arc::new(PostgresBackend::new(config(&url))?))
}

metaxy_testkit::sizes!(backend, set_up, 17_000);
