//! Rows that are looked up in another table by their keys: a hash join whose build side may exceed the memory limit.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};

use crate::backend::BatchStream;
use crate::blocking;
use crate::error::Result;
use crate::memory::MemoryPool;

use super::collect::{Collected, collect};
use super::parts::parts_of;
use super::table::Table;
use super::typed_key::TypedKey;

/// Passes each batch of `rows` to `probe`, with an index of the rows of `table` that have its keys. If the table does
/// not fit into the memory limit, both are divided by `key`, whose columns both have, and `index` is called for each partition.
pub(crate) async fn look_up<I: Send + Sync + 'static>(
    rows: (SchemaRef, BatchStream),
    table: Collected,
    key: &TypedKey,
    pool: &Arc<MemoryPool>,
    index: impl Fn(Table) -> Result<I> + Send + Sync + 'static,
    probe: impl Fn(&I, RecordBatch) -> Result<RecordBatch> + Send + Sync + 'static,
) -> Result<BatchStream> {
    let (index, probe) = (Arc::new(index), Arc::new(probe));
    let (schema, stream) = rows;
    if let Collected::Whole(table, held) = table {
        let index = Arc::new(blocking::run(move || index(table)).await?);
        let probed = stream.and_then(move |batch| {
            let _held = &held;
            let (index, probe) = (index.clone(), probe.clone());
            blocking::run(move || probe(&index, batch))
        });
        return Ok(probed.boxed());
    }
    let rows = collect(schema, stream, Some(key), pool).await?;
    let parts = parts_of(vec![table, rows], &[key.clone(), key.clone()], pool).await?;
    let probed = parts.and_then(move |part| {
        let (index, probe) = (index.clone(), probe.clone());
        blocking::run(move || {
            let mut part = part.load()?;
            let rows = part.tables.pop().map(Table::into_batches).unwrap_or_default();
            let Some(table) = part.tables.pop().filter(|_| !rows.is_empty()) else { return Ok(Vec::new()) };
            let index = index(table)?;
            rows.into_iter().map(|batch| probe(&index, batch)).collect::<Result<Vec<_>>>()
        })
    });
    Ok(probed.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten().boxed())
}
