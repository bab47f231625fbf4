//! Trims slices of lists to the values of their own rows.

use arrow::array::{Array, ArrayRef, OffsetSizeTrait};
use arrow::buffer::OffsetBuffer;
use arrow::error::ArrowError;

/// Returns offsets that start at zero, and only the values between them. A slice of a list or map still has all values
/// of the whole array, which may be more than offsets of another size can address.
///
/// # Errors
/// [`ArrowError::OffsetOverflowError`] if the offsets of the slice itself are too large.
pub fn trimmed<From: OffsetSizeTrait, To: OffsetSizeTrait>(
    offsets: &OffsetBuffer<From>,
    values: &ArrayRef,
) -> Result<(OffsetBuffer<To>, ArrayRef), ArrowError> {
    let (first, last) = (offsets[0].as_usize(), offsets[offsets.len() - 1].as_usize());
    let length = last - first;
    if To::from_usize(length).is_none() {
        return Err(ArrowError::OffsetOverflowError(length));
    }
    Ok((OffsetBuffer::from_lengths(offsets.lengths()), values.slice(first, length)))
}
