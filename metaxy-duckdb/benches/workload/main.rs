//! The paper's workload on a DuckDB file, compared with the Python package on DuckDB and with one hand-written
//! statement for each phase in the DuckDB of this program.

mod statements;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use metaxy_core::error::BoxError;
use metaxy_core::{SharedBackend, VersioningEngine};
use metaxy_duckdb::{DuckDbBackend, DuckDbConfig};
use metaxy_testkit::workload::{self, Subject};

const FILE: &str = "bench.duckdb";

fn main() -> ExitCode {
    workload::run([
        Subject::new("duckdb", open).reference("duckdb").extra("hand-written SQL", statements::run).meter(
            "bytes in the file",
            |dir: &Path| Ok(std::fs::metadata(dir.join(FILE)).map_or(0, |file| file.len())),
        ),
        Subject::new("duckdb by streams, Arrow engine", open_bounded)
            .streamed()
            .versioning_engine(VersioningEngine::Arrow)
            .reference("duckdb"),
    ])
}

/// Without a limit of its own, DuckDB keeps pages in up to 80% of the machine's memory.
fn open_bounded(dir: &Path) -> Result<SharedBackend, BoxError> {
    let config = DuckDbConfig::new(dir.join(FILE).display().to_string()).setting("memory_limit", "1GB");
    Ok(Arc::new(DuckDbBackend::new(config)?))
}

fn open(dir: &Path) -> Result<SharedBackend, BoxError> {
    Ok(Arc::new(DuckDbBackend::file(dir.join(FILE))?))
}
