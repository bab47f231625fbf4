//! The buffered writer on a SQLite file, beside direct writes of the same size.

use std::process::ExitCode;
use std::sync::Arc;

use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::workload::{self, Subject};

fn main() -> ExitCode {
    workload::run_writer([Subject::new("sqlite", |dir| Ok(Arc::new(SqliteBackend::file(dir.join("bench.db")))))])
}
