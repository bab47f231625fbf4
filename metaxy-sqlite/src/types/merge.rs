//! The schema of a table that is written to with other columns than it has.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use metaxy_core::{Error, Result};

use super::check_storable;

/// The stored columns, with the columns and struct members that a write brings in addition. Every column may be null:
/// rows that lack it are.
pub(crate) fn merge_schemas(table: &str, stored: Option<&Schema>, given: &Schema) -> Result<Schema> {
    let mut fields: Vec<FieldRef> =
        stored.map_or_else(Vec::new, |stored| stored.fields().iter().cloned().collect::<Vec<_>>());
    for new in given.fields() {
        check_storable(new.name(), new.data_type())?;
        let known = fields.iter_mut().find(|field| field.name() == new.name());
        match known {
            None => fields.push(Arc::new(new.as_ref().clone().with_nullable(true))),
            Some(field) if field.data_type() == new.data_type() => {}
            Some(field) => {
                let merged = merge_types(field.data_type(), new.data_type()).ok_or_else(|| Error::TypeMismatch {
                    table: table.to_owned(),
                    column: new.name().clone(),
                    stored: field.data_type().to_string(),
                    given: new.data_type().to_string(),
                })?;
                *field = Arc::new(field.as_ref().clone().with_data_type(merged));
            }
        }
    }
    Ok(Schema::new_with_metadata(fields, stored.unwrap_or(given).metadata().clone()))
}

/// The type that holds values of both; `None` where none does.
fn merge_types(stored: &DataType, given: &DataType) -> Option<DataType> {
    let merge_field = |stored: &FieldRef, given: &FieldRef| -> Option<FieldRef> {
        let data_type = merge_types(stored.data_type(), given.data_type())?;
        let nullable = stored.is_nullable() || given.is_nullable();
        Some(Arc::new(stored.as_ref().clone().with_data_type(data_type).with_nullable(nullable)))
    };
    match (stored, given) {
        _ if stored == given => Some(stored.clone()),
        (stored, DataType::Null) => Some(stored.clone()),
        (DataType::Struct(stored), DataType::Struct(given)) => merge_members(stored, given).map(DataType::Struct),
        (DataType::List(stored), DataType::List(given)) => merge_field(stored, given).map(DataType::List),
        (DataType::LargeList(stored), DataType::LargeList(given)) => {
            merge_field(stored, given).map(DataType::LargeList)
        }
        (DataType::FixedSizeList(stored, length), DataType::FixedSizeList(given, other)) if length == other => {
            merge_field(stored, given).map(|item| DataType::FixedSizeList(item, *length))
        }
        // The keys of a map may never be null, and its entries are always a pair.
        (DataType::Map(stored, sorted), DataType::Map(given, _)) => match (stored.data_type(), given.data_type()) {
            (DataType::Struct(own), DataType::Struct(other)) if own.len() == 2 && other.len() == 2 => {
                let pair: Option<Fields> =
                    own.iter().zip(other).map(|(stored, given)| merge_field(stored, given)).collect();
                let entries = stored.as_ref().clone().with_data_type(DataType::Struct(pair?));
                Some(DataType::Map(Arc::new(entries), *sorted))
            }
            _ => None,
        },
        _ => None,
    }
}

fn merge_members(stored: &Fields, given: &Fields) -> Option<Fields> {
    let find = |fields: &Fields, name: &str| fields.iter().find(|field| field.name() == name).cloned();
    let nullable = |field: &Field| Arc::new(field.clone().with_nullable(true));
    let mut members: Vec<FieldRef> = Vec::with_capacity(stored.len());
    for member in stored {
        members.push(match find(given, member.name()) {
            None => nullable(member),
            Some(other) => {
                let data_type = merge_types(member.data_type(), other.data_type())?;
                let null = member.is_nullable() || other.is_nullable();
                Arc::new(member.as_ref().clone().with_data_type(data_type).with_nullable(null))
            }
        });
    }
    let added = given.iter().filter(|other| find(stored, other.name()).is_none());
    members.extend(added.map(|other| nullable(other)));
    Some(members.into())
}
