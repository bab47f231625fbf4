//! The floor of a resolve: a scan of the columns that it reads, and a hash of the bytes that it hashes. What it takes
//! beyond that is its own work: keep-latest, join, comparison, the columns of the result.

use std::time::{Duration, Instant};

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use futures::future::try_join_all;
use metaxy_core::backend::ScanRequest;
use metaxy_core::hash::RowHasher;
use metaxy_core::{FeatureKey, MetadataStore, Result, blocking, columns};

use super::data::{ID, LEAF, Scenario};

/// Scans the roots, and the leaf if it has been written, and hashes the data versions of the roots. Returns the time.
pub(super) async fn measure(store: MetadataStore, scenario: Scenario) -> Result<Duration> {
    let hashes = scenario.leaf_fields().len() + 1;
    let roots = scenario.roots().iter().map(|root| (*root, columns::DATA_VERSION_BY_FIELD, hashes));
    let start = Instant::now();
    try_join_all(roots.chain([(LEAF, columns::PROVENANCE, 0)]).map(|table| scan(&store, table))).await?;
    Ok(start.elapsed())
}

async fn scan(store: &MetadataStore, (table, version, hashes): (&str, &str, usize)) -> Result<()> {
    let key: FeatureKey = table.parse()?;
    if store.backend().schema(&key).await?.is_none() {
        return Ok(());
    }
    let names = [ID, version, columns::UPDATED_AT, columns::DELETED_AT].map(str::to_owned).to_vec();
    let request = ScanRequest { columns: Some(names), ..ScanRequest::default() };
    let (version, hasher) = (version.to_owned(), store.hasher());
    let rows = store.backend().scan(&key, &request).await?.stream;
    rows.try_for_each_concurrent(blocking::cores(), |batch| {
        let version = version.clone();
        blocking::run(move || hash(&batch, &version, hasher, hashes))
    })
    .await
}

/// Hashes the versions of each row, `hashes` times.
fn hash(batch: &RecordBatch, version: &str, hasher: RowHasher, hashes: usize) -> Result<()> {
    let column = batch.column(batch.schema_ref().index_of(version)?);
    let texts = match column.as_struct_opt() {
        Some(fields) => fields.columns().iter().map(text).collect::<Result<Vec<_>>>()?,
        None => vec![text(column)?],
    };
    for _ in 0..hashes {
        let mut many = hasher.many(|hash| {
            std::hint::black_box(hash);
        });
        for row in 0..batch.num_rows() {
            many.push(texts.iter().flat_map(|texts| ["|", if texts.is_valid(row) { texts.value(row) } else { "" }]));
        }
        many.finish();
    }
    Ok(())
}

fn text(array: &ArrayRef) -> Result<StringArray> {
    Ok(cast(array, &DataType::Utf8)?.as_string::<i32>().clone())
}
