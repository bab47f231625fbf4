//! Temporary files of batches that do not fit into memory.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};

use crate::error::{Error, Result};
use crate::fence;
use crate::memory::MemoryPool;

/// A temporary file of batches. It has no name, so the system removes it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct SpillFile {
    pool: Arc<MemoryPool>,
    file: Mutex<File>,
}

/// A batch in the form in which it is written to a file.
pub(crate) struct Encoded {
    encoded: Vec<u8>,
    /// The size of the batch in memory.
    bytes: usize,
}

impl Encoded {
    pub(crate) fn new(batch: &RecordBatch) -> Result<Self> {
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let mut writer = StreamWriter::try_new_with_options(Vec::new(), batch.schema_ref(), options)?;
        writer.write(batch)?;
        Ok(Self { encoded: writer.into_inner()?, bytes: batch.get_array_memory_size() })
    }
}

/// A batch in a file.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    start: u64,
    length: usize,
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
        Ok(Chunk { start, length: batch.encoded.len(), bytes: batch.bytes })
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
        fence::decode(&name, || Ok(StreamReader::try_new(encoded.as_slice(), None)?.collect::<Result<Vec<_>, _>>()?))
    }

    fn lock(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(pool: &MemoryPool, error: std::io::Error) -> Error {
    Error::of_io(pool.directory().display(), "write rows to a temporary file", error)
}
