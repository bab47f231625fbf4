//! Rows that keep no more memory than they need.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;

use crate::error::Result;

/// What a batch may keep beside its rows.
const SLACK: usize = 16 << 10;
const VIEW: usize = size_of::<u128>();

/// The same rows. A few rows cut out of a large batch are copied, for they would keep all of it in memory as long as they
/// wait.
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

fn bytes_of_rows(batch: &RecordBatch) -> usize {
    let bytes = |array: &ArrayRef| match array.data_type() {
        DataType::Utf8View => array.len() * VIEW + array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.len() * VIEW + array.as_binary_view().total_buffer_bytes_used(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    };
    batch.columns().iter().map(bytes).sum()
}

/// Views share the buffers of the array that they were taken from.
fn collected(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => array.clone(),
    }
}
