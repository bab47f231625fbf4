//! Rows of a table, held in memory if they fit, otherwise partitioned by the hash of their key into a temporary file.
//!
//! Equal keys are in the same partition of all tables of a plan, so each partition is a smaller plan. A partition that
//! is too large for the memory limit is divided again, by other bits of the hash.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use futures::TryStreamExt;

use crate::backend::BatchStream;
use crate::blocking;
use crate::error::{Error, Result};
use crate::memory::{MemoryPool, PARTITION_BITS, Reservation};
use crate::schema::plain_batches;

use super::key_type::{common_type, key_type};
use super::keys::Keys;
use super::parallel;
use super::spill::{Chunk, Encoded, SpillFile};
use super::table::{Table, plain_schema};

/// How many times a partition can be divided again: the hash has no more bits.
const MAX_DEPTH: u32 = 5;

/// The size of a chunk of a file, if the memory limit allows it: smaller ones take longer to read.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
const MIN_CHUNK_BYTES: usize = 32 << 10;

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
        // The lowest and highest bits are left for the hash tables.
        let shift = 32 - 7 + PARTITION_BITS * depth;
        Ok(self.keys(batch)?.hashes().iter().map(|hash| ((*hash >> shift) as usize % partitions) as u8).collect())
    }
}

/// The rows of a table.
pub(crate) enum Collected {
    /// All rows, in memory.
    Whole(Table, Reservation),
    /// Rows by partition, in a file.
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
                (None, Some(_)) if self.reservation.try_grow(batch.get_array_memory_size()) => self.held.push(batch),
                (None, Some(key)) => {
                    let divider = Divider::new(self.schema.clone(), key, &self.pool, 0)?;
                    for batch in std::mem::take(&mut self.held).into_iter().chain([batch]) {
                        divider.push(batch).await?;
                    }
                    self.reservation = self.pool.reservation();
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
    chunks: Vec<Vec<Chunk>>,
    /// The batches that are not in the file yet, and their bytes.
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
            chunks: vec![Vec::new(); pool.partitions()],
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
        blocking::run(move || work(&mut division.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

impl Division {
    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        self.bytes += batch.get_array_memory_size();
        self.waiting.push(batch);
        let partitions = self.chunks.len();
        if self.bytes < partitions * self.pool.share(partitions).clamp(MIN_CHUNK_BYTES, CHUNK_BYTES) {
            return Ok(());
        }
        self.flush()
    }

    /// Moves the batches from memory to the file: one chunk for each partition.
    fn flush(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.waiting);
        self.bytes = 0;
        let partitions = self.chunks.len();
        let of_rows =
            parallel::map(batches.iter().collect(), |batch| self.key.partitions_of(batch, self.depth, partitions))?;
        let mut rows = vec![Vec::new(); partitions];
        for (batch, of_rows) in of_rows.iter().enumerate() {
            of_rows.iter().enumerate().for_each(|(row, partition)| rows[usize::from(*partition)].push((batch, row)));
        }
        let rows = rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()).collect();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        let encoded = parallel::map(rows, |(partition, rows): (usize, Vec<(usize, usize)>)| {
            Ok((partition, Encoded::new(&interleave_record_batch(&batches, &rows)?)?))
        })?;
        for (partition, batch) in encoded {
            self.chunks[partition].push(self.file.append(&batch)?);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Partitions> {
        self.flush()?;
        Ok(Partitions {
            schema: self.schema.clone(),
            key: self.key.clone(),
            pool: self.pool.clone(),
            depth: self.depth,
            file: self.file.clone(),
            chunks: std::mem::take(&mut self.chunks),
        })
    }
}

/// The partitions of the rows of a table.
pub(crate) struct Partitions {
    schema: SchemaRef,
    key: PartitionKey,
    pool: Arc<MemoryPool>,
    depth: u32,
    file: Arc<SpillFile>,
    chunks: Vec<Vec<Chunk>>,
}

impl Partitions {
    /// Returns the number of partitions.
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// Returns the size in bytes of the rows of a partition in memory.
    pub(crate) fn bytes(&self, partition: usize) -> usize {
        self.chunks[partition].iter().map(|chunk| chunk.bytes).sum()
    }

    /// Returns whether partitions can be divided again.
    pub(crate) fn can_divide(&self) -> bool {
        self.depth + 1 < MAX_DEPTH
    }

    /// Reads a partition.
    pub(crate) async fn table(&self, partition: usize) -> Result<Table> {
        let mut batches = Vec::with_capacity(self.chunks[partition].len());
        for chunk in &self.chunks[partition] {
            batches.extend(self.read(chunk).await?);
        }
        Table::new(self.schema.clone(), batches)
    }

    /// Divides a partition again.
    pub(crate) async fn divide(&self, partition: usize) -> Result<Partitions> {
        let divider = Divider::new(self.schema.clone(), &self.key, &self.pool, self.depth + 1)?;
        for chunk in &self.chunks[partition] {
            for batch in self.read(chunk).await? {
                divider.push(batch).await?;
            }
        }
        divider.finish().await
    }

    async fn read(&self, chunk: &Chunk) -> Result<Vec<RecordBatch>> {
        let (file, chunk) = (self.file.clone(), chunk.clone());
        blocking::run(move || file.read(&chunk)).await
    }
}
