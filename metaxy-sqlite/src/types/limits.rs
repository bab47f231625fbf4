//! The limits of SQLite.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use metaxy_core::{Error, FeatureKey, Result};

/// The maximum number of columns of a table. SQLite's limit is 2,000, and a read needs one for the row number.
const MAX_COLUMNS: usize = 1_999;

/// The maximum bytes of a value, and of a row.
const MAX_ROW_BYTES: usize = 1_000_000_000;

/// Checks that a table can have this number of columns.
pub(crate) fn check_columns(table: &str, columns: usize) -> Result<()> {
    if columns <= MAX_COLUMNS {
        return Ok(());
    }
    Err(Error::LimitExceeded {
        what: format!("table `{table}` with {columns} columns"),
        limit: format!("{MAX_COLUMNS} columns in SQLite"),
        hint: "move some of them into a struct or a map".to_owned(),
    })
}

/// Checks the sizes of texts and binary values. Rows that are too large because of nested values are refused when they
/// are written.
pub(crate) fn check_sizes(table: &FeatureKey, rows: &RecordBatch) -> Result<()> {
    let bytes: usize = rows.columns().iter().map(|array| array.get_buffer_memory_size()).sum();
    if bytes <= MAX_ROW_BYTES {
        return Ok(());
    }
    for row in 0..rows.num_rows() {
        let sizes = || rows.columns().iter().map(|array| value_bytes(array, row));
        let sum: usize = sizes().sum();
        let largest = sizes().enumerate().max_by_key(|(_, size)| *size);
        if let (true, Some((position, size))) = (sum > MAX_ROW_BYTES, largest) {
            return Err(Error::InvalidValue {
                table: table.table_name(),
                column: rows.schema().field(position).name().clone(),
                row,
                reason: format!(
                    "a row of {sum} bytes, of which this value has {size}, exceeds the {MAX_ROW_BYTES} bytes of a row \
                     in SQLite; store large data in files, and their paths in the table"
                ),
            });
        }
    }
    Ok(())
}

fn value_bytes(array: &ArrayRef, row: usize) -> usize {
    if array.is_null(row) {
        return 0;
    }
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).len(),
        DataType::LargeUtf8 => array.as_string::<i64>().value(row).len(),
        DataType::Utf8View => array.as_string_view().value(row).len(),
        DataType::Binary => array.as_binary::<i32>().value(row).len(),
        DataType::LargeBinary => array.as_binary::<i64>().value(row).len(),
        DataType::BinaryView => array.as_binary_view().value(row).len(),
        other => super::fixed_bytes(other),
    }
}
