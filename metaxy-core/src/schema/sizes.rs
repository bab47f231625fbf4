//! Computes the size of rows without encodings, which arrays with 32-bit offsets have to hold.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type, RunEndIndexType};

/// The maximum number of rows of an output batch.
const OUTPUT_ROWS: usize = 32 * 1024;

/// The maximum bytes of values of an output batch, unless a single unit has more. It is far below the 2 GiB that 32-bit
/// offsets can address, also for a backend that converts values into another form.
const OUTPUT_BYTES: usize = 64 << 20;

/// The size of an element of a column of views.
const VIEW: usize = size_of::<u128>();

/// Cuts a batch into slices of at most 32,768 rows and 64 MiB of values each, unless one row has more. Values in
/// dictionaries, runs and views are counted as expanded: each slice fits into 32-bit offsets in any form.
pub fn slices(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = struct_bytes(batch.num_rows(), batch.columns());
    let runs = output_runs(rows.into_iter().map(|bytes| (1, bytes)));
    runs.into_iter().map(|run| batch.slice(run.start, run.len())).collect()
}

/// Returns the bytes of the rows of a batch, which is less than the batch keeps in memory if it is a slice of others or
/// shares their buffers.
pub(crate) fn bytes_of_rows(batch: &RecordBatch) -> usize {
    let bytes = |array: &ArrayRef| match array.data_type() {
        DataType::Utf8View => array.len() * VIEW + array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => array.len() * VIEW + array.as_binary_view().total_buffer_bytes_used(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    };
    batch.columns().iter().map(bytes).sum()
}

/// Groups units of a number of rows and bytes each, such as rows or groups of rows, into runs of the size of output
/// batches.
pub(crate) fn output_runs(units: impl Iterator<Item = (usize, usize)>) -> Vec<Range<usize>> {
    let mut runs = Vec::new();
    let (mut run, mut rows, mut bytes) = (0..0, 0, 0_usize);
    for (more_rows, more_bytes) in units {
        if !run.is_empty() && (rows + more_rows > OUTPUT_ROWS || bytes.saturating_add(more_bytes) > OUTPUT_BYTES) {
            runs.push(run.clone());
            (run.start, rows, bytes) = (run.end, 0, 0);
        }
        run.end += 1;
        rows += more_rows;
        bytes = bytes.saturating_add(more_bytes);
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

/// Returns the bytes of the value in each row. Dictionaries, runs and views are counted as expanded.
pub(crate) fn row_bytes(array: &dyn Array) -> Vec<usize> {
    match array.data_type() {
        DataType::Utf8 => lengths(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => lengths(array.as_string::<i64>().value_offsets()),
        DataType::Binary => lengths(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => lengths(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => view_lengths(array.as_string_view().views()),
        DataType::BinaryView => view_lengths(array.as_binary_view().views()),
        DataType::FixedSizeBinary(width) => vec![usize::try_from(*width).unwrap_or_default(); array.len()],
        DataType::List(_) => list_bytes(array.as_list::<i32>().value_offsets(), array.as_list::<i32>().values()),
        DataType::LargeList(_) => list_bytes(array.as_list::<i64>().value_offsets(), array.as_list::<i64>().values()),
        DataType::Map(_, _) => list_bytes(array.as_map().value_offsets(), array.as_map().entries()),
        DataType::FixedSizeList(_, _) => fixed_list_bytes(array),
        DataType::Struct(_) => struct_bytes(array.len(), array.as_struct().columns()),
        DataType::Dictionary(_, _) => dictionary_bytes(array),
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => run_bytes::<Int16Type>(array),
            DataType::Int32 => run_bytes::<Int32Type>(array),
            _ => run_bytes::<Int64Type>(array),
        },
        other => vec![other.primitive_width().unwrap_or(1); array.len()],
    }
}

/// Returns the bytes of each row of several columns.
pub(crate) fn struct_bytes(rows: usize, columns: &[ArrayRef]) -> Vec<usize> {
    let mut all = vec![0; rows];
    for column in columns {
        all.iter_mut().zip(row_bytes(column)).for_each(|(sum, bytes)| *sum += bytes);
    }
    all
}

fn lengths<O: OffsetSizeTrait>(offsets: &[O]) -> Vec<usize> {
    offsets.windows(2).map(|pair| (pair[1] - pair[0]).as_usize()).collect()
}

/// Returns the length of a view's value, which is in its first 32 bits.
fn view_lengths(views: &[u128]) -> Vec<usize> {
    views.iter().map(|view| *view as u32 as usize).collect()
}

fn list_bytes<O: OffsetSizeTrait>(offsets: &[O], values: &dyn Array) -> Vec<usize> {
    let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else { return Vec::new() };
    let first = first.as_usize();
    let mut members = row_bytes(&values.slice(first, last.as_usize() - first)).into_iter();
    lengths(offsets).into_iter().map(|length| members.by_ref().take(length).sum()).collect()
}

fn fixed_list_bytes(array: &dyn Array) -> Vec<usize> {
    let list = array.as_fixed_size_list();
    let length = usize::try_from(list.value_length()).unwrap_or_default();
    let mut members = row_bytes(list.values()).into_iter();
    (0..list.len()).map(|_| members.by_ref().take(length).sum()).collect()
}

fn dictionary_bytes(array: &dyn Array) -> Vec<usize> {
    let dictionary = array.as_any_dictionary();
    let values = row_bytes(dictionary.values());
    if values.is_empty() {
        return vec![0; array.len()];
    }
    dictionary.normalized_keys().into_iter().map(|key| values[key]).collect()
}

fn run_bytes<R: RunEndIndexType>(array: &dyn Array) -> Vec<usize> {
    let runs = array.as_run::<R>();
    let values = row_bytes(runs.values());
    (0..array.len()).map(|row| values[runs.get_physical_index(row)]).collect()
}
