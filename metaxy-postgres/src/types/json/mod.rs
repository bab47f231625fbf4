//! Nested values as JSON, the text form of `jsonb`.
//!
//! Numbers, strings, booleans, lists and structs are JSON numbers, strings, booleans, arrays and objects. Floats that
//! JSON cannot represent (`NaN`, infinities, `-0.0`) and decimals are strings, times are counts in the unit of their
//! type, bytes are `"\x…"` in hex, maps are lists of `[key, value]`, which keeps their order.

mod parse;
mod read;
mod write;

use std::collections::HashSet;

use arrow::datatypes::DataType;

pub(super) use read::{Reader, list_array};
pub(super) use write::{Writer, object_writer};

/// The reason why PostgreSQL cannot store a text.
pub(super) const NUL: &str = "it holds a text with a NUL character, which PostgreSQL cannot store; remove or escape it";

/// Returns whether values of a type can be written as JSON and read back.
pub(super) fn check(data_type: &DataType) -> Result<(), String> {
    match data_type {
        DataType::Struct(members) => {
            let mut seen = HashSet::new();
            if let Some(twice) = members.iter().find(|member| !seen.insert(member.name())) {
                return Err(format!("two of its members are called `{}`; rename one", twice.name()));
            }
            if let Some(name) = members.iter().map(|member| member.name()).find(|name| name.contains('\0')) {
                return Err(format!("the name of its member {name:?} holds a NUL character, which PostgreSQL refuses"));
            }
            members.iter().try_for_each(|member| check(member.data_type()))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => check(item.data_type()),
        DataType::Map(entries, _) => check(entries.data_type()),
        DataType::Decimal32(_, s)
        | DataType::Decimal64(_, s)
        | DataType::Decimal128(_, s)
        | DataType::Decimal256(_, s)
            if *s < 0 =>
        {
            Err("decimals of a negative scale cannot be nested; cast it to scale 0".to_owned())
        }
        other if super::scalar_storage(other).is_some() => Ok(()),
        other => Err(format!("a nested {other} cannot be stored in jsonb; cast it")),
    }
}

/// Returns the integer type of a temporal type.
fn count_type(data_type: &DataType) -> Option<DataType> {
    match data_type {
        DataType::Date32 | DataType::Time32(_) => Some(DataType::Int32),
        DataType::Date64 | DataType::Time64(_) | DataType::Timestamp(_, _) | DataType::Duration(_) => {
            Some(DataType::Int64)
        }
        _ => None,
    }
}
