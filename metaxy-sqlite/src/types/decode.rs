//! Converts SQL values into Arrow arrays.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, Float64Builder, NullArray, NullBufferBuilder,
    PrimitiveBuilder, StringBuilder, StructArray, UInt64Builder,
};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, DurationMicrosecondType, DurationMillisecondType, DurationNanosecondType,
    DurationSecondType, Fields, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
};
use rusqlite::types::ValueRef;
use serde_json::Value;

use super::scalars::{cast_to, decimal_array};
use super::{Damage, Storage, json, storage};

/// Collects the values of a column.
pub(crate) trait Decoder: Send {
    /// Adds the next value.
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage>;

    /// Returns the array of all values since the last call.
    fn finish(&mut self) -> Result<ArrayRef, Damage>;
}

/// Returns the decoder for a column of a type, with a capacity in rows.
pub(crate) fn decoder(data_type: &DataType, rows: usize) -> Box<dyn Decoder> {
    match storage(data_type) {
        None | Some(Storage::Null) => Box::new(Nulls(0)),
        Some(Storage::Bool) => Box::new(Bools(BooleanBuilder::with_capacity(rows))),
        Some(Storage::Integer) => integers(data_type, rows),
        Some(Storage::Unsigned64) => converted(Unsigned(UInt64Builder::with_capacity(rows)), data_type),
        Some(Storage::Float) => converted(Floats(Float64Builder::with_capacity(rows)), data_type),
        Some(Storage::Text) => converted(Texts(StringBuilder::with_capacity(rows, rows * 16)), data_type),
        Some(Storage::Blob) => converted(Blobs(BinaryBuilder::with_capacity(rows, rows * 16)), data_type),
        Some(Storage::Decimal) => Box::new(Decimals { texts: StringBuilder::new(), data_type: data_type.clone() }),
        Some(Storage::Json) => match data_type {
            DataType::Struct(members) if is_flat(members) => Box::new(Flat::new(members.clone(), rows)),
            _ => Box::new(Nested { values: Vec::new(), data_type: data_type.clone() }),
        },
    }
}

fn converted(inner: impl Decoder + 'static, data_type: &DataType) -> Box<dyn Decoder> {
    match data_type {
        DataType::UInt64 | DataType::Float64 | DataType::Utf8 | DataType::Binary => Box::new(inner),
        _ => Box::new(Cast { inner: Box::new(inner), to: data_type.clone() }),
    }
}

fn unexpected(value: ValueRef<'_>, expected: &str) -> Damage {
    format!("a value of type {} instead of {expected}", value.data_type())
}

fn utf8(bytes: &[u8]) -> Result<&str, Damage> {
    std::str::from_utf8(bytes).map_err(|error| format!("text that is not UTF-8: {error}"))
}

struct Nulls(usize);

impl Decoder for Nulls {
    fn push(&mut self, _: ValueRef<'_>) -> Result<(), Damage> {
        self.0 += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(NullArray::new(std::mem::take(&mut self.0))))
    }
}

struct Bools(BooleanBuilder);

impl Decoder for Bools {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.0.append_null(),
            ValueRef::Integer(value @ (0 | 1)) => self.0.append_value(value == 1),
            other => return Err(unexpected(other, "0 or 1")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Integers<T: ArrowPrimitiveType>(PrimitiveBuilder<T>);

impl<T: ArrowPrimitiveType> Decoder for Integers<T>
where
    T::Native: TryFrom<i64>,
{
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.0.append_null(),
            ValueRef::Integer(value) => {
                let fits = T::Native::try_from(value);
                self.0.append_value(fits.map_err(|_| format!("{value} does not fit {}", T::DATA_TYPE))?);
            }
            other => return Err(unexpected(other, "an integer")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(self.0.finish()))
    }
}

fn integers(data_type: &DataType, rows: usize) -> Box<dyn Decoder> {
    fn of<T: ArrowPrimitiveType>(data_type: &DataType, rows: usize) -> Box<dyn Decoder>
    where
        T::Native: TryFrom<i64>,
    {
        Box::new(Integers(PrimitiveBuilder::<T>::with_capacity(rows).with_data_type(data_type.clone())))
    }
    let make = match data_type {
        DataType::Int8 => of::<Int8Type>,
        DataType::Int16 => of::<Int16Type>,
        DataType::Int32 => of::<Int32Type>,
        DataType::UInt8 => of::<UInt8Type>,
        DataType::UInt16 => of::<UInt16Type>,
        DataType::UInt32 => of::<UInt32Type>,
        DataType::Date32 => of::<Date32Type>,
        DataType::Date64 => of::<Date64Type>,
        DataType::Time32(TimeUnit::Second) => of::<Time32SecondType>,
        DataType::Time32(_) => of::<Time32MillisecondType>,
        DataType::Time64(TimeUnit::Microsecond) => of::<Time64MicrosecondType>,
        DataType::Time64(_) => of::<Time64NanosecondType>,
        DataType::Timestamp(TimeUnit::Second, _) => of::<TimestampSecondType>,
        DataType::Timestamp(TimeUnit::Millisecond, _) => of::<TimestampMillisecondType>,
        DataType::Timestamp(TimeUnit::Microsecond, _) => of::<TimestampMicrosecondType>,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => of::<TimestampNanosecondType>,
        DataType::Duration(TimeUnit::Second) => of::<DurationSecondType>,
        DataType::Duration(TimeUnit::Millisecond) => of::<DurationMillisecondType>,
        DataType::Duration(TimeUnit::Microsecond) => of::<DurationMicrosecondType>,
        DataType::Duration(TimeUnit::Nanosecond) => of::<DurationNanosecondType>,
        _ => return of::<Int64Type>(&DataType::Int64, rows),
    };
    make(data_type, rows)
}

struct Unsigned(UInt64Builder);

impl Decoder for Unsigned {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.0.append_null(),
            ValueRef::Integer(value) => {
                self.0.append_value(u64::try_from(value).map_err(|_| format!("{value} is negative"))?);
            }
            ValueRef::Blob(bytes) => {
                let bytes = bytes.try_into().map_err(|_| format!("{} bytes instead of 8", bytes.len()))?;
                self.0.append_value(u64::from_be_bytes(bytes));
            }
            other => return Err(unexpected(other, "an integer")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Floats(Float64Builder);

impl Decoder for Floats {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.0.append_null(),
            ValueRef::Real(value) => self.0.append_value(value),
            // Other programs may have written whole numbers.
            ValueRef::Integer(value) => self.0.append_value(value as f64),
            ValueRef::Text(b"NaN") => self.0.append_value(f64::NAN),
            other => return Err(unexpected(other, "a number")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Texts(StringBuilder);

impl Decoder for Texts {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.0.append_null(),
            ValueRef::Text(bytes) => self.0.append_value(utf8(bytes)?),
            other => return Err(unexpected(other, "text")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(self.0.finish()))
    }
}

struct Blobs(BinaryBuilder);

impl Decoder for Blobs {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.0.append_null(),
            ValueRef::Blob(bytes) => self.0.append_value(bytes),
            other => return Err(unexpected(other, "a blob")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// A type that is read as a more common type and cast.
struct Cast {
    inner: Box<dyn Decoder>,
    to: DataType,
}

impl Decoder for Cast {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        self.inner.push(value)
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        cast_to(self.inner.finish()?, &self.to)
    }
}

struct Decimals {
    texts: StringBuilder,
    data_type: DataType,
}

impl Decoder for Decimals {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        match value {
            ValueRef::Null => self.texts.append_null(),
            ValueRef::Text(bytes) => self.texts.append_value(utf8(bytes)?),
            other => return Err(unexpected(other, "a decimal number as text")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        decimal_array(&self.data_type, self.texts.finish().iter())
    }
}

/// Any nested type, read as a JSON tree.
struct Nested {
    values: Vec<Option<Value>>,
    data_type: DataType,
}

impl Decoder for Nested {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        self.values.push(match value {
            ValueRef::Null => None,
            ValueRef::Text(bytes) => Some(parse(bytes)?),
            other => return Err(unexpected(other, "JSON text")),
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        let values = std::mem::take(&mut self.values);
        json::read(&self.data_type, &values.iter().map(Option::as_ref).collect::<Vec<_>>())
    }
}

fn parse(bytes: &[u8]) -> Result<Value, Damage> {
    serde_json::from_slice(bytes).map_err(|error| format!("text that is not JSON: {error}"))
}

/// Returns whether a struct has only text members, as by-field columns do.
fn is_flat(members: &Fields) -> bool {
    !members.is_empty() && members.iter().all(|member| *member.data_type() == DataType::Utf8)
}

/// A struct of texts. Every row has two of these, so its text is parsed in place.
struct Flat {
    members: Fields,
    /// `"name":` of each member.
    keys: Vec<String>,
    columns: Vec<StringBuilder>,
    nulls: NullBufferBuilder,
    rows: usize,
    /// The values of one row: start and end in its text; `None` for null.
    found: Vec<Option<(usize, usize)>>,
}

impl Flat {
    fn new(members: Fields, rows: usize) -> Self {
        let key = |name: &str| format!("{}:", Value::from(name));
        Self {
            keys: members.iter().map(|member| key(member.name())).collect(),
            columns: members.iter().map(|_| StringBuilder::with_capacity(rows, rows * 8)).collect(),
            nulls: NullBufferBuilder::new(rows),
            rows: 0,
            found: Vec::with_capacity(members.len()),
            members,
        }
    }

    /// Finds the members in a text in the form of this crate: without spaces and escapes, members in order, without
    /// those that were added later. Returns `None` for any other text.
    fn scan(&mut self, text: &str) -> Option<()> {
        let bytes = text.as_bytes();
        self.found.clear();
        let mut at = 0;
        for key in &self.keys {
            let starts =
                matches!(bytes.get(at), Some(b'{') | Some(b',')) && bytes[at + 1..].starts_with(key.as_bytes());
            if !starts {
                self.found.push(None);
                continue;
            }
            at += 1 + key.len();
            let rest = &bytes[at..];
            if rest.starts_with(b"null") {
                self.found.push(None);
                at += 4;
                continue;
            }
            let value = rest.strip_prefix(b"\"")?;
            let length = value.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
            if value[length] == b'\\' {
                return None;
            }
            self.found.push(Some((at + 1, at + 1 + length)));
            at += length + 2;
        }
        (at > 0 && &bytes[at..] == b"}").then_some(())
    }

    fn push_parsed(&mut self, text: &str) -> Result<(), Damage> {
        let value = parse(text.as_bytes())?;
        let object = value.as_object().ok_or("JSON that is not an object")?;
        for (member, column) in self.members.iter().zip(&mut self.columns) {
            match object.get(member.name()) {
                None | Some(Value::Null) => column.append_null(),
                Some(Value::String(text)) => column.append_value(text),
                Some(_) => return Err(format!("a value of `{}` that is not text", member.name())),
            }
        }
        Ok(())
    }
}

impl Decoder for Flat {
    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Damage> {
        self.rows += 1;
        let text = match value {
            ValueRef::Null => {
                self.nulls.append_null();
                self.columns.iter_mut().for_each(StringBuilder::append_null);
                return Ok(());
            }
            ValueRef::Text(bytes) => utf8(bytes)?,
            other => return Err(unexpected(other, "JSON text")),
        };
        self.nulls.append_non_null();
        if self.scan(text).is_none() {
            return self.push_parsed(text);
        }
        for (column, found) in self.columns.iter_mut().zip(&self.found) {
            column.append_option(found.and_then(|(start, end)| text.get(start..end)));
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef, Damage> {
        let columns = self.columns.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        let rows = std::mem::take(&mut self.rows);
        let array = StructArray::try_new_with_length(self.members.clone(), columns, self.nulls.finish(), rows);
        Ok(Arc::new(array.map_err(|error| error.to_string())?))
    }
}
