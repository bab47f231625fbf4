//! Stores rows of a stream in a temporary file while they wait.
//!
//! A process may have any number of streams that it does not read, but few threads, file handles and connections. If
//! the streams of a backend need one of these, only some of them get it; the rows of the others are written to a
//! [`Spill`], which needs none.
//!
//! ```
//! # fn main() -> metaxy_core::Result<()> {
//! # let batch = metaxy_core::RecordBatch::new_empty(std::sync::Arc::new(arrow::datatypes::Schema::empty()));
//! use metaxy_core::spill::Spill;
//!
//! let mut spill = Spill::new(&batch.schema())?;
//! spill.push(&batch)?;
//! let stream = spill.into_stream();
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use tempfile::{NamedTempFile, TempPath};

use crate::backend::BatchStream;
use crate::error::{Error, Result};
use crate::{blocking, ipc};

/// Batches in a temporary file, in the directory [`std::env::temp_dir`]. The methods block: call them on the threads of
/// [`blocking`].
pub struct Spill {
    file: NamedTempFile,
    schema: SchemaRef,
    /// The bytes of each batch in the file.
    batches: Vec<Range<u64>>,
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spill").field("batches", &self.batches.len()).finish_non_exhaustive()
    }
}

impl Spill {
    /// Creates the file. All batches have this schema.
    ///
    /// # Errors
    /// [`Error::StorageFull`], and other errors of the file system.
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let file = NamedTempFile::new().map_err(write_error)?;
        Ok(Self { file, schema: schema.clone(), batches: Vec::new() })
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// [`Error::StorageFull`], and other errors of the file system.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let bytes = ipc::encode(&self.schema, std::slice::from_ref(batch))?;
        let start = self.batches.last().map_or(0, |last| last.end);
        self.file.write_all(&bytes).map_err(write_error)?;
        self.batches.push(start..start + bytes.len() as u64);
        Ok(())
    }

    /// Closes the file, and returns its batches as a stream. The file is open only while a batch is read, and is
    /// removed when the stream is dropped.
    pub fn into_stream(self) -> BatchStream {
        let spilled = Spilled { path: self.file.into_temp_path(), batches: self.batches };
        let next = |(spilled, position): (Spilled, usize)| {
            blocking::run(move || Ok(spilled.read(position)?.map(|batch| (batch, (spilled, position + 1)))))
        };
        futures::stream::try_unfold((spilled, 0), next).boxed()
    }
}

/// A complete file.
struct Spilled {
    path: TempPath,
    batches: Vec<Range<u64>>,
}

impl Spilled {
    fn read(&self, position: usize) -> Result<Option<RecordBatch>> {
        let Some(range) = self.batches.get(position) else { return Ok(None) };
        let bytes = self.bytes(range).map_err(|error| io_error("read rows from a temporary file", error))?;
        let (_, batches) = ipc::decode(self.path.display(), &bytes)?;
        Ok(batches.into_iter().next())
    }

    fn bytes(&self, range: &Range<u64>) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(range.start))?;
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn write_error(error: io::Error) -> Error {
    io_error("write rows to a temporary file", error)
}

fn io_error(operation: &'static str, error: io::Error) -> Error {
    Error::of_io(std::env::temp_dir().display(), operation, error)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int64Array, StructArray};
    use arrow::datatypes::Int8Type;
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn batches_are_read_back_and_their_file_is_removed() {
        let batch = |from: i64| {
            let numbers = Int64Array::from_iter_values(from..from + 3);
            // Each batch has its own dictionary.
            let names: DictionaryArray<Int8Type> = [format!("a{from}"), format!("b{from}"), format!("a{from}")]
                .iter()
                .map(|name| Some(name.as_str()))
                .collect();
            let columns = [("n", Arc::new(numbers) as _, true), ("s", Arc::new(names) as _, true)];
            RecordBatch::try_from_iter_with_nullable(columns).expect("columns of one length")
        };
        let mut spill = Spill::new(&batch(0).schema()).expect("a temporary file");
        let path = spill.file.path().to_owned();
        let given: Vec<RecordBatch> = (0..4).map(batch).collect();
        given.iter().for_each(|batch| spill.push(batch).expect("a batch"));
        let stream = spill.into_stream();
        assert!(path.exists());
        let back: Vec<RecordBatch> = stream.try_collect().await.expect("batches");
        let whole = |batches: Vec<RecordBatch>| batches.into_iter().map(StructArray::from).collect::<Vec<_>>();
        assert_eq!(whole(back), whole(given));
        assert!(!path.exists());
    }
}
