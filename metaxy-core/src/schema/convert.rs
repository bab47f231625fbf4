//! Converts batches into the schema of the table to which they are written.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::error::{Error, Result};
use crate::fence;
use crate::key::FeatureKey;

use super::grow::{is_version_text, merged_type, mismatch};
use super::plain::{new_column, plain_array, plain_batches, plain_type};
use super::reshape::reshape;
use super::untyped::{joined, typed};

/// Converts the batches into one schema: all their columns, each in the type of the table, or else in the type of the
/// first batch in which it has one. Columns without a type in any batch are left out.
pub(crate) fn align(
    key: &FeatureKey,
    table: Option<&SchemaRef>,
    batches: Vec<RecordBatch>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let batches: Vec<RecordBatch> = batches.into_iter().map(plain_batches).collect::<Result<Vec<_>>>()?.concat();
    let schema = target_schema(key, table, &batches)?;
    let aligned = batches.iter().map(|batch| align_batch(key, &schema, batch)).collect::<Result<_>>()?;
    Ok((schema, aligned))
}

/// Converts a batch into a schema that has grown since the batch was stored. Missing columns and struct members are
/// null.
///
/// # Errors
/// [`Error::TypeMismatch`] if a column has an incompatible type.
pub fn conform(table: &FeatureKey, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    if batch.schema_ref() == schema { Ok(batch.clone()) } else { align_batch(table, schema, batch) }
}

/// Returns all columns of the batches, in the order in which they occur: each in the type of the table, or else in that
/// of the batches.
fn target_schema(key: &FeatureKey, table: Option<&SchemaRef>, batches: &[RecordBatch]) -> Result<SchemaRef> {
    let mut order: Vec<String> = Vec::new();
    let mut targets: HashMap<String, Field> = HashMap::new();
    for given in batches.iter().flat_map(|batch| batch.schema_ref().fields().iter()) {
        let name = given.name();
        let stored = table.and_then(|table| table.field_with_name(name).ok());
        let target = match (targets.get(name), stored) {
            (Some(known), Some(_)) => {
                Field::new(name, merged_type(key, name, known.data_type(), given.data_type())?, true)
            }
            // A column that the table lacks gets the most specific type; the values of other batches have to fit into
            // it.
            (Some(known), None) => {
                let joined = joined(known.data_type(), &plain_type(given.data_type()));
                merged_type(key, name, &joined, given.data_type())?;
                known.clone().with_data_type(joined)
            }
            (None, Some(stored)) => {
                Field::new(name, merged_type(key, name, stored.data_type(), given.data_type())?, true)
            }
            (None, None) => new_column(given),
        };
        if targets.insert(name.clone(), target).is_none() {
            order.push(name.clone());
        }
    }
    let settled = |name: &String| {
        let field = targets.remove(name)?;
        let data_type = match table.is_some_and(|table| table.column_with_name(name).is_some()) {
            true => field.data_type().clone(),
            false => typed(field.data_type())?,
        };
        Some(field.with_data_type(data_type))
    };
    let fields: Vec<Field> = order.iter().filter_map(settled).collect();
    Ok(Arc::new(Schema::new(fields)))
}

fn align_batch(key: &FeatureKey, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(array) => convert(key, field.name(), array, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows)),
        })
        .collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Converts values into the type of a column. Struct members are matched by name, at any depth.
///
/// # Errors
/// [`Error::TypeMismatch`] if the types are incompatible, [`Error::InvalidValue`] if a value would change.
pub fn convert(table: &FeatureKey, column: &str, array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    reshape(&plain_array(array)?, target, &|array: &ArrayRef, target: &DataType| match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Map(_, _)) => struct_to_map(array.as_struct(), target),
        (given, target) if is_version_text(column, given, target) => version_of_text(table, column, array, target),
        _ => cast_exactly(table, column, array, target),
    })
}

/// Parses a data version from its text, which has to be the one from which its hash is computed.
fn version_of_text(table: &FeatureKey, column: &str, array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let values = cast_with_options(array, target, &options)?;
    let texts = crate::engine::text(&values)?;
    let given = array.as_string::<i32>();
    let other = (0..given.len()).find(|row| {
        given.is_valid(*row) != texts.is_valid(*row) || (given.is_valid(*row) && given.value(*row) != texts.value(*row))
    });
    let Some(row) = other else { return Ok(values) };
    let version: String = given.value(row).chars().take(80).collect();
    Err(Error::InvalidValue {
        table: table.table_name(),
        column: column.to_owned(),
        row,
        reason: format!("the data version `{version}` cannot be stored as {target} without change; correct it"),
    })
}

fn refusal(table: &FeatureKey, column: &str, target: &DataType, array: &ArrayRef) -> Error {
    mismatch(&table.table_name(), column, target, array.data_type())
}

/// Casts an array without changing a value.
fn cast_exactly(table: &FeatureKey, column: &str, array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if !can_cast_types(array.data_type(), target) {
        return Err(refusal(table, column, target, array));
    }
    cast_or_none(array, target).ok_or_else(|| {
        misfit(&table.table_name(), column, array, target, |value| cast_or_none(value, target).is_some())
    })
}

/// Casts values into another type. Returns `None` if one of them would change. Some of arrow's casts multiply without a
/// check for overflow, which panics in debug builds and gives a wrong value in others.
fn cast_or_none(array: &ArrayRef, target: &DataType) -> Option<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let cast = || {
        let cast = cast_with_options(array, target, &options).ok()?;
        is_lossless(array, &cast).is_ok_and(|same| same).then_some(cast)
    };
    fence::catch(cast).ok().flatten()
}

/// Returns the error of a column that cannot be cast to `target`: [`Error::InvalidValue`] with the first row whose
/// value alone cannot be cast; [`Error::TypeMismatch`] if each can.
pub fn misfit(
    table: &str,
    column: &str,
    array: &ArrayRef,
    target: &DataType,
    fits: impl Fn(&ArrayRef) -> bool,
) -> Error {
    let Some(row) = (0..array.len()).find(|row| !fits(&array.slice(*row, 1))) else {
        return mismatch(table, column, target, array.data_type());
    };
    let shown = ArrayFormatter::try_new(array, &FormatOptions::default().with_display_error(true));
    let shown = shown.map_or_else(|_| "the value".to_owned(), |shown| shown.value(row).to_string());
    let short: String = shown.chars().take(80).collect();
    Error::InvalidValue {
        table: table.to_owned(),
        column: column.to_owned(),
        row,
        reason: format!(
            "{short} ({}) cannot be stored as {target} without change; correct it, or use another column",
            array.data_type()
        ),
    }
}

/// Returns whether values that are cast back are unchanged.
fn is_lossless(given: &ArrayRef, cast: &ArrayRef) -> Result<bool> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let comparable = with_free_lists(given.data_type());
    let (back, given) =
        (cast_with_options(cast, &comparable, &options)?, cast_with_options(given, &comparable, &options)?);
    Ok(back.to_data() == given.to_data()
        // NaN is not equal to itself.
        || arrow::compute::kernels::cmp::not_distinct(&back, &given).is_ok_and(|mask| mask.false_count() == 0))
}

/// Replaces lists of a fixed length by lists of any length in a type: arrow's cast to the former panics on some nulls.
fn with_free_lists(data_type: &DataType) -> DataType {
    let free = |item: &FieldRef| Arc::new(item.as_ref().clone().with_data_type(with_free_lists(item.data_type())));
    match data_type {
        DataType::FixedSizeList(item, _) | DataType::List(item) => DataType::List(free(item)),
        DataType::LargeList(item) => DataType::LargeList(free(item)),
        other => other.clone(),
    }
}

/// Converts a by-field struct into a map, as another program has stored it.
fn struct_to_map(array: &StructArray, target: &DataType) -> Result<ArrayRef> {
    use arrow::array::{MapBuilder, MapFieldNames, StringBuilder};
    let DataType::Map(entries, _) = target else { unreachable!("called for maps") };
    let DataType::Struct(pair) = entries.data_type() else { unreachable!("a map has entries") };
    let names =
        MapFieldNames { entry: entries.name().clone(), key: pair[0].name().clone(), value: pair[1].name().clone() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(pair[0].clone())
        .with_values_field(pair[1].clone());
    let columns: Vec<_> = array.columns().iter().map(crate::engine::text).collect::<Result<_>>()?;
    for row in 0..array.len() {
        for (name, values) in array.column_names().iter().zip(&columns) {
            if array.is_valid(row) && values.is_valid(row) {
                builder.keys().append_value(name);
                builder.values().append_value(values.value(row));
            }
        }
        builder.append(array.is_valid(row))?;
    }
    Ok(Arc::new(builder.finish()))
}
