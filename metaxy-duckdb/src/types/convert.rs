//! Converts values between a type and the one in which DuckDB stores it.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray, make_array,
    new_null_array,
};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Decimal128Type, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;

/// Converts an array into another type with the same values: between a type and the one in which it is stored.
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
        (T::Timestamp(from, _), T::Timestamp(unit, _)) => {
            let plain = reinterpret(array, &T::Timestamp(*from, None))?;
            reinterpret(&exactly(&plain, &T::Timestamp(*unit, None))?, to)
        }
        (T::Date64, T::Timestamp(TimeUnit::Millisecond, None))
        | (T::Timestamp(TimeUnit::Millisecond, None), T::Date64) => reinterpret(array, to),
        (T::Int64, T::Duration(_) | T::Time64(_)) | (T::Duration(_) | T::Time64(_), T::Int64) => reinterpret(array, to),
        (T::Time64(_), T::Time32(_)) | (T::Float32, T::Float16) => exactly(array, to),
        _ => cast(array, to),
    }
}

/// Casts an array without changing a value: another program may have written values finer than the type in a comment.
fn exactly(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let there = cast(array, to)?;
    let (back, given) = (cast(&there, array.data_type())?, array);
    match not_distinct(&back, given)?.false_count() {
        0 => Ok(there),
        count => Err(ArrowError::CastError(format!("{count} values are finer than {to}"))),
    }
}

fn cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Returns the same 64-bit values with another type.
fn reinterpret(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    Ok(make_array(array.to_data().into_builder().data_type(to.clone()).build()?))
}

/// Matches members by position: DuckDB may have needed other names.
fn structure_as(array: &StructArray, members: &Fields) -> Result<ArrayRef, ArrowError> {
    if members.len() != array.num_columns() {
        return Err(ArrowError::CastError(format!("{} members instead of {}", array.num_columns(), members.len())));
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

/// Returns the row of the first value that cannot be stored as another type, and the reason.
pub(crate) fn first_misfit(array: &ArrayRef, wire: &DataType) -> Option<(usize, ArrowError)> {
    let (mut rows, mut error) = (0..array.len(), keep(array, wire).err()?);
    while rows.len() > 1 {
        let half = rows.start + rows.len() / 2;
        rows = match keep(&array.slice(rows.start, half - rows.start), wire) {
            Ok(_) => half..rows.end,
            Err(_) => rows.start..half,
        };
        error = keep(&array.slice(rows.start, rows.len()), wire).err()?;
    }
    Some((rows.start, error))
}

/// Converts values into the type in which DuckDB stores them.
pub(crate) fn keep(array: &ArrayRef, wire: &DataType) -> Result<ArrayRef, ArrowError> {
    let array = convert(array, wire)?;
    check_values(&array).map(|()| array)
}

/// Refuses decimals with more digits than their type has, which DuckDB would cut off.
fn check_values(array: &ArrayRef) -> Result<(), ArrowError> {
    match array.data_type() {
        DataType::Decimal128(precision, _) => {
            array.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision)
        }
        DataType::List(_) => check_values(array.as_list::<i32>().values()),
        DataType::FixedSizeList(_, _) => check_values(array.as_fixed_size_list().values()),
        DataType::Map(_, _) => array.as_map().entries().columns().iter().try_for_each(check_values),
        DataType::Struct(_) => array.as_struct().columns().iter().try_for_each(check_values),
        _ => Ok(()),
    }
}
