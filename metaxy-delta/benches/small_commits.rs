//! A table of many small commits, compared with the same table after compaction: the time to open the store and to read
//! everything.
//!
//! `cargo bench -p metaxy-delta --bench small_commits` prints both and their ratio, and fails if it is more than 3.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field};
use metaxy_core::{AccessMode, FeatureGraph, FeatureSpec, MetadataStore, Result, columns};
use metaxy_delta::{DeltaBackend, DeltaConfig};

const FEATURE: &str = "raw/video";
const ROWS: i64 = 10;
const ROUNDS: usize = 9;
const LIMIT: f64 = 3.0;

fn main() -> ExitCode {
    // `cargo test --benches` only checks that it runs.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    match runtime.block_on(compare(if measured { 2_000 } else { 60 })) {
        Ok(ratio) if measured && ratio > LIMIT => ExitCode::FAILURE,
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn open(root: &str) -> Result<MetadataStore> {
    let spec = FeatureSpec::builder(FEATURE).id_columns(["id"]).fields(["audio", "frames"]).build()?;
    let backend = DeltaBackend::new(DeltaConfig::new(root))?;
    MetadataStore::builder(backend, FeatureGraph::new([spec])?).open(AccessMode::ReadWrite).await
}

fn samples(commit: i64) -> RecordBatch {
    let ids: Vec<i64> = (commit * ROWS..(commit + 1) * ROWS).collect();
    let versions = |field: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("{field}-{id}"))))
    };
    let member = |field: &str| (Arc::new(Field::new(field, DataType::Utf8, true)), versions(field));
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef),
        (columns::PROVENANCE_BY_FIELD, Arc::new(StructArray::from(vec![member("audio"), member("frames")]))),
    ])
    .expect("the columns have one length")
}

async fn compare(commits: i64) -> Result<f64> {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path().display().to_string();
    let store = open(&root).await?;
    for commit in 0..commits {
        store.write(FEATURE, samples(commit)).await?;
    }
    let small = median(&root, commits).await?;
    store.backend().compact(&FEATURE.parse()?).await?;
    let compacted = median(&root, commits).await?;
    let ratio = small.as_secs_f64() / compacted.as_secs_f64();
    println!("{commits} commits of {ROWS} rows: {small:.1?}, compacted {compacted:.1?}, ratio {ratio:.2}");
    Ok(ratio)
}

async fn median(root: &str, commits: i64) -> Result<Duration> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let store = open(root).await?;
        let rows = store.read(FEATURE).await?.rows().await?;
        times.push(start.elapsed());
        assert_eq!(rows.num_rows() as i64, commits * ROWS);
        store.close().await?;
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}
