//! A data file that is being written.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use deltalake::DeltaTableError;
use deltalake::datafile::writer::{DeltaWriter, WriterConfig};
use deltalake::kernel::Add;
use deltalake::operations::get_num_idx_cols_and_stats_columns;
use metaxy_core::columns;
use metaxy_core::error::{Error, Result};
use metaxy_core::schema::slices as slices_by_bytes;
use object_store::Error as StoreError;
use object_store::prefix::PrefixStore;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::table::log::Table;
use crate::table::storage::upload::UploadStore;
use crate::types::TableSchema;

/// The number of rows of a row group: large enough to compress well, small enough to be read by several workers.
pub(crate) const ROW_GROUP_ROWS: usize = 256 << 10;
/// The encoded bytes of a row group: rows may be large, and a writer holds one in memory, a reader one for each worker.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// Writes rows of a table into a new data file.
pub(crate) struct FileSink {
    table: Arc<Table>,
    schema: Arc<TableSchema>,
    file_schema: SchemaRef,
    store: UploadStore,
    writer: DeltaWriter,
    /// The directory of the file below the table.
    directory: String,
}

impl FileSink {
    pub fn new(table: &Arc<Table>, schema: &Arc<TableSchema>) -> Self {
        Self::below(table, schema, "")
    }

    /// Writes the file into a directory of the table.
    pub fn below(table: &Arc<Table>, schema: &Arc<TableSchema>, directory: &str) -> Self {
        let file_schema = schema.file_schema();
        let (indexed, _) = get_num_idx_cols_and_stats_columns(None, HashMap::new());
        let properties = Some(writer_properties(&file_schema, table.directory.is_some()));
        let config =
            WriterConfig::new(file_schema.clone(), schema.partition_columns(), properties, None, None, indexed, None);
        let store = UploadStore::new(Arc::new(PrefixStore::new(table.log.object_store(None), directory)));
        let writer = DeltaWriter::new(Arc::new(store.clone()), config);
        let directory = directory.to_owned();
        Self { table: table.clone(), schema: schema.clone(), file_schema, store, writer, directory }
    }

    /// Adds rows with some of the table's columns.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for rows in slices_by_bytes(batch) {
            let rows = self.schema.to_file(&self.table.key, &self.file_schema, &rows)?;
            self.check_nulls(&rows)?;
            let written = self.writer.write(&rows).await;
            outcome(&self.table, &self.store, written)?;
        }
        Ok(())
    }

    /// Checks the columns that another program has declared as not nullable.
    fn check_nulls(&self, rows: &RecordBatch) -> Result<()> {
        for (field, array) in self.schema.delta.fields().zip(rows.columns()) {
            if !field.is_nullable() && array.null_count() > 0 {
                return Err(Error::TypeMismatch {
                    table: self.table.name.clone(),
                    column: field.name().clone(),
                    stored: format!("{} without nulls", array.data_type()),
                    given: "a null".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Completes the file, and returns the actions that add it to the table.
    pub async fn close(self) -> Result<Vec<Add>> {
        let Self { table, store, writer, directory, .. } = self;
        let closed = writer.close().await;
        let mut adds = outcome(&table, &store, closed)?;
        for add in adds.iter_mut().filter(|_| !directory.is_empty()) {
            add.path = format!("{directory}/{}", add.path);
        }
        Ok(adds)
    }
}

/// Returns the result of a step of the writer. If the directory is missing, it was removed with a dropped table, and
/// the write can be repeated.
fn outcome<T>(table: &Table, store: &UploadStore, step: Result<T, DeltaTableError>) -> Result<T> {
    match (store.failure(), step) {
        (Some(StoreError::NotFound { .. }), _) if table.directory.is_some() => {
            Err(Error::Conflict { table: table.name.clone(), attempts: 1 })
        }
        (Some(error), _) => Err(table.context.store("write", Some(&table.name), error)),
        (None, step) => step.map_err(|error| table.context.delta("writing", &table.name, error)),
    }
}

/// Returns the properties of data files.
fn writer_properties(file_schema: &Schema, is_local: bool) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("metaxy-delta ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES));
    // Over a network fewer bytes are faster; on a disk compressing digits takes longer than writing them.
    let hashes = if is_local { Compression::UNCOMPRESSED } else { Compression::ZSTD(ZstdLevel::default()) };
    // Hashes rarely repeat, so a dictionary would not help, and no filter compares them.
    for path in hash_columns(file_schema) {
        builder = builder
            .set_column_compression(path.clone(), hashes)
            .set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
            .set_column_dictionary_enabled(path, false);
    }
    builder.build()
}

fn hash_columns(file_schema: &Schema) -> Vec<ColumnPath> {
    let mut paths = Vec::new();
    for name in columns::VERSIONS {
        match file_schema.field_with_name(name).map(arrow::datatypes::Field::data_type) {
            Ok(DataType::Struct(members)) => {
                let path = |member: &str| ColumnPath::new(vec![name.to_owned(), member.to_owned()]);
                paths.extend(members.iter().map(|member| path(member.name())));
            }
            Ok(_) => paths.push(ColumnPath::from(name)),
            Err(_) => {}
        }
    }
    paths
}
