//! Writes a file of rows.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::failure::{Failure, Result};

use super::FileFormat;
use super::encode::Encoder;

/// A file that is written batch by batch. It gets its name when it is complete, so that no one reads half of it.
pub struct FileWriter {
    path: PathBuf,
    unfinished: PathBuf,
    rows: usize,
    encoder: Encoder<BufWriter<File>>,
}

impl FileWriter {
    /// Begins a file of rows of a schema.
    pub fn create(path: &Path, format: FileFormat, schema: &SchemaRef) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let unfinished = path.with_file_name(name);
        let file = File::create(&unfinished)
            .map_err(|error| Failure::io(format!("create {}", unfinished.display()), error))?;
        let encoder = Encoder::new(BufWriter::new(file), format, schema);
        let encoder = encoder.map_err(|reason| Failure::file(path, reason))?;
        Ok(Self { path: path.to_owned(), unfinished, rows: 0, encoder })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        self.encoder.write(batch).map_err(|reason| Failure::file(&self.path, reason))
    }

    /// Removes a file that will not be complete.
    pub fn abandon(self) {
        // Its name tells that it is not complete.
        let _ = std::fs::remove_file(&self.unfinished);
    }

    /// Completes the file, and returns the number of its rows.
    pub fn finish(self) -> Result<usize> {
        let flushed = |file: BufWriter<File>| file.into_inner().map(drop).map_err(|error| error.to_string());
        let written = self.encoder.finish().and_then(flushed);
        written.map_err(|reason| Failure::file(&self.path, reason))?;
        let renamed = std::fs::rename(&self.unfinished, &self.path);
        renamed.map_err(|error| Failure::io(format!("write {}", self.path.display()), error))?;
        Ok(self.rows)
    }
}

/// Writes a file in place of an earlier one. It gets its name when it is complete.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let unfinished = path.with_file_name(name);
    std::fs::write(&unfinished, bytes)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .map_err(|error| Failure::io(format!("write {}", path.display()), error))
}
