//! Arrow types and how DuckDB keeps them.
//!
//! A type that DuckDB lacks is kept in one that holds each of its values, and the column's comment tells what it was.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, Int64Array, MapArray, OffsetSizeTrait, StructArray,
    make_array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

use crate::sql::quoted;

/// How a type is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Storage {
    /// DuckDB's name of the type.
    pub(crate) sql: String,
    /// The Arrow type in which values go to DuckDB and come back.
    pub(crate) wire: DataType,
}

/// How a type is kept; or why it cannot be.
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
        T::FixedSizeList(_, _) => Err("a list of size 0 holds nothing; leave the column out"),
        T::ListView(_) | T::LargeListView(_) => Err("cast it to a List"),
        T::Interval(_) => Err("store a Duration, or the number of days and months in columns of their own"),
        T::Union(_, _) => Err("store each of the alternatives in a column of its own"),
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

/// Names that differ in more than case, for DuckDB takes `Name` and `name` for one: later ones get a number.
pub(crate) fn distinct<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    names.into_iter().map(|name| distinct_name(name, &mut taken)).collect()
}

/// A name that is not among `taken` (in lower case) yet, whatever its case.
pub(crate) fn distinct_name(name: &str, taken: &mut HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while candidate.is_empty() || !taken.insert(candidate.to_lowercase()) {
        candidate = format!("{name}_{number}");
        number += 1;
    }
    candidate
}

/// The type in which a column that carries no comment is shown: DuckDB's, with Arrow's usual names and without encodings.
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

/// The text of a type, if the type can be read back from it.
pub(crate) fn to_text(data_type: &DataType) -> Option<String> {
    let text = data_type.to_string();
    (from_text(&text).as_ref() == Some(data_type)).then_some(text)
}

/// The type that a text names.
pub(crate) fn from_text(text: &str) -> Option<DataType> {
    text.parse().ok()
}

/// Brings an array into another type that holds the same values: between a type and the one it is kept in.
pub(crate) fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    use DataType as T;
    if array.data_type() == to {
        return Ok(array.clone());
    }
    match (array.data_type(), to) {
        (_, T::Null) | (T::Null, _) => Ok(new_null_array(to, array.len())),
        (T::Struct(_), T::Struct(members)) => structure_as(array.as_struct(), members),
        (T::Map(_, _), T::Map(entries, sorted)) => map_as(array.as_map(), entries, *sorted),
        (T::List(_), T::List(child)) => list_as(array.as_list::<i32>(), child),
        (T::LargeList(_), T::LargeList(child)) => list_as(array.as_list::<i64>(), child),
        (T::List(from), T::LargeList(_)) => convert(&cast(array, &T::LargeList(from.clone()))?, to),
        (T::LargeList(from), T::List(_)) => convert(&cast(array, &T::List(from.clone()))?, to),
        (T::FixedSizeList(_, _), T::FixedSizeList(child, size)) => {
            let list = array.as_fixed_size_list();
            let values = convert(list.values(), child.data_type())?;
            Ok(Arc::new(FixedSizeListArray::try_new(child.clone(), *size, values, list.nulls().cloned())?))
        }
        (T::Dictionary(_, values), _) => convert(&cast(array, &values.clone())?, to),
        (T::RunEndEncoded(_, values), _) => convert(&cast(array, &values.data_type().clone())?, to),
        (T::Timestamp(from, _), T::Timestamp(unit, _)) if from == unit => reinterpret(array, to),
        (T::Timestamp(_, _), T::Timestamp(unit, _)) => reinterpret(&cast(array, &T::Timestamp(*unit, None))?, to),
        (T::Date64, T::Timestamp(TimeUnit::Millisecond, None))
        | (T::Timestamp(TimeUnit::Millisecond, None), T::Date64) => reinterpret(array, to),
        (T::Int64, T::Duration(_) | T::Time64(_)) | (T::Duration(_) | T::Time64(_), T::Int64) => reinterpret(array, to),
        _ => cast(array, to),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// The same 64-bit values under another type.
fn reinterpret(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(array.to_data().into_builder().data_type(to.clone()).build()?))
}

/// Members belong together by their places: DuckDB may have needed other names.
fn structure_as(array: &StructArray, members: &Fields) -> Result<ArrayRef, ArrowError> {
    if members.len() != array.num_columns() {
        return Err(ArrowError::CastError(format!("{} members where {} belong", array.num_columns(), members.len())));
    }
    let columns = array.columns().iter().zip(members).map(|(column, member)| convert(column, member.data_type()));
    let columns = columns.collect::<Result<_, _>>()?;
    Ok(Arc::new(StructArray::try_new(members.clone(), columns, array.nulls().cloned())?))
}

fn list_as<O: OffsetSizeTrait>(array: &GenericListArray<O>, child: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let values = convert(array.values(), child.data_type())?;
    let list = GenericListArray::try_new(child.clone(), array.offsets().clone(), values, array.nulls().cloned())?;
    Ok(Arc::new(list))
}

fn map_as(array: &MapArray, entries: &FieldRef, sorted: bool) -> Result<ArrayRef, ArrowError> {
    let values: ArrayRef = Arc::new(array.entries().clone());
    let values = convert(&values, entries.data_type())?;
    let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
    Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, values.as_struct().clone(), nulls, sorted)?))
}

/// Row numbers as DuckDB gives them.
pub(crate) fn row_numbers(array: &ArrayRef) -> Option<&Int64Array> {
    array.as_any().downcast_ref::<Int64Array>()
}

#[cfg(test)]
mod tests {
    use super::*;

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
