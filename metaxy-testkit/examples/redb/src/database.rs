//! The file. A table is a redb table, which has batches under numbers that count up, and the schema before them.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use metaxy_core::backend::AccessMode;
use metaxy_core::shared::{FileId, Handle, Handles};
use metaxy_core::{Error, FeatureKey, Result, ipc};
use redb::{Builder, ConcurrencyMode, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, Table};
use redb::{TableDefinition, TableError, WriteTransaction};

use crate::KIND;

pub(crate) type Bytes = &'static [u8];
/// A batch and its number.
pub(crate) type Numbered = (u64, RecordBatch);

/// The number of the schema.
pub(crate) const SCHEMA: u64 = 0;
/// The number of the first batch.
pub(crate) const FIRST: u64 = 1;

/// What this process has open: redb opens a file for writing once, so the stores of the process share it.
static WRITING: Handles<FileId, redb::Database> = Handles::new();
static READING: Handles<FileId, redb::ReadOnlyDatabase> = Handles::new();

/// The open file. The last clone closes it.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    ReadWrite(Handle<redb::Database>),
    ReadOnly(Handle<redb::ReadOnlyDatabase>),
}

impl Database {
    pub(crate) fn open(path: &Path, mode: AccessMode) -> Result<Self> {
        let not_opened = |error: redb::Error| failed_at(path.display(), error);
        let mut builder = Builder::new();
        // One process writes; others may read while it does.
        builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
        if mode == AccessMode::ReadWrite {
            // So that there is a file that has a number. redb makes a database of an empty one.
            OpenOptions::new().create(true).append(true).open(path).map_err(|error| not_opened(error.into()))?;
        }
        let file = FileId::of(path).map_err(|error| not_opened(error.into()))?;
        let create = || builder.create(path).map_err(|error| not_opened(error.into()));
        let open = || builder.open_read_only(path).map_err(|error| not_opened(error.into()));
        match mode {
            AccessMode::ReadWrite => WRITING.open(file, create).map(Self::ReadWrite),
            AccessMode::ReadOnly => READING.open(file, open).map(Self::ReadOnly),
        }
    }

    /// Begins to read. What is read is the file as it is now, whatever is written later.
    pub(crate) fn begin_read(&self) -> Result<ReadTransaction> {
        let begun = match self {
            Self::ReadOnly(database) => database.begin_read(),
            Self::ReadWrite(database) => database.begin_read(),
        };
        begun.map_err(failed)
    }

    pub(crate) fn begin_write(&self) -> Result<WriteTransaction> {
        match self {
            Self::ReadOnly(_) => Err(Error::ReadOnly { store: KIND.to_owned(), operation: "change it" }),
            Self::ReadWrite(database) => database.begin_write().map_err(failed),
        }
    }
}

pub(crate) fn rows_of(table: &str) -> TableDefinition<'_, u64, Bytes> {
    TableDefinition::new(table)
}

/// A table, if there is one.
pub(crate) fn existing(transaction: &ReadTransaction, table: &str) -> Result<Option<ReadOnlyTable<u64, Bytes>>> {
    match transaction.open_table(rows_of(table)) {
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        rows => rows.map(Some).map_err(failed),
    }
}

pub(crate) fn schema_of(rows: &impl ReadableTable<u64, Bytes>, table: &str) -> Result<Option<SchemaRef>> {
    let bytes = rows.get(SCHEMA).map_err(failed)?;
    bytes.map(|bytes| ipc::decode_schema(table, bytes.value())).transpose()
}

/// The first batch from a number on, and its number.
pub(crate) fn next_batch(
    rows: &impl ReadableTable<u64, Bytes>,
    table: &FeatureKey,
    from: u64,
) -> Result<Option<Numbered>> {
    let Some(entry) = rows.range(from..).map_err(failed)?.next() else { return Ok(None) };
    let (number, bytes) = entry.map_err(failed)?;
    let (_, mut batches) = ipc::decode(table.table_name(), bytes.value())?;
    let none = || Error::corrupt(table.table_name(), "a batch is missing");
    Ok(Some((number.value(), batches.pop().ok_or_else(none)?)))
}

pub(crate) fn put(rows: &mut Table<'_, u64, Bytes>, number: u64, batch: &RecordBatch) -> Result<()> {
    let bytes = ipc::encode(batch.schema_ref(), std::slice::from_ref(batch))?;
    rows.insert(number, bytes.as_slice()).map(drop).map_err(failed)
}

pub(crate) fn failed(error: impl Into<redb::Error>) -> Error {
    failed_at("the redb file", error)
}

fn failed_at(location: impl Display, error: impl Into<redb::Error>) -> Error {
    let location = location.to_string();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => Error::Locked { location, holder: "another process".to_owned() },
        redb::Error::Io(error) if error.kind() == ErrorKind::InvalidData => {
            Error::NotAStore { location, expected: "redb file", reason: error.to_string() }
        }
        redb::Error::Io(error) => Error::of_io(location, "read or write", error),
        error => Error::backend(KIND, "reading or writing its file", error),
    }
}
