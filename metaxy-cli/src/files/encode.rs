//! Rows as the bytes of a file, in any format.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter as IpcWriter;
use arrow::json::writer::LineDelimited;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::FileFormat;
use super::nested::{flat, flat_schema};

/// Writes rows to something that takes bytes; errors are texts.
pub(super) enum Encoder<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Arrow(Box<IpcWriter<W>>),
    Csv(Box<arrow::csv::Writer<W>>),
    Jsonl(Box<arrow::json::Writer<W, LineDelimited>>),
}

impl<W: Write + Send> Encoder<W> {
    /// Begins with what comes before the rows.
    pub(super) fn new(target: W, format: FileFormat, schema: &SchemaRef) -> Result<Self, String> {
        Ok(match format {
            FileFormat::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(target, schema.clone(), Some(properties)).map_err(parquet)?;
                Self::Parquet(Box::new(writer))
            }
            FileFormat::Arrow => Self::Arrow(Box::new(IpcWriter::try_new(target, schema).map_err(arrow)?)),
            FileFormat::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(target);
                // A file without rows has its header all the same.
                writer.write(&RecordBatch::new_empty(flat_schema(schema))).map_err(arrow)?;
                Self::Csv(Box::new(writer))
            }
            FileFormat::Jsonl => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Self::Jsonl(Box::new(builder.build(target)))
            }
        })
    }

    /// Adds rows.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), String> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(parquet),
            Self::Arrow(writer) => writer.write(batch).map_err(arrow),
            Self::Csv(writer) => flat(batch).and_then(|batch| writer.write(&batch)).map_err(arrow),
            Self::Jsonl(writer) => writer.write(batch).map_err(arrow),
        }
    }

    /// Ends with what comes after the rows, and returns what took the bytes.
    pub(super) fn finish(self) -> Result<W, String> {
        match self {
            Self::Parquet(writer) => writer.into_inner().map_err(parquet),
            Self::Arrow(writer) => writer.into_inner().map_err(arrow),
            Self::Csv(writer) => Ok(writer.into_inner()),
            Self::Jsonl(mut writer) => writer.finish().map(|()| writer.into_inner()).map_err(arrow),
        }
    }
}

fn parquet(error: ParquetError) -> String {
    error.to_string()
}

fn arrow(error: ArrowError) -> String {
    error.to_string()
}
