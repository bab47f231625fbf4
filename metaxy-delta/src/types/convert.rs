//! Values of a file as values of a table.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericListArray, ListArray, MapArray, OffsetSizeTrait, StringArray, StructArray,
    UInt32Array, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Date32Type, FieldRef};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use metaxy_core::FeatureKey;
use metaxy_core::error::Result as CoreResult;
use metaxy_core::schema::{self, trimmed};

/// The day 1970-01-01, counted from the first day of the year 1.
const UNIX_EPOCH_DAYS_FROM_CE: i32 = 719_163;

/// Values in another type of the same meaning: members of structs by their names, null where there is none, all else by
/// a cast that fails rather than loses a value.
pub(crate) fn conform(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(members)) => {
            let given = array.as_struct();
            let columns = members
                .iter()
                .map(|member| match given.column_by_name(member.name()) {
                    Some(column) => conform(column, member.data_type()),
                    None => Ok(new_null_array(member.data_type(), given.len())),
                })
                .collect::<Result<Vec<_>, _>>()?;
            let nulls = given.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(members.clone(), columns, nulls, given.len())?))
        }
        (DataType::List(_), DataType::List(item)) => conform_list(array.as_list::<i32>(), item),
        (DataType::LargeList(_), DataType::List(item)) => conform_list(array.as_list::<i64>(), item),
        (
            DataType::FixedSizeList(from, _) | DataType::ListView(from) | DataType::LargeListView(from),
            DataType::List(_),
        ) => conform(&plain_cast(array, &DataType::List(from.clone()))?, target),
        (DataType::Map(_, _), DataType::Map(entries, sorted)) => {
            let given = array.as_map();
            let DataType::Struct(pair) = entries.data_type() else { return plain_cast(array, target) };
            let (offsets, _) = trimmed(given.offsets(), given.keys())?;
            let columns = pair
                .iter()
                .zip([given.keys(), given.values()])
                .map(|(field, values)| conform(&trimmed::<_, i32>(given.offsets(), values)?.1, field.data_type()))
                .collect::<Result<Vec<_>, _>>()?;
            let values = StructArray::try_new(pair.clone(), columns, None)?;
            Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, values, given.nulls().cloned(), *sorted)?))
        }
        _ => plain_cast(array, target),
    }
}

fn conform_list<O: OffsetSizeTrait>(list: &GenericListArray<O>, item: &FieldRef) -> Result<ArrayRef, ArrowError> {
    let (offsets, values) = trimmed(list.offsets(), list.values())?;
    let values = conform(&values, item.data_type())?;
    Ok(Arc::new(ListArray::try_new(item.clone(), offsets, values, list.nulls().cloned())?))
}

fn plain_cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, target, &CastOptions { safe: false, ..CastOptions::default() })
}

/// The value of a partition, as the log has it, for so many rows.
pub(crate) fn partition_values(value: Option<&str>, stored: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
    let Some(text) = value.filter(|text| !text.is_empty()) else { return Ok(new_null_array(stored, rows)) };
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let one = match stored {
        // Without a zone of its own, a moment is meant in UTC.
        DataType::Timestamp(unit, Some(_)) => plain_cast(&text, &DataType::Timestamp(*unit, Some("+00:00".into())))?,
        _ => text,
    };
    let one = plain_cast(&one, stored)?;
    take(&one, &UInt32Array::from(vec![0; rows]), None)
}

/// Values of a table as those of its files.
pub(crate) fn stored(table: &FeatureKey, column: &str, array: &ArrayRef, target: &DataType) -> CoreResult<ArrayRef> {
    let stored = schema::convert(table, column, array, target)?;
    if in_calendar(&stored) {
        return Ok(stored);
    }
    Err(schema::misfit(&table.table_name(), column, &stored, target, in_calendar))
}

/// Whether all dates, at any depth, are of the years that statistics can be made of.
fn in_calendar(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Date32 => array.as_primitive::<Date32Type>().iter().flatten().all(|days| {
            let days = days.checked_add(UNIX_EPOCH_DAYS_FROM_CE);
            days.is_some_and(|days| NaiveDate::from_num_days_from_ce_opt(days).is_some())
        }),
        DataType::Struct(_) => array.as_struct().columns().iter().all(in_calendar),
        DataType::List(_) => in_calendar(array.as_list::<i32>().values()),
        DataType::Map(_, _) => array.as_map().entries().columns().iter().all(in_calendar),
        _ => true,
    }
}
