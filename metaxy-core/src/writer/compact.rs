//! Copies rows that keep more memory alive than they need.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;

use crate::error::Result;
use crate::schema::bytes_of_rows;

/// The bytes that a batch may keep beyond its rows.
const SLACK: usize = 16 << 10;

/// Returns the same rows. A few rows of a large batch are copied, because they would keep all of it in memory while
/// they wait.
pub(super) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let kept = batch.get_array_memory_size();
    if kept <= SLACK || kept <= 2 * bytes_of_rows(&batch) + SLACK {
        return Ok(batch);
    }
    let rows = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
    let copy = take_record_batch(&batch, &rows)?;
    let columns = copy.columns().iter().map(collected).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(copy.num_rows()));
    Ok(RecordBatch::try_new_with_options(copy.schema(), columns, &options)?)
}

/// Copies the buffers of views, which share those of the array from which they were taken.
fn collected(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => array.clone(),
    }
}
