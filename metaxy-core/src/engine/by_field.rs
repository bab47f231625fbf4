//! By-field columns: one string for each field of a row, stored as a struct, or as a map in tables of other programs.

use std::fmt::LowerExp;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, StringArray, StringBuilder, StructArray, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Float32Type, Float64Type};

use crate::columns;
use crate::error::Result;
use crate::hash::RowHasher;

use super::float_text::{self, float_text};
use super::parallel;

/// Returns the values of one member of a by-field column, a struct or map of texts; null if the row, or the whole column,
/// has no such member.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if its values have no texts.
pub fn member(array: &ArrayRef, struct_key: &str) -> Result<StringArray> {
    let values = match array.data_type() {
        DataType::Struct(_) => {
            let array = array.as_struct();
            match array.column_by_name(struct_key) {
                Some(column) => with_nulls(text(column)?, array.nulls()),
                None => null_strings(array.len()),
            }
        }
        DataType::Map(_, _) => map_member(array, struct_key)?,
        _ => null_strings(array.len()),
    };
    Ok(values)
}

/// Returns the values of some members, one array per chunk of the column. Takes the column, so that its members can be
/// freed one by one.
pub(crate) fn members(chunks: Vec<ArrayRef>, struct_keys: &[String]) -> Result<Vec<Vec<StringArray>>> {
    struct_keys.iter().map(|key| chunks.iter().map(|chunk| member(chunk, key)).collect()).collect()
}

/// Concatenates the values of all chunks.
pub(crate) fn joined(chunks: Vec<StringArray>) -> Result<StringArray> {
    match chunks.as_slice() {
        [] => Ok(null_strings(0)),
        [only] => Ok(only.clone()),
        chunks => text(&concat(&chunks.iter().map(|chunk| chunk as &dyn Array).collect::<Vec<_>>())?),
    }
}

/// Returns the sorted names of the members; of a map the keys that occur.
pub(crate) fn member_names(array: &ArrayRef) -> Result<Vec<String>> {
    let mut names: Vec<String> = match array.data_type() {
        DataType::Struct(fields) => fields.iter().map(|field| field.name().clone()).collect(),
        DataType::Map(_, _) => {
            let keys = text(array.as_map().keys())?;
            keys.iter().flatten().map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    names.sort();
    names.dedup();
    Ok(names)
}

/// Builds a by-field column from the values of its members, in the order of `struct_keys`.
pub(crate) fn build(struct_keys: &[String], values: Vec<StringArray>, rows: usize) -> Result<ArrayRef> {
    let arrays = values.into_iter().map(|array| Arc::new(array) as ArrayRef).collect();
    let fields = columns::by_field_fields(struct_keys);
    Ok(Arc::new(StructArray::try_new_with_length(fields, arrays, None, rows)?))
}

/// Returns the column with exactly these members; members that it lacks are null.
pub(crate) fn conform(array: &ArrayRef, struct_keys: &[String]) -> Result<ArrayRef> {
    let values = struct_keys.iter().map(|key| member(array, key)).collect::<Result<Vec<_>>>()?;
    build(struct_keys, values, array.len())
}

/// Returns for each row the hash of all values joined by `|`, in the order of the given members; nulls count as empty.
pub(crate) fn combined_hash(values: &[StringArray], rows: usize, hasher: RowHasher) -> Result<StringArray> {
    let parts = parallel::over_rows(rows, |range| {
        let line = |row, text: &mut Vec<u8>| write_line(values.iter().map(|array| value_or_empty(array, row)), text);
        Ok(hashed(range, hasher, line))
    })?;
    joined(parts)
}

/// Returns the hashes of the texts that `write` appends to a buffer.
pub(crate) fn hashed(
    numbers: Range<usize>,
    hasher: RowHasher,
    mut write: impl FnMut(usize, &mut Vec<u8>),
) -> StringArray {
    let mut builder = StringBuilder::with_capacity(numbers.len(), numbers.len() * hasher.truncation().min(32));
    let mut hashes = hasher.many(|hash| builder.append_value(hash));
    for number in numbers {
        hashes.push_with(|text| write(number, text));
    }
    hashes.finish();
    builder.finish()
}

/// Appends the text in which the values are joined by `|`.
pub(crate) fn write_line<'a>(values: impl Iterator<Item = &'a str>, text: &mut Vec<u8>) {
    for (index, value) in values.enumerate() {
        text.extend_from_slice(if index == 0 { b"" } else { b"|" });
        text.extend_from_slice(value.as_bytes());
    }
}

/// Returns the value of a row, or the empty string for a null.
pub(crate) fn value_or_empty(array: &StringArray, row: usize) -> &str {
    if array.is_valid(row) { array.value(row) } else { "" }
}

/// Casts any text column to the one text type that the engine works with; numbers are written as in hashed texts.
///
/// # Errors
/// [`Error::Arrow`](crate::Error::Arrow) if the values have no texts.
pub fn text(array: &ArrayRef) -> Result<StringArray> {
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().clone(),
        DataType::Float64 => floats::<Float64Type>(array, float_text::DOUBLE),
        DataType::Float32 => floats::<Float32Type>(array, float_text::SINGLE),
        DataType::Float16 => floats::<Float32Type>(&cast(array, &DataType::Float32)?, float_text::SINGLE),
        _ => cast(array, &DataType::Utf8)?.as_string::<i32>().clone(),
    })
}

fn floats<T: ArrowPrimitiveType>(array: &ArrayRef, plain: (i32, i32)) -> StringArray
where
    T::Native: LowerExp + Into<f64>,
{
    array.as_primitive::<T>().iter().map(|value| value.map(|value| float_text(value, plain))).collect()
}

fn null_strings(rows: usize) -> StringArray {
    new_null_array(&DataType::Utf8, rows).as_string::<i32>().clone()
}

/// Sets the members of null structs to null, whatever the child arrays hold.
fn with_nulls(array: StringArray, outer: Option<&NullBuffer>) -> StringArray {
    let Some(outer) = outer else { return array };
    let nulls = NullBuffer::union(array.nulls(), Some(outer));
    let (offsets, values, _) = array.into_parts();
    StringArray::new(offsets, values, nulls)
}

fn map_member(array: &ArrayRef, struct_key: &str) -> Result<StringArray> {
    let map = array.as_map();
    let (keys, values) = (text(map.keys())?, text(map.values())?);
    let offsets = map.value_offsets();
    let mut builder = StringBuilder::new();
    for row in 0..map.len() {
        let entries = offsets[row] as usize..offsets[row + 1] as usize;
        let found = entries.rev().find(|entry| keys.is_valid(*entry) && keys.value(*entry) == struct_key);
        match found.filter(|entry| map.is_valid(row) && values.is_valid(*entry)) {
            Some(entry) => builder.append_value(values.value(entry)),
            None => builder.append_null(),
        }
    }
    Ok(builder.finish())
}
