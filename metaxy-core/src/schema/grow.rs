//! Determines how the schema of a table grows, and which types can be stored in which columns.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef};

use crate::columns;
use crate::error::{Error, Result};
use crate::key::FeatureKey;

use super::plain::{new_column, plain_type};
use super::untyped::{of_type, typed};

/// Returns the schema of a table after rows of `given` are appended: its own columns with the members that structs
/// gain, then the new columns. A table that does not exist grows from [`Schema::empty`]. It is for backends that store
/// the schema of a table themselves.
///
/// # Errors
/// [`Error::TypeMismatch`] if a column of the same name has another type, because another writer was faster.
pub fn grown_schema(table: &FeatureKey, stored: &Schema, given: &Schema) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = stored.fields().iter().cloned().collect();
    for field in given.fields() {
        match fields.iter_mut().find(|own| own.name() == field.name()) {
            Some(own) => {
                let merged = merged_type(table, field.name(), own.data_type(), field.data_type())?;
                *own = Arc::new(own.as_ref().clone().with_data_type(merged).with_nullable(true));
            }
            None => {
                let new = new_column(field);
                fields.extend(typed(new.data_type()).map(|data_type| Arc::new(new.with_data_type(data_type))));
            }
        }
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, stored.metadata().clone())))
}

/// Returns the stored type with the new members of given structs, at any depth. Given parts without a type change
/// nothing.
pub(super) fn merged_type(key: &FeatureKey, column: &str, stored: &DataType, given: &DataType) -> Result<DataType> {
    let merged = |stored: &FieldRef, given: &FieldRef| -> Result<FieldRef> {
        Ok(of_type(stored, merged_type(key, column, stored.data_type(), given.data_type())?))
    };
    match (stored, item_of(given)) {
        (DataType::List(item), Some(given)) => return Ok(DataType::List(merged(item, given)?)),
        (DataType::LargeList(item), Some(given)) => return Ok(DataType::LargeList(merged(item, given)?)),
        _ => {}
    }
    match (stored, given) {
        _ if stored == given => Ok(stored.clone()),
        (DataType::Null, given) => Ok(given.clone()),
        (stored, DataType::Null) => Ok(stored.clone()),
        (DataType::Struct(stored), DataType::Struct(given)) => {
            let mut members: Vec<FieldRef> = Vec::with_capacity(stored.len());
            for member in stored {
                let other = given.iter().find(|other| other.name() == member.name());
                let member = other.map_or_else(|| Ok(member.clone()), |other| merged(member, other))?;
                members.push(Arc::new(member.as_ref().clone().with_nullable(true)));
            }
            let is_new = |other: &&FieldRef| !stored.iter().any(|member| member.name() == other.name());
            let new = |member: &FieldRef| {
                let data_type = typed(&plain_type(member.data_type()))?;
                Some(Arc::new(member.as_ref().clone().with_data_type(data_type).with_nullable(true)))
            };
            members.extend(given.iter().filter(is_new).filter_map(new));
            Ok(DataType::Struct(members.into()))
        }
        _ if fits(given, stored) || is_version_text(column, given, stored) => Ok(stored.clone()),
        _ => Err(mismatch(&key.table_name(), column, stored, given)),
    }
}

/// Returns the item of a list of any kind.
pub(crate) fn item_of(data_type: &DataType) -> Option<&FieldRef> {
    match data_type {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// Returns whether values of one type can be stored as another without loss. Single values that do not fit are found
/// when they are cast.
fn fits(given: &DataType, stored: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, FixedSizeBinary,
    };
    use DataType::{
        FixedSizeList, LargeBinary, LargeList, LargeListView, LargeUtf8, List, ListView, Map, Null, RunEndEncoded,
        Struct, Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    let text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    let binary = |t: &DataType| matches!(t, Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
    match (given, stored) {
        (Dictionary(_, value), _) => value.as_ref() == stored || fits(value, stored),
        (_, Dictionary(_, value)) => value.as_ref() == given || fits(given, value),
        (RunEndEncoded(_, value), _) => value.data_type() == stored || fits(value.data_type(), stored),
        (given, stored) if given.is_integer() && stored.is_integer() => true,
        (given, stored) if given.is_integer() && stored.is_floating() => true,
        (given, stored) if given.is_floating() && stored.is_floating() => true,
        (Null, _) => true,
        (given, Decimal128(_, _) | Decimal256(_, _)) if given.is_integer() => true,
        (
            Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _),
            Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _),
        ) => true,
        (given, stored) if text(given) && text(stored) => true,
        (given, stored) if binary(given) && binary(stored) => true,
        (Timestamp(_, from), Timestamp(_, to)) => from.is_some() == to.is_some(),
        // A day is stored as its midnight if there is no type for days.
        (Date64, Timestamp(_, None)) => true,
        (Date32 | Date64, Date32 | Date64) | (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
        (
            List(from) | LargeList(from) | FixedSizeList(from, _) | ListView(from) | LargeListView(from),
            List(to) | LargeList(to) | FixedSizeList(to, _),
        ) => from.data_type() == to.data_type() || fits(from.data_type(), to.data_type()),
        (Map(from, _), Map(to, _)) => same_shape(from.data_type(), to.data_type()),
        // Only inside maps, whose values do not gain members.
        (Struct(from), Struct(to)) => members_fit(from, to),
        (Struct(_), Map(_, _)) => by_field_map(stored),
        _ => false,
    }
}

/// Returns whether a data version is text and its table, made by another program, stores it as a number or a boolean.
pub(super) fn is_version_text(column: &str, given: &DataType, stored: &DataType) -> bool {
    let by_field = column == columns::PROVENANCE_BY_FIELD || column == columns::DATA_VERSION_BY_FIELD;
    by_field
        && *given == DataType::Utf8
        && (stored.is_integer() || stored.is_floating() || *stored == DataType::Boolean)
}

fn same_shape(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Struct(from), DataType::Struct(to)) => {
            from.len() == to.len()
                && from
                    .iter()
                    .zip(to)
                    .all(|(a, b)| a.data_type() == b.data_type() || fits(a.data_type(), b.data_type()))
        }
        _ => false,
    }
}

/// Returns whether a struct has all given members, each of a type that can store the given one.
fn members_fit(given: &Fields, stored: &Fields) -> bool {
    let fit = |given: &FieldRef, own: &FieldRef| {
        (own.is_nullable() || !given.is_nullable())
            && (own.data_type() == given.data_type() || fits(given.data_type(), own.data_type()))
    };
    let find = |members: &Fields, name: &str| members.iter().find(|member| member.name() == name).cloned();
    given.iter().all(|member| find(stored, member.name()).is_some_and(|own| fit(member, &own)))
        && stored.iter().all(|own| own.is_nullable() || find(given, own.name()).is_some())
}

/// Returns whether a column is a by-field column that is stored as a map of strings.
fn by_field_map(data_type: &DataType) -> bool {
    let DataType::Map(entries, _) = data_type else { return false };
    let DataType::Struct(pair) = entries.data_type() else { return false };
    pair.iter().all(|text| *text.data_type() == DataType::Utf8)
}

pub(super) fn mismatch(table: &str, column: &str, stored: &DataType, given: &DataType) -> Error {
    Error::TypeMismatch {
        table: table.to_owned(),
        column: column.to_owned(),
        stored: stored.to_string(),
        given: given.to_string(),
    }
}
