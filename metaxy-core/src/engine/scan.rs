//! Completes a scan with the work that the backend has left to the engine.

use std::sync::Arc;

use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};

use crate::backend::{BatchStream, Scan, ScanRequest, ScanStage, stream_of};
use crate::blocking;
use crate::error::Result;
use crate::filter::Predicate;
use crate::memory::MemoryPool;

use super::latest::{in_key_order, latest_rows};
use super::partition::{PartitionKey, collect};
use super::parts::tables_of;

/// Returns the requested rows and columns: the columns of the request in its order, or all columns of the table.
pub(crate) async fn finish(
    scan: Scan,
    request: &ScanRequest,
    pool: &Arc<MemoryPool>,
) -> Result<(SchemaRef, BatchStream)> {
    let Scan { schema, mut stream, applied } = scan;
    if applied < ScanStage::RowFilter {
        stream = filtered(stream, request.row_filter.clone());
    }
    if let (true, Some(ids)) = (applied < ScanStage::KeepLatest, &request.keep_latest) {
        stream = keep_latest(schema.clone(), stream, ids, pool).await?;
    }
    if applied < ScanStage::Filter {
        stream = filtered(stream, request.filter.clone());
    }
    project(schema, stream, request.columns.as_deref())
}

fn filtered(stream: BatchStream, predicate: Option<Predicate>) -> BatchStream {
    let Some(predicate) = predicate else { return stream };
    stream
        .map(move |batch| {
            let batch = batch?;
            let mask = predicate.evaluate(&batch)?;
            Ok(if mask.true_count() == batch.num_rows() { batch } else { filter_record_batch(&batch, &mask)? })
        })
        .boxed()
}

/// Keeps the latest row of each sample. Rows that do not fit into the memory limit are partitioned by their ids.
pub(crate) async fn keep_latest(
    schema: SchemaRef,
    stream: BatchStream,
    ids: &[String],
    pool: &Arc<MemoryPool>,
) -> Result<BatchStream> {
    let key = PartitionKey::within(&schema, ids)?;
    let collected = collect(schema, stream, Some(&key), pool).await?;
    let ids: Arc<[String]> = ids.into();
    let latest = tables_of(collected, &key, pool).await?.and_then(move |table| {
        let ids = ids.clone();
        blocking::run(move || {
            let table = in_key_order(table, &ids)?;
            let rows = latest_rows(&table, &ids)?;
            table.retain(&rows)
        })
    });
    Ok(latest.map_ok(stream_of).try_flatten().boxed())
}

pub(crate) fn project(
    schema: SchemaRef,
    stream: BatchStream,
    wanted: Option<&[String]>,
) -> Result<(SchemaRef, BatchStream)> {
    let Some(wanted) = wanted else { return Ok((schema, stream)) };
    let indices = wanted.iter().map(|name| schema.index_of(name)).collect::<Result<Vec<_>, _>>()?;
    let schema = Arc::new(schema.project(&indices)?);
    let stream = stream.map(move |batch| Ok(batch?.project(&indices)?)).boxed();
    Ok((schema, stream))
}
