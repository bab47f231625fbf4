//! Rows that wait for their reader without holding a connection: a few in memory, more of them in a temporary file.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use metaxy_core::{Error, Result, blocking, fence};
use tempfile::{NamedTempFile, TempPath};

/// How many bytes stay in memory.
const MEMORY: usize = 16 * 1024 * 1024;

/// Rows that are collected.
#[derive(Default)]
pub(crate) struct Spill {
    batches: Vec<RecordBatch>,
    bytes: usize,
    file: Option<FileWriter<NamedTempFile>>,
    written: usize,
}

impl Spill {
    /// Takes the columns of some rows.
    pub(crate) async fn push(&mut self, arrays: Vec<ArrayRef>, rows: usize) -> Result<()> {
        let batch = batch(arrays, rows)?;
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        if self.bytes > MEMORY { self.write().await } else { Ok(()) }
    }

    /// Moves what is in memory into the file.
    async fn write(&mut self) -> Result<()> {
        let (file, batches) = (self.file.take(), std::mem::take(&mut self.batches));
        self.written += batches.len();
        self.bytes = 0;
        self.file = Some(blocking::run(move || append(file, &batches)).await?);
        Ok(())
    }

    /// The rows in the order in which they came.
    pub(crate) async fn finish(mut self) -> Result<Spilled> {
        let Some(file) = self.file.take() else { return Ok(Spilled { batches: self.batches.into_iter(), file: None }) };
        let file = blocking::run(move || {
            let mut file = file;
            file.finish().map_err(io_error)?;
            Ok(file.into_inner()?.into_temp_path())
        });
        let file = Stored { path: Arc::new(file.await?), next: 0, batches: self.written };
        Ok(Spilled { batches: self.batches.into_iter(), file: Some(file) })
    }
}

/// Rows that wait.
pub(crate) struct Spilled {
    batches: std::vec::IntoIter<RecordBatch>,
    file: Option<Stored>,
}

/// Batches in a temporary file, which is gone when this is dropped. It is open only while a batch is read.
struct Stored {
    path: Arc<TempPath>,
    next: usize,
    batches: usize,
}

impl Spilled {
    /// The columns of the next rows.
    pub(crate) async fn next(&mut self) -> Result<Option<(Vec<ArrayRef>, usize)>> {
        let batch = match self.file.as_mut().filter(|file| file.next < file.batches) {
            Some(file) => Some(file.read().await?),
            None => self.batches.next(),
        };
        Ok(batch.map(|batch| (batch.columns().to_vec(), batch.num_rows())))
    }
}

impl Stored {
    async fn read(&mut self) -> Result<RecordBatch> {
        let (path, position) = (self.path.clone(), self.next);
        self.next += 1;
        blocking::run(move || {
            fence::decode(path.display(), || {
                let file = File::open(&*path)
                    .map_err(|error| Error::of_io(path.display(), "read rows from a temporary file", error))?;
                let mut reader = FileReader::try_new_buffered(file, None)?;
                reader.set_index(position)?;
                let missing = || Error::corrupt(path.display(), "rows are missing");
                Ok(reader.next().ok_or_else(missing)??)
            })
        })
        .await
    }
}

fn append(file: Option<FileWriter<NamedTempFile>>, batches: &[RecordBatch]) -> Result<FileWriter<NamedTempFile>> {
    let mut file = match (file, batches.first()) {
        (Some(file), _) => file,
        (None, Some(first)) => FileWriter::try_new(NamedTempFile::new().map_err(full)?, first.schema_ref())?,
        (None, None) => return Err(Error::Task("there are no rows to keep".to_owned())),
    };
    for batch in batches {
        file.write(batch).map_err(io_error)?;
    }
    Ok(file)
}

/// The columns as a batch; their names do not matter.
fn batch(arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let fields = arrays.iter().map(|array| Field::new("", array.data_type().clone(), true));
    let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Ok(RecordBatch::try_new_with_options(schema, arrays, &RecordBatchOptions::new().with_row_count(Some(rows)))?)
}

fn full(error: std::io::Error) -> Error {
    Error::of_io(std::env::temp_dir().display(), "keep rows in a temporary file", error)
}

/// The file system's own error, where Arrow has only passed it on.
fn io_error(error: arrow::error::ArrowError) -> Error {
    match error {
        arrow::error::ArrowError::IoError(_, error) => full(error),
        other => other.into(),
    }
}
