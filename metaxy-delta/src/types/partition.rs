//! Values of partition columns, which are texts in the log.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::convert::plain_cast;

/// Returns whether a table may be partitioned by values of a type. No form of bytes in a log is read by all programs.
pub(super) fn is_partitionable(stored: &DataType) -> bool {
    !stored.is_nested() && *stored != DataType::Binary
}

/// Returns the value of a partition in the log, for this number of rows.
///
/// The Python package writes and reads empty texts as such; for other types an empty text is null.
pub(crate) fn partition_values(value: Option<&str>, stored: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let holds_empty = matches!(stored, DataType::Utf8 | DataType::Binary);
    let Some(text) = value.filter(|text| holds_empty || !text.is_empty()) else {
        return Ok(new_null_array(stored, rows));
    };
    let one: ArrayRef = match stored {
        DataType::Binary => Arc::new(BinaryArray::from(vec![unescaped(text)?.as_slice()])),
        _ => Arc::new(StringArray::from(vec![text])),
    };
    let one = match stored {
        // A timestamp without a zone is in UTC.
        DataType::Timestamp(unit, Some(_)) => plain_cast(&one, &DataType::Timestamp(*unit, Some("+00:00".into())))?,
        _ => one,
    };
    take(&plain_cast(&one, stored)?, &UInt32Array::from(vec![0; rows]), None)
}

/// Decodes a text in which each byte is written as `\u00FF`.
fn unescaped(text: &str) -> Result<Vec<u8>, ArrowError> {
    let byte = |escape: &[u8]| {
        let digits = std::str::from_utf8(escape).ok()?.strip_prefix("\\u00")?;
        u8::from_str_radix(digits, 16).ok()
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(6).map(byte).collect();
    bytes.ok_or_else(|| ArrowError::ParseError(format!("`{text}` is not a text of escaped bytes")))
}
