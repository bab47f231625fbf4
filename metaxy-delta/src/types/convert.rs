//! Rows between a table and its files.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Date32Type, FieldRef, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use metaxy_core::FeatureKey;
use metaxy_core::error::Result as CoreResult;
use metaxy_core::schema::{self, reshape};

use super::{Column, TableSchema, renamed};

/// The day 1970-01-01, counted from the first day of the year 1.
const UNIX_EPOCH_DAYS_FROM_CE: i32 = 719_163;

impl Column {
    /// Returns values as they were decoded from a file as values of the table.
    pub fn of_file(&self, array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        let target = self.logical.data_type();
        if *self.in_file.data_type() == self.stored_type {
            return conform(array, target);
        }
        conform(&renamed(&conform(array, self.in_file.data_type())?, &self.stored_type)?, target)
    }

    /// Returns values as they are stored. None changes: one that does not fit is an error.
    fn stored(&self, table: &FeatureKey, array: &ArrayRef) -> CoreResult<ArrayRef> {
        let name = self.logical.name();
        // By way of the table's own type: what is stored may count in another unit.
        let values = schema::convert(table, name, array, self.logical.data_type())?;
        let stored = schema::convert(table, name, &values, &self.stored_type)?;
        if in_calendar(&stored) {
            return Ok(stored);
        }
        Err(schema::misfit(&table.table_name(), name, &stored, &self.stored_type, in_calendar))
    }
}

impl TableSchema {
    /// Returns rows of any columns of this table as rows of its files. No value changes: one that does not fit is an
    /// error.
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

    /// Refuses values that the columns cannot hold, before anything is written.
    pub fn check_values(&self, table: &FeatureKey, rows: &RecordBatch) -> CoreResult<()> {
        for column in self.columns.iter().filter(|column| holds_times(&column.stored_type)) {
            if let Some(array) = rows.column_by_name(column.logical.name()) {
                column.stored(table, array)?;
            }
        }
        Ok(())
    }
}

/// Returns values that were read in another type of the same meaning, by casts that fail rather than lose a value.
pub(crate) fn conform(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    reshape(array, target, &plain_cast)
}

fn plain_cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Returns the value of a partition, as the log has it, for so many rows.
pub(crate) fn partition_values(value: Option<&str>, stored: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let Some(text) = value.filter(|text| !text.is_empty()) else { return Ok(new_null_array(stored, rows)) };
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let one = match stored {
        // Without a zone of its own, a moment is meant in UTC.
        DataType::Timestamp(unit, Some(_)) => plain_cast(&text, &DataType::Timestamp(*unit, Some("+00:00".into())))?,
        _ => text,
    };
    let one = plain_cast(&one, stored)?;
    take(&one, &UInt32Array::from(vec![0; rows]), None)
}

/// Whether values of another unit may have to become microseconds.
fn holds_times(stored: &DataType) -> bool {
    match stored {
        DataType::Timestamp(TimeUnit::Microsecond, _) | DataType::Date32 => true,
        DataType::List(item) | DataType::Map(item, _) => holds_times(item.data_type()),
        DataType::Struct(members) => members.iter().any(|member| holds_times(member.data_type())),
        _ => false,
    }
}

/// Whether all dates, at any depth, are of the years that statistics can be made of.
fn in_calendar(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().flatten().all(|days| {
            let days = days.checked_add(UNIX_EPOCH_DAYS_FROM_CE);
            days.is_some_and(|days| NaiveDate::from_num_days_from_ce_opt(days).is_some())
        }),
        DataType::Struct(_) => array.as_struct().columns().iter().all(in_calendar),
        DataType::List(_) => in_calendar(array.as_list::<i32>().values()),
        DataType::Map(_, _) => array.as_map().entries().columns().iter().all(in_calendar),
        _ => true,
    }
}
