//! Rows on stdout, as they are read.

use std::io::{self, Stdout, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::json::writer::JsonArray;
use arrow::util::pretty::pretty_format_batches_with_schema;

use crate::failure::{Failure, Result};
use crate::files::flat;
use crate::options::Format;

use super::{Output, to_stdout};

/// Prints rows batch by batch; as a table all at once, because its columns are as wide as their widest value.
pub struct RowWriter {
    schema: SchemaRef,
    inner: Inner,
}

enum Inner {
    Table(Vec<RecordBatch>),
    Json(Box<arrow::json::Writer<Stdout, JsonArray>>),
    Csv(Box<arrow::csv::Writer<Stdout>>),
}

impl Output {
    /// Begins to print rows of a schema.
    pub fn rows(&self, schema: SchemaRef) -> Result<RowWriter> {
        let inner = match self.format() {
            Format::Table => Inner::Table(Vec::new()),
            Format::Json => {
                let builder = arrow::json::WriterBuilder::new().with_explicit_nulls(true);
                Inner::Json(Box::new(builder.build(io::stdout())))
            }
            Format::Csv => Inner::Csv(Box::new(arrow::csv::WriterBuilder::new().with_header(true).build(io::stdout()))),
        };
        let mut writer = RowWriter { schema: schema.clone(), inner };
        // The header of a CSV is printed even if no row follows.
        writer.write(&RecordBatch::new_empty(schema))?;
        Ok(writer)
    }
}

impl RowWriter {
    /// Prints rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let written = match &mut self.inner {
            Inner::Table(batches) => {
                batches.push(batch.clone());
                Ok(())
            }
            Inner::Json(writer) => writer.write(batch),
            Inner::Csv(writer) => flat(batch).and_then(|batch| writer.write(&batch)),
        };
        written.map_err(unwritten)
    }

    /// Prints what is left.
    pub fn finish(self) -> Result<()> {
        match self.inner {
            Inner::Table(batches) => {
                let text = pretty_format_batches_with_schema(self.schema, &batches).map_err(unwritten)?;
                let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
                super::note(if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") });
                writeln!(io::stdout(), "{text}").map_err(to_stdout)
            }
            Inner::Json(mut writer) => {
                writer.finish().map_err(unwritten)?;
                writeln!(io::stdout()).map_err(to_stdout)
            }
            Inner::Csv(_) => io::stdout().flush().map_err(to_stdout),
        }
    }
}

fn unwritten(error: ArrowError) -> Failure {
    match error {
        ArrowError::IoError(_, error) => to_stdout(error),
        // The writer of CSV keeps the text of the error alone.
        ArrowError::CsvError(text) if text.contains("Broken pipe") => to_stdout(io::ErrorKind::BrokenPipe.into()),
        error => metaxy_core::Error::from(error).into(),
    }
}
