//! Completes a scan with the work that the backend has left to the engine.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt};

use crate::backend::{BatchStream, Scan, ScanRequest, ScanStage, stream_of};
use crate::error::Result;
use crate::filter::Predicate;
use crate::memory::MemoryPool;

use super::collect::collect;
use super::latest::{KeepLatest, selected};
use super::parts::tables_of;
use super::typed_key::TypedKey;

/// Returns the requested rows and columns: the columns of the request in its order, or all columns of the table.
pub(crate) async fn finish(
    scan: Scan,
    request: &ScanRequest,
    pool: &Arc<MemoryPool>,
) -> Result<(SchemaRef, BatchStream)> {
    match begin(scan, request)? {
        (schema, stream, None) => Ok((schema, stream)),
        (schema, stream, Some(latest)) => {
            Ok((latest.schema(&schema)?, keep_latest(schema, stream, latest, pool).await?))
        }
    }
}

/// Applies the steps that need only a row at a time. Returns the rows, with the steps that are then left.
pub(crate) fn begin(scan: Scan, request: &ScanRequest) -> Result<(SchemaRef, BatchStream, Option<KeepLatest>)> {
    let Scan { schema, stream, applied } = scan;
    // A backend may return more columns than are needed.
    let (schema, mut stream) = match request.columns_needed(&schema, applied) {
        needed if needed.len() < schema.fields().len() => project(schema, stream, Some(&needed))?,
        _ => (schema, stream),
    };
    if applied < ScanStage::RowFilter {
        stream = filtered(stream, request.row_filter.clone());
    }
    let filter = request.filter.clone().filter(|_| applied < ScanStage::Filter);
    if let (true, Some(ids)) = (applied < ScanStage::KeepLatest, &request.keep_latest) {
        let latest = KeepLatest { ids: ids.clone(), filter, columns: request.columns.clone() };
        return Ok((schema, stream, Some(latest)));
    }
    let (schema, stream) = project(schema, filtered(stream, filter), request.columns.as_deref())?;
    Ok((schema, stream, None))
}

fn filtered(stream: BatchStream, predicate: Option<Predicate>) -> BatchStream {
    let Some(predicate) = predicate else { return stream };
    stream.map(move |batch| selected(batch?, &predicate)).boxed()
}

/// Keeps the latest row of each key. Rows that do not fit into the memory limit are partitioned by it.
pub(crate) async fn keep_latest(
    schema: SchemaRef,
    stream: BatchStream,
    latest: KeepLatest,
    pool: &Arc<MemoryPool>,
) -> Result<BatchStream> {
    let key = TypedKey::within(&schema, &latest.ids)?;
    let collected = collect(schema, stream, Some(&key), pool).await?.with_latest(latest).await?;
    let tables = tables_of(collected, &key, pool).await?;
    Ok(tables.map_ok(|table| stream_of(table.into_batches())).try_flatten().boxed())
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
