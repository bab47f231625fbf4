//! Rows that wait in a temporary file, so that their reader holds no connection.

use std::fs::File;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use futures::StreamExt;
use metaxy_core::backend::BatchStream;
use metaxy_core::{Error, Result, blocking, fence};
use tempfile::{NamedTempFile, TempPath};

/// Batches in a temporary file, which is gone when this is dropped. It is open only while a batch is read.
pub(crate) struct Spill {
    path: TempPath,
    batches: usize,
}

impl Spill {
    /// Takes all batches that `next` gives.
    pub(crate) fn collect(schema: &SchemaRef, mut next: impl FnMut() -> Result<Option<RecordBatch>>) -> Result<Self> {
        let place = std::env::temp_dir();
        let full = |error| Error::of_io(place.display(), "keep rows in a temporary file", error);
        let file = NamedTempFile::new().map_err(full)?;
        let mut writer = FileWriter::try_new(file, schema)?;
        let mut batches = 0;
        while let Some(batch) = next()? {
            writer.write(&batch).map_err(|error| io_error(error, full))?;
            batches += 1;
        }
        writer.finish().map_err(|error| io_error(error, full))?;
        Ok(Self { path: writer.into_inner()?.into_temp_path(), batches })
    }

    fn read(&self, position: usize) -> Result<Option<RecordBatch>> {
        if position >= self.batches {
            return Ok(None);
        }
        let file = File::open(&self.path)
            .map_err(|error| Error::of_io(self.path.display(), "read rows from a temporary file", error))?;
        let mut reader = FileReader::try_new_buffered(file, None)?;
        reader.set_index(position)?;
        Ok(reader.next().transpose()?)
    }

    /// The batches as a stream.
    pub(crate) fn into_stream(self) -> BatchStream {
        let next = |(spill, position): (Self, usize)| {
            blocking::run(move || {
                let batch = fence::decode(spill.path.display(), || spill.read(position))?;
                Ok(batch.map(|batch| (batch, (spill, position + 1))))
            })
        };
        futures::stream::try_unfold((self, 0), next).boxed()
    }
}

/// The file system's own error, where Arrow has only passed it on.
fn io_error(error: arrow::error::ArrowError, say: impl FnOnce(std::io::Error) -> Error) -> Error {
    match error {
        arrow::error::ArrowError::IoError(_, error) => say(error),
        other => other.into(),
    }
}
