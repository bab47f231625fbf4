//! Converts Arrow values into SQL parameters.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, LargeStringBuilder, PrimitiveArray};
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use metaxy_core::Result;
use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::scalars::{common, decimal_formatter, integer_getter};
use super::{Storage, json, storage};

/// Binds the value of a row to a parameter of a statement. The text is a buffer that rows share.
///
/// Parameters keep their values from row to row, so a value that equals the previous one is not bound again: columns
/// that have one value for all rows of a write cost almost nothing.
pub(crate) type Bind<'a> = Box<dyn Fn(&mut Statement<'_>, usize, usize, &mut String) -> rusqlite::Result<()> + 'a>;

fn bind(statement: &mut Statement<'_>, parameter: usize, value: ValueRef<'_>) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(parameter, ToSqlOutput::Borrowed(value))
}

/// Converts values into the form in which they are bound: a few common types, nested values as JSON text.
pub(crate) fn encode(array: &ArrayRef) -> Result<ArrayRef> {
    let array = common(array)?;
    if storage(array.data_type()) != Some(Storage::Json) {
        return Ok(array);
    }
    let write = json::writer(&array)?;
    let mut texts = LargeStringBuilder::with_capacity(array.len(), 32 * array.len());
    let mut text = String::new();
    for row in 0..array.len() {
        if array.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        write(row, &mut text);
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

/// Returns the function that binds the values of an [encoded](encode) array.
pub(crate) fn binder(array: &ArrayRef) -> Bind<'_> {
    match storage(array.data_type()) {
        // Nested values have been encoded as texts.
        None | Some(Storage::Null | Storage::Json) => {
            Box::new(|statement, parameter, _, _| bind(statement, parameter, ValueRef::Null))
        }
        Some(Storage::Decimal) => decimal(array),
        Some(Storage::Bool) => {
            let array = array.as_boolean();
            values(array, |row| i64::from(array.value(row)), |value| ValueRef::Integer(*value))
        }
        Some(Storage::Integer) => integer(array),
        Some(Storage::Unsigned64) => unsigned64(array.as_primitive()),
        Some(Storage::Float) => {
            let array = array.as_primitive::<Float64Type>();
            values(array, |row| array.value(row).to_bits(), |bits| float(f64::from_bits(*bits)))
        }
        Some(Storage::Text) => text(array),
        Some(Storage::Blob) => blob(array),
    }
}

/// Binds a value if it differs from that of the previous row.
fn values<'a, T: PartialEq + 'a>(
    array: &'a dyn Array,
    value: impl Fn(usize) -> T + 'a,
    to_sql: impl for<'v> Fn(&'v T) -> ValueRef<'v> + 'a,
) -> Bind<'a> {
    let nulls = array.nulls();
    let get = move |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row)).then(|| value(row));
    Box::new(move |statement, parameter, row, _| {
        let value = get(row);
        if row > 0 && value == get(row - 1) {
            return Ok(());
        }
        bind(statement, parameter, value.as_ref().map_or(ValueRef::Null, &to_sql))
    })
}

fn float(value: f64) -> ValueRef<'static> {
    // SQLite stores NaN as NULL.
    if value.is_nan() { ValueRef::Text(b"NaN") } else { ValueRef::Real(value) }
}

fn text(array: &ArrayRef) -> Bind<'_> {
    fn bound<'a>(array: &'a dyn Array, value: impl Fn(usize) -> &'a str + 'a) -> Bind<'a> {
        values(array, value, |text| ValueRef::Text(text.as_bytes()))
    }
    match array.data_type() {
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            bound(array, move |row| array.value(row))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            bound(array, move |row| array.value(row))
        }
        _ => {
            let array = array.as_string_view();
            bound(array, move |row| array.value(row))
        }
    }
}

fn blob(array: &ArrayRef) -> Bind<'_> {
    fn bound<'a>(array: &'a dyn Array, value: impl Fn(usize) -> &'a [u8] + 'a) -> Bind<'a> {
        values(array, value, |bytes| ValueRef::Blob(bytes))
    }
    match array.data_type() {
        DataType::Binary => bound(array, |row| array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => bound(array, |row| array.as_binary::<i64>().value(row)),
        _ => bound(array, |row| array.as_binary_view().value(row)),
    }
}

fn unsigned64(array: &PrimitiveArray<UInt64Type>) -> Bind<'_> {
    Box::new(move |statement, parameter, row, _| {
        let value = array.is_valid(row).then(|| array.value(row));
        match value.map(i64::try_from) {
            None => bind(statement, parameter, ValueRef::Null),
            Some(Ok(small)) => bind(statement, parameter, ValueRef::Integer(small)),
            Some(Err(_)) => bind(statement, parameter, ValueRef::Blob(&array.value(row).to_be_bytes())),
        }
    })
}

fn decimal(array: &ArrayRef) -> Bind<'_> {
    let format = decimal_formatter(array);
    Box::new(move |statement, parameter, row, scratch| {
        if array.is_null(row) {
            return bind(statement, parameter, ValueRef::Null);
        }
        scratch.clear();
        format(row, scratch);
        bind(statement, parameter, ValueRef::Text(scratch.as_bytes()))
    })
}

fn integer(array: &ArrayRef) -> Bind<'_> {
    let get = integer_getter(array);
    values(array, get, |value| ValueRef::Integer(*value))
}
