//! Decodes the binary format of `COPY … TO STDOUT` into Arrow builders.

mod fields;
mod nested;
mod numbers;
mod scalars;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BinaryViewBuilder, BooleanBuilder, FixedSizeBinaryBuilder,
    LargeBinaryBuilder, LargeStringBuilder, StringBuilder, StringViewBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, UInt8Type, UInt16Type,
};

use super::{EPOCH_DAYS, Storage, Wire, json};
use nested::{Json, Lists};
use numbers::{decimal, exact, int8, narrow, time, timestamp};
use scalars::{Bools, ByteViews, Bytes, FixedBytes, LargeTexts, TextViews, Texts, Uuids};

pub(crate) use fields::Fields;

/// Collects the values of one column.
pub(crate) trait Decoder: Send {
    /// Adds a value in its binary form. After an error a null may be added instead, if the decoder
    /// [recovers](Self::recovers).
    fn value(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// Returns whether an error of [`Self::value`] concerns only that value.
    fn recovers(&self) -> bool {
        true
    }
    /// Adds a null.
    fn null(&mut self);
    /// Returns the values added since the last call.
    fn finish(&mut self) -> Result<ArrayRef, String>;
}

/// Returns a decoder for a column.
///
/// # Errors
/// A PostgreSQL type from which the Arrow type cannot be decoded, because the table has changed since it was read.
pub(crate) fn decoder(storage: &Storage) -> Result<Box<dyn Decoder>, String> {
    of(&storage.wire, &storage.data_type)
}

fn of(wire: &Wire, data_type: &DataType) -> Result<Box<dyn Decoder>, String> {
    use DataType as T;
    let none = || format!("its PostgreSQL type cannot be read as {data_type}");
    Ok(match wire {
        Wire::Bool => Box::new(Bools(BooleanBuilder::new())),
        Wire::Int2 => match data_type {
            T::Int8 => narrow::<Int8Type, 2>(data_type, i16::from_be_bytes),
            T::UInt8 => narrow::<UInt8Type, 2>(data_type, i16::from_be_bytes),
            T::Int16 => exact::<Int16Type, 2>(data_type, |bytes| Ok(i16::from_be_bytes(bytes))),
            _ => return Err(none()),
        },
        Wire::Int4 => match data_type {
            T::UInt16 => narrow::<UInt16Type, 4>(data_type, i32::from_be_bytes),
            T::Int32 => exact::<Int32Type, 4>(data_type, |bytes| Ok(i32::from_be_bytes(bytes))),
            _ => return Err(none()),
        },
        Wire::Int8 => int8(data_type).ok_or_else(none)?,
        Wire::Float4 => match data_type {
            T::Float16 => exact::<Float16Type, 4>(data_type, |bytes| {
                Ok(<Float16Type as ArrowPrimitiveType>::Native::from_f32(f32::from_be_bytes(bytes)))
            }),
            _ => exact::<Float32Type, 4>(data_type, |bytes| Ok(f32::from_be_bytes(bytes))),
        },
        Wire::Float8 => exact::<Float64Type, 8>(data_type, |bytes| Ok(f64::from_be_bytes(bytes))),
        Wire::Bytea => match data_type {
            T::LargeBinary => Box::new(Bytes(LargeBinaryBuilder::new())),
            T::BinaryView => Box::new(ByteViews(BinaryViewBuilder::new())),
            T::FixedSizeBinary(size) => Box::new(FixedBytes(FixedSizeBinaryBuilder::new(*size))),
            _ => Box::new(Bytes(BinaryBuilder::new())),
        },
        Wire::Date => exact::<Date32Type, 4>(data_type, |bytes| {
            let days = i32::from_be_bytes(bytes);
            let finite = days != i32::MAX && days != i32::MIN;
            days.checked_add(EPOCH_DAYS).filter(|_| finite).ok_or_else(|| "it holds an infinite date".to_owned())
        }),
        Wire::Time => time(data_type).ok_or_else(none)?,
        Wire::Timestamp | Wire::Timestamptz => timestamp(data_type).ok_or_else(none)?,
        Wire::Numeric => decimal(data_type).ok_or_else(none)?,
        Wire::Array(element, _) => match data_type {
            T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => {
                Box::new(Lists::new(of(element, item.data_type())?, data_type))
            }
            _ => return Err(none()),
        },
        Wire::Uuid => Box::new(Uuids(StringBuilder::new())),
        Wire::Text | Wire::Json | Wire::Jsonb | Wire::Other => match data_type {
            T::Utf8 => Box::new(Texts { builder: StringBuilder::new(), skip: usize::from(*wire == Wire::Jsonb) }),
            T::LargeUtf8 => Box::new(LargeTexts(LargeStringBuilder::new())),
            T::Utf8View => Box::new(TextViews(StringViewBuilder::new())),
            _ => Box::new(Json { reader: json::Reader::new(data_type), skip: usize::from(*wire == Wire::Jsonb) }),
        },
    })
}
