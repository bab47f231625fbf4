//! The buffered writer on a DuckDB file, compared with direct writes of the same size.

use std::process::ExitCode;
use std::sync::Arc;

use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};
use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run_writer([Subject::new("duckdb", |dir| {
        let config = DuckDbConfig::new(dir.join("bench.duckdb").display().to_string());
        Ok(Arc::new(DuckDbBackend::new(config)?))
    })])
}
