//! Nested values as JSON text.
//!
//! Structs are objects, lists arrays, maps arrays of `[key, value]` pairs, binary hexadecimal text, decimals text,
//! dates and times numbers in their unit; floats that JSON cannot represent are the texts `NaN`, `Infinity`,
//! `-Infinity`.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, FixedSizeListArray, Float64Array, Int64Array,
    LargeListArray, ListArray, MapArray, NullArray, OffsetSizeTrait, StringArray, StructArray, UInt64Array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Float64Type, UInt64Type};
use metaxy_core::Result;
use serde_json::Value;

use super::scalars::{Write, cast_to, common, decimal_array, decimal_formatter, integer_array, integer_getter};
use super::{Damage, Storage, storage};

/// Writes the values of an array; nulls as `null`.
pub(crate) fn writer(array: &ArrayRef) -> Result<Write> {
    let array = common(array)?;
    let write = valid_writer(&array)?;
    let Some(nulls) = array.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return Ok(write) };
    Ok(Box::new(move |row, out| if nulls.is_null(row) { out.push_str("null") } else { write(row, out) }))
}

fn valid_writer(array: &ArrayRef) -> Result<Write> {
    Ok(match storage(array.data_type()) {
        None | Some(Storage::Null) => Box::new(|_, out| out.push_str("null")),
        Some(Storage::Bool) => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| out.push_str(if array.value(row) { "true" } else { "false" }))
        }
        Some(Storage::Integer) => {
            let get = integer_getter(array);
            Box::new(move |row, out| out.push_str(itoa::Buffer::new().format(get(row))))
        }
        Some(Storage::Unsigned64) => {
            let array = array.as_primitive::<UInt64Type>().clone();
            Box::new(move |row, out| out.push_str(itoa::Buffer::new().format(array.value(row))))
        }
        Some(Storage::Float) => {
            let array = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| write_float(array.value(row), out))
        }
        Some(Storage::Text) => text_writer(array),
        Some(Storage::Blob) => binary_writer(array),
        Some(Storage::Decimal) => {
            let format = decimal_formatter(array);
            Box::new(move |row, out| {
                out.push('"');
                format(row, out);
                out.push('"');
            })
        }
        Some(Storage::Json) => nested_writer(array)?,
    })
}

fn write_float(value: f64, out: &mut String) {
    match value {
        value if value.is_nan() => out.push_str("\"NaN\""),
        value if value.is_infinite() => out.push_str(if value > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" }),
        // The debug form is the shortest that parses to the same value, and keeps the sign of zero.
        value => {
            let _ = write!(out, "{value:?}");
        }
    }
}

fn text_writer(array: &ArrayRef) -> Write {
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>().clone();
            Box::new(move |row, out| write_text(array.value(row), out))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>().clone();
            Box::new(move |row, out| write_text(array.value(row), out))
        }
        _ => {
            let array = array.as_string_view().clone();
            Box::new(move |row, out| write_text(array.value(row), out))
        }
    }
}

/// Writes a JSON string.
fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    let mut rest = text;
    while let Some(position) = rest.bytes().position(special) {
        let (plain, tail) = rest.split_at(position);
        out.push_str(plain);
        match tail.as_bytes().first() {
            Some(b'"') => out.push_str("\\\""),
            Some(b'\\') => out.push_str("\\\\"),
            Some(b'\n') => out.push_str("\\n"),
            Some(control) => {
                let _ = write!(out, "\\u{control:04x}");
            }
            None => {}
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('"');
}

fn binary_writer(array: &ArrayRef) -> Write {
    fn write(bytes: &[u8], out: &mut String) {
        out.push('"');
        for byte in bytes {
            let _ = write!(out, "{byte:02x}");
        }
        out.push('"');
    }
    match array.data_type() {
        DataType::Binary => {
            let array = array.as_binary::<i32>().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
        _ => {
            let array = array.as_binary_view().clone();
            Box::new(move |row, out| write(array.value(row), out))
        }
    }
}

fn nested_writer(array: &ArrayRef) -> Result<Write> {
    Ok(match array.data_type() {
        DataType::Struct(members) => struct_writer(members, array.as_struct())?,
        DataType::List(_) => list_writer(array.as_list::<i32>().values(), array.as_list::<i32>().offsets())?,
        DataType::LargeList(_) => list_writer(array.as_list::<i64>().values(), array.as_list::<i64>().offsets())?,
        DataType::FixedSizeList(_, _) => {
            let list = array.as_fixed_size_list();
            let (item, length) = (writer(list.values())?, list.value_length() as usize);
            Box::new(move |row, out| write_items(row * length..(row + 1) * length, &item, out))
        }
        _ => {
            let map = array.as_map();
            let (key, value) = (writer(map.keys())?, writer(map.values())?);
            let pair: Write = Box::new(move |row, out| {
                out.push('[');
                key(row, out);
                out.push(',');
                value(row, out);
                out.push(']');
            });
            let offsets = map.offsets().clone();
            Box::new(move |row, out| write_items(offsets[row] as usize..offsets[row + 1] as usize, &pair, out))
        }
    })
}

fn struct_writer(members: &Fields, array: &StructArray) -> Result<Write> {
    let mut writers = Vec::with_capacity(members.len());
    for (position, (member, column)) in members.iter().zip(array.columns()).enumerate() {
        let mut key = String::from(if position == 0 { "{" } else { "," });
        write_text(member.name(), &mut key);
        key.push(':');
        writers.push((key, writer(column)?));
    }
    let empty = members.is_empty();
    Ok(Box::new(move |row, out| {
        if empty {
            out.push('{');
        }
        for (key, write) in &writers {
            out.push_str(key);
            write(row, out);
        }
        out.push('}');
    }))
}

fn list_writer<O: OffsetSizeTrait>(values: &ArrayRef, offsets: &OffsetBuffer<O>) -> Result<Write> {
    let (item, offsets) = (writer(values)?, offsets.clone());
    Ok(Box::new(move |row, out| write_items(offsets[row].as_usize()..offsets[row + 1].as_usize(), &item, out)))
}

fn write_items(rows: std::ops::Range<usize>, item: &Write, out: &mut String) {
    out.push('[');
    let first = rows.start;
    for row in rows {
        if row > first {
            out.push(',');
        }
        item(row, out);
    }
    out.push(']');
}

/// Builds an array of a type from JSON values; `None` and `null` are null.
pub(crate) fn read(data_type: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef, Damage> {
    let values: Vec<Option<&Value>> = values.iter().map(|value| value.filter(|value| !value.is_null())).collect();
    match storage(data_type) {
        None => Err(format!("no value of type {data_type} can be stored")),
        Some(Storage::Null) => Ok(Arc::new(NullArray::new(values.len()))),
        Some(Storage::Bool) => Ok(Arc::new(BooleanArray::from(each(&values, "true or false", Value::as_bool)?))),
        Some(Storage::Integer) => {
            integer_array(Int64Array::from(each(&values, "an integer", Value::as_i64)?), data_type)
        }
        Some(Storage::Unsigned64) => {
            let array = UInt64Array::from(each(&values, "a positive integer", Value::as_u64)?);
            cast_to(Arc::new(array), data_type)
        }
        Some(Storage::Float) => cast_to(Arc::new(Float64Array::from(each(&values, "a number", float)?)), data_type),
        Some(Storage::Text) => cast_to(Arc::new(StringArray::from(each(&values, "text", Value::as_str)?)), data_type),
        Some(Storage::Blob) => {
            let mut builder = BinaryBuilder::new();
            for bytes in each(&values, "hexadecimal text", bytes)? {
                builder.append_option(bytes);
            }
            cast_to(Arc::new(builder.finish()), data_type)
        }
        Some(Storage::Decimal) => {
            decimal_array(data_type, each(&values, "a decimal number as text", Value::as_str)?.into_iter())
        }
        Some(Storage::Json) => read_nested(data_type, &values),
    }
}

/// Converts all values that are not null.
fn each<'a, T>(
    values: &[Option<&'a Value>],
    expected: &str,
    convert: impl Fn(&'a Value) -> Option<T>,
) -> Result<Vec<Option<T>>, Damage> {
    let convert = |value: &'a Value| convert(value).ok_or_else(|| format!("{} is not {expected}", shortened(value)));
    values.iter().map(|value| value.map(convert).transpose()).collect()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let start: String = text.chars().take(40).collect();
    if start.len() < text.len() { format!("`{start}…`") } else { format!("`{start}`") }
}

fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        None => value.as_f64(),
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    let digits = value.as_str()?.as_bytes();
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

fn read_nested(data_type: &DataType, values: &[Option<&Value>]) -> Result<ArrayRef, Damage> {
    let nulls = || NullBuffer::from_iter(values.iter().map(Option::is_some));
    let say = |error: arrow::error::ArrowError| error.to_string();
    match data_type {
        DataType::Struct(members) => read_struct(members, values, nulls()),
        DataType::List(item) => {
            let (offsets, items) = read_items::<i32>(item, values)?;
            Ok(Arc::new(ListArray::try_new(item.clone(), offsets, items, Some(nulls())).map_err(say)?))
        }
        DataType::LargeList(item) => {
            let (offsets, items) = read_items::<i64>(item, values)?;
            Ok(Arc::new(LargeListArray::try_new(item.clone(), offsets, items, Some(nulls())).map_err(say)?))
        }
        DataType::FixedSizeList(item, length) => read_fixed(item, *length, values, nulls()),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err("a map without entries".to_owned()) };
            let (offsets, entries_array) = read_pairs(pair, values)?;
            let map = MapArray::try_new(entries.clone(), offsets, entries_array, Some(nulls()), *sorted);
            Ok(Arc::new(map.map_err(say)?))
        }
        other => Err(format!("{other} is not nested")),
    }
}

fn read_struct(members: &Fields, values: &[Option<&Value>], nulls: NullBuffer) -> Result<ArrayRef, Damage> {
    let objects = each(values, "an object", Value::as_object)?;
    let column = |member: &FieldRef| {
        let own: Vec<_> = objects.iter().map(|object| object.and_then(|object| object.get(member.name()))).collect();
        read(member.data_type(), &own)
    };
    let columns = members.iter().map(column).collect::<Result<Vec<_>, _>>()?;
    let array = StructArray::try_new_with_length(members.clone(), columns, Some(nulls), values.len());
    Ok(Arc::new(array.map_err(|error| error.to_string())?))
}

fn items<'a>(values: &[Option<&'a Value>]) -> Result<Vec<&'a [Value]>, Damage> {
    let arrays = each(values, "an array", Value::as_array)?;
    Ok(arrays.into_iter().map(|array| array.map_or(&[][..], Vec::as_slice)).collect())
}

fn offsets<O: OffsetSizeTrait>(lists: &[&[Value]]) -> Result<OffsetBuffer<O>, Damage> {
    let mut offsets = vec![O::zero()];
    let mut end = 0;
    for list in lists {
        end += list.len();
        offsets.push(O::from_usize(end).ok_or("the lists of a batch have too many items")?);
    }
    Ok(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

fn read_items<O: OffsetSizeTrait>(
    item: &Field,
    values: &[Option<&Value>],
) -> Result<(OffsetBuffer<O>, ArrayRef), Damage> {
    let lists = items(values)?;
    let all: Vec<Option<&Value>> = lists.iter().flat_map(|list| list.iter().map(Some)).collect();
    Ok((offsets(&lists)?, read(item.data_type(), &all)?))
}

fn read_fixed(item: &FieldRef, length: i32, values: &[Option<&Value>], nulls: NullBuffer) -> Result<ArrayRef, Damage> {
    let width = usize::try_from(length).map_err(|_| "a fixed-size list of negative length")?;
    let lists = each(values, "an array", Value::as_array)?;
    let mut all: Vec<Option<&Value>> = Vec::with_capacity(lists.len() * width);
    for list in lists {
        match list {
            None => all.extend(std::iter::repeat_n(None, width)),
            Some(list) if list.len() == width => all.extend(list.iter().map(Some)),
            Some(list) => return Err(format!("a list of {} items instead of {width}", list.len())),
        }
    }
    let items = read(item.data_type(), &all)?;
    let array = FixedSizeListArray::try_new_with_length(item.clone(), length, items, Some(nulls), values.len());
    Ok(Arc::new(array.map_err(|error| error.to_string())?))
}

fn read_pairs(pair: &Fields, values: &[Option<&Value>]) -> Result<(OffsetBuffer<i32>, StructArray), Damage> {
    let [key, value] = pair.as_ref() else { return Err("map entries that are no pairs".to_owned()) };
    let lists = items(values)?;
    let (mut keys, mut mapped) = (Vec::new(), Vec::new());
    for entry in lists.iter().flat_map(|list| list.iter()) {
        match entry.as_array().map(Vec::as_slice) {
            Some([key, value]) => {
                keys.push(Some(key));
                mapped.push(Some(value));
            }
            _ => return Err(format!("{} is not a pair of key and value", shortened(entry))),
        }
    }
    let columns = vec![read(key.data_type(), &keys)?, read(value.data_type(), &mapped)?];
    let entries = StructArray::try_new(pair.clone(), columns, None).map_err(|error| error.to_string())?;
    Ok((offsets(&lists)?, entries))
}
