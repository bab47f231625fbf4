//! The fault layer injects faults as configured, and the store returns their errors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result};
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation, abandoned_after};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::scenario::{Samples, record_batch};
use serde_json::json;

async fn store() -> (Arc<FaultyBackend>, MetadataStore) {
    let spec = FeatureSpec::builder("raw/video").id_columns(["id"]).build().unwrap();
    let backend = Arc::new(FaultyBackend::new(MemoryBackend::new()));
    let builder = MetadataStore::builder(Arc::clone(&backend), FeatureGraph::new([spec]).unwrap());
    (backend, builder.open(AccessMode::ReadWrite).await.unwrap())
}

fn row(id: i64) -> RecordBatch {
    let samples =
        json!({"columns": {"id": "int64"}, "rows": [{"id": id, "metaxy_provenance_by_field": {"default": "1"}}]});
    record_batch(&serde_json::from_value::<Samples>(samples).unwrap()).unwrap()
}

async fn rows(store: &MetadataStore) -> Result<usize> {
    Ok(store.read("raw/video").await?.rows().await?.num_rows())
}

#[tokio::test]
async fn calls_that_fail_before_and_after_their_effect() {
    let (backend, store) = store().await;
    store.write("raw/video", row(1)).await.unwrap();
    backend.inject(Fault::fail(Operation::Append).before());
    let error = store.write("raw/video", row(2)).await.unwrap_err();
    assert!(error.to_string().contains("append"), "{error}");
    assert_eq!(rows(&store).await.unwrap(), 1);
    backend.inject(Fault::fail(Operation::Append).after());
    store.write("raw/video", row(2)).await.unwrap_err();
    assert_eq!(rows(&store).await.unwrap(), 2);
    assert_eq!((backend.struck(), backend.calls(Operation::Append)), (2, 3));
}

#[tokio::test]
async fn only_the_second_and_third_call_fail() {
    let (backend, store) = store().await;
    backend.inject(Fault::fail(Operation::Append).at(2).times(2).transient());
    let mut failed = Vec::new();
    for id in 1..=5 {
        if let Err(error) = store.write("raw/video", row(id)).await {
            assert!(error.is_transient());
            failed.push(id);
        }
    }
    assert_eq!(failed, [2, 3]);
    assert_eq!(rows(&store).await.unwrap(), 3);
}

#[tokio::test]
async fn a_fault_lasts_until_it_is_healed() {
    let (backend, store) = store().await;
    store.write("raw/video", row(1)).await.unwrap();
    backend.inject(Fault::fail(Operation::Any).forever());
    for _ in 0..3 {
        rows(&store).await.unwrap_err();
        store.write("raw/video", row(2)).await.unwrap_err();
    }
    backend.heal();
    assert_eq!(rows(&store).await.unwrap(), 1);
}

#[tokio::test]
async fn a_broken_stream_is_an_error() {
    let (backend, store) = store().await;
    store.write("raw/video", row(1)).await.unwrap();
    store.write("raw/video", row(2)).await.unwrap();
    for fault in [Fault::fail(Operation::Scan).during(1), Fault::fail(Operation::Scan).after()] {
        backend.inject(fault.forever());
        rows(&store).await.unwrap_err();
        backend.heal();
        assert_eq!(rows(&store).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn a_call_is_delayed() {
    let (backend, store) = store().await;
    backend.inject(Fault::delay(Operation::Append, Duration::from_millis(50)));
    let start = Instant::now();
    store.write("raw/video", row(1)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(rows(&store).await.unwrap(), 1);
}

#[tokio::test]
async fn a_write_dropped_at_any_point_is_atomic() {
    let (_, store) = store().await;
    for polls in 1.. {
        let answer = abandoned_after(polls, async { store.write("raw/video", row(polls as i64)).await }).await;
        if answer.is_some() {
            break;
        }
    }
    assert!(rows(&store).await.unwrap() >= 1);
}
