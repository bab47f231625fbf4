//! The storage of Arrow values in SQLite.
//!
//! | Arrow | SQLite |
//! |---|---|
//! | integers, dates, times, timestamps, durations | INTEGER, in the type's own unit |
//! | unsigned 64-bit integers above `i64::MAX` | 8-byte BLOB, big-endian, which sorts behind every INTEGER |
//! | booleans | INTEGER 0 or 1 |
//! | floats | REAL; NaN as the text `NaN`, which sorts behind every number |
//! | text | TEXT |
//! | binary | BLOB |
//! | decimals | TEXT |
//! | lists, structs, maps | TEXT holding JSON |
//!
//! Dictionaries and run-end encoded columns are decoded before by the schema module of the core.

mod batch;
mod decode;
mod encode;
mod json;
mod limits;
mod scalars;

use arrow::datatypes::DataType;
use metaxy_core::{Error, Result};

use crate::KIND;

pub(crate) use batch::{Batch, FEW_ROWS, MAX_ROWS};
pub(crate) use encode::{binder, encode};
pub(crate) use limits::{check_columns, check_sizes};

/// The reason why a stored value cannot be read.
pub(crate) type Damage = String;

/// The maximum depth of nested types; the JSON parser stops at 128 levels.
const MAX_DEPTH: usize = 60;

/// The form in which values of a column are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Only nulls.
    Null,
    /// INTEGER 0 or 1.
    Bool,
    /// INTEGER with the same order as the values.
    Integer,
    /// INTEGER, or a BLOB for the upper half.
    Unsigned64,
    /// REAL, or the text `NaN`.
    Float,
    /// TEXT with the same order as the values.
    Text,
    /// BLOB with the same order as the values.
    Blob,
    /// TEXT that is equal if the values are equal, with another order.
    Decimal,
    /// TEXT holding JSON.
    Json,
}

/// Returns the form in which a type is stored; `None` if it cannot be stored.
pub(crate) fn storage(data_type: &DataType) -> Option<Storage> {
    storage_at(data_type, 0)
}

fn storage_at(data_type: &DataType, depth: usize) -> Option<Storage> {
    use DataType as T;
    if depth > MAX_DEPTH {
        return None;
    }
    let nested = |inner: &DataType| storage_at(inner, depth + 1).map(|_| Storage::Json);
    match data_type {
        T::Null => Some(Storage::Null),
        T::Boolean => Some(Storage::Bool),
        T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::UInt8 | T::UInt16 | T::UInt32 => Some(Storage::Integer),
        T::Date32 | T::Date64 | T::Time32(_) | T::Time64(_) | T::Timestamp(_, _) | T::Duration(_) => {
            Some(Storage::Integer)
        }
        T::UInt64 => Some(Storage::Unsigned64),
        T::Float16 | T::Float32 | T::Float64 => Some(Storage::Float),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => Some(Storage::Text),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => Some(Storage::Blob),
        T::Decimal32(_, _) | T::Decimal64(_, _) | T::Decimal128(_, _) | T::Decimal256(_, _) => Some(Storage::Decimal),
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) => nested(item.data_type()),
        T::Map(entries, _) => nested(entries.data_type()),
        T::Struct(members) => {
            let mut names = std::collections::HashSet::new();
            let sound = members.iter().all(|m| names.insert(m.name()) && nested(m.data_type()).is_some());
            sound.then_some(Storage::Json)
        }
        _ => None,
    }
}

/// Returns the bytes that a value takes in Arrow even if it is null.
pub(crate) fn fixed_bytes(data_type: &DataType) -> usize {
    let of = |length: &i32, each: usize| usize::try_from(*length).unwrap_or_default().saturating_mul(each);
    match data_type {
        DataType::FixedSizeBinary(length) => of(length, 1),
        DataType::FixedSizeList(item, length) => of(length, fixed_bytes(item.data_type())),
        DataType::Struct(members) => {
            members.iter().fold(0, |sum, member| fixed_bytes(member.data_type()).saturating_add(sum))
        }
        other => other.primitive_width().unwrap_or(size_of::<i32>()),
    }
}

/// Returns whether SQLite can store values of a type.
pub(crate) fn stores(data_type: &DataType) -> bool {
    use DataType::{Interval, LargeListView, ListView, Union};
    !matches!(data_type, Interval(_) | LargeListView(_) | ListView(_) | Union(_, _))
}

/// Checks that a column can be stored.
pub(crate) fn check_storable(column: &str, data_type: &DataType) -> Result<()> {
    if storage(data_type).is_some() {
        return Ok(());
    }
    Err(Error::UnsupportedType {
        backend: KIND,
        column: column.to_owned(),
        data_type: data_type.to_string(),
        hint: "cast it to numbers, text, binary, dates or times, or to lists, structs or maps of these with distinct \
               member names"
            .to_owned(),
    })
}

/// Returns the declared type of a column. It documents the column for readers of the file, and is chosen so that SQLite
/// converts no values.
pub(crate) fn declared_type(data_type: &DataType) -> &'static str {
    match storage(data_type) {
        Some(Storage::Bool) => " BOOLEAN",
        Some(Storage::Integer | Storage::Unsigned64) => match data_type {
            DataType::Timestamp(_, _) => " TIMESTAMP",
            DataType::Date32 | DataType::Date64 => " DATE",
            _ => " INTEGER",
        },
        Some(Storage::Text | Storage::Decimal | Storage::Json) => " TEXT",
        Some(Storage::Blob) => " BLOB",
        // A column declared REAL would turn -0.0 into 0.0.
        Some(Storage::Float | Storage::Null) | None => "",
    }
}
