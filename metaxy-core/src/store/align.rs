//! Brings batches into the schema of the table that they are written to.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

use crate::error::{Error, Result};
use crate::key::FeatureKey;

/// The batches in one schema: the columns that any of them has, each in the type that the table has it in, or, where it
/// has none, in the type of the first batch that brings it.
pub(crate) fn align(
    key: &FeatureKey,
    table: Option<&SchemaRef>,
    batches: Vec<RecordBatch>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let schema = target_schema(key, table, &batches)?;
    let aligned = batches.iter().map(|batch| align_batch(key, &schema, batch)).collect::<Result<_>>()?;
    Ok((schema, aligned))
}

/// The schema of a table after rows of `given` are appended: its own columns, then the new ones, with the members that a
/// struct column gains. For backends that keep the schema of a table themselves.
///
/// # Errors
/// [`Error::TypeMismatch`] where a column of the same name holds something else, because another writer was faster.
pub fn grown_schema(table: &FeatureKey, stored: &Schema, given: &Schema) -> Result<SchemaRef> {
    let mut fields: Vec<FieldRef> = stored.fields().iter().cloned().collect();
    for field in given.fields() {
        match fields.iter_mut().find(|own| own.name() == field.name()) {
            Some(own) => {
                let merged = merged_type(table, field.name(), own.data_type(), field.data_type())?;
                *own = Arc::new(own.as_ref().clone().with_data_type(merged).with_nullable(true));
            }
            None => fields.push(field.clone()),
        }
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, stored.metadata().clone())))
}

/// A batch in a schema that has grown since the batch was stored: columns and struct members that it lacks are null.
///
/// # Errors
/// [`Error::TypeMismatch`] where a column is of another type altogether.
pub fn conform(table: &FeatureKey, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    if batch.schema_ref() == schema { Ok(batch.clone()) } else { align_batch(table, schema, batch) }
}

fn target_schema(key: &FeatureKey, table: Option<&SchemaRef>, batches: &[RecordBatch]) -> Result<SchemaRef> {
    let mut order: Vec<String> = Vec::new();
    let mut fields: HashMap<String, FieldRef> = HashMap::new();
    for given in batches.iter().flat_map(|batch| batch.schema_ref().fields().iter()) {
        let name = given.name();
        let known = fields
            .get(name)
            .cloned()
            .or_else(|| table.and_then(|table| table.field_with_name(name).ok()).map(|field| Arc::new(field.clone())));
        let in_table = table.is_some_and(|table| table.column_with_name(name).is_some());
        let target = match &known {
            // The first batch that has a value decides.
            Some(known) if *known.data_type() == DataType::Null && !in_table => {
                Arc::new(given.as_ref().clone().with_nullable(true))
            }
            Some(known) => {
                Arc::new(Field::new(name, merged_type(key, name, known.data_type(), given.data_type())?, true))
            }
            None => Arc::new(given.as_ref().clone().with_nullable(true)),
        };
        if fields.insert(name.clone(), target).is_none() {
            order.push(name.clone());
        }
    }
    let fields: Fields = order.iter().filter_map(|name| fields.remove(name)).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The stored type, with the members that a given struct has beside those that are stored.
fn merged_type(key: &FeatureKey, column: &str, stored: &DataType, given: &DataType) -> Result<DataType> {
    match (stored, given) {
        (DataType::Struct(stored), DataType::Struct(given)) => {
            let mut members: Vec<FieldRef> = Vec::with_capacity(stored.len());
            for member in stored {
                let other = given.iter().find(|other| other.name() == member.name());
                let data_type = match other {
                    Some(other) => merged_type(key, column, member.data_type(), other.data_type())?,
                    None => member.data_type().clone(),
                };
                members.push(Arc::new(member.as_ref().clone().with_data_type(data_type).with_nullable(true)));
            }
            let is_new = |other: &&FieldRef| !stored.iter().any(|member| member.name() == other.name());
            members.extend(given.iter().filter(is_new).map(|m| Arc::new(m.as_ref().clone().with_nullable(true))));
            Ok(DataType::Struct(members.into()))
        }
        _ if stored == given || *given == DataType::Null || fits(given, stored) => Ok(stored.clone()),
        _ => Err(mismatch(key, column, stored, given)),
    }
}

/// Whether values of one type can be stored as another without losing anything; single values that do not fit are found
/// when they are cast.
fn fits(given: &DataType, stored: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal32, Decimal64, Decimal128, Decimal256, Dictionary, FixedSizeBinary,
    };
    use DataType::{
        FixedSizeList, LargeBinary, LargeList, LargeListView, LargeUtf8, List, ListView, Map, RunEndEncoded, Struct,
        Time32, Time64, Timestamp, Utf8, Utf8View,
    };
    let text = |t: &DataType| matches!(t, Utf8 | LargeUtf8 | Utf8View);
    let binary = |t: &DataType| matches!(t, Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
    match (given, stored) {
        (Dictionary(_, value), _) => value.as_ref() == stored || fits(value, stored),
        (RunEndEncoded(_, value), _) => value.data_type() == stored || fits(value.data_type(), stored),
        (given, stored) if given.is_integer() && stored.is_integer() => true,
        (given, stored) if given.is_integer() && stored.is_floating() => true,
        (given, stored) if given.is_floating() && stored.is_floating() => true,
        (given, Decimal128(_, _) | Decimal256(_, _)) if given.is_integer() => true,
        (
            Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _),
            Decimal32(_, _) | Decimal64(_, _) | Decimal128(_, _) | Decimal256(_, _),
        ) => true,
        (given, stored) if text(given) && text(stored) => true,
        (given, stored) if binary(given) && binary(stored) => true,
        (Timestamp(_, from), Timestamp(_, to)) => from.is_some() == to.is_some(),
        (Date32 | Date64, Date32 | Date64) | (Time32(_) | Time64(_), Time32(_) | Time64(_)) => true,
        (
            List(from) | LargeList(from) | FixedSizeList(from, _) | ListView(from) | LargeListView(from),
            List(to) | LargeList(to) | FixedSizeList(to, _),
        ) => from.data_type() == to.data_type() || fits(from.data_type(), to.data_type()),
        (Map(from, _), Map(to, _)) => same_shape(from.data_type(), to.data_type()),
        (Struct(_), Map(_, _)) => by_field_map(stored),
        _ => false,
    }
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

/// Whether a column is a by-field column that is stored as a map of strings.
fn by_field_map(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Map(entries, _) if matches!(entries.data_type(), DataType::Struct(_)))
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

/// Values in the type of a column; an error where one of them would not be the same there.
pub(super) fn convert(key: &FeatureKey, column: &str, array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    if array.data_type() == target {
        return Ok(array.clone());
    }
    if *array.data_type() == DataType::Null {
        return Ok(new_null_array(target, array.len()));
    }
    match (array.data_type(), target) {
        (DataType::Struct(_), DataType::Struct(members)) => {
            let array = array.as_struct();
            let columns = members
                .iter()
                .map(|member| match array.column_by_name(member.name()) {
                    Some(own) => convert(key, column, own, member.data_type()),
                    None => Ok(new_null_array(member.data_type(), array.len())),
                })
                .collect::<Result<Vec<_>>>()?;
            Ok(Arc::new(StructArray::try_new_with_length(
                members.clone(),
                columns,
                array.nulls().cloned(),
                array.len(),
            )?))
        }
        (DataType::Struct(_), DataType::Map(_, _)) => struct_to_map(array.as_struct(), target),
        (given, _) if !can_cast_types(given, target) => Err(mismatch(key, column, target, given)),
        (given, _) => {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            let cast = cast_with_options(array, target, &options).map_err(|_| mismatch(key, column, target, given))?;
            check_lossless(key, column, array, &cast)?;
            Ok(cast)
        }
    }
}

/// Values that came out of a narrowing cast changed would be lost without a word.
fn check_lossless(key: &FeatureKey, column: &str, given: &ArrayRef, cast: &ArrayRef) -> Result<()> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let comparable = with_free_lists(given.data_type());
    let back = cast_with_options(cast, &comparable, &options)?;
    let given = cast_with_options(given, &comparable, &options)?;
    let encoded = matches!(given.data_type(), DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _));
    if encoded || back.to_data() == given.to_data() {
        return Ok(());
    }
    let equal_or_nan =
        arrow::compute::kernels::cmp::not_distinct(&back, &given).is_ok_and(|mask| mask.false_count() == 0);
    if equal_or_nan { Ok(()) } else { Err(mismatch(key, column, cast.data_type(), given.data_type())) }
}

/// The type with lists of any length in the place of those of a fixed one: arrow's cast to the latter panics on some nulls.
fn with_free_lists(data_type: &DataType) -> DataType {
    let free = |item: &FieldRef| Arc::new(item.as_ref().clone().with_data_type(with_free_lists(item.data_type())));
    match data_type {
        DataType::FixedSizeList(item, _) | DataType::List(item) => DataType::List(free(item)),
        DataType::LargeList(item) => DataType::LargeList(free(item)),
        other => other.clone(),
    }
}

/// A by-field struct as the map that another program has stored it in.
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

fn mismatch(key: &FeatureKey, column: &str, stored: &DataType, given: &DataType) -> Error {
    Error::TypeMismatch {
        table: key.table_name(),
        column: column.to_owned(),
        stored: stored.to_string(),
        given: given.to_string(),
    }
}
