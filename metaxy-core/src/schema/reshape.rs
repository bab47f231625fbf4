//! Converts nested values into another nested type with the same members.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray, new_null_array,
};
use arrow::datatypes::{DataType, FieldRef};
use arrow::error::ArrowError;

use super::grow::item_of;
use super::trim::trimmed;

/// Converts values into another nested type: members of structs are matched by name, and null if they are missing;
/// lists and maps keep only the values of their own rows. Values that are not nested in the same way are passed to
/// `cast`.
///
/// # Errors
/// The errors of `cast`, and [`ArrowError`] if the values of lists are too many for offsets of 32 bits.
pub fn reshape<E: From<ArrowError>>(
    array: &ArrayRef,
    target: &DataType,
    cast: &impl Fn(&ArrayRef, &DataType) -> Result<ArrayRef, E>,
) -> Result<ArrayRef, E> {
    match (array.data_type(), target) {
        (given, target) if given == target => Ok(array.clone()),
        (DataType::Null, _) => Ok(new_null_array(target, array.len())),
        (DataType::Struct(_), DataType::Struct(members)) => {
            let given = array.as_struct();
            let member = |member: &FieldRef| match given.column_by_name(member.name()) {
                Some(own) => reshape(own, member.data_type(), cast),
                None => Ok(new_null_array(member.data_type(), given.len())),
            };
            let columns = members.iter().map(member).collect::<Result<Vec<_>, E>>()?;
            let nulls = given.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(members.clone(), columns, nulls, given.len())?))
        }
        (DataType::List(_), DataType::List(item)) => list::<_, i32, E>(array.as_list::<i32>(), item, cast),
        (DataType::LargeList(_), DataType::LargeList(item)) => list::<_, i64, E>(array.as_list::<i64>(), item, cast),
        (DataType::LargeList(_), DataType::List(item)) => list::<_, i32, E>(array.as_list::<i64>(), item, cast),
        (given, DataType::List(item)) if item_of(given).is_some_and(|own| own != item) => {
            let own = item_of(given).unwrap_or(item);
            reshape(&cast(array, &DataType::List(own.clone()))?, target, cast)
        }
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => match entries.data_type() {
            DataType::Struct(pair) => {
                let map = array.as_map();
                let (offsets, keys) = trimmed(map.offsets(), map.keys())?;
                let (_, values) = trimmed::<_, i32>(map.offsets(), map.values())?;
                let columns =
                    vec![reshape(&keys, pair[0].data_type(), cast)?, reshape(&values, pair[1].data_type(), cast)?];
                let values = StructArray::try_new(pair.clone(), columns, None)?;
                let nulls = map.nulls().cloned();
                Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, values, nulls, *sorted)?))
            }
            _ => cast(array, target),
        },
        _ => cast(array, target),
    }
}

fn list<From: OffsetSizeTrait, To: OffsetSizeTrait, E: std::convert::From<ArrowError>>(
    array: &GenericListArray<From>,
    item: &FieldRef,
    cast: &impl Fn(&ArrayRef, &DataType) -> Result<ArrayRef, E>,
) -> Result<ArrayRef, E> {
    let (offsets, values) = trimmed::<From, To>(array.offsets(), array.values())?;
    let values = reshape(&values, item.data_type(), cast)?;
    let nulls = array.nulls().cloned();
    Ok(Arc::new(GenericListArray::<To>::try_new(item.clone(), offsets, values, nulls)?))
}
