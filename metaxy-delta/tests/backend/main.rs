//! The backend's own behaviour: stores of the Python package, concurrent processes, damage, maintenance, and S3.

mod bad_input;
mod foreign;
mod foreign_logs;
mod foreign_rows;
mod foreign_times;
mod foreign_types;
mod growth;
mod hostile_log;
mod incarnations;
mod large_values;
mod locations;
mod maintenance;
mod partitions;
mod processes;
mod reference_store;
mod remote;
mod s3_faults;
mod secrets;
mod sizes;
mod storage_errors;
mod threads;
mod three_commits;
mod two_programs;

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use metaxy_core::{AccessMode, Result, StoreBackend};
use metaxy_delta::{DeltaBackend, DeltaConfig};
use metaxy_testkit::fixtures::tables::{self, key};
use metaxy_testkit::servers::s3::Bucket;

/// The table of most tests.
const TABLE: &str = "raw/video";

fn local(root: &Path) -> DeltaConfig {
    DeltaConfig::new(root.display().to_string())
}

fn on_s3(bucket: &Bucket) -> DeltaConfig {
    let settings = DeltaConfig::new(format!("{}/store", bucket.url()));
    let options = bucket.storage_options().into_iter();
    options.fold(settings, |settings, (name, value)| settings.storage_option(name, value))
}

async fn opened(settings: &DeltaConfig) -> DeltaBackend {
    let backend = DeltaBackend::new(settings.clone()).unwrap();
    backend.open(AccessMode::ReadWrite).await.unwrap();
    backend
}

/// Returns rows with these ids and a text each.
fn rows(ids: impl IntoIterator<Item = i64>) -> RecordBatch {
    let ids: Vec<i64> = ids.into_iter().collect();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("sample {id}"))));
    RecordBatch::try_from_iter_with_nullable([
        ("id", Arc::new(Int64Array::from(ids)) as ArrayRef, true),
        ("text", texts, true),
    ])
    .unwrap()
}

async fn append(backend: &DeltaBackend, batch: RecordBatch) -> Result<()> {
    tables::append(backend, TABLE, batch).await
}

async fn read(backend: &DeltaBackend) -> Result<RecordBatch> {
    tables::read(backend, TABLE).await
}

/// Returns the ids of all rows, sorted, with duplicates.
async fn read_ids(backend: &DeltaBackend) -> Result<Vec<i64>> {
    let batch = read(backend).await?;
    let mut ids = batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values().to_vec();
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the actions of a log's commits, in their order.
fn actions(log: &Path) -> Vec<serde_json::Value> {
    let mut commits: Vec<_> = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    commits.retain(|path| path.extension().is_some_and(|end| end == "json"));
    commits.sort();
    let lines = commits.iter().map(|commit| std::fs::read_to_string(commit).unwrap());
    lines.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()).collect()
}
