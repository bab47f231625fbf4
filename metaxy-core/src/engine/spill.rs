//! Temporary files of batches that do not fit into memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use lz4_flex::block::{compress, decompress};

use crate::error::{Error, Result};
use crate::fence;
use crate::memory::MemoryPool;
use crate::schema::bytes_of_rows;

/// Larger batches are not compressed.
const MAX_COMPRESSED: usize = 1 << 30;
/// About the size of what a batch has besides its values.
const HEADERS: usize = 4 << 10;

/// A temporary file of batches. It has no name, so the system removes it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct SpillFile {
    pool: Arc<MemoryPool>,
    file: Mutex<File>,
}

/// A batch in the form in which it is written to a file: Arrow IPC, compressed as a whole. (The compression of Arrow IPC
/// itself is by column, and has a frame for each; with columns as small as these, that takes several times as long.)
pub(crate) struct Encoded {
    encoded: Vec<u8>,
    /// The size without compression; that of `encoded` if it is not compressed.
    plain: usize,
    /// The size of the batch in memory.
    bytes: usize,
}

impl Encoded {
    pub(crate) fn new(batch: &RecordBatch) -> Result<Self> {
        let bytes = bytes_of_rows(batch);
        let mut writer = StreamWriter::try_new(Vec::with_capacity(bytes + HEADERS), batch.schema_ref())?;
        writer.write(batch)?;
        let plain = writer.into_inner()?;
        let compressed = if plain.len() <= MAX_COMPRESSED { compress(&plain) } else { Vec::new() };
        let (length, is_smaller) = (plain.len(), !compressed.is_empty() && compressed.len() < plain.len());
        Ok(Self { encoded: if is_smaller { compressed } else { plain }, plain: length, bytes })
    }
}

/// A batch in a file.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    start: u64,
    length: usize,
    /// The size without compression.
    plain: usize,
    /// The size of the batch in memory.
    pub(crate) bytes: usize,
}

impl SpillFile {
    /// Creates a file in the directory of a pool.
    pub(crate) fn create(pool: &Arc<MemoryPool>) -> Result<Self> {
        let file = tempfile::tempfile_in(pool.directory()).map_err(|error| failed(pool, error))?;
        Ok(Self { pool: pool.clone(), file: Mutex::new(file) })
    }

    /// Appends a batch.
    pub(crate) fn write(&self, batch: &RecordBatch) -> Result<Chunk> {
        self.append(&Encoded::new(batch)?)
    }

    /// Appends an encoded batch.
    pub(crate) fn append(&self, batch: &Encoded) -> Result<Chunk> {
        let append = |mut file: MutexGuard<'_, File>| {
            let start = file.seek(SeekFrom::End(0))?;
            file.write_all(&batch.encoded)?;
            Ok(start)
        };
        let start = append(self.lock()).map_err(|error| failed(&self.pool, error))?;
        Ok(Chunk { start, length: batch.encoded.len(), plain: batch.plain, bytes: batch.bytes })
    }

    /// Reads a batch.
    pub(crate) fn read(&self, chunk: &Chunk) -> Result<Vec<RecordBatch>> {
        let mut encoded = vec![0; chunk.length];
        let fill = |mut file: MutexGuard<'_, File>, encoded: &mut [u8]| {
            file.seek(SeekFrom::Start(chunk.start))?;
            file.read_exact(encoded)
        };
        fill(self.lock(), &mut encoded).map_err(|error| failed(&self.pool, error))?;
        let name = self.pool.directory().display().to_string();
        fence::decode(&name, || decode(encoded, chunk.plain))
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(pool: &MemoryPool, error: std::io::Error) -> Error {
    Error::of_io(pool.directory().display(), "write rows to a temporary file", error)
}

/// Returns the batches of a chunk. They refer to its bytes.
fn decode(encoded: Vec<u8>, plain: usize) -> Result<Vec<RecordBatch>> {
    let bytes = match encoded.len() == plain {
        true => encoded,
        false => decompress(&encoded, plain).map_err(|error| ArrowError::IpcError(error.to_string()))?,
    };
    let (mut bytes, mut decoder, mut batches) = (Buffer::from_vec(bytes), StreamDecoder::new(), Vec::new());
    while !bytes.is_empty() {
        batches.extend(decoder.decode(&mut bytes)?);
    }
    Ok(batches)
}
