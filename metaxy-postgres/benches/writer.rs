//! The buffered writer on a throwaway server, beside direct writes of the same size.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::servers::postgres;
use metaxy_testkit::workload::{self, BoxError, Subject};

/// Tells the processes that measure where the database is.
const URL: &str = "METAXY_BENCH_POSTGRES";

fn main() -> ExitCode {
    if workload::is_child() {
        return workload::run_writer([Subject::new("postgres", backend)]);
    }
    match postgres::database() {
        Ok(database) => workload::run_writer([Subject::new("postgres", backend).child_env(URL, database.url())]),
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// A backend whose tables start with the name of the measurement's directory.
fn backend(dir: &Path) -> Result<SharedBackend, BoxError> {
    let mut config = PostgresConfig::new(std::env::var(URL)?);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    config.table_prefix = Some(format!("{}_", name.trim_start_matches('.')));
    Ok(Arc::new(PostgresBackend::new(config)?))
}
