//! Increments since checkpoints: random histories, more of them than a conformance suite plays, damaged checkpoints, and
//! directories of checkpoints.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use metaxy_core::{AccessMode, Checkpoint, FeatureGraph, FeatureSpec, MetadataStore, SharedBackend, columns};
use metaxy_testkit::clock::ManualClock;
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::oracle::Histories;

/// `METAXY_HISTORIES` sets their number.
#[tokio::test]
async fn random_histories() {
    let number = std::env::var("METAXY_HISTORIES").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let memory = || async { Ok((Arc::new(MemoryBackend::new()) as SharedBackend, ())) };
    let played = Histories::new(number).play_since(memory, |store| store, |()| None).await;
    let counts = played.unwrap_or_else(|disagreement| panic!("{disagreement}"));
    println!("{number} histories: {counts:?}");
    let all = counts.all_rows + counts.changes + counts.unchanged;
    assert!(3 * counts.changes > all, "many increments are computed from what has changed: {counts:?}");
    assert!(counts.all_rows > 0 && counts.unchanged > 0, "{counts:?}");
}

/// Returns the graph of a root and a feature that is made from it, and rows of the root.
fn pair() -> (FeatureGraph, impl Fn(std::ops::Range<i64>, &str) -> RecordBatch) {
    let graph = FeatureGraph::new([
        FeatureSpec::builder("raw").id_columns(["id"]).field("a").build().unwrap(),
        FeatureSpec::builder("leaf").id_columns(["id"]).dep("raw").field("x").build().unwrap(),
    ]);
    let rows = |ids: std::ops::Range<i64>, version: &str| {
        let versions: ArrayRef = Arc::new(StringArray::from(vec![version; ids.clone().count()]));
        let provenance = StructArray::from(RecordBatch::try_from_iter([("a", versions)]).unwrap());
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
        RecordBatch::try_from_iter([("id", ids), (columns::PROVENANCE_BY_FIELD, Arc::new(provenance) as _)]).unwrap()
    };
    (graph.unwrap(), rows)
}

/// A checkpoint that is cut anywhere, or changed anywhere, is an error and nothing else.
#[tokio::test]
async fn damaged_checkpoints_are_refused() {
    let (graph, rows) = pair();
    let store = MetadataStore::builder(MemoryBackend::new(), graph).open(AccessMode::ReadWrite).await.unwrap();
    store.write("raw", rows(0..3, "v1")).await.unwrap();
    let checkpoint = store.resolve_update("leaf").await.unwrap().checkpoint().cloned().unwrap();
    let bytes = checkpoint.to_bytes().unwrap();
    let again = Checkpoint::from_bytes(&bytes).unwrap();
    assert_eq!(format!("{again:?}"), format!("{checkpoint:?}"));
    for length in 0..bytes.len() {
        assert!(Checkpoint::from_bytes(&bytes[..length]).is_err(), "cut at {length}");
        let mut changed = bytes.clone();
        changed[length] ^= 0x10;
        assert!(Checkpoint::from_bytes(&changed).is_err(), "changed at {length}");
    }
}

/// Stores that share a directory of checkpoints replace each other's files at any time, and their clocks differ.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let (graph, rows) = pair();
    let open = async |hour: i64| {
        let clock = ManualClock::new();
        clock.advance(3_600 * hour);
        MetadataStore::builder(MemoryBackend::named("shared-checkpoints"), graph.clone())
            .checkpoints(directory.path())
            .clock(clock as _)
            .open(AccessMode::ReadWrite)
            .await
            .unwrap()
    };
    let start = open(0).await;
    start.write("raw", rows(0..100, "v1")).await.unwrap();
    start.write("leaf", start.resolve_update("leaf").await.unwrap().new).await.unwrap();
    let work = async |number: i64| {
        for round in 0..20 {
            // Opened anew each time, so that only the directory remembers. Some clocks are behind the others. Another task
            // may process the sample first; one that is missed stays new.
            let store = open(10 - number).await;
            let first = number * 1_000 + round;
            store.write("raw", rows(first..first + 1, "v1")).await.unwrap();
            let increment = store.resolve_update("leaf").await.unwrap();
            store.write("leaf", increment.new).await.unwrap();
        }
    };
    futures::join!(work(1), work(2), work(3));
    let end = open(0).await;
    assert!(end.resolve_update("leaf").await.unwrap().is_empty());
    assert!(end.resolve_update("leaf").from_all_rows().await.unwrap().is_empty());
}
