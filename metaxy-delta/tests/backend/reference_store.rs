//! A store of the Python package, and a store that it reads after this crate has written to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use metaxy_core::{AccessMode, MetadataStore, columns};
use metaxy_delta::DeltaBackend;
use metaxy_testkit::fixtures::stores;
use metaxy_testkit::python::Python;
use tempfile::TempDir;

use crate::{actions, local};

const FEATURE: &str = "raw/video";

/// Returns a copy of the store that may be changed.
fn copied() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store");
    stores::copy_directory(&data, root.path()).unwrap();
    root
}

fn table(root: &Path) -> PathBuf {
    root.join("raw/video.delta")
}

/// Writes every sample of the feature again, and returns their number.
async fn write_again(root: &Path) -> usize {
    let recording = stores::recording();
    let graph = recording.definitions.graph(recording.hash_truncation_length).unwrap();
    let store = MetadataStore::builder(Arc::new(DeltaBackend::new(local(root)).unwrap()), graph)
        .hash_algorithm(recording.hash_algorithm)
        .hash_truncation_length(recording.hash_truncation_length)
        .open(AccessMode::ReadWrite)
        .await
        .unwrap();
    let read = store.read(FEATURE).columns(["video_id", "path", columns::PROVENANCE_BY_FIELD]).await.unwrap();
    let samples = read.rows().await.unwrap().to_batch().unwrap();
    store.write(FEATURE, samples.clone()).await.unwrap();
    assert_eq!(store.read(FEATURE).await.unwrap().rows().await.unwrap().num_rows(), samples.num_rows());
    store.close().await.unwrap();
    samples.num_rows()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_equal_the_recording() {
    let root = copied();
    stores::answers_as_recorded(Arc::new(DeltaBackend::new(local(root.path())).unwrap())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_keep_protocol_and_types() {
    let root = copied();
    let log = table(root.path()).join("_delta_log");
    let before = actions(&log);
    write_again(root.path()).await;
    let after = actions(&log);
    assert_eq!(after[..before.len()], before, "what was there stays as it was");
    let new = &after[before.len()..];
    assert!(new.iter().any(|action| action.get("add").is_some()));
    let changes = |action: &&serde_json::Value| action.get("protocol").is_some() || action.get("metaData").is_some();
    assert_eq!(new.iter().find(changes), None, "protocol and schema do not change");
}

/// Prints what Python reads of a table: its rows, its protocol, and its schema.
const LOOK: &str = "
import json, sys
import deltalake, polars
table = deltalake.DeltaTable(sys.argv[1])
rows = polars.read_delta(sys.argv[1])
protocol = table.protocol()
print(json.dumps([rows.height, protocol.min_reader_version, protocol.min_writer_version, json.loads(table.schema().to_json())]))
";

fn look(python: &Python, table: &Path) -> serde_json::Value {
    let seen = python.run(table, LOOK, &[&table.display().to_string()]);
    serde_json::from_str(&seen).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_python_package_reads_it_after_an_append() {
    let Some(python) = Python::for_test(&["deltalake", "polars"]) else { return };
    let root = copied();
    let mut before = look(&python, &table(root.path()));
    let added = write_again(root.path()).await;
    before[0] = (before[0].as_u64().unwrap() + added as u64).into();
    assert_eq!(look(&python, &table(root.path())), before);
}
