//! The buffered writer on a temporary server, compared with direct writes of the same size.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use metaxy_core::SharedBackend;
use metaxy_postgres::{PostgresBackend, PostgresConfig};
use metaxy_testkit::servers::postgres;
use metaxy_testkit::workload::{self, BoxError, Subject};

/// The variable with the database's URL for the processes that measure.
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

/// Creates a backend whose tables have the name of the measurement's directory as prefix.
fn backend(dir: &Path) -> Result<SharedBackend, BoxError> {
    let mut config = PostgresConfig::new(std::env::var(URL)?);
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    config.table_prefix = Some(format!("{}_", name.trim_start_matches('.')));
    Ok(Arc::new(PostgresBackend::new(config)?))
}
