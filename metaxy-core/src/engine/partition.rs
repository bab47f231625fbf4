//! Rows divided by the hash of their key, in memory or in a temporary file.
//!
//! Equal keys are in the same partition of all tables of a plan, so each partition is a smaller plan. First it is the
//! block of a key that is hashed, and rows keep the order in which they arrived: rows in the order of their keys are
//! copied in runs, and each partition has them in this order. A partition that is too large for the memory limit is
//! divided again by the hash of the key itself, and then by other bits of it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, interleave_record_batch};
use arrow::datatypes::SchemaRef;

use crate::blocking;
use crate::error::Result;
use crate::memory::{MemoryPool, PARTITION_BITS, Reservation};
use crate::schema::bytes_of_rows;

use super::latest::KeepLatest;
use super::parallel;
use super::spill::{Chunk, Encoded, SpillFile};
use super::table::Table;
use super::typed_key::TypedKey;

/// How many times a partition can be divided again: the hash has no more bits.
const MAX_DEPTH: u32 = 5;

/// The size of a chunk of a file, if the memory limit allows it: smaller ones take longer to read.
pub(super) const CHUNK_BYTES: usize = 512 << 10;
const MIN_CHUNK_BYTES: usize = 32 << 10;

/// From this mean length on, runs of rows are copied as slices.
const LONG_RUN: usize = 32;

/// Divides batches among partitions, on threads that may block.
pub(super) struct Divider(Arc<Mutex<Division>>);

/// The partitions so far.
struct Division {
    schema: SchemaRef,
    key: TypedKey,
    pool: Arc<MemoryPool>,
    depth: u32,
    file: Arc<SpillFile>,
    pieces: Vec<Vec<Piece>>,
    /// The batches that are not divided yet, and their bytes.
    waiting: Vec<RecordBatch>,
    bytes: usize,
}

impl Divider {
    pub(super) fn new(schema: SchemaRef, key: &TypedKey, pool: &Arc<MemoryPool>, depth: u32) -> Result<Self> {
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

    pub(super) async fn push(&self, batch: RecordBatch) -> Result<()> {
        self.run(move |division| division.push(batch)).await
    }

    pub(super) async fn finish(self) -> Result<Partitions> {
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
            parallel::map(batches.iter().collect(), |batch| partitions_of(&self.key, batch, self.depth, partitions))?;
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

/// Returns the bytes that a batch takes. Its buffers may be larger than its rows, as those of a builder that has grown,
/// or shared with other batches, which count them too.
pub(super) fn held_bytes(batch: &RecordBatch) -> usize {
    batch.get_array_memory_size().min(2 * bytes_of_rows(batch))
}

/// Returns the partition of each row.
fn partitions_of(key: &TypedKey, batch: &RecordBatch, depth: u32, partitions: usize) -> Result<Vec<u8>> {
    let keys = key.keys(batch)?;
    let hashes = if depth == 0 { Cow::Owned(keys.block_hashes()) } else { Cow::Borrowed(keys.hashes()) };
    // The lowest and highest bits are left for the hash tables.
    let shift = 32 - 7 + PARTITION_BITS * depth;
    Ok(hashes.iter().map(|hash| ((*hash >> shift) as usize % partitions) as u8).collect())
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
    key: TypedKey,
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
    /// Keeps the latest rows of a partition when it is taken.
    pub(super) fn with_latest(self, latest: KeepLatest) -> Self {
        Self { latest: Some(Arc::new(latest)), ..self }
    }

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
