//! A directory of checkpoints that several processes share, of which any may be killed while it writes one.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use metaxy_core::{AccessMode, Basis, Error, FeatureGraph, FeatureSpec, MetadataStore, Result, columns};
use metaxy_sqlite::SqliteBackend;
use metaxy_testkit::fixtures::tables::{ints, texts};
use metaxy_testkit::process;

const ROUNDS: u64 = 12;

async fn open(directory: &Path) -> Result<MetadataStore> {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw").id_columns(["id"]).field("a").build()?,
        FeatureSpec::builder("leaf").id_columns(["id"]).dep("raw").field("x").build()?,
    ])?;
    let builder = MetadataStore::builder(SqliteBackend::file(directory.join("store.db")), graph);
    builder.checkpoints(directory.join("checkpoints")).open(AccessMode::ReadWrite).await
}

fn sample(id: i64) -> RecordBatch {
    let provenance = columns::by_field([("a", texts(&["v1"]))]).unwrap();
    RecordBatch::try_from_iter([("id", ints([id]) as ArrayRef), (columns::PROVENANCE_BY_FIELD, provenance)]).unwrap()
}

/// Writes samples and processes them, with a store that is opened each time, so that only the directory remembers.
async fn work(directory: &Path, first: i64) -> Result<()> {
    for id in first.. {
        let store = open(directory).await?;
        store.write("raw", sample(id)).await?;
        let increment = store.resolve_update("leaf").await?;
        store.write("leaf", increment.new).await?;
        store.close().await?;
    }
    Ok(())
}

/// Works until it is killed; another process may hold the database for long.
async fn work_until_killed(told: &str) {
    let (first, directory) = told.split_once(' ').unwrap();
    let mut first = first.parse().unwrap();
    while let Err(error) = work(Path::new(directory), first).await {
        assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        first += 100_000;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_checkpoints_are_written() {
    if let Some(told) = process::told() {
        return work_until_killed(&told.to_string_lossy()).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut since = 0;
    for round in 0..ROUNDS {
        let start = |number: u64| {
            let told = format!("{} {}", (2 * round + number) * 1_000_000, directory.path().display());
            let mut command = process::second("checkpoints::killed_while_checkpoints_are_written", told);
            command.stdout(Stdio::null()).spawn().unwrap()
        };
        let mut workers = [start(0), start(1)];
        for (worker, pause) in workers.iter_mut().zip([300 + 37 * round, 20 + 11 * round]) {
            std::thread::sleep(Duration::from_millis(pause));
            worker.kill().unwrap();
            assert_eq!(worker.wait().unwrap().code(), None, "it ended by itself");
        }
        let store = open(directory.path()).await.unwrap();
        if !store.has_feature("leaf").await.unwrap() {
            continue;
        }
        let found = store.resolve_update("leaf").await.unwrap();
        let all = store.resolve_update("leaf").from_all_rows().await.unwrap();
        let counts = |increment: &metaxy_core::Increment| {
            [&increment.new, &increment.stale, &increment.orphaned].map(metaxy_core::Rows::num_rows)
        };
        assert_eq!(counts(&found), counts(&all), "round {round}: {}", found.basis());
        since += u32::from(!matches!(found.basis(), Basis::AllRows { .. }));
    }
    assert!(since > 0, "no increment was computed from a checkpoint in the directory");
}
