//! Numbers, dates and times.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, PrimitiveBuilder};
use arrow::datatypes::{
    DataType, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Int8Type, Int64Type, Time32MillisecondType,
    Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type, i256,
};

use super::Decoder;
use super::fields::sized;
use crate::types::{EPOCH_MICROS, numeric};

pub(super) fn int8(data_type: &DataType) -> Option<Box<dyn Decoder>> {
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

pub(super) fn time(data_type: &DataType) -> Option<Box<dyn Decoder>> {
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

pub(super) fn timestamp(data_type: &DataType) -> Option<Box<dyn Decoder>> {
    fn scaled<T: ArrowPrimitiveType<Native = i64>>(data_type: &DataType, micros: i64) -> Box<dyn Decoder> {
        exact::<T, 8>(data_type, move |bytes| {
            let value = i64::from_be_bytes(bytes);
            if value == i64::MAX || value == i64::MIN {
                return Err("it holds an infinite timestamp, which Arrow does not have".to_owned());
            }
            let value = value.checked_add(EPOCH_MICROS).ok_or("it holds a timestamp outside the range of Arrow")?;
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

pub(super) fn decimal(data_type: &DataType) -> Option<Box<dyn Decoder>> {
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

pub(super) fn exact<T: ArrowPrimitiveType, const N: usize>(
    data_type: &DataType,
    convert: impl Fn([u8; N]) -> Result<T::Native, String> + Send + 'static,
) -> Box<dyn Decoder> {
    Box::new(Values::<T, _> {
        builder: PrimitiveBuilder::<T>::new().with_data_type(data_type.clone()),
        convert: move |bytes: &[u8]| convert(sized(bytes)?),
    })
}

/// Decodes integers that PostgreSQL stores in a wider type.
pub(super) fn narrow<T: Wide, const N: usize>(
    data_type: &DataType,
    convert: impl Fn([u8; N]) -> T::Wide + Send + 'static,
) -> Box<dyn Decoder>
where
    T::Native: TryFrom<T::Wide>,
{
    exact::<T, N>(data_type, move |bytes| {
        T::Native::try_from(convert(bytes)).map_err(|_| "it holds a number outside the range of its type".to_owned())
    })
}

/// The PostgreSQL integer in which an Arrow integer is stored.
pub(super) trait Wide: ArrowPrimitiveType {
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
