//! The binary format of `COPY … TO STDOUT` into Arrow builders.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BinaryViewBuilder, BooleanBufferBuilder, BooleanBuilder,
    FixedSizeBinaryBuilder, LargeBinaryBuilder, LargeStringBuilder, PrimitiveBuilder, StringBuilder, StringViewBuilder,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType, DurationSecondType, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type, i256,
};

use super::{EPOCH_DAYS, EPOCH_MICROS, Storage, Wire, json, numeric};

/// Collects the values of one column.
pub(crate) trait Decoder: Send {
    /// Adds a value in its binary form. After an error a null may be added in its place, where the decoder
    /// [recovers](Self::recovers).
    fn value(&mut self, bytes: &[u8]) -> Result<(), String>;
    /// Whether an error of [`Self::value`] is about that value alone.
    fn recovers(&self) -> bool {
        true
    }
    /// Adds a null.
    fn null(&mut self);
    /// The values added since the last call.
    fn finish(&mut self) -> Result<ArrayRef, String>;
}

/// A decoder for a column.
///
/// # Errors
/// A PostgreSQL type that the Arrow type cannot come from: the table has changed under our feet.
pub(crate) fn decoder(storage: &Storage) -> Result<Box<dyn Decoder>, String> {
    of(&storage.wire, &storage.data_type)
}

fn of(wire: &Wire, data_type: &DataType) -> Result<Box<dyn Decoder>, String> {
    use DataType as T;
    let none = || format!("no {data_type} comes out of its PostgreSQL type");
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
        Wire::Array(element, _) => Box::new(Lists {
            item: match data_type {
                T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => of(element, item.data_type())?,
                _ => return Err(none()),
            },
            items: 0,
            ends: vec![0],
            nulls: BooleanBufferBuilder::new(0),
            data_type: data_type.clone(),
        }),
        Wire::Uuid => Box::new(Uuids(StringBuilder::new())),
        Wire::Text | Wire::Json | Wire::Jsonb | Wire::Other => match data_type {
            T::Utf8 => Box::new(Texts { builder: StringBuilder::new(), skip: usize::from(*wire == Wire::Jsonb) }),
            T::LargeUtf8 => Box::new(LargeTexts(LargeStringBuilder::new())),
            T::Utf8View => Box::new(TextViews(StringViewBuilder::new())),
            _ => Box::new(Json { reader: json::Reader::new(data_type), skip: usize::from(*wire == Wire::Jsonb) }),
        },
    })
}

fn int8(data_type: &DataType) -> Option<Box<dyn Decoder>> {
    use DataType as T;
    use TimeUnit as U;
    fn count<T: ArrowPrimitiveType<Native = i64>>(data_type: &DataType) -> Box<dyn Decoder> {
        exact::<T, 8>(data_type, |bytes| Ok(i64::from_be_bytes(bytes)))
    }
    Some(match data_type {
        T::UInt32 => narrow::<UInt32Type, 8>(data_type, i64::from_be_bytes),
        T::Int64 => count::<Int64Type>(data_type),
        T::Time64(U::Nanosecond) => count::<Time64NanosecondType>(data_type),
        T::Timestamp(U::Nanosecond, _) => count::<TimestampNanosecondType>(data_type),
        T::Duration(U::Second) => count::<DurationSecondType>(data_type),
        T::Duration(U::Millisecond) => count::<DurationMillisecondType>(data_type),
        T::Duration(U::Microsecond) => count::<DurationMicrosecondType>(data_type),
        T::Duration(U::Nanosecond) => count::<DurationNanosecondType>(data_type),
        _ => return None,
    })
}

fn time(data_type: &DataType) -> Option<Box<dyn Decoder>> {
    fn scaled<T: ArrowPrimitiveType>(data_type: &DataType, micros: i64) -> Box<dyn Decoder>
    where
        T::Native: TryFrom<i64>,
    {
        exact::<T, 8>(data_type, move |bytes| {
            let value = i64::from_be_bytes(bytes);
            let whole = (value % micros == 0).then_some(value / micros);
            whole.and_then(|value| T::Native::try_from(value).ok()).ok_or_else(|| finer("time"))
        })
    }
    match data_type {
        DataType::Time32(TimeUnit::Second) => Some(scaled::<Time32SecondType>(data_type, 1_000_000)),
        DataType::Time32(TimeUnit::Millisecond) => Some(scaled::<Time32MillisecondType>(data_type, 1_000)),
        DataType::Time64(TimeUnit::Microsecond) => Some(scaled::<Time64MicrosecondType>(data_type, 1)),
        _ => None,
    }
}

fn finer(what: &str) -> String {
    format!("it holds a {what} that is finer than the unit of its type")
}

fn timestamp(data_type: &DataType) -> Option<Box<dyn Decoder>> {
    fn scaled<T: ArrowPrimitiveType<Native = i64>>(data_type: &DataType, micros: i64) -> Box<dyn Decoder> {
        exact::<T, 8>(data_type, move |bytes| {
            let value = i64::from_be_bytes(bytes);
            if value == i64::MAX || value == i64::MIN {
                return Err("it holds an infinite timestamp, which Arrow does not have".to_owned());
            }
            let value = value.checked_add(EPOCH_MICROS).ok_or("it holds a timestamp beyond those of Arrow")?;
            if value % micros == 0 { Ok(value / micros) } else { Err(finer("timestamp")) }
        })
    }
    use TimeUnit as U;
    match data_type {
        DataType::Date64 => Some(scaled::<Date64Type>(data_type, 1_000)),
        DataType::Timestamp(U::Second, _) => Some(scaled::<TimestampSecondType>(data_type, 1_000_000)),
        DataType::Timestamp(U::Millisecond, _) => Some(scaled::<TimestampMillisecondType>(data_type, 1_000)),
        DataType::Timestamp(U::Microsecond, _) => Some(scaled::<TimestampMicrosecondType>(data_type, 1)),
        _ => None,
    }
}

fn decimal(data_type: &DataType) -> Option<Box<dyn Decoder>> {
    fn parsed<T: ArrowPrimitiveType>(
        data_type: &DataType,
        scale: i8,
        parse: impl Fn(&str) -> Option<T::Native> + Send + 'static,
    ) -> Box<dyn Decoder> {
        Box::new(Values::<T, _> {
            builder: PrimitiveBuilder::<T>::new().with_data_type(data_type.clone()),
            convert: move |bytes: &[u8]| {
                let digits = numeric::decode(bytes, scale.into())?;
                parse(&digits).ok_or_else(|| "it holds a numeric that is too large for its type".to_owned())
            },
        })
    }
    match data_type {
        DataType::UInt64 => Some(parsed::<UInt64Type>(data_type, 0, |digits| digits.parse().ok())),
        DataType::Decimal32(_, scale) => Some(parsed::<Decimal32Type>(data_type, *scale, |digits| digits.parse().ok())),
        DataType::Decimal64(_, scale) => Some(parsed::<Decimal64Type>(data_type, *scale, |digits| digits.parse().ok())),
        DataType::Decimal128(_, scale) => {
            Some(parsed::<Decimal128Type>(data_type, *scale, |digits| digits.parse().ok()))
        }
        DataType::Decimal256(_, scale) => Some(parsed::<Decimal256Type>(data_type, *scale, i256::from_string)),
        _ => None,
    }
}

/// Numbers of fixed width.
struct Values<T: ArrowPrimitiveType, F> {
    builder: PrimitiveBuilder<T>,
    convert: F,
}

impl<T: ArrowPrimitiveType, F: Fn(&[u8]) -> Result<T::Native, String> + Send> Decoder for Values<T, F> {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.builder.append_value((self.convert)(bytes)?);
        Ok(())
    }

    fn null(&mut self) {
        self.builder.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.builder.finish()))
    }
}

fn exact<T: ArrowPrimitiveType, const N: usize>(
    data_type: &DataType,
    convert: impl Fn([u8; N]) -> Result<T::Native, String> + Send + 'static,
) -> Box<dyn Decoder> {
    Box::new(Values::<T, _> {
        builder: PrimitiveBuilder::<T>::new().with_data_type(data_type.clone()),
        convert: move |bytes: &[u8]| convert(sized(bytes)?),
    })
}

/// Integers that PostgreSQL keeps in a wider type.
fn narrow<T: Wide, const N: usize>(
    data_type: &DataType,
    convert: impl Fn([u8; N]) -> T::Wide + Send + 'static,
) -> Box<dyn Decoder>
where
    T::Native: TryFrom<T::Wide>,
{
    exact::<T, N>(data_type, move |bytes| {
        T::Native::try_from(convert(bytes)).map_err(|_| "it holds a number beyond its type".to_owned())
    })
}

/// The PostgreSQL integer that an Arrow integer is kept in.
trait Wide: ArrowPrimitiveType {
    type Wide;
}

impl Wide for Int8Type {
    type Wide = i16;
}
impl Wide for UInt8Type {
    type Wide = i16;
}
impl Wide for UInt16Type {
    type Wide = i32;
}
impl Wide for UInt32Type {
    type Wide = i64;
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], String> {
    bytes.try_into().map_err(|_| format!("it sends {} bytes where {N} were expected", bytes.len()))
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "it holds text that is no UTF-8".to_owned())
}

struct Bools(BooleanBuilder);

impl Decoder for Bools {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.append_value(sized::<1>(bytes)? != [0]);
        Ok(())
    }

    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Texts {
    builder: StringBuilder,
    /// The version byte of jsonb.
    skip: usize,
}

impl Decoder for Texts {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.builder.append_value(utf8(bytes.get(self.skip..).unwrap_or_default())?);
        Ok(())
    }

    fn null(&mut self) {
        self.builder.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.builder.finish()))
    }
}

macro_rules! builder_decoder {
    ($name:ident, $builder:ty, $convert:expr) => {
        struct $name($builder);

        impl Decoder for $name {
            fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
                self.0.append_value($convert(bytes)?);
                Ok(())
            }

            fn null(&mut self) {
                self.0.append_null();
            }

            fn finish(&mut self) -> Result<ArrayRef, String> {
                Ok(Arc::new(self.0.finish()))
            }
        }
    };
}

builder_decoder!(LargeTexts, LargeStringBuilder, utf8);
builder_decoder!(TextViews, StringViewBuilder, utf8);
builder_decoder!(ByteViews, BinaryViewBuilder, Ok::<&[u8], String>);
builder_decoder!(Uuids, StringBuilder, uuid_text);

struct Bytes<O: arrow::array::OffsetSizeTrait>(arrow::array::GenericBinaryBuilder<O>);

impl<O: arrow::array::OffsetSizeTrait> Decoder for Bytes<O> {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.append_value(bytes);
        Ok(())
    }

    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct FixedBytes(FixedSizeBinaryBuilder);

impl Decoder for FixedBytes {
    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0.append_value(bytes).map_err(|error| error.to_string())
    }

    fn null(&mut self) {
        self.0.append_null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        Ok(Arc::new(self.0.finish()))
    }
}

fn uuid_text(bytes: &[u8]) -> Result<String, String> {
    let hex = format!("{:032x}", u128::from_be_bytes(sized(bytes)?));
    Ok([0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &hex[part]).join("-"))
}

struct Json {
    reader: json::Reader,
    skip: usize,
}

impl Decoder for Json {
    fn recovers(&self) -> bool {
        false
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.reader.read(bytes.get(self.skip..).unwrap_or_default())
    }

    fn null(&mut self) {
        self.reader.null();
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        self.reader.finish()
    }
}

struct Lists {
    item: Box<dyn Decoder>,
    /// How many items there are; more than the last end where a list was given up in its middle.
    items: usize,
    ends: Vec<usize>,
    nulls: BooleanBufferBuilder,
    data_type: DataType,
}

impl Lists {
    fn end(&mut self, valid: bool) {
        self.ends.push(self.items);
        self.nulls.append(valid);
    }
}

impl Decoder for Lists {
    fn recovers(&self) -> bool {
        self.item.recovers()
    }

    fn value(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut fields = Fields(bytes);
        let (dimensions, _has_nulls, _element) = (fields.int()?, fields.int()?, fields.int()?);
        let count = match dimensions {
            0 => 0,
            1 => {
                let count = fields.int()?;
                fields.int()?;
                count
            }
            _ => return Err(format!("it holds an array of {dimensions} dimensions; one is what a list has")),
        };
        if let DataType::FixedSizeList(_, size) = self.data_type
            && count != size
        {
            return Err(format!("it holds a list of {count} items, and its type has {size}"));
        }
        for _ in 0..count {
            match fields.field()? {
                Some(bytes) => self.item.value(bytes)?,
                None => self.item.null(),
            }
            self.items += 1;
        }
        self.end(true);
        Ok(())
    }

    fn null(&mut self) {
        if let DataType::FixedSizeList(_, size) = self.data_type {
            let full = self.ends.last().copied().unwrap_or_default() + size as usize;
            (self.items..full).for_each(|_| self.item.null());
            self.items = full;
        }
        self.end(false);
    }

    fn finish(&mut self) -> Result<ArrayRef, String> {
        let ends = std::mem::replace(&mut self.ends, vec![0]);
        self.items = 0;
        json::list_array(self.item.finish()?, &ends, NullBuffer::new(self.nulls.finish()), &self.data_type)
    }
}

/// Bytes that are taken from the front.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or("a value is cut short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, String> {
        Ok(i32::from_be_bytes(sized(self.take(4)?)?))
    }

    /// A field with its length in front; `None` for a null.
    pub(crate) fn field(&mut self) -> Result<Option<&'a [u8]>, String> {
        match usize::try_from(self.int()?) {
            Ok(length) => self.take(length).map(Some),
            Err(_) => Ok(None),
        }
    }
}
