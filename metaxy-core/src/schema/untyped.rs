//! Types that are not known yet: Null, and nested types that contain only Null.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields};

/// Returns a type without its parts that are not known yet; `None` if no part is known.
pub(super) fn typed(data_type: &DataType) -> Option<DataType> {
    let item = |item: &FieldRef| typed(item.data_type()).map(|data_type| of_type(item, data_type));
    Some(match data_type {
        DataType::Null => return None,
        DataType::List(inner) => DataType::List(item(inner)?),
        DataType::LargeList(inner) => DataType::LargeList(item(inner)?),
        DataType::ListView(inner) => DataType::ListView(item(inner)?),
        DataType::LargeListView(inner) => DataType::LargeListView(item(inner)?),
        DataType::FixedSizeList(inner, size) => DataType::FixedSizeList(item(inner)?, *size),
        DataType::Map(entries, sorted) => {
            let DataType::Struct(pair) = entries.data_type() else { return Some(data_type.clone()) };
            let pair = pair.iter().map(|field| typed(field.data_type()).map(|inner| of_type(field, inner)));
            DataType::Map(of_type(entries, DataType::Struct(pair.collect::<Option<Fields>>()?)), *sorted)
        }
        DataType::Struct(members) if !members.is_empty() => {
            let members: Fields = members.iter().filter_map(item).collect();
            if members.is_empty() {
                return None;
            }
            DataType::Struct(members)
        }
        other => other.clone(),
    })
}

/// Combines the types of a column in two batches of one write, each of which may have parts that the other lacks.
pub(super) fn joined(known: &DataType, given: &DataType) -> DataType {
    match (known, given) {
        (DataType::Null, other) => other.clone(),
        (DataType::List(known), DataType::List(given)) => DataType::List(joined_field(known, given)),
        (DataType::LargeList(known), DataType::LargeList(given)) => DataType::LargeList(joined_field(known, given)),
        (DataType::Map(known, sorted), DataType::Map(given, _)) => DataType::Map(joined_field(known, given), *sorted),
        (DataType::Struct(known), DataType::Struct(given)) => {
            let mut members: Vec<FieldRef> = known.iter().cloned().collect();
            for member in given {
                match members.iter_mut().find(|own| own.name() == member.name()) {
                    Some(own) => *own = joined_field(own, member),
                    None => members.push(of_type(member, member.data_type().clone())),
                }
            }
            DataType::Struct(members.into())
        }
        (known, _) => known.clone(),
    }
}

fn joined_field(known: &FieldRef, given: &FieldRef) -> FieldRef {
    of_type(known, joined(known.data_type(), given.data_type()))
}

/// Returns the field with another type. Keys of maps stay non-nullable, everything else is nullable.
pub(super) fn of_type(field: &FieldRef, data_type: DataType) -> FieldRef {
    Arc::new(Field::clone(field).with_data_type(data_type))
}
