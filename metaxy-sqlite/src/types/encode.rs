//! Arrow values into SQL parameters.

use std::fmt::Write as _;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use metaxy_core::Result;
use rusqlite::Statement;
use rusqlite::types::{ToSqlOutput, ValueRef};

use super::{Storage, json, storage};

/// Binds the value of a row to a parameter of a statement. The text is scratch space that rows share.
///
/// Parameters keep their values from row to row, so a value that equals the one before is not bound again: the columns
/// that a write stamps on all of its rows cost next to nothing.
pub(crate) type Bind<'a> = Box<dyn Fn(&mut Statement<'_>, usize, usize, &mut String) -> rusqlite::Result<()> + 'a>;

fn bind(statement: &mut Statement<'_>, parameter: usize, value: ValueRef<'_>) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(parameter, ToSqlOutput::Borrowed(value))
}

/// The array whose values are bound: dictionaries unpacked, rare types cast to their plain relatives.
pub(crate) fn plain(array: &ArrayRef) -> Result<ArrayRef> {
    let target = match array.data_type() {
        DataType::Dictionary(_, values) => {
            let unpacked = cast(array, values)?;
            return plain(&unpacked);
        }
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        _ => return Ok(array.clone()),
    };
    Ok(cast(array, &target)?)
}

/// How the values of a (plain) array are bound.
pub(crate) fn encoder(array: &ArrayRef) -> Result<Bind<'_>> {
    Ok(match storage(array.data_type()) {
        None | Some(Storage::Null) => Box::new(|statement, parameter, _, _| bind(statement, parameter, ValueRef::Null)),
        Some(Storage::Json) => nested(array)?,
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
    })
}

/// Binds where a row differs from the one before.
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
    // SQLite takes NaN for NULL.
    if value.is_nan() { ValueRef::Text(b"NaN") } else { ValueRef::Real(value) }
}

fn text(array: &ArrayRef) -> Bind<'_> {
    fn bound<'a>(array: &'a dyn Array, value: impl Fn(usize) -> &'a str + 'a) -> Bind<'a> {
        values(array, value, |text| ValueRef::Text(text.as_bytes()))
    }
    match array.data_type() {
        DataType::Utf8 => bound(array, |row| array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => bound(array, |row| array.as_string::<i64>().value(row)),
        _ => bound(array, |row| array.as_string_view().value(row)),
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

fn nested(array: &ArrayRef) -> Result<Bind<'_>> {
    let write = json::writer(array)?;
    Ok(Box::new(move |statement, parameter, row, scratch| {
        if array.is_null(row) {
            return bind(statement, parameter, ValueRef::Null);
        }
        scratch.clear();
        write(row, scratch);
        bind(statement, parameter, ValueRef::Text(scratch.as_bytes()))
    }))
}

fn integer(array: &ArrayRef) -> Bind<'_> {
    let get = integer_getter(array);
    values(array, get, |value| ValueRef::Integer(*value))
}

/// Reads the values of a column that is stored as INTEGER.
pub(super) fn integer_getter(array: &ArrayRef) -> Box<dyn Fn(usize) -> i64> {
    fn of<T: ArrowPrimitiveType>(array: &ArrayRef) -> Box<dyn Fn(usize) -> i64>
    where
        T::Native: Into<i64>,
    {
        let values = array.as_primitive::<T>().values().clone();
        Box::new(move |row| values[row].into())
    }
    match array.data_type() {
        DataType::Int8 => of::<Int8Type>(array),
        DataType::Int16 => of::<Int16Type>(array),
        DataType::Int32 => of::<Int32Type>(array),
        DataType::UInt8 => of::<UInt8Type>(array),
        DataType::UInt16 => of::<UInt16Type>(array),
        DataType::UInt32 => of::<UInt32Type>(array),
        DataType::Date32 => of::<Date32Type>(array),
        DataType::Date64 => of::<Date64Type>(array),
        DataType::Time32(TimeUnit::Second) => of::<Time32SecondType>(array),
        DataType::Time32(_) => of::<Time32MillisecondType>(array),
        DataType::Time64(TimeUnit::Microsecond) => of::<Time64MicrosecondType>(array),
        DataType::Time64(_) => of::<Time64NanosecondType>(array),
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>(array),
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType>(array),
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType>(array),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of::<TimestampNanosecondType>(array),
        DataType::Duration(TimeUnit::Second) => of::<DurationSecondType>(array),
        DataType::Duration(TimeUnit::Millisecond) => of::<DurationMillisecondType>(array),
        DataType::Duration(TimeUnit::Microsecond) => of::<DurationMicrosecondType>(array),
        DataType::Duration(TimeUnit::Nanosecond) => of::<DurationNanosecondType>(array),
        _ => of::<Int64Type>(array),
    }
}

/// Writes the values of a decimal column: `12.50`, or `125e1` where the scale is below zero.
pub(super) fn decimal_formatter(array: &ArrayRef) -> json::Write {
    fn of<T: DecimalType>(array: &ArrayRef, precision: u8, scale: i8) -> json::Write {
        let array = array.as_primitive::<T>().clone();
        Box::new(move |row, out| {
            out.push_str(&T::format_decimal(array.value(row), precision, scale.max(0)));
            if scale < 0 {
                let _ = write!(out, "e{}", -i32::from(scale));
            }
        })
    }
    match array.data_type() {
        DataType::Decimal32(precision, scale) => of::<Decimal32Type>(array, *precision, *scale),
        DataType::Decimal64(precision, scale) => of::<Decimal64Type>(array, *precision, *scale),
        DataType::Decimal256(precision, scale) => of::<Decimal256Type>(array, *precision, *scale),
        DataType::Decimal128(precision, scale) => of::<Decimal128Type>(array, *precision, *scale),
        _ => Box::new(|_, _| {}),
    }
}
