//! Copies rows that keep more memory alive than they need.

use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::DataType;

use crate::error::Result;

use super::sizes::bytes_of_rows;

/// The bytes that a batch may keep beyond its rows.
const SLACK: usize = 16 << 10;

/// Returns the same rows. A few rows or columns of a large batch are copied, because they would keep all of it in memory
/// while they wait.
pub(crate) fn compact(batch: RecordBatch) -> Result<RecordBatch> {
    let kept = kept_bytes(&batch);
    if kept <= SLACK || kept <= 2 * bytes_of_rows(&batch) + SLACK {
        return Ok(batch);
    }
    let rows = UInt32Array::from_iter_values(0..batch.num_rows() as u32);
    let copy = take_record_batch(&batch, &rows)?;
    let columns = copy.columns().iter().map(collected).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(copy.num_rows()));
    Ok(RecordBatch::try_new_with_options(copy.schema(), columns, &options)?)
}

/// Returns the bytes that a batch keeps in memory. Buffers of one allocation, such as those of a batch that was read from
/// a file as a whole, count once.
fn kept_bytes(batch: &RecordBatch) -> usize {
    let mut allocations = HashMap::new();
    batch.columns().iter().for_each(|column| add_allocations(&column.to_data(), &mut allocations));
    allocations.values().sum()
}

fn add_allocations(data: &ArrayData, allocations: &mut HashMap<NonNull<u8>, usize>) {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    allocations.extend(data.buffers().iter().chain(nulls).map(|buffer| (buffer.data_ptr(), buffer.capacity())));
    data.child_data().iter().for_each(|child| add_allocations(child, allocations));
}

/// Copies the buffers of views, which share those of the array from which they were taken.
fn collected(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Utf8View => Arc::new(array.as_string_view().gc()),
        DataType::BinaryView => Arc::new(array.as_binary_view().gc()),
        _ => array.clone(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::buffer::{Buffer, ScalarBuffer};

    use super::*;

    /// The buffers of a batch that was read from a file are parts of one allocation.
    #[test]
    fn columns_of_one_allocation_are_copied_if_most_of_it_is_left_out() {
        let rows = 10_000;
        let buffer = Buffer::from_vec((0..3 * rows as i64).collect::<Vec<_>>());
        let column = |index: usize| -> ArrayRef {
            Arc::new(Int64Array::new(ScalarBuffer::new(buffer.clone(), index * rows, rows), None))
        };
        let batch = |columns: &[usize]| {
            let named = columns.iter().map(|index| (format!("c{index}"), column(*index)));
            RecordBatch::try_from_iter(named).expect("columns of one length")
        };
        let is_copied = |rows: &RecordBatch| {
            let compacted = compact(rows.clone()).expect("a copy");
            assert_eq!(&compacted, rows);
            kept_bytes(&compacted) < kept_bytes(rows)
        };
        assert!(!is_copied(&batch(&[0, 1, 2])));
        assert!(!is_copied(&batch(&[1, 2])));
        assert!(is_copied(&batch(&[2])));
        assert!(is_copied(&batch(&[0, 1]).slice(5, 10)));
    }
}
