//! Single values, in columns and in nested values.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType,
    Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use metaxy_core::Result;

use super::Damage;

/// Writes the value of a row.
pub(crate) type Write = Box<dyn Fn(usize, &mut String)>;

/// Casts values of rare types to common ones, for which there are encoders.
pub(crate) fn common(array: &ArrayRef) -> Result<ArrayRef> {
    let target = match array.data_type() {
        DataType::Float16 | DataType::Float32 => DataType::Float64,
        DataType::FixedSizeBinary(_) => DataType::Binary,
        _ => return Ok(array.clone()),
    };
    Ok(cast(array, &target)?)
}

/// Returns a function that reads the values of a column that is stored as INTEGER.
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

/// Returns a function that writes the values of a decimal column: `12.50`, or `125e1` if the scale is negative.
pub(super) fn decimal_formatter(array: &ArrayRef) -> Write {
    fn of<T: DecimalType>(array: &ArrayRef, precision: u8, scale: i8) -> Write {
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

/// Casts values, and fails if a value does not fit.
pub(super) fn cast_to(array: ArrayRef, data_type: &DataType) -> Result<ArrayRef, Damage> {
    if array.data_type() == data_type {
        return Ok(array);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(&array, data_type, &options).map_err(|error| error.to_string())
}

/// Casts values that are stored as INTEGER to their type.
pub(super) fn integer_array(values: Int64Array, data_type: &DataType) -> Result<ArrayRef, Damage> {
    let values: ArrayRef = Arc::new(values);
    match data_type {
        // Arrow casts numbers of the same width only to these.
        DataType::Date32 | DataType::Time32(_) => cast_to(cast_to(values, &DataType::Int32)?, data_type),
        _ => cast_to(values, data_type),
    }
}

/// Parses decimals from their stored texts.
pub(super) fn decimal_array<'a>(
    data_type: &DataType,
    texts: impl Iterator<Item = Option<&'a str>>,
) -> Result<ArrayRef, Damage> {
    match data_type {
        DataType::Decimal32(precision, scale) => decimals::<Decimal32Type>(texts, *precision, *scale),
        DataType::Decimal64(precision, scale) => decimals::<Decimal64Type>(texts, *precision, *scale),
        DataType::Decimal128(precision, scale) => decimals::<Decimal128Type>(texts, *precision, *scale),
        DataType::Decimal256(precision, scale) => decimals::<Decimal256Type>(texts, *precision, *scale),
        other => Err(format!("{other} is not a decimal type")),
    }
}

fn decimals<'a, T: DecimalType>(
    texts: impl Iterator<Item = Option<&'a str>>,
    precision: u8,
    scale: i8,
) -> Result<ArrayRef, Damage>
where
    T::Native: std::str::FromStr,
{
    let parse = |text: &str| {
        let digits = unscaled(text, scale).and_then(|digits| digits.parse::<T::Native>().ok());
        digits.ok_or_else(|| format!("`{text}` is not a decimal number of scale {scale}"))
    };
    let values = texts.map(|text| text.map(parse).transpose());
    let array: PrimitiveArray<T> = values.collect::<Result<_, _>>()?;
    Ok(Arc::new(array.with_precision_and_scale(precision, scale).map_err(|error| error.to_string())?))
}

/// Parses a decimal number that [`decimal_formatter`] has written at this scale, and returns its digits.
fn unscaled(text: &str, scale: i8) -> Option<String> {
    let (number, exponent) = match text.split_once('e') {
        Some((number, exponent)) => (number, exponent.parse().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let has_scale = fraction.len() == usize::from(scale.max(0).unsigned_abs()) && exponent == -i32::from(scale.min(0));
    has_scale.then(|| format!("{whole}{fraction}"))
}
