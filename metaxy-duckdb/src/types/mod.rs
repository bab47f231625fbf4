//! How Arrow types are stored in DuckDB.
//!
//! A type that DuckDB lacks is stored in one that can represent all its values, and the column's comment names it.

mod convert;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::sql::names::{distinct, quoted};

pub(crate) use convert::{convert, first_misfit, keep};

/// How a type is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    /// DuckDB's name of the type.
    pub(crate) sql: String,
    /// The Arrow type in which values are passed to DuckDB and read back.
    pub(crate) wire: DataType,
}

/// Returns whether DuckDB can store values of a type.
pub(crate) fn stores(data_type: &DataType) -> bool {
    use DataType::{Decimal256, Interval, LargeListView, ListView, Union};
    !matches!(data_type, Decimal256(_, _) | Interval(_) | LargeListView(_) | ListView(_) | Union(_, _))
}

/// Returns how a type is stored, or the reason why it cannot be stored.
pub(crate) fn storage(data_type: &DataType) -> Result<Storage, &'static str> {
    use DataType as T;
    let plain = |sql: &str, wire: DataType| Ok(Storage { sql: sql.to_owned(), wire });
    match data_type {
        T::Null | T::Boolean => plain("BOOLEAN", T::Boolean),
        T::Int8 => plain("TINYINT", T::Int8),
        T::Int16 => plain("SMALLINT", T::Int16),
        T::Int32 => plain("INTEGER", T::Int32),
        T::Int64 | T::Duration(_) | T::Time64(TimeUnit::Nanosecond) => plain("BIGINT", T::Int64),
        T::UInt8 => plain("UTINYINT", T::UInt8),
        T::UInt16 => plain("USMALLINT", T::UInt16),
        T::UInt32 => plain("UINTEGER", T::UInt32),
        T::UInt64 => plain("UBIGINT", T::UInt64),
        T::Float16 | T::Float32 => plain("FLOAT", T::Float32),
        T::Float64 => plain("DOUBLE", T::Float64),
        T::Utf8 | T::LargeUtf8 | T::Utf8View => plain("VARCHAR", T::Utf8),
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => plain("BLOB", T::Binary),
        T::Date32 => plain("DATE", T::Date32),
        T::Date64 => plain("TIMESTAMP_MS", T::Timestamp(TimeUnit::Millisecond, None)),
        T::Time32(_) | T::Time64(_) => plain("TIME", T::Time64(TimeUnit::Microsecond)),
        T::Timestamp(TimeUnit::Nanosecond, _) => plain("TIMESTAMP_NS", T::Timestamp(TimeUnit::Nanosecond, None)),
        T::Timestamp(_, Some(_)) => {
            plain("TIMESTAMP WITH TIME ZONE", T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        T::Timestamp(TimeUnit::Second, None) => plain("TIMESTAMP_S", data_type.clone()),
        T::Timestamp(TimeUnit::Millisecond, None) => plain("TIMESTAMP_MS", data_type.clone()),
        T::Timestamp(TimeUnit::Microsecond, None) => plain("TIMESTAMP", data_type.clone()),
        T::Decimal32(precision, scale)
        | T::Decimal64(precision, scale)
        | T::Decimal128(precision, scale)
        | T::Decimal256(precision, scale) => decimal(*precision, *scale),
        T::Dictionary(_, values) => storage(values),
        T::RunEndEncoded(_, values) => storage(values.data_type()),
        T::FixedSizeList(child, size) if *size > 0 => {
            let child = storage(child.data_type())?;
            let field = Field::new_list_field(child.wire, true);
            Ok(Storage { sql: format!("{}[{size}]", child.sql), wire: T::FixedSizeList(Arc::new(field), *size) })
        }
        T::List(child) | T::LargeList(child) => {
            let child = storage(child.data_type())?;
            Ok(Storage { sql: format!("{}[]", child.sql), wire: T::new_list(child.wire, true) })
        }
        T::Struct(members) if members.is_empty() => Err("a struct needs at least one member"),
        T::Struct(members) => structure(members),
        T::Map(entries, _) => map(entries),
        T::FixedSizeList(_, _) => Err("a list of size 0 has no values; leave the column out"),
        T::ListView(_) | T::LargeListView(_) => Err("cast it to a List"),
        T::Interval(_) => Err("store a Duration, or the number of days and months in separate columns"),
        T::Union(_, _) => Err("store each of the alternatives in a separate column"),
    }
}

/// Returns whether a type has values that its stored type cannot represent.
pub(crate) fn has_misfits(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, Some(_)) => true,
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => true,
        T::Dictionary(_, values) => has_misfits(values),
        T::RunEndEncoded(_, values) => has_misfits(values.data_type()),
        T::List(item) | T::LargeList(item) | T::FixedSizeList(item, _) | T::Map(item, _) => {
            has_misfits(item.data_type())
        }
        T::Struct(members) => members.iter().any(|member| has_misfits(member.data_type())),
        _ => false,
    }
}

fn decimal(precision: u8, scale: i8) -> Result<Storage, &'static str> {
    match u8::try_from(scale) {
        Ok(unsigned) if precision <= 38 && unsigned <= precision => {
            Ok(Storage { sql: format!("DECIMAL({precision},{scale})"), wire: DataType::Decimal128(precision, scale) })
        }
        _ => Err("DuckDB's decimals have at most 38 digits and a scale of 0 or more; cast it, or store it as a text"),
    }
}

fn structure(members: &Fields) -> Result<Storage, &'static str> {
    let names = distinct(members.iter().map(|member| member.name().as_str()));
    let mut sql = Vec::with_capacity(members.len());
    let mut wire = Vec::with_capacity(members.len());
    for (name, member) in names.into_iter().zip(members) {
        let kept = storage(member.data_type())?;
        sql.push(format!("{} {}", quoted(&name), kept.sql));
        wire.push(Field::new(name, kept.wire, true));
    }
    Ok(Storage { sql: format!("STRUCT({})", sql.join(", ")), wire: DataType::Struct(wire.into()) })
}

fn map(entries: &FieldRef) -> Result<Storage, &'static str> {
    let DataType::Struct(members) = entries.data_type() else { return Err("its entries are no struct") };
    let [key, value] = members.as_ref() else { return Err("its entries are no pairs") };
    let (key, value) = (storage(key.data_type())?, storage(value.data_type())?);
    let sql = format!("MAP({}, {})", key.sql, value.sql);
    Ok(Storage { sql, wire: map_type(key.wire, value.wire) })
}

fn map_type(key: DataType, value: DataType) -> DataType {
    let members: Fields = vec![Field::new("key", key, false), Field::new("value", value, true)].into();
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(members), false)), false)
}

/// Returns the type of a column without a comment: DuckDB's, with Arrow's usual names and without encodings.
pub(crate) fn shown(wire: &DataType) -> DataType {
    use DataType as T;
    let nullable = |field: &FieldRef| Field::new(field.name(), shown(field.data_type()), true);
    match wire {
        T::Timestamp(unit, Some(_)) => T::Timestamp(*unit, Some("UTC".into())),
        T::Dictionary(_, values) => shown(values),
        T::Utf8View | T::LargeUtf8 => T::Utf8,
        T::BinaryView | T::LargeBinary => T::Binary,
        T::List(child) | T::LargeList(child) | T::ListView(child) | T::LargeListView(child) => {
            T::new_list(shown(child.data_type()), true)
        }
        T::FixedSizeList(child, size) => {
            T::FixedSizeList(Arc::new(Field::new_list_field(shown(child.data_type()), true)), *size)
        }
        T::Struct(members) => T::Struct(members.iter().map(nullable).collect()),
        T::Map(entries, _) => match entries.data_type() {
            T::Struct(members) => match members.as_ref() {
                [key, value] => map_type(shown(key.data_type()), shown(value.data_type())),
                _ => wire.clone(),
            },
            _ => wire.clone(),
        },
        other => other.clone(),
    }
}

/// Returns the text of a type, if the type can be parsed from it.
pub(crate) fn to_text(data_type: &DataType) -> Option<String> {
    let text = data_type.to_string();
    (from_text(&text).as_ref() == Some(data_type)).then_some(text)
}

/// Parses the text of a type. Files are input: a text that is nested deeper than any written type is refused.
pub(crate) fn from_text(text: &str) -> Option<DataType> {
    if nesting(text) > MAX_NESTING { None } else { text.parse().ok() }
}

/// The maximum nesting of types. The core writes fewer levels, each of which may be in two pairs of brackets.
pub(crate) const MAX_NESTING: usize = 100;

/// Returns the depth of the nesting of a type in the notation of SQL or Arrow: `STRUCT(a INTEGER[][])`, `List(Utf8)`.
pub(crate) fn nesting(text: &str) -> usize {
    // The deepest element so far of each open bracket, and the depth of the current element.
    let mut open: Vec<usize> = Vec::new();
    let (mut element, mut quote) = (0, None);
    for character in text.chars() {
        match (character, quote) {
            (_, Some(end)) => quote = quote.filter(|_| character != end),
            ('"' | '\'', None) => quote = Some(character),
            ('(', None) => {
                open.push(0);
                element = 0;
            }
            (',', None) => {
                if let Some(deepest) = open.last_mut() {
                    *deepest = element.max(*deepest);
                }
                element = 0;
            }
            (')', None) => element = 1 + open.pop().unwrap_or_default().max(element),
            ('[', None) => element += 1,
            _ => {}
        }
    }
    open.into_iter().chain([element]).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_depth_of_nesting() {
        for (text, depth) in [
            ("INTEGER", 0),
            ("INTEGER[][3]", 2),
            ("STRUCT(a INTEGER[], b INTEGER[])", 2),
            ("STRUCT(a STRUCT(b ENUM('(((', ')')[])[])[]", 6),
            ("MAP(VARCHAR, STRUCT(\"((\" DECIMAL(4,2)))", 3),
            ("List(Struct(\"a\": nullable Utf8))", 2),
        ] {
            assert_eq!(nesting(text), depth, "{text}");
        }
        assert!(from_text(&format!("{}Utf8{}", "List(".repeat(200_000), ")".repeat(200_000))).is_none());
    }

    #[test]
    fn every_type_that_needs_a_comment_is_read_back_from_it() {
        let list = |child: DataType| DataType::List(Arc::new(Field::new("element", child, false)));
        for data_type in [
            DataType::LargeUtf8,
            DataType::Timestamp(TimeUnit::Second, Some("Europe/Berlin".into())),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            DataType::FixedSizeBinary(16),
            DataType::Decimal256(30, 2),
            list(DataType::Float16),
            DataType::LargeList(Arc::new(Field::new("item", DataType::Utf8View, true))),
            DataType::Struct(
                vec![Field::new("a b", DataType::Utf8, true), Field::new("A B", list(DataType::Date64), true)].into(),
            ),
            map_type(DataType::LargeUtf8, DataType::Int8),
            DataType::Map(
                Arc::new(Field::new(
                    "m",
                    DataType::Struct(
                        vec![Field::new("keys", DataType::Utf8, false), Field::new("values", DataType::Utf8, true)]
                            .into(),
                    ),
                    false,
                )),
                true,
            ),
        ] {
            assert!(to_text(&data_type).is_some(), "{data_type}");
        }
    }
}
