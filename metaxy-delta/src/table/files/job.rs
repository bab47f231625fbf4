//! What a scan reads from each file, and the conversion of a file's rows into rows of the table.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use metaxy_core::error::{BoxError, Error, Result};
use metaxy_core::filter::Predicate;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::RowFilter;
use parquet::schema::types::SchemaDescriptor;

use crate::table::log::Table;
use crate::table::log::state::{DataFile, TableState};
use crate::table::log::statistics::RowStatistics;
use crate::types::{Column, FileColumn, TableSchema, conform, partition_values};

use super::file_bytes::FileBytes;
use super::keys::KeyFilter;
use super::prune::{Verdict, judge};

/// The conditions of a scan.
#[derive(Default)]
pub(crate) struct Filters {
    /// Applies to each row.
    pub rows: Option<Predicate>,
    /// Applies later to each remaining row; rows that it refuses may be left out here.
    pub hint: Option<Predicate>,
    /// Rows with other keys may be left out.
    pub keys: Option<Arc<KeyFilter>>,
}

impl Filters {
    /// Returns whether rows with these statistics can match.
    #[cfg(feature = "ballista")]
    pub(crate) fn may_match(&self, schema: &TableSchema, statistics: &impl RowStatistics) -> bool {
        self.judge(schema, statistics).is_some()
    }

    /// Returns whether rows with these statistics have to be filtered; `None` if none of them can match.
    pub(super) fn judge(&self, schema: &TableSchema, statistics: &impl RowStatistics) -> Option<bool> {
        if self.keys.as_ref().is_some_and(|keys| !keys.may_match(statistics)) {
            return None;
        }
        let judge = |predicate| judge(predicate, schema, statistics);
        if self.hint.as_ref().map(judge) == Some(Verdict::None) {
            return None;
        }
        match self.rows.as_ref().map_or(Verdict::All, judge) {
            Verdict::None => None,
            Verdict::All => Some(false),
            Verdict::Unknown => Some(true),
        }
    }
}

/// The columns and conditions of a scan, for each file.
pub(super) struct Job {
    pub(super) table: Arc<Table>,
    /// Distinguishes the table from other tables of the same name.
    pub(super) table_id: String,
    pub(super) schema: Arc<TableSchema>,
    pub(super) filters: Filters,
    /// The columns of the result.
    output: Columns,
    /// The columns of `output` and of the filter.
    wanted: Columns,
}

/// Some columns of a table, and their schema.
struct Columns {
    columns: Vec<Column>,
    schema: SchemaRef,
}

impl Columns {
    fn new(table: &TableSchema, names: &[String]) -> Self {
        let columns: Vec<Column> = names.iter().filter_map(|name| table.column(name)).cloned().collect();
        let fields: Vec<_> = columns.iter().map(|column| column.logical.clone()).collect();
        Self { columns, schema: Arc::new(Schema::new(fields)) }
    }
}

impl Job {
    pub(super) fn new(table: Arc<Table>, state: &TableState, names: &[String], filters: Filters) -> Self {
        let mut wanted = names.to_vec();
        let known: HashSet<&String> = names.iter().collect();
        wanted.extend(filters.rows.iter().flat_map(Predicate::columns).filter(|name| !known.contains(name)));
        Self {
            table,
            table_id: state.id().to_owned(),
            output: Columns::new(&state.schema, names),
            wanted: Columns::new(&state.schema, &wanted),
            schema: state.schema.clone(),
            filters,
        }
    }

    pub(super) fn bytes(&self, file: &DataFile) -> FileBytes {
        let local = self.table.directory.as_ref().map(|directory| directory.join(&file.name));
        FileBytes::new(self.table.log.object_store(None), file.path.clone(), file.size, local)
    }

    /// Returns the error of a data file that cannot be read.
    pub(super) fn corrupt(&self, file: &DataFile, cause: impl Into<BoxError>) -> Error {
        let cause = self.table.context.masked(cause.into().as_ref());
        let reason = format!("the data file `{}` cannot be read: {cause}", file.name);
        Error::corrupt(&self.table.name, reason).with_source(cause)
    }

    /// Returns the columns of a file that are decoded.
    pub(super) fn mask(&self, is_filtered: bool, file_schema: &SchemaDescriptor) -> ProjectionMask {
        let wanted = if is_filtered { &self.wanted } else { &self.output };
        let found = FileColumn::all_in(file_schema);
        let roots = wanted.columns.iter().filter_map(|column| self.schema.find_in_file(column, &found));
        ProjectionMask::roots(file_schema, roots)
    }

    /// Returns the filter by keys of a file's rows, if there is one.
    pub(super) fn row_filter(&self, file_schema: &SchemaDescriptor) -> Option<RowFilter> {
        self.filters.keys.as_ref()?.of_file(file_schema)
    }

    /// Converts rows of a file into rows of the table, and filters them if necessary.
    pub(super) fn finish(&self, file: &DataFile, is_filtered: bool, batch: &RecordBatch) -> Result<RecordBatch> {
        let Some(predicate) = self.filters.rows.as_ref().filter(|_| is_filtered) else {
            return self.to_table(file, &self.output, batch);
        };
        let batch = self.to_table(file, &self.wanted, batch)?;
        let mask = predicate.evaluate(&batch)?;
        let output: Vec<usize> = (0..self.output.columns.len()).collect();
        let batch = batch.project(&output)?;
        Ok(if mask.true_count() == batch.num_rows() { batch } else { filter_record_batch(&batch, &mask)? })
    }

    fn to_table(&self, file: &DataFile, wanted: &Columns, batch: &RecordBatch) -> Result<RecordBatch> {
        let (rows, file_schema) = (batch.num_rows(), batch.schema());
        let found = FileColumn::all_of(&file_schema);
        let array = |column: &Column| {
            if column.is_partition {
                return self.constant(file, column, rows);
            }
            match self.schema.find_in_file(column, &found) {
                Some(at) => column
                    .of_file(batch.column(at))
                    .map_err(|error| self.corrupt(file, format!("column `{}`: {error}", column.logical.name()))),
                None => Ok(new_null_array(column.logical.data_type(), rows)),
            }
        };
        let arrays = wanted.columns.iter().map(array).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(wanted.schema.clone(), arrays, &options)?)
    }

    /// Returns a partition column for rows of a file.
    fn constant(&self, file: &DataFile, column: &Column, rows: usize) -> Result<ArrayRef> {
        let name = column.logical.name();
        let Some(value) = file.partition_values.get(column.in_file.name()) else {
            return Err(self.corrupt(file, format!("the log has no value of the partition column `{name}`")));
        };
        partition_values(value.as_deref(), &column.stored_type, rows)
            .and_then(|values| conform(&values, column.logical.data_type()))
            .map_err(|error| self.corrupt(file, format!("partition column `{name}`: {error}")))
    }
}
