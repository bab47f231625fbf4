//! Writes Arrow values as JSON.

use std::fmt::{Debug, Write as _};

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Fields, Float16Type, Float32Type, Float64Type};

use super::{NUL, count_type};

type WriteValue = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), String> + Send>;

/// Writes the values of one array.
pub(in crate::types) struct Writer {
    nulls: Option<NullBuffer>,
    value: WriteValue,
}

impl Writer {
    pub(in crate::types) fn new(array: &ArrayRef) -> Result<Self, String> {
        let text = |error: arrow::error::ArrowError| error.to_string();
        let array = match array.data_type() {
            DataType::Dictionary(_, value) => cast(array, value).map_err(text)?,
            other => match count_type(other) {
                Some(count) => cast(array, &count).map_err(text)?,
                None => array.clone(),
            },
        };
        Ok(Self { nulls: array.logical_nulls(), value: value_writer(&array)? })
    }

    pub(in crate::types) fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend(b"null");
            return Ok(());
        }
        (self.value)(row, out)
    }
}

fn value_writer(array: &ArrayRef) -> Result<WriteValue, String> {
    Ok(match array.data_type() {
        DataType::Struct(members) => struct_writer(array.as_struct(), members)?,
        DataType::List(_) => {
            let list = array.as_list::<i32>().clone();
            let items = Writer::new(list.values())?;
            list_writer(items, move |row| (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>().clone();
            let items = Writer::new(list.values())?;
            list_writer(items, move |row| (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize))
        }
        DataType::FixedSizeList(_, size) => {
            let (items, size) = (Writer::new(array.as_fixed_size_list().values())?, *size as usize);
            list_writer(items, move |row| (row * size, (row + 1) * size))
        }
        DataType::Map(_, _) => map_writer(array.as_map().clone())?,
        DataType::Boolean => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.extend(if array.value(row) { &b"true"[..] } else { b"false" });
                Ok(())
            })
        }
        DataType::Float16 => {
            let array = array.as_primitive::<Float16Type>().clone();
            Box::new(move |row, out| write_float(f32::from(array.value(row)), out))
        }
        DataType::Float32 => {
            let array = array.as_primitive::<Float32Type>().clone();
            Box::new(move |row, out| write_float(array.value(row), out))
        }
        DataType::Float64 => {
            let array = array.as_primitive::<Float64Type>().clone();
            Box::new(move |row, out| write_float(array.value(row), out))
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            let array = cast(array, &DataType::LargeBinary).map_err(|error| error.to_string())?;
            Box::new(move |row, out| {
                out.extend(b"\"\\\\x");
                array.as_binary::<i64>().value(row).iter().for_each(|byte| {
                    out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
                });
                out.push(b'"');
                Ok(())
            })
        }
        other => {
            let is_number = other.is_integer();
            let array = cast(array, &DataType::LargeUtf8).map_err(|error| error.to_string())?;
            Box::new(move |row, out| {
                let text = array.as_string::<i64>().value(row);
                if is_number {
                    out.extend(text.as_bytes());
                    return Ok(());
                }
                write_string(text, out)
            })
        }
    })
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn write_float<F: Copy + Into<f64> + Debug>(value: F, out: &mut Vec<u8>) -> Result<(), String> {
    let wide: f64 = value.into();
    let plain = wide.is_finite() && !(wide == 0.0 && wide.is_sign_negative());
    let mut text = String::new();
    write!(text, "{value:?}").map_err(|error| error.to_string())?;
    out.extend(if plain { text } else { format!("\"{text}\"") }.as_bytes());
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    if text.contains('\0') {
        return Err(NUL.to_owned());
    }
    out.push(b'"');
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        if *byte >= 0x20 && *byte != b'"' && *byte != b'\\' {
            continue;
        }
        out.extend(&bytes[plain..index]);
        plain = index + 1;
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            _ => out.extend(format!("\\u{byte:04x}").as_bytes()),
        }
    }
    out.extend(&bytes[plain..]);
    out.push(b'"');
    Ok(())
}

fn struct_writer(array: &StructArray, members: &Fields) -> Result<WriteValue, String> {
    let mut parts = Vec::with_capacity(members.len());
    for (number, (member, column)) in members.iter().zip(array.columns()).enumerate() {
        let mut key = Vec::from(if number == 0 { &b"{"[..] } else { b"," });
        write_string(member.name(), &mut key)?;
        key.push(b':');
        parts.push((key, Writer::new(column)?));
    }
    Ok(Box::new(move |row, out| {
        for (key, writer) in &parts {
            out.extend(key);
            writer.write(row, out)?;
        }
        out.extend(if parts.is_empty() { &b"{}"[..] } else { b"}" });
        Ok(())
    }))
}

fn list_writer(items: Writer, range: impl Fn(usize) -> (usize, usize) + Send + 'static) -> WriteValue {
    Box::new(move |row, out| {
        let (start, end) = range(row);
        out.push(b'[');
        for item in start..end {
            if item > start {
                out.push(b',');
            }
            items.write(item, out)?;
        }
        out.push(b']');
        Ok(())
    })
}

fn map_writer(map: MapArray) -> Result<WriteValue, String> {
    let (keys, values) = (Writer::new(map.keys())?, Writer::new(map.values())?);
    Ok(Box::new(move |row, out| {
        out.push(b'[');
        for (number, entry) in (map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize).enumerate() {
            out.extend(if number == 0 { &b"["[..] } else { b",[" });
            keys.write(entry, out)?;
            out.push(b',');
            values.write(entry, out)?;
            out.push(b']');
        }
        out.push(b']');
        Ok(())
    }))
}

/// Writes a map of strings as an object, the form in which other programs read a by-field column.
pub(in crate::types) fn object_writer(map: &MapArray) -> Result<Writer, String> {
    let (keys, values) = (Writer::new(map.keys())?, Writer::new(map.values())?);
    let (nulls, map) = (map.nulls().cloned(), map.clone());
    let value: WriteValue = Box::new(move |row, out| {
        out.push(b'{');
        for (number, entry) in (map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize).enumerate() {
            if number > 0 {
                out.push(b',');
            }
            keys.write(entry, out)?;
            out.push(b':');
            values.write(entry, out)?;
        }
        out.push(b'}');
        Ok(())
    });
    Ok(Writer { nulls, value })
}
