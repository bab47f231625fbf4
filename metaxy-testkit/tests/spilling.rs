//! Resolves that exceed the memory limit, under faults: the directory is full or no directory, a scan breaks, a consumer
//! stops.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use metaxy_core::store::{IncrementCounts, IntoBackend};
use metaxy_core::{AccessMode, Error, FeatureGraph, FeatureSpec, MetadataStore, Result};
use metaxy_testkit::faults::{Fault, FaultyBackend, Operation, abandoned_after};
use metaxy_testkit::memory::MemoryBackend;
use metaxy_testkit::process;
use metaxy_testkit::scenario::{Samples, record_batch};
use serde_json::json;

const VIDEO: &str = "raw/video";
const TEXT: &str = "text";
/// Enough for many partitions: a thousand ids that follow each other are in one.
const SAMPLES: i64 = 60_000;

fn graph() -> Result<FeatureGraph> {
    FeatureGraph::new([
        FeatureSpec::builder(VIDEO).id_columns(["id"]).field("default").build()?,
        FeatureSpec::builder(TEXT).id_columns(["id"]).dep(VIDEO).build()?,
    ])
}

fn videos(ids: std::ops::Range<i64>, version: &str) -> RecordBatch {
    let row = |id: i64| json!({"id": id, "metaxy_provenance_by_field": {"default": format!("{id}-{version}")}});
    let samples = json!({"columns": {"id": "int64"}, "rows": ids.map(row).collect::<Vec<_>>()});
    record_batch(&serde_json::from_value::<Samples>(samples).expect("samples")).expect("a batch")
}

/// Opens a store whose memory limit is far below its rows.
async fn small(backend: impl IntoBackend, directory: Option<&Path>) -> Result<MetadataStore> {
    let builder = MetadataStore::builder(backend, graph()?).memory_limit(10_000);
    let builder = match directory {
        Some(directory) => builder.temp_dir(directory),
        None => builder,
    };
    builder.open(AccessMode::ReadWrite).await
}

/// Stores samples of which a third is new, a third stale and a third unchanged, and results without samples.
async fn fill(store: &MetadataStore) -> Result<IncrementCounts> {
    let third = SAMPLES / 3;
    store.write(VIDEO, videos(0..2 * third, "v1")).await?;
    store.write(VIDEO, videos(SAMPLES..SAMPLES + 10, "v1")).await?;
    store.write(TEXT, store.resolve_update(TEXT).await?.new).await?;
    store.write(VIDEO, videos(0..third, "v2")).await?;
    store.write(VIDEO, videos(2 * third..SAMPLES, "v1")).await?;
    store.delete(VIDEO).filter(format!("id >= {SAMPLES}")).hard().await?;
    Ok(IncrementCounts { new: third as usize, stale: third as usize, orphaned: 10 })
}

async fn counts(store: &MetadataStore) -> Result<IncrementCounts> {
    let increment = store.resolve_update(TEXT).await?;
    let [new, stale, orphaned] = [&increment.new, &increment.stale, &increment.orphaned].map(|rows| rows.num_rows());
    Ok(IncrementCounts { new, stale, orphaned })
}

/// A process that may write files of a few kilobytes only.
#[cfg(unix)]
#[tokio::test]
async fn a_full_directory_is_a_typed_error() -> Result<()> {
    const TEST: &str = "a_full_directory_is_a_typed_error";
    if process::told().is_none() {
        // The limit gives an error instead of a signal.
        process::assert_passes(&mut process::second_after("trap '' XFSZ && ulimit -f 8", TEST, ""));
        return Ok(());
    }
    let memory = Arc::new(MemoryBackend::new());
    let large = MetadataStore::builder(Arc::clone(&memory), graph()?).memory_limit(1 << 30);
    let large = large.open(AccessMode::ReadWrite).await?;
    let expected = fill(&large).await?;
    let store = small(memory, None).await?;
    let read = async { store.read(VIDEO).await?.collect().await };
    for error in [
        store.resolve_update(TEXT).await.map(drop).expect_err("a full directory"),
        read.await.map(drop).expect_err("a full directory"),
    ] {
        assert!(matches!(error, Error::StorageFull { .. }), "{error:?}");
        assert!(error.to_string().contains(&std::env::temp_dir().display().to_string()), "{error}");
    }
    assert_eq!(counts(&large).await?, expected, "nothing else is harmed");
    Ok(())
}

#[tokio::test]
async fn a_directory_that_vanishes() -> Result<()> {
    let memory = Arc::new(MemoryBackend::new());
    let directory = tempfile::tempdir().expect("a directory");
    let store = small(memory, Some(directory.path())).await?;
    let expected = fill(&store).await?;
    let increment = store.resolve_update(TEXT).lazy().await?;
    let mut rows = increment.stream();
    let mut found = rows.try_next().await?.map_or(0, |(_, batch)| batch.num_rows());
    let left_behind = std::fs::read_dir(directory.path()).expect("the directory").count();
    assert_eq!(left_behind, 0, "temporary files have names");
    directory.close().expect("an empty directory");
    let error = counts(&store).await.expect_err("there is no directory");
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    // The files of the stream are open; what they hold is still there, until another one is needed.
    loop {
        match rows.try_next().await {
            Ok(Some((_, batch))) => found += batch.num_rows(),
            Ok(None) => break assert_eq!(found, expected.new + expected.stale + expected.orphaned),
            Err(error) => break assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_file_in_place_of_the_directory() -> Result<()> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let memory = Arc::new(MemoryBackend::new());
    let expected = fill(&small(Arc::clone(&memory), None).await?).await?;
    let error = counts(&small(Arc::clone(&memory), Some(file.path())).await?).await.expect_err("no directory");
    assert!(matches!(error, Error::LocationNotFound { .. }), "{error:?}");
    assert_eq!(counts(&small(memory, None).await?).await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_scan_that_breaks_half_way() -> Result<()> {
    let memory = Arc::new(MemoryBackend::new());
    let faulty = Arc::new(FaultyBackend::new(Arc::clone(&memory)));
    let store = small(Arc::clone(&faulty), None).await?;
    let expected = fill(&store).await?;
    // The current rows, the input, and the current rows once more for the orphaned ones.
    for scan in 1..=3 {
        for fault in [Fault::fail(Operation::Scan).during(1), Fault::fail(Operation::Scan).after()] {
            faulty.inject(fault.at(scan));
            let error = counts(&store).await.expect_err("a broken scan");
            assert!(error.to_string().contains("a fault was injected"), "scan {scan}: {error}");
            assert_eq!(counts(&store).await?, expected, "after a fault in scan {scan}");
        }
    }
    Ok(())
}

/// The consumer gives up at every point at which a resolve waits.
#[tokio::test]
async fn a_consumer_that_stops() -> Result<()> {
    let memory = Arc::new(MemoryBackend::new());
    let store = small(memory, None).await?;
    let expected = fill(&store).await?;
    let rows = expected.new + expected.stale + expected.orphaned;
    let (mut polls, mut ended) = (1, false);
    while !ended {
        let increment = store.resolve_update(TEXT).lazy().await?;
        let read = increment.stream().try_fold(0, |sum, (_, batch)| async move { Ok(sum + batch.num_rows()) });
        if let Some(found) = abandoned_after(polls, read).await {
            assert_eq!(found?, rows);
            ended = true;
        }
        // Every point at first, then one in twenty.
        polls += 1 + polls / 20;
    }
    assert!(polls > 50, "a resolve in partitions waits more often than {polls} times");
    assert_eq!(counts(&store).await?, expected);
    Ok(())
}

/// Rows that wait in a file are stored in the order in which they came: tables that are in the order of their ids are
/// compared fastest. A sample with two rows is found at any distance.
#[tokio::test]
async fn a_large_stream_keeps_its_order() -> Result<()> {
    let memory = Arc::new(MemoryBackend::new());
    let store = small(Arc::clone(&memory), None).await?;
    let stream = |more: Option<RecordBatch>| {
        let batches = (0..30).map(|batch| videos(batch * 100..(batch + 1) * 100, "v1")).chain(more);
        futures::stream::iter(batches.map(Ok).collect::<Vec<_>>()).boxed()
    };
    let error = store.write(VIDEO, stream(Some(videos(7..8, "v2")))).await.expect_err("a sample with two rows");
    assert!(matches!(&error, Error::DuplicateId { id, count: 2, .. } if id == "id=7"), "{error}");
    store.write(VIDEO, stream(None)).await?;
    let key: metaxy_core::FeatureKey = VIDEO.parse()?;
    let scan = metaxy_core::StoreBackend::scan(memory.as_ref(), &key, &metaxy_core::ScanRequest::default()).await?;
    let stored: Vec<RecordBatch> = scan.stream.try_collect().await?;
    let ids: Vec<i64> =
        stored.iter().flat_map(|rows| rows["id"].as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids, (0..3_000).collect::<Vec<_>>());
    Ok(())
}
