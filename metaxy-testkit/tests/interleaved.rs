//! Calls of the store with other writes between their steps.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, FieldSpec, MetadataStore, Result, VersioningEngine};
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::scenario::{Samples, record_batch};
use serde_json::json;

const VIDEO: &str = "raw/video";
const TEXT: &str = "text";

fn graph(code_version: &str) -> Result<FeatureGraph> {
    let words = FieldSpec::new("default").code_version(code_version);
    FeatureGraph::new([
        FeatureSpec::builder(VIDEO).id_columns(["id"]).field("default").build()?,
        FeatureSpec::builder(TEXT).id_columns(["id"]).dep(VIDEO).field(words).build()?,
    ])
}

/// Returns a store whose scans can be delayed, and the same store without delays.
async fn stores() -> Result<(Arc<FaultyBackend>, MetadataStore, MetadataStore)> {
    let memory = Arc::new(MemoryBackend::new());
    let slow = Arc::new(FaultyBackend::new(Arc::clone(&memory)));
    let store = MetadataStore::builder(Arc::clone(&slow), graph("1")?).open(AccessMode::ReadWrite).await?;
    let other = MetadataStore::builder(memory, graph("1")?).open(AccessMode::ReadWrite).await?;
    Ok((slow, store, other))
}

fn videos(ids: &[i64], score: i64) -> RecordBatch {
    let row = |id: &i64| json!({"id": id, "score": score, "metaxy_provenance_by_field": {"default": format!("{id}-{score}")}});
    let rows: Vec<_> = ids.iter().map(row).collect();
    let samples = json!({"columns": {"id": "int64", "score": "int64"}, "rows": rows});
    record_batch(&serde_json::from_value::<Samples>(samples).expect("samples")).expect("a batch")
}

async fn process(store: &MetadataStore) -> Result<()> {
    let increment = store.resolve_update(TEXT).await?;
    store.write(TEXT, increment.new).await?;
    store.write(TEXT, increment.stale).await.map(|_| ())
}

/// Makes a delayed call, and another one during the delay.
async fn interleave<T>(
    slow: &FaultyBackend,
    fault: Fault,
    call: impl IntoFuture<Output = Result<T>>,
    other: impl Future<Output = Result<()>>,
) -> Result<T> {
    let struck = slow.struck();
    slow.inject(fault);
    let other = async {
        while slow.struck() == struck {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        other.await
    };
    Ok(futures::try_join!(call.into_future(), other)?.0)
}

fn slow_scan() -> Fault {
    Fault::delay(Operation::Scan, Duration::from_millis(300))
}

#[tokio::test]
async fn a_deletion_keeps_rows_that_it_has_not_read() -> Result<()> {
    let (slow, store, other) = stores().await?;
    store.write(VIDEO, videos(&[1, 2], 0)).await?;
    let delete = store.delete(VIDEO).filter("score = 0");
    let again = async { other.write(VIDEO, videos(&[2], 9)).await.map(|_| ()) };
    assert_eq!(interleave(&slow, slow_scan().after(), delete, again).await?, 2);
    let rows = store.read(VIDEO).columns(["id", "score"]).await?.rows().await?;
    assert_eq!(rows.num_rows(), 1, "sample 2 was written again after the deletion had read it");
    Ok(())
}

#[tokio::test]
async fn a_rebase_keeps_rows_that_were_written_during_it() -> Result<()> {
    let (slow, store, other) = stores().await?;
    store.write(VIDEO, videos(&[1], 0)).await?;
    process(&store).await?;
    let old = store.graph().feature_version(TEXT)?.to_owned();
    let (store, other) = (store.with_graph(graph("2")?)?, other.with_graph(graph("2")?)?);
    let process = async {
        let new = other.resolve_update(TEXT).await?.new;
        other.write(TEXT, new).materialization_id("interleaved").await.map(|_| ())
    };
    interleave(&slow, slow_scan().after(), async { store.rebase(TEXT, &old).await }, process).await?;
    let rows = store.read(TEXT).filter("metaxy_materialization_id = 'interleaved'").await?.rows().await?;
    assert_eq!(rows.num_rows(), 1, "what was computed by the new code is hidden by what was carried over");
    Ok(())
}

#[tokio::test]
async fn samples_processed_during_a_resolve_are_not_orphaned() -> Result<()> {
    for held_up in 1..=2 {
        let (slow, store, other) = stores().await?;
        store.write(VIDEO, videos(&[1], 0)).await?;
        process(&store).await?;
        let resolve = store.resolve_update(TEXT).versioning_engine(VersioningEngine::Arrow);
        let work = async {
            other.write(VIDEO, videos(&[2], 0)).await?;
            process(&other).await
        };
        let increment = interleave(&slow, slow_scan().before().at(held_up), resolve, work).await?;
        assert_eq!(increment.orphaned.num_rows(), 0, "its result is taken for one, scan {held_up} being slow");
    }
    Ok(())
}
