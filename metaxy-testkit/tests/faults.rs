//! The fault layer does what it is told, and the store passes on what it meets.

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
async fn a_call_that_fails_before_has_no_effect_and_one_that_fails_after_has() {
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
async fn the_second_and_third_call_fail_and_no_other() {
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
async fn a_stream_that_breaks_is_an_error_and_not_a_short_answer() {
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
async fn a_delay_delays() {
    let (backend, store) = store().await;
    backend.inject(Fault::delay(Operation::Append, Duration::from_millis(50)));
    let start = Instant::now();
    store.write("raw/video", row(1)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(50));
    assert_eq!(rows(&store).await.unwrap(), 1);
}

#[tokio::test]
async fn a_write_that_is_given_up_anywhere_is_there_or_not() {
    let (_, store) = store().await;
    for polls in 1.. {
        let answer = abandoned_after(polls, async { store.write("raw/video", row(polls as i64)).await }).await;
        if answer.is_some() {
            break;
        }
    }
    assert!(rows(&store).await.unwrap() >= 1);
}
