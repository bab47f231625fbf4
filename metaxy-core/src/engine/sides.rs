//! The tables of a plan side by side: the rows that are processed together, and the partitions that are still queued.

use std::sync::Arc;

use futures::future::{OptionFuture, try_join_all};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};

use crate::error::Result;
use crate::memory::{MemoryPool, Reservation};

use super::parallel::cores;
use super::partition::{Collected, PARTITIONS, Partitions};
use super::table::Table;

/// The rows that a plan, or a part of it, processes.
pub(crate) struct Rows {
    /// The rows of each input of the plan.
    pub(crate) inputs: Vec<Table>,
    /// The samples of a root, instead of inputs.
    pub(crate) samples: Option<Table>,
    /// The stored rows, if the plan compares.
    pub(crate) current: Option<Table>,
    /// The memory reserved for the rows.
    pub(super) _held: Vec<Reservation>,
}

/// One value for each table of a plan.
pub(super) struct Sides<T> {
    pub(super) inputs: Vec<T>,
    pub(super) samples: Option<T>,
    pub(super) current: Option<T>,
}

impl<T> Sides<T> {
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.inputs.iter().chain(&self.samples).chain(&self.current)
    }

    /// Maps every side concurrently.
    pub(super) async fn map<U, F: Future<Output = Result<U>>>(self, change: impl Fn(T) -> F) -> Result<Sides<U>> {
        let inputs = try_join_all(self.inputs.into_iter().map(&change));
        let samples: OptionFuture<_> = self.samples.map(&change).into();
        let current: OptionFuture<_> = self.current.map(&change).into();
        let (inputs, samples, current) =
            futures::try_join!(inputs, async { samples.await.transpose() }, async { current.await.transpose() })?;
        Ok(Sides { inputs, samples, current })
    }

    fn as_ref(&self) -> Sides<&T> {
        Sides { inputs: self.inputs.iter().collect(), samples: self.samples.as_ref(), current: self.current.as_ref() }
    }
}

/// Partitions up to this size are not divided again, however low the memory limit is.
const SMALL_PARTITION: usize = 1 << 20;

/// The partitions that are still to be processed.
pub(super) struct Queue {
    waiting: Vec<(Arc<Sides<Partitions>>, usize)>,
    /// Partitions above this size are divided again.
    limit: usize,
}

impl Queue {
    pub(super) fn new(sides: Sides<Partitions>, pool: &MemoryPool) -> Self {
        Self::with_limit(sides, pool.share(cores()).max(SMALL_PARTITION))
    }

    fn with_limit(sides: Sides<Partitions>, limit: usize) -> Self {
        let mut queue = Self { waiting: Vec::new(), limit };
        queue.add(sides);
        queue
    }

    fn add(&mut self, sides: Sides<Partitions>) {
        let sides = Arc::new(sides);
        self.waiting.extend((0..PARTITIONS).rev().map(|partition| (sides.clone(), partition)));
    }

    async fn next(&mut self) -> Result<Option<Rows>> {
        while let Some((sides, partition)) = self.waiting.pop() {
            let bytes: usize = sides.iter().map(|side| side.bytes(partition)).sum();
            if bytes == 0 {
                continue;
            }
            if bytes > self.limit && sides.iter().all(Partitions::can_divide) {
                self.add(sides.as_ref().as_ref().map(|side| side.divide(partition)).await?);
                continue;
            }
            let Sides { inputs, samples, current } = sides.as_ref().as_ref().map(|side| side.table(partition)).await?;
            return Ok(Some(Rows { inputs, samples, current, _held: Vec::new() }));
        }
        Ok(None)
    }

    pub(super) fn into_stream(self) -> BoxStream<'static, Result<Rows>> {
        stream::try_unfold(self, |mut queue| async move { Ok(queue.next().await?.map(|rows| (rows, queue))) }).boxed()
    }
}

/// Returns the rows of one collected table, as a whole or partition by partition.
pub(crate) fn tables_of(collected: Collected, pool: &Arc<MemoryPool>) -> BoxStream<'static, Result<Table>> {
    match collected {
        Collected::Whole(table, held) => stream::once(async move {
            let _held = held;
            Ok(table)
        })
        .boxed(),
        Collected::Divided(partitions) => {
            let sides = Sides { inputs: vec![partitions], samples: None, current: None };
            let tables = Queue::new(sides, pool).into_stream();
            tables.try_filter_map(|mut rows| async move { Ok(rows.inputs.pop()) }).boxed()
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Int64Type};

    use super::super::partition::{PartitionKey, collect};
    use super::*;
    use crate::backend::stream_of;

    #[tokio::test]
    async fn partitions_that_are_too_large_are_divided_again() {
        let ids: Vec<i64> = (0..3_000).collect();
        let column = Arc::new(Int64Array::from(ids.clone())) as _;
        let batch = RecordBatch::try_from_iter([("id", column)]).expect("one column");
        let key: PartitionKey = [("id".to_owned(), DataType::Int64)].into_iter().collect();
        let pool = MemoryPool::new(1, None);
        let collected = collect(batch.schema(), stream_of(vec![batch]), Some(&key), &pool).await.expect("a file");
        let partitions = collected.divided(&key, &pool).await.expect("partitions");
        let sides = Sides { inputs: vec![partitions], samples: None, current: None };
        let parts: Vec<Rows> = Queue::with_limit(sides, 100).into_stream().try_collect().await.expect("all parts");
        assert!(parts.len() > 10 * PARTITIONS, "{} parts", parts.len());
        let batches = parts.iter().flat_map(|rows| rows.inputs[0].batches());
        let mut found: Vec<i64> =
            batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values()).copied().collect();
        found.sort_unstable();
        assert_eq!(found, ids, "each row is in one part");
    }
}
