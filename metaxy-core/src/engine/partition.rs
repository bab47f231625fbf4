//! Rows of a table: as a whole if they fit into memory, otherwise partitioned by the hash of their key, with those that
//! do not fit in a temporary file.
//!
//! Equal keys are in the same partition of all tables of a plan, so each partition is a smaller plan. First it is the
//! block of a key that is hashed, and rows keep the order in which they arrived: rows in the order of their keys are
//! copied in runs, and each partition has them in this order. A partition that is too large for the memory limit is
//! divided again by the hash of the key itself, and then by other bits of it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::TryStreamExt;

use crate::backend::BatchStream;
use crate::blocking;
use crate::error::{Error, Result};
use crate::memory::{MemoryPool, PARTITION_BITS, Reservation};
use crate::schema::{bytes_of_rows, plain_batches};

use super::key_type::{common_type, key_type};
use super::keys::Keys;
use super::latest::KeepLatest;
use super::parallel;
use super::spill::{Chunk, Encoded, SpillFile};
use super::table::{Table, plain_schema};

/// How many times a partition can be divided again: the hash has no more bits.
const MAX_DEPTH: u32 = 5;

/// The size of a chunk of a file, if the memory limit allows it: smaller ones take longer to read.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
const MIN_CHUNK_BYTES: usize = 32 << 10;

/// From this mean length on, runs of rows are copied as slices.
const LONG_RUN: usize = 32;

/// The columns whose hash decides to which partition a row belongs, with the types in which they are compared.
#[derive(Clone, Debug)]
pub(crate) struct PartitionKey {
    columns: Vec<(String, DataType)>,
}

impl FromIterator<(String, DataType)> for PartitionKey {
    fn from_iter<I: IntoIterator<Item = (String, DataType)>>(columns: I) -> Self {
        Self { columns: columns.into_iter().collect() }
    }
}

impl PartitionKey {
    /// Returns the key of a table whose rows are compared among themselves only.
    pub(crate) fn within(schema: &Schema, names: &[String]) -> Result<Self> {
        names.iter().map(|name| Ok((name.clone(), key_type(schema.field_with_name(name)?.data_type())?))).collect()
    }

    /// Returns the key of two tables whose rows are compared by columns of the same names, or `None` if values of the
    /// two cannot be compared.
    pub(crate) fn between(names: &[String], one: &Schema, other: &Schema) -> Result<Option<Self>> {
        let type_of =
            |schema: &Schema, name: &String| Ok::<_, Error>(schema.field_with_name(name)?.data_type().clone());
        let mut columns = Vec::with_capacity(names.len());
        for name in names {
            match common_type(&type_of(one, name)?, &type_of(other, name)?) {
                Some(shared) => columns.push((name.clone(), shared)),
                None => return Ok(None),
            }
        }
        Ok(Some(Self { columns }))
    }

    /// Returns the columns, with the types in which they are compared.
    pub(crate) fn columns(&self) -> &[(String, DataType)] {
        &self.columns
    }

    /// Returns whether rows that are equal in these columns are always in the same partition.
    pub(crate) fn keeps_together(&self, columns: &[String]) -> bool {
        self.columns.iter().all(|(name, _)| columns.contains(name))
    }

    /// Returns the keys of the rows of a table.
    pub(crate) fn keys_of(&self, table: &Table) -> Result<Keys> {
        let columns = self.columns.iter().map(|(name, data_type)| Ok((table.column(name)?, data_type.clone())));
        Keys::new(&columns.collect::<Result<Vec<_>>>()?)
    }

    /// Returns the keys of the rows of a batch.
    pub(crate) fn keys(&self, batch: &RecordBatch) -> Result<Keys> {
        let column = |(name, data_type): &(String, DataType)| -> Result<(ArrayRef, DataType)> {
            Ok((batch.column(batch.schema_ref().index_of(name)?).clone(), data_type.clone()))
        };
        Keys::new(&self.columns.iter().map(column).collect::<Result<Vec<_>>>()?)
    }

    /// Returns the partition of each row.
    fn partitions_of(&self, batch: &RecordBatch, depth: u32, partitions: usize) -> Result<Vec<u8>> {
        let keys = self.keys(batch)?;
        let hashes = if depth == 0 { Cow::Owned(keys.block_hashes()) } else { Cow::Borrowed(keys.hashes()) };
        // The lowest and highest bits are left for the hash tables.
        let shift = 32 - 7 + PARTITION_BITS * depth;
        Ok(hashes.iter().map(|hash| ((*hash >> shift) as usize % partitions) as u8).collect())
    }
}

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
    key: Option<&PartitionKey>,
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
    key: Option<PartitionKey>,
    pool: Arc<MemoryPool>,
    held: Vec<RecordBatch>,
    reservation: Reservation,
    divider: Option<Divider>,
}

impl Collector {
    /// A key without columns divides nothing, so it counts as none.
    pub(crate) fn new(schema: &SchemaRef, key: Option<PartitionKey>, pool: &Arc<MemoryPool>) -> Self {
        let key = key.filter(|key| !key.columns.is_empty());
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

/// Returns the bytes that a batch takes. Its buffers may be larger than its rows, as those of a builder that has grown,
/// or shared with other batches, which count them too.
fn held_bytes(batch: &RecordBatch) -> usize {
    batch.get_array_memory_size().min(2 * bytes_of_rows(batch))
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
            Self::Divided(partitions) => Self::Divided(Partitions { latest: Some(Arc::new(latest)), ..partitions }),
        })
    }

    /// Returns the rows as partitions.
    pub(crate) async fn divided(self, key: &PartitionKey, pool: &Arc<MemoryPool>) -> Result<Partitions> {
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

/// Divides batches among partitions, on threads that may block.
struct Divider(Arc<Mutex<Division>>);

/// The partitions so far.
struct Division {
    schema: SchemaRef,
    key: PartitionKey,
    pool: Arc<MemoryPool>,
    depth: u32,
    file: Arc<SpillFile>,
    pieces: Vec<Vec<Piece>>,
    /// The batches that are not divided yet, and their bytes.
    waiting: Vec<RecordBatch>,
    bytes: usize,
}

impl Divider {
    fn new(schema: SchemaRef, key: &PartitionKey, pool: &Arc<MemoryPool>, depth: u32) -> Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Division {
            schema,
            key: key.clone(),
            pool: pool.clone(),
            depth,
            file: Arc::new(SpillFile::create(pool)?),
            pieces: std::iter::repeat_with(Vec::new).take(pool.partitions()).collect(),
            waiting: Vec::new(),
            bytes: 0,
        }))))
    }

    async fn push(&self, batch: RecordBatch) -> Result<()> {
        self.run(move |division| division.push(batch)).await
    }

    async fn finish(self) -> Result<Partitions> {
        self.run(Division::finish).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Division) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let division = self.0.clone();
        blocking::run(move || work(&mut lock(&division))).await
    }
}

impl Division {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.bytes += bytes_of_rows(&batch);
        self.waiting.push(batch);
        let partitions = self.pieces.len();
        if self.bytes < partitions * self.pool.share(partitions).clamp(MIN_CHUNK_BYTES, CHUNK_BYTES) {
            return Ok(());
        }
        self.flush()
    }

    /// Divides the waiting batches: one piece for each partition, in memory if there is some left.
    fn flush(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let partitions = self.pieces.len();
        let of_rows =
            parallel::map(batches.iter().collect(), |batch| self.key.partitions_of(batch, self.depth, partitions))?;
        let mut runs = vec![Vec::new(); partitions];
        for (batch, of_rows) in of_rows.iter().enumerate() {
            let mut start = 0;
            for run in of_rows.chunk_by(|left, right| left == right) {
                let end = start + run.len();
                runs[usize::from(run[0])].push((batch, start..end));
                start = end;
            }
        }
        let runs = runs.into_iter().enumerate().filter(|(_, runs)| !runs.is_empty()).collect();
        let pieces = parallel::map(runs, |(partition, runs): (usize, Vec<(usize, Range<usize>)>)| {
            Ok((partition, self.piece(gather(&batches, &runs)?)?))
        })?;
        pieces.into_iter().for_each(|(partition, piece)| self.pieces[partition].push(piece));
        Ok(())
    }

    fn piece(&self, rows: RecordBatch) -> Result<Piece> {
        let mut reservation = self.pool.reservation();
        Ok(match reservation.try_grow_within_half(held_bytes(&rows)) {
            true => Piece::Held(rows, reservation),
            false => Piece::Spilled(self.file.append(&Encoded::new(&rows)?)?),
        })
    }

    fn finish(&mut self) -> Result<Partitions> {
        self.flush()?;
        Ok(Partitions {
            schema: self.schema.clone(),
            key: self.key.clone(),
            pool: self.pool.clone(),
            depth: self.depth,
            file: self.file.clone(),
            pieces: std::mem::take(&mut self.pieces).into_iter().map(Mutex::new).collect(),
            latest: None,
        })
    }
}

/// Returns rows of several batches in one.
fn gather(batches: &[RecordBatch], runs: &[(usize, Range<usize>)]) -> Result<RecordBatch> {
    let rows: usize = runs.iter().map(|(_, rows)| rows.len()).sum();
    if rows / runs.len() >= LONG_RUN {
        let slices: Vec<RecordBatch> =
            runs.iter().map(|(batch, rows)| batches[*batch].slice(rows.start, rows.len())).collect();
        return Ok(concat_batches(slices[0].schema_ref(), &slices)?);
    }
    let rows: Vec<(usize, usize)> =
        runs.iter().flat_map(|(batch, rows)| rows.clone().map(|row| (*batch, row))).collect();
    Ok(interleave_record_batch(&batches.iter().collect::<Vec<_>>(), &rows)?)
}

/// Rows of one partition.
enum Piece {
    Held(RecordBatch, Reservation),
    Spilled(Chunk),
}

/// The partitions of the rows of a table. Each can be taken once.
pub(crate) struct Partitions {
    schema: SchemaRef,
    key: PartitionKey,
    pool: Arc<MemoryPool>,
    depth: u32,
    file: Arc<SpillFile>,
    pieces: Vec<Mutex<Vec<Piece>>>,
    /// What is to be done with the rows of a partition.
    latest: Option<Arc<KeepLatest>>,
}

impl Piece {
    fn bytes(&self) -> usize {
        match self {
            Self::Held(rows, _) => bytes_of_rows(rows),
            Self::Spilled(chunk) => chunk.bytes,
        }
    }
}

impl Partitions {
    /// Returns the number of partitions.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Returns the size in bytes of the rows of a partition in memory.
    pub(crate) fn bytes(&self, partition: usize) -> usize {
        lock(&self.pieces[partition]).iter().map(Piece::bytes).sum()
    }

    /// Returns whether partitions can be divided again.
    pub(crate) fn can_divide(&self) -> bool {
        self.depth + 1 < MAX_DEPTH
    }

    /// Takes a partition, with the memory reserved for it. Called on threads that may block.
    pub(crate) fn take(&self, partition: usize) -> Result<(Table, Vec<Reservation>)> {
        let (mut batches, mut held) = (Vec::new(), Vec::new());
        for piece in self.pieces_of(partition) {
            batches.extend(self.rows_of(piece, &mut held)?);
        }
        let table = Table::new(self.schema.clone(), batches)?;
        match &self.latest {
            Some(latest) => Ok((latest.apply(table)?, held)),
            None => Ok((table, held)),
        }
    }

    /// Divides a partition again.
    pub(crate) async fn divide(self: &Arc<Self>, partition: usize) -> Result<Partitions> {
        let divider = Divider::new(self.schema.clone(), &self.key, &self.pool, self.depth + 1)?;
        for piece in self.pieces_of(partition) {
            let partitions = self.clone();
            for batch in blocking::run(move || partitions.rows_of(piece, &mut Vec::new())).await? {
                divider.push(batch).await?;
            }
        }
        Ok(Partitions { latest: self.latest.clone(), ..divider.finish().await? })
    }

    fn pieces_of(&self, partition: usize) -> Vec<Piece> {
        std::mem::take(&mut *lock(&self.pieces[partition]))
    }

    fn rows_of(&self, piece: Piece, held: &mut Vec<Reservation>) -> Result<Vec<RecordBatch>> {
        match piece {
            Piece::Spilled(chunk) => self.file.read(&chunk),
            Piece::Held(rows, reservation) => {
                held.push(reservation);
                Ok(vec![rows])
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, StringArray};
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
            let key = PartitionKey::within(batches[0].schema_ref(), &[name.to_owned()]).expect("a key");
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
