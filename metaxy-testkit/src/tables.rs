//! Small batches into and out of the tables of a backend: what its own tests are made of.

use std::borrow::Borrow;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use futures::TryStreamExt;
use metaxy_core::{FeatureKey, Result, ScanRequest, StoreBackend};

/// The key of a table.
///
/// # Panics
/// Where `text` is no key.
pub fn key(text: &str) -> FeatureKey {
    text.parse().expect("a feature key")
}

/// A batch of nullable columns.
///
/// # Panics
/// Where their lengths differ.
pub fn batch<'a>(columns: impl IntoIterator<Item = (&'a str, ArrayRef)>) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
}

/// A column of whole numbers.
pub fn ints(values: impl IntoIterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

/// A column of texts.
pub fn texts(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// Appends a batch to a table.
///
/// # Errors
/// Those of the backend.
pub async fn append(backend: &dyn StoreBackend, table: &str, batch: impl Borrow<RecordBatch>) -> Result<()> {
    let batch = batch.borrow().clone();
    backend.append(&key(table), batch.schema(), vec![batch]).await
}

/// All rows of a table, in the order in which they come.
///
/// # Errors
/// Those of the backend.
///
/// # Panics
/// Where a batch has another schema than the scan has named.
pub async fn read(backend: &dyn StoreBackend, table: &str) -> Result<RecordBatch> {
    let scan = backend.scan(&key(table), &ScanRequest::default()).await?;
    let batches: Vec<RecordBatch> = scan.stream.try_collect().await?;
    assert!(batches.iter().all(|batch| batch.schema() == scan.schema), "a batch has another schema than its scan");
    Ok(concat_batches(&scan.schema, &batches)?)
}
