//! Reads files of rows.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatchReader;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::reader::FileReader as IpcReader;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::reader::ChunkReader;

use crate::failure::{Failure, Result};

use super::FileFormat;

/// Rows that are read from a file.
pub type Reader = Box<dyn RecordBatchReader + Send>;

/// A file of rows, or stdin.
#[derive(Clone, Debug)]
pub struct Source {
    path: PathBuf,
    format: Option<FileFormat>,
}

/// What is known of the columns of files that do not say themselves which types their columns have.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The columns of the table to which the rows go.
    pub stored: Option<SchemaRef>,
    /// Columns of CSV files that are text: versions, whose leading zeros count, and those that the user names.
    pub texts: Vec<String>,
}

impl Source {
    /// Returns a file, in a given format or in the one that its name tells. `-` is stdin.
    pub fn new(path: &Path, format: Option<FileFormat>) -> Self {
        Self { path: path.to_owned(), format }
    }

    /// Returns its name in messages.
    pub fn name(&self) -> String {
        if self.is_stdin() { "stdin".to_owned() } else { self.path.display().to_string() }
    }

    fn is_stdin(&self) -> bool {
        self.path == Path::new("-")
    }

    /// Opens the file.
    pub fn open(&self, columns: &Columns) -> Result<Reader> {
        if !self.is_stdin() {
            let format = self.format.map_or_else(|| FileFormat::of(&self.path), Ok)?;
            let open = || File::open(&self.path).map_err(|error| Failure::file(&self.path, error));
            return self.reader(open()?, open()?, format, columns);
        }
        let Some(format) = self.format else {
            return Err(Failure::usage("stdin has no name that tells its format; give `--file-format`"));
        };
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map_err(|error| Failure::io("read stdin", error))?;
        let bytes = Bytes(bytes.into());
        match format {
            FileFormat::Parquet => parquet_reader(bytes.0).map_err(|reason| self.unreadable(&reason)),
            _ => self.reader(bytes.cursor(), bytes.cursor(), format, columns),
        }
    }

    /// Opens an input, of which there are two handles: one to find out the types, one to read.
    fn reader<R: Input>(&self, first: R, second: R, format: FileFormat, columns: &Columns) -> Result<Reader> {
        let opened = match format {
            FileFormat::Parquet => first.parquet(),
            FileFormat::Arrow => {
                let reader = IpcReader::try_new(BufReader::new(second), None);
                reader.map(|reader| Box::new(reader) as Reader).map_err(|error| error.to_string())
            }
            FileFormat::Csv => csv_reader(first, second, columns).map_err(|error| error.to_string()),
            FileFormat::Jsonl => json_reader(first, second, columns).map_err(|error| error.to_string()),
        };
        opened.map_err(|reason| self.unreadable(&reason))
    }

    fn unreadable(&self, reason: &str) -> Failure {
        Failure::File { file: self.name(), reason: format!("it cannot be read: {reason}") }
    }
}

/// An input that can be read twice.
trait Input: Read + Seek + Send + 'static {
    /// Reads it as Parquet.
    fn parquet(self) -> Result<Reader, String>;
}

impl Input for File {
    fn parquet(self) -> Result<Reader, String> {
        parquet_reader(self)
    }
}

/// The content of stdin.
struct Bytes(bytes::Bytes);

impl Bytes {
    fn cursor(&self) -> std::io::Cursor<bytes::Bytes> {
        std::io::Cursor::new(self.0.clone())
    }
}

impl Input for std::io::Cursor<bytes::Bytes> {
    fn parquet(self) -> Result<Reader, String> {
        parquet_reader(self.into_inner())
    }
}

fn parquet_reader(input: impl ChunkReader + 'static) -> Result<Reader, String> {
    let reader: Result<ParquetRecordBatchReader, _> =
        ParquetRecordBatchReaderBuilder::try_new(input).and_then(ParquetRecordBatchReaderBuilder::build);
    reader.map(|reader| Box::new(reader) as Reader).map_err(|error| error.to_string())
}

fn csv_reader<R: Input>(first: R, second: R, columns: &Columns) -> Result<Reader, ArrowError> {
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (inferred, _) = format.infer_schema(BufReader::new(first), None)?;
    let schema = columns.applied_to(&inferred, |field| match field.name() {
        name if columns.texts.contains(name) => DataType::Utf8,
        // The types of by-field columns cannot be inferred from their JSON.
        name if metaxy_core::columns::is_system(name) => DataType::Utf8,
        _ => field.data_type().clone(),
    });
    let reader = arrow::csv::ReaderBuilder::new(schema).with_format(format).build(BufReader::new(second))?;
    Ok(Box::new(reader))
}

fn json_reader<R: Input>(first: R, second: R, columns: &Columns) -> Result<Reader, ArrowError> {
    let (inferred, _) = arrow::json::reader::infer_json_schema(BufReader::new(first), None)?;
    let schema = columns.applied_to(&inferred, |field| field.data_type().clone());
    Ok(Box::new(arrow::json::ReaderBuilder::new(schema).build(BufReader::new(second))?))
}

impl Columns {
    /// Returns a schema with the types that are known, and otherwise those that `inferred` returns.
    fn applied_to(&self, schema: &Schema, inferred: impl Fn(&Field) -> DataType) -> SchemaRef {
        let typed = |field: &FieldRef| {
            let data_type = match self.stored_type(field.name()) {
                Some(stored) => stored.clone(),
                None => inferred(field),
            };
            Field::new(field.name(), data_type, true)
        };
        Arc::new(Schema::new(schema.fields().iter().map(typed).collect::<Vec<_>>()))
    }

    /// Returns the type of a column of the user in the table, unless its values are nested.
    fn stored_type(&self, name: &str) -> Option<&DataType> {
        let field = self.stored.as_ref()?.field_with_name(name).ok()?;
        Some(field.data_type()).filter(|stored| !stored.is_nested() && !metaxy_core::columns::is_system(name))
    }
}
