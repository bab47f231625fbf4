//! Writes a file of rows.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::writer::FileWriter as IpcWriter;
use arrow::json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::failure::{Failure, Result};

use super::FileFormat;
use super::nested::{flat, flat_schema};

type JsonWriter = arrow::json::Writer<BufWriter<File>, LineDelimited>;

/// A file that is written batch by batch. It gets its name when it is complete, so that no one reads half of it.
pub struct FileWriter {
    path: PathBuf,
    unfinished: PathBuf,
    rows: usize,
    inner: Inner,
}

enum Inner {
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
    Arrow(Box<IpcWriter<BufWriter<File>>>),
    Csv(Box<arrow::csv::Writer<BufWriter<File>>>),
    Jsonl(Box<JsonWriter>),
}

impl FileWriter {
    /// Begins a file of rows of a schema.
    pub fn create(path: &Path, format: FileFormat, schema: &SchemaRef) -> Result<Self> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".part");
        let unfinished = path.with_file_name(name);
        let file = File::create(&unfinished)
            .map_err(|error| Failure::io(format!("create {}", unfinished.display()), error))?;
        let file = BufWriter::new(file);
        let inner = Self::inner(file, format, schema).map_err(|reason| Failure::file(path, reason))?;
        Ok(Self { path: path.to_owned(), unfinished, rows: 0, inner })
    }

    fn inner(file: BufWriter<File>, format: FileFormat, schema: &SchemaRef) -> Result<Inner, String> {
        let text = |error: arrow::error::ArrowError| error.to_string();
        Ok(match format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
                Inner::Parquet(Box::new(writer.map_err(|error| error.to_string())?))
            }
            FileFormat::Arrow => Inner::Arrow(Box::new(IpcWriter::try_new(file, schema).map_err(text)?)),
            FileFormat::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(file);
                // A file without rows has its header all the same.
                writer.write(&RecordBatch::new_empty(flat_schema(schema))).map_err(text)?;
                Inner::Csv(Box::new(writer))
            }
            FileFormat::Jsonl => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Inner::Jsonl(Box::new(builder.build(file)))
            }
        })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows();
        let written = match &mut self.inner {
            Inner::Parquet(writer) => writer.write(batch).map_err(|error| error.to_string()),
            Inner::Arrow(writer) => writer.write(batch).map_err(|error| error.to_string()),
            Inner::Csv(writer) => flat(batch).and_then(|batch| writer.write(&batch)).map_err(|error| error.to_string()),
            Inner::Jsonl(writer) => writer.write(batch).map_err(|error| error.to_string()),
        };
        written.map_err(|reason| Failure::file(&self.path, reason))
    }

    /// Completes the file, and returns the number of its rows.
    pub fn finish(self) -> Result<usize> {
        let written = match self.inner {
            Inner::Parquet(writer) => writer.close().map(drop).map_err(|error| error.to_string()),
            Inner::Arrow(mut writer) => writer.finish().map_err(|error| error.to_string()),
            Inner::Csv(writer) => flushed(writer.into_inner()),
            Inner::Jsonl(mut writer) => match writer.finish() {
                Ok(()) => flushed(writer.into_inner()),
                Err(error) => Err(error.to_string()),
            },
        };
        written.map_err(|reason| Failure::file(&self.path, reason))?;
        let renamed = std::fs::rename(&self.unfinished, &self.path);
        renamed.map_err(|error| Failure::io(format!("write {}", self.path.display()), error))?;
        Ok(self.rows)
    }
}

fn flushed(file: BufWriter<File>) -> Result<(), String> {
    file.into_inner().map(drop).map_err(|error| error.to_string())
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
