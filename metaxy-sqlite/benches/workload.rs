//! The paper's workload on a SQLite file, beside the engine alone and the Python package on Delta.

use std::process::ExitCode;
use std::sync::Arc;

use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run([
        Subject::engine_alone().reference("delta"),
        Subject::new("sqlite", |dir| Ok(Arc::new(SqliteBackend::file(dir.join("bench.db"))))).reference("delta"),
    ])
}
