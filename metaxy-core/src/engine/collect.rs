//! Rows of a table: as a whole if they fit into memory, otherwise in partitions.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;

use crate::backend::BatchStream;
use crate::blocking;
use crate::error::Result;
use crate::memory::{MemoryPool, Reservation};
use crate::schema::plain_batches;

use super::latest::KeepLatest;
use super::partition::{Divider, Partitions, held_bytes};
use super::table::{Table, plain_schema};
use super::typed_key::TypedKey;

/// The rows of a table.
pub(crate) enum Collected {
    /// All rows, in memory.
    Whole(Table, Reservation),
    /// Rows by partition, in memory or in a file.
    Divided(Partitions),
}

/// Collects the rows of a table. Without a key all of them are held in memory, however large they are.
pub(crate) async fn collect(
    schema: SchemaRef,
    mut stream: BatchStream,
    key: Option<&TypedKey>,
    pool: &Arc<MemoryPool>,
) -> Result<Collected> {
    let mut collector = Collector::new(&schema, key.cloned(), pool);
    while let Some(batch) = stream.try_next().await? {
        collector.push(batch).await?;
    }
    collector.finish().await
}

/// Collects rows in memory until they exceed its limit, then in partitions.
pub(crate) struct Collector {
    schema: SchemaRef,
    /// Without a key all rows are held in memory.
    key: Option<TypedKey>,
    pool: Arc<MemoryPool>,
    held: Vec<RecordBatch>,
    reservation: Reservation,
    divider: Option<Divider>,
}

impl Collector {
    /// A key without columns divides nothing, so it counts as none.
    pub(crate) fn new(schema: &SchemaRef, key: Option<TypedKey>, pool: &Arc<MemoryPool>) -> Self {
        let key = key.filter(|key| !key.columns().is_empty());
        let (schema, reservation) = (plain_schema(schema), pool.reservation());
        Self { schema, key, pool: pool.clone(), held: Vec::new(), reservation, divider: None }
    }

    pub(crate) async fn push(&mut self, batch: RecordBatch) -> Result<()> {
        for batch in plain_batches(batch)? {
            match (&self.divider, &self.key) {
                (Some(divider), _) => divider.push(batch).await?,
                (None, None) => self.held.push(batch),
                (None, Some(_)) if self.reservation.try_grow(held_bytes(&batch)) => self.held.push(batch),
                (None, Some(key)) => {
                    let divider = Divider::new(self.schema.clone(), key, &self.pool, 0)?;
                    self.reservation = self.pool.reservation();
                    for batch in std::mem::take(&mut self.held).into_iter().chain([batch]) {
                        divider.push(batch).await?;
                    }
                    self.divider = Some(divider);
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn finish(self) -> Result<Collected> {
        match self.divider {
            Some(divider) => Ok(Collected::Divided(divider.finish().await?)),
            None => Ok(Collected::Whole(Table::new(self.schema, self.held)?, self.reservation)),
        }
    }
}

impl Collected {
    /// Returns whether the rows are in memory.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(..))
    }

    /// Keeps the latest rows: now, or when a partition is read.
    pub(crate) async fn with_latest(self, latest: KeepLatest) -> Result<Self> {
        Ok(match self {
            Self::Whole(table, held) => Self::Whole(blocking::run(move || latest.apply(table)).await?, held),
            Self::Divided(partitions) => Self::Divided(partitions.with_latest(latest)),
        })
    }

    /// Returns the rows as partitions.
    pub(crate) async fn divided(self, key: &TypedKey, pool: &Arc<MemoryPool>) -> Result<Partitions> {
        match self {
            Self::Divided(partitions) => Ok(partitions),
            Self::Whole(table, _held) => {
                let divider = Divider::new(table.schema.clone(), key, pool, 0)?;
                for batch in table.into_batches() {
                    divider.push(batch).await?;
                }
                divider.finish().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;
    use crate::backend::stream_of;

    /// Returns rows in the order of their ids, an integer and a text, in batches of an odd size.
    fn ordered(rows: i64) -> Vec<RecordBatch> {
        let starts = (0..rows).step_by(4_999);
        let batch = |start: i64| {
            let ids = start..rows.min(start + 4_999);
            let texts = ids.clone().map(|id| Some(format!("clip-{id:09}")));
            let number: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
            let text: ArrayRef = Arc::new(texts.collect::<StringArray>());
            RecordBatch::try_from_iter([("number", number), ("text", text)]).expect("two columns")
        };
        starts.map(batch).collect()
    }

    #[tokio::test]
    async fn partitions_have_rows_in_the_order_of_their_keys() {
        for name in ["number", "text"] {
            let mut batches = ordered(99_980);
            let key = TypedKey::within(batches[0].schema_ref(), &[name.to_owned()]).expect("a key");
            let pool = MemoryPool::new(1 << 20, None);
            // The files of a table are read side by side.
            let later = batches.split_off(batches.len() / 2);
            let mixed = batches.iter().zip(&later).flat_map(|(one, other)| [one.clone(), other.clone()]).collect();
            let collected = collect(later[0].schema(), stream_of(mixed), Some(&key), &pool).await.expect("a file");
            let latest = KeepLatest { ids: vec![name.to_owned()], filter: None, columns: None };
            let collected = collected.with_latest(latest).await.expect("steps");
            let partitions = collected.divided(&key, &pool).await.expect("partitions");
            let mut found: Vec<i64> = Vec::new();
            for partition in 0..partitions.len() {
                let (table, _held) = partitions.take(partition).expect("rows");
                assert!(key.keys_of(&table).expect("keys").is_increasing(), "partition {partition} by {name}");
                found.extend(table.column("number").expect("a column").as_primitive::<Int64Type>().values());
            }
            found.sort_unstable();
            assert!(found.into_iter().eq(0..99_980), "each row is in one partition");
        }
    }
}
