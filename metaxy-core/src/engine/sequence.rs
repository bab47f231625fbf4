//! Rows in the order in which they came, held in memory if they fit, otherwise in a temporary file.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use futures::stream;
use futures::{StreamExt, TryStreamExt};

use crate::backend::{BatchStream, stream_of};
use crate::blocking;
use crate::error::{Error, Result};
use crate::memory::{MemoryPool, Reservation};
use crate::schema::{bytes_of_rows, plain_batches};

use super::increasing::IncreasingIds;
use super::partition::CHUNK_BYTES;
use super::spill::{Chunk, SpillFile};

/// Rows of one or several schemas, which can be read several times.
pub(crate) struct Sequence {
    held: Vec<RecordBatch>,
    file: Option<(Arc<SpillFile>, Vec<Chunk>)>,
    /// The distinct schemas, in the order in which they came.
    schemas: Vec<SchemaRef>,
    ids_increase: bool,
    reservation: Reservation,
}

impl Sequence {
    /// Reads a stream to its end.
    pub(crate) async fn collect(mut rows: BatchStream, ids: &[String], pool: &Arc<MemoryPool>) -> Result<Self> {
        let mut sequence = Self {
            held: Vec::new(),
            file: None,
            schemas: Vec::new(),
            ids_increase: true,
            reservation: pool.reservation(),
        };
        let mut order = IncreasingIds::new(ids);
        while let Some(batch) = rows.try_next().await? {
            for batch in plain_batches(batch)? {
                sequence.ids_increase = sequence.ids_increase && order.continue_in(&batch)?;
                sequence.push(batch, pool).await?;
            }
        }
        if sequence.file.is_some() {
            sequence.flush().await?;
        }
        Ok(sequence)
    }

    /// Returns the batches if they are in memory.
    pub(crate) fn in_memory(self) -> Result<Vec<RecordBatch>, Self> {
        if self.file.is_none() { Ok(self.held) } else { Err(self) }
    }

    /// Returns the distinct schemas of the batches.
    pub(crate) fn schemas(&self) -> &[SchemaRef] {
        &self.schemas
    }

    /// Returns whether each row has greater ids than the one before it, so that no sample has two rows.
    pub(crate) fn ids_increase(&self) -> bool {
        self.ids_increase
    }

    /// Returns the rows in their order.
    pub(crate) fn stream(&self) -> BatchStream {
        let Some((file, chunks)) = self.file.clone() else { return stream_of(self.held.clone()) };
        let read = move |chunk: Chunk| {
            let file = file.clone();
            async move { Ok::<_, Error>(stream_of(blocking::run(move || file.read(&chunk)).await?)) }
        };
        stream::iter(chunks).then(read).try_flatten().boxed()
    }

    async fn push(&mut self, batch: RecordBatch, pool: &Arc<MemoryPool>) -> Result<()> {
        if !self.schemas.contains(batch.schema_ref()) {
            self.schemas.push(batch.schema());
        }
        let bytes = bytes_of_rows(&batch);
        self.held.push(batch);
        if self.file.is_none() {
            if self.reservation.try_grow(bytes) {
                return Ok(());
            }
            self.file = Some((Arc::new(SpillFile::create(pool)?), Vec::new()));
            self.reservation = pool.reservation();
            return self.flush().await;
        }
        if self.held.iter().map(bytes_of_rows).sum::<usize>() < CHUNK_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    /// Moves the batches from memory to the file, small ones together.
    async fn flush(&mut self) -> Result<()> {
        let Some((file, chunks)) = &mut self.file else { return Ok(()) };
        let (file, batches) = (file.clone(), std::mem::take(&mut self.held));
        let written = blocking::run(move || {
            runs(&batches).map(|run| file.write(&concat_batches(run[0].schema_ref(), run)?)).collect::<Result<Vec<_>>>()
        });
        chunks.extend(written.await?);
        Ok(())
    }
}

/// Returns neighbouring batches of one schema, up to [`CHUNK_BYTES`] together.
fn runs(batches: &[RecordBatch]) -> impl Iterator<Item = &[RecordBatch]> {
    let mut bytes = 0;
    batches.chunk_by(move |one, next| {
        bytes += bytes_of_rows(one);
        let together = bytes < CHUNK_BYTES && one.schema_ref() == next.schema_ref();
        if !together {
            bytes = 0;
        }
        together
    })
}
