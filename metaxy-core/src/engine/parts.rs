//! Tables side by side: whole, or part by part, with equal keys in the same part.

use std::sync::Arc;

use futures::future::try_join_all;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::blocking::{self, cores};
use crate::error::Result;
use crate::memory::{MemoryPool, Reservation};

use super::collect::Collected;
use super::partition::Partitions;
use super::table::Table;
use super::typed_key::TypedKey;

/// Partitions up to this size are not divided again, however low the memory limit is.
const SMALL_PARTITION: usize = 1 << 20;

/// The rows of each table that are processed together.
pub(crate) enum Part {
    /// All rows.
    Whole(Tables),
    /// A partition, which is still to be read.
    Partition(Arc<[Arc<Partitions>]>, usize),
}

/// The tables of a part.
pub(crate) struct Tables {
    pub(crate) tables: Vec<Table>,
    /// The memory reserved for the rows.
    _held: Vec<Reservation>,
}

impl Part {
    /// Returns the tables. Called on threads that may block.
    pub(crate) fn load(self) -> Result<Tables> {
        match self {
            Self::Whole(tables) => Ok(tables),
            Self::Partition(tables, partition) => {
                let taken = tables.iter().map(|table| table.take(partition)).collect::<Result<Vec<_>>>()?;
                let (tables, held): (Vec<Table>, Vec<Vec<Reservation>>) = taken.into_iter().unzip();
                Ok(Tables { tables, _held: held.into_iter().flatten().collect() })
            }
        }
    }
}

/// Returns tables as a single part if all of them are in memory, otherwise as one part for each partition. `keys` has
/// the key of each table.
pub(crate) async fn parts_of(
    tables: Vec<Collected>,
    keys: &[TypedKey],
    pool: &Arc<MemoryPool>,
) -> Result<BoxStream<'static, Result<Part>>> {
    let mut whole = Tables { tables: Vec::with_capacity(tables.len()), _held: Vec::new() };
    if tables.iter().all(Collected::is_whole) {
        for table in tables {
            if let Collected::Whole(table, held) = table {
                whole.tables.push(table);
                whole._held.push(held);
            }
        }
        return Ok(stream::once(async move { Ok(Part::Whole(whole)) }).boxed());
    }
    let divided = tables.into_iter().zip(keys).map(|(table, key)| table.divided(key, pool));
    Ok(Queue::new(try_join_all(divided).await?, pool).into_stream())
}

/// Returns the rows of one table, as a whole or partition by partition.
pub(crate) async fn tables_of(
    table: Collected,
    key: &TypedKey,
    pool: &Arc<MemoryPool>,
) -> Result<BoxStream<'static, Result<Table>>> {
    let parts = parts_of(vec![table], std::slice::from_ref(key), pool).await?;
    let tables = parts.and_then(|part| blocking::run(move || part.load()));
    Ok(tables.try_filter_map(|mut part| async move { Ok(part.tables.pop()) }).boxed())
}

/// The partitions that are still to be processed.
struct Queue {
    waiting: Vec<(Arc<[Arc<Partitions>]>, usize)>,
    /// Partitions above this size are divided again.
    limit: usize,
}

impl Queue {
    fn new(tables: Vec<Partitions>, pool: &MemoryPool) -> Self {
        Self::with_limit(tables, pool.share(cores()).max(SMALL_PARTITION))
    }

    fn with_limit(tables: Vec<Partitions>, limit: usize) -> Self {
        let mut queue = Self { waiting: Vec::new(), limit };
        queue.add(tables);
        queue
    }

    fn add(&mut self, tables: Vec<Partitions>) {
        let partitions = tables.first().map_or(0, Partitions::len);
        let tables: Arc<[Arc<Partitions>]> = tables.into_iter().map(Arc::new).collect();
        self.waiting.extend((0..partitions).rev().map(|partition| (tables.clone(), partition)));
    }

    async fn next(&mut self) -> Result<Option<Part>> {
        while let Some((tables, partition)) = self.waiting.pop() {
            let bytes: usize = tables.iter().map(|table| table.bytes(partition)).sum();
            if bytes > self.limit && tables.iter().all(|table| table.can_divide()) {
                self.add(try_join_all(tables.iter().map(|table| table.divide(partition))).await?);
            } else if bytes > 0 {
                return Ok(Some(Part::Partition(tables, partition)));
            }
        }
        Ok(None)
    }

    fn into_stream(self) -> BoxStream<'static, Result<Part>> {
        stream::try_unfold(self, |mut queue| async move { Ok(queue.next().await?.map(|part| (part, queue))) }).boxed()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Int64Type};

    use super::super::collect::collect;
    use super::super::typed_key::TypedKey;
    use super::*;
    use crate::backend::stream_of;

    #[tokio::test]
    async fn partitions_that_are_too_large_are_divided_again() {
        let ids: Vec<i64> = (0..3_000).collect();
        let column = Arc::new(Int64Array::from(ids.clone())) as _;
        let batch = RecordBatch::try_from_iter([("id", column)]).expect("one column");
        let key: TypedKey = [("id".to_owned(), DataType::Int64)].into_iter().collect();
        let pool = MemoryPool::new(1, None);
        let collected = collect(batch.schema(), stream_of(vec![batch]), Some(&key), &pool).await.expect("a file");
        let partitions = collected.divided(&key, &pool).await.expect("partitions");
        let queue = Queue::with_limit(vec![partitions], 100);
        let parts: Vec<Part> = queue.into_stream().try_collect().await.expect("all parts");
        let parts = parts.into_iter().map(|part| part.load().expect("tables")).collect::<Vec<_>>();
        assert!(parts.len() > 640, "{} parts", parts.len());
        let batches = parts.iter().flat_map(|part| part.tables[0].batches());
        let mut found: Vec<i64> =
            batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values()).copied().collect();
        found.sort_unstable();
        assert_eq!(found, ids, "each row is in one part");
    }
}
