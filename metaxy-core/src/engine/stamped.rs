//! Rows of an increment as complete rows of their table.

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;

use crate::error::{Error, Result};
use crate::key::FeatureKey;
use crate::plan::Completion;
use crate::schema::conform;

use super::key_type::{ambiguous_float, key_type};
use super::table::batch_of;

/// Returns new or stale rows of an increment as the rows that a write appends to the table.
///
/// # Errors
/// [`Error::MissingColumn`], [`Error::NullId`], [`Error::InvalidColumn`], [`Error::TypeMismatch`] and
/// [`Error::InvalidValue`], as from a write.
pub fn completed(completion: &Completion, rows: &RecordBatch) -> Result<RecordBatch> {
    check_ids(&completion.feature, &completion.id_columns, rows)?;
    let stamp = take_record_batch(&completion.stamp, &UInt32Array::from_value(0, rows.num_rows()))?;
    let mut columns = Vec::new();
    for batch in [rows, &stamp] {
        let names = batch.schema_ref().fields().iter().map(|field| field.name().clone());
        columns.extend(names.zip(batch.columns().iter().cloned()));
    }
    conform(&completion.feature, &completion.schema, &batch_of(columns, rows.num_rows())?)
}

/// Checks that the id of every row identifies its sample in every storage system.
pub(crate) fn check_ids(feature: &FeatureKey, ids: &[String], batch: &RecordBatch) -> Result<()> {
    for column in ids {
        let Some(array) = batch.column_by_name(column) else {
            return Err(Error::MissingColumn {
                feature: feature.clone(),
                column: column.clone(),
                context: "the batch; it is an id column".to_owned(),
                available: batch.schema().fields().iter().map(|field| field.name().clone()).collect(),
            });
        };
        let count = array.logical_null_count();
        if count > 0 {
            return Err(Error::NullId { feature: feature.clone(), column: column.clone(), count });
        }
        key_type(array.data_type()).map_err(|error| Error::InvalidColumn {
            feature: feature.clone(),
            column: column.clone(),
            reason: error.to_string(),
        })?;
        if let Some(row) = ambiguous_float(array)? {
            return Err(Error::InvalidValue {
                table: feature.table_name(),
                column: column.clone(),
                row,
                reason:
                    "NaN and -0.0 cannot identify a sample, because storage systems disagree on what they are equal \
                         to; write another id, 0.0 for -0.0"
                        .to_owned(),
            });
        }
    }
    Ok(())
}
