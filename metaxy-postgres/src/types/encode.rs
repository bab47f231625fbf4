//! Encodes Arrow values in the binary format of `COPY … FROM STDIN`.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use metaxy_core::columns;

use super::{EPOCH_DAYS, EPOCH_MICROS, Storage, Wire, json, numeric};

/// The range of timestamps of PostgreSQL, from 4713-11-24 BC, in microseconds from 2000.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// The range of dates of PostgreSQL, in days from 2000.
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;

type EncodeValue = Box<dyn Fn(usize, &mut Vec<u8>) -> Result<(), String> + Send>;

/// Encodes the values of one column of a batch.
pub(crate) struct Encoder {
    nulls: Option<NullBuffer>,
    value: EncodeValue,
}

impl Encoder {
    /// Creates an encoder for a column; `column` is its name.
    pub(crate) fn new(column: &str, storage: &Storage, array: &ArrayRef) -> Result<Self, String> {
        let by_field = column == columns::PROVENANCE_BY_FIELD || column == columns::DATA_VERSION_BY_FIELD;
        let array = plain(array)?;
        let value = match (&storage.wire, array.data_type()) {
            (Wire::Jsonb | Wire::Json | Wire::Text, DataType::Map(_, _)) if by_field => {
                json_value(&storage.wire, json::object_writer(array.as_map())?)
            }
            _ => encode_value(&storage.wire, &array)?,
        };
        Ok(Self { nulls: array.logical_nulls(), value })
    }

    /// Appends the field of a row: its length and its bytes.
    pub(crate) fn encode(&self, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            out.extend((-1_i32).to_be_bytes());
            return Ok(());
        }
        let start = out.len();
        out.extend([0; 4]);
        (self.value)(row, out)?;
        let length =
            i32::try_from(out.len() - start - 4).map_err(|_| "it holds a value of more than 2 GiB".to_owned())?;
        out.get_mut(start..start + 4).ok_or("a buffer shrank")?.copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

/// Returns the array without its dictionary.
fn plain(array: &ArrayRef) -> Result<ArrayRef, String> {
    match array.data_type() {
        DataType::Dictionary(_, value) => cast(array, value).map_err(|error| error.to_string()),
        _ => Ok(array.clone()),
    }
}

fn encode_value(wire: &Wire, array: &ArrayRef) -> Result<EncodeValue, String> {
    use DataType as T;
    Ok(match (wire, array.data_type()) {
        (Wire::Bool, T::Boolean) => {
            let array = array.as_boolean().clone();
            Box::new(move |row, out| {
                out.push(u8::from(array.value(row)));
                Ok(())
            })
        }
        (Wire::Int2, T::Int8) => fixed::<Int8Type, 2>(array, |value| Ok(i16::from(value).to_be_bytes())),
        (Wire::Int2, T::UInt8) => fixed::<UInt8Type, 2>(array, |value| Ok(i16::from(value).to_be_bytes())),
        (Wire::Int2, T::Int16) => fixed::<Int16Type, 2>(array, |value| Ok(value.to_be_bytes())),
        (Wire::Int4, T::UInt16) => fixed::<UInt16Type, 4>(array, |value| Ok(i32::from(value).to_be_bytes())),
        (Wire::Int4, T::Int32) => fixed::<Int32Type, 4>(array, |value| Ok(value.to_be_bytes())),
        (Wire::Int8, T::UInt32) => fixed::<UInt32Type, 8>(array, |value| Ok(i64::from(value).to_be_bytes())),
        (Wire::Int8, T::Int64) => fixed::<Int64Type, 8>(array, |value| Ok(value.to_be_bytes())),
        (Wire::Int8, T::Time64(_) | T::Timestamp(_, _) | T::Duration(_)) => {
            fixed::<Int64Type, 8>(&counted(array, &T::Int64)?, |value| Ok(value.to_be_bytes()))
        }
        // A NaN with another bit pattern would sort differently in Arrow than in PostgreSQL.
        (Wire::Float4, T::Float16) => {
            fixed::<Float16Type, 4>(array, |value| Ok(canonical(f32::from(value)).to_be_bytes()))
        }
        (Wire::Float4, T::Float32) => fixed::<Float32Type, 4>(array, |value| Ok(canonical(value).to_be_bytes())),
        (Wire::Float8, T::Float64) => {
            fixed::<Float64Type, 8>(array, |value| Ok(if value.is_nan() { f64::NAN } else { value }.to_be_bytes()))
        }
        (Wire::Text | Wire::Json | Wire::Jsonb, T::Utf8 | T::LargeUtf8 | T::Utf8View) => {
            text(array, *wire == Wire::Jsonb)?
        }
        (Wire::Uuid, T::Utf8 | T::LargeUtf8 | T::Utf8View) => uuid(array)?,
        (Wire::Bytea, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_)) => bytes(array)?,
        (Wire::Date, T::Date32) => fixed::<Date32Type, 4>(array, |value| {
            let days = value.checked_sub(EPOCH_DAYS).filter(|days| DATES.contains(days));
            days.map(i32::to_be_bytes).ok_or_else(|| "it holds a date outside the range of PostgreSQL".to_owned())
        }),
        (Wire::Time, T::Time32(unit) | T::Time64(unit)) => time(array, *unit)?,
        (Wire::Timestamp, T::Date64) => {
            fixed::<Date64Type, 8>(array, |value| timestamp(value, 1_000).map(i64::to_be_bytes))
        }
        (Wire::Timestamp | Wire::Timestamptz, T::Timestamp(unit, _)) => {
            let scale = micros_in(*unit);
            fixed::<Int64Type, 8>(&counted(array, &T::Int64)?, move |value| {
                timestamp(value, scale).map(i64::to_be_bytes)
            })
        }
        (Wire::Numeric, T::UInt64) => digits::<UInt64Type>(array, 0),
        (Wire::Numeric, T::Decimal32(_, scale)) => digits::<Decimal32Type>(array, *scale),
        (Wire::Numeric, T::Decimal64(_, scale)) => digits::<Decimal64Type>(array, *scale),
        (Wire::Numeric, T::Decimal128(_, scale)) => digits::<Decimal128Type>(array, *scale),
        (Wire::Numeric, T::Decimal256(_, scale)) => digits::<Decimal256Type>(array, *scale),
        (Wire::Array(element, oid), T::List(_) | T::LargeList(_) | T::FixedSizeList(_, _)) => {
            list(element, *oid, array)?
        }
        (Wire::Jsonb | Wire::Json | Wire::Text, T::Struct(_) | T::Map(_, _) | T::List(_) | T::LargeList(_))
        | (Wire::Jsonb | Wire::Json, T::FixedSizeList(_, _)) => json_value(wire, json::Writer::new(array)?),
        (_, other) => {
            return Err(format!("its values have the type {other}, which does not match its PostgreSQL type"));
        }
    })
}

fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

/// Returns the numbers of temporal values.
fn counted(array: &ArrayRef, count: &DataType) -> Result<ArrayRef, String> {
    cast(array, count).map_err(|error| error.to_string())
}

fn fixed<T: ArrowPrimitiveType, const N: usize>(
    array: &ArrayRef,
    convert: impl Fn(T::Native) -> Result<[u8; N], String> + Send + 'static,
) -> EncodeValue {
    let array = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        out.extend(convert(array.value(row))?);
        Ok(())
    })
}

fn micros_in(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond | TimeUnit::Nanosecond => 1,
    }
}

/// Converts a timestamp into microseconds from 2000.
fn timestamp(value: i64, scale: i64) -> Result<i64, String> {
    let micros = value.checked_mul(scale).and_then(|micros| micros.checked_sub(EPOCH_MICROS));
    micros
        .filter(|micros| TIMESTAMPS.contains(micros))
        .ok_or_else(|| "it holds a timestamp outside the range of PostgreSQL".to_owned())
}

fn time(array: &ArrayRef, unit: TimeUnit) -> Result<EncodeValue, String> {
    let scale = micros_in(unit);
    let count = if matches!(array.data_type(), DataType::Time32(_)) { DataType::Int32 } else { DataType::Int64 };
    let array = counted(&counted(array, &count)?, &DataType::Int64)?;
    Ok(fixed::<Int64Type, 8>(&array, move |value| {
        let micros = value.checked_mul(scale).filter(|micros| (0..=86_400_000_000).contains(micros));
        micros.map(i64::to_be_bytes).ok_or_else(|| "it holds a time outside of a day".to_owned())
    }))
}

fn text(array: &ArrayRef, versioned: bool) -> Result<EncodeValue, String> {
    let array = match array.data_type() {
        DataType::Utf8 => return Ok(text_of(array.as_string::<i32>().clone(), versioned)),
        DataType::LargeUtf8 => array.clone(),
        _ => counted(array, &DataType::LargeUtf8)?,
    };
    Ok(text_of(array.as_string::<i64>().clone(), versioned))
}

fn text_of<O: arrow::array::OffsetSizeTrait>(
    array: arrow::array::GenericStringArray<O>,
    versioned: bool,
) -> EncodeValue {
    Box::new(move |row, out| {
        let text = array.value(row).as_bytes();
        if text.contains(&0) {
            return Err(json::NUL.to_owned());
        }
        out.extend(versioned.then_some(1));
        out.extend(text);
        Ok(())
    })
}

fn bytes(array: &ArrayRef) -> Result<EncodeValue, String> {
    let array = counted(array, &DataType::LargeBinary)?;
    Ok(Box::new(move |row, out| {
        out.extend(array.as_binary::<i64>().value(row));
        Ok(())
    }))
}

fn uuid(array: &ArrayRef) -> Result<EncodeValue, String> {
    let array = counted(array, &DataType::LargeUtf8)?;
    Ok(Box::new(move |row, out| {
        let text = array.as_string::<i64>().value(row);
        let digits: String = text.chars().filter(|c| !matches!(c, '-' | '{' | '}')).collect();
        let value = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32);
        out.extend(
            value.ok_or_else(|| format!("its PostgreSQL type is uuid, but {text:?} is not a UUID"))?.to_be_bytes(),
        );
        Ok(())
    }))
}

fn digits<T: ArrowPrimitiveType>(array: &ArrayRef, scale: i8) -> EncodeValue
where
    T::Native: std::fmt::Display,
{
    let array = array.as_primitive::<T>().clone();
    Box::new(move |row, out| {
        numeric::encode(&array.value(row).to_string(), scale.into(), out);
        Ok(())
    })
}

fn json_value(wire: &Wire, writer: json::Writer) -> EncodeValue {
    let versioned = *wire == Wire::Jsonb;
    Box::new(move |row, out| {
        out.extend(versioned.then_some(1));
        writer.write(row, out)
    })
}

/// Returns the first item of a row, and the end of its items.
type ItemsOf = Box<dyn Fn(usize) -> (usize, usize) + Send>;

/// Returns a function that encodes lists as arrays of PostgreSQL: dimensions, whether there are nulls, the element
/// type, the bounds, the elements.
fn list(element: &Wire, oid: u32, array: &ArrayRef) -> Result<EncodeValue, String> {
    let (items, range): (ArrayRef, ItemsOf) = match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.offsets().clone();
            (list.values().clone(), Box::new(move |row| (offsets[row] as usize, offsets[row + 1] as usize)))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.offsets().clone();
            (list.values().clone(), Box::new(move |row| (offsets[row] as usize, offsets[row + 1] as usize)))
        }
        _ => {
            let list = array.as_fixed_size_list();
            let size = list.value_length() as usize;
            (list.values().clone(), Box::new(move |row| (row * size, (row + 1) * size)))
        }
    };
    let items = plain(&items)?;
    let items = Encoder { nulls: items.logical_nulls(), value: encode_value(element, &items)? };
    Ok(Box::new(move |row, out| {
        let (start, end) = range(row);
        let header = |value: u32, out: &mut Vec<u8>| out.extend(value.to_be_bytes());
        let has_nulls = items.nulls.as_ref().is_some_and(|nulls| nulls.slice(start, end - start).null_count() > 0);
        header(u32::from(end > start), out);
        header(u32::from(has_nulls), out);
        header(oid, out);
        if end > start {
            header(u32::try_from(end - start).map_err(|_| "it holds a list that is too long".to_owned())?, out);
            header(1, out);
        }
        (start..end).try_for_each(|item| items.encode(item, out))
    }))
}
