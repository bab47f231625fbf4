//! The backend's own behaviour: unusable files, locks, the state after a crash or on a full disk, and tables of other
//! programs.

mod files;
mod holders;
mod identity;
mod input;
mod others;
mod sizes;
mod storage;
mod streams;
mod tables;
mod two_programs;

mod wide;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use metaxy_core::{AccessMode, Result, SharedBackend, StoreBackend};
use metaxy_duckdb::DuckDbBackend;
use metaxy_testkit::crash::{self, Victim};
use metaxy_testkit::fixtures::tables::{append, batch, ints, key, read, texts};

async fn open(path: &Path, mode: AccessMode) -> Result<DuckDbBackend> {
    let store = DuckDbBackend::file(path)?;
    store.open(mode).await?;
    Ok(store)
}

/// The variable that names the target of a child process of a test.
const TARGET: &str = "METAXY_DUCKDB_TEST";

/// Returns a command that runs one test of this test binary with a target.
fn process(test: &str, target: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads", "1"]).env(TARGET, target);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_writes_are_atomic() {
    let directory = tempfile::tempdir().unwrap();
    crash::survives_kills("killed_writes_are_atomic", Victim::Store, 60, directory.path(), |location| async move {
        Ok(Arc::new(DuckDbBackend::file(location.join("store.duckdb"))?) as SharedBackend)
    })
    .await;
}
