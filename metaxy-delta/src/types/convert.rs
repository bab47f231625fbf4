//! Converts rows between a table and its files.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use metaxy_core::FeatureKey;
use metaxy_core::error::Result as CoreResult;
use metaxy_core::schema::reshape;

use super::stored::holds_times;
use super::{Column, TableSchema, renamed};

impl Column {
    /// Converts values that were decoded from a file into values of the table.
    pub fn of_file(&self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let target = self.logical.data_type();
        if *self.in_file.data_type() == self.stored_type {
            return conform(array, target);
        }
        conform(&renamed(&conform(array, self.in_file.data_type())?, &self.stored_type)?, target)
    }
}

impl TableSchema {
    /// Converts rows with any columns of this table into rows of its files, or returns an error if a value would
    /// change.
    pub fn to_file(&self, table: &FeatureKey, file_schema: &SchemaRef, batch: &RecordBatch) -> CoreResult<RecordBatch> {
        let rows = batch.num_rows();
        let array = |(column, field): (&Column, &FieldRef)| match batch.column_by_name(column.logical.name()) {
            Some(array) => column.stored(table, array).and_then(|stored| Ok(renamed(&stored, field.data_type())?)),
            None => Ok(new_null_array(field.data_type(), rows)),
        };
        let arrays = self.columns.iter().zip(file_schema.fields()).map(array).collect::<CoreResult<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(file_schema.clone(), arrays, &options)?)
    }

    /// Checks that the columns can store the values, before anything is written.
    pub fn check_values(&self, table: &FeatureKey, rows: &RecordBatch) -> CoreResult<()> {
        let may_refuse = |column: &&Column| column.is_partition || holds_times(&column.stored_type);
        for column in self.columns.iter().filter(may_refuse) {
            if let Some(array) = rows.column_by_name(column.logical.name()) {
                column.stored(table, array)?;
            }
        }
        Ok(())
    }
}

/// Casts values to an equivalent type, and fails if a value would change.
pub(crate) fn conform(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    reshape(array, target, &plain_cast)
}

pub(super) fn plain_cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() })
}
