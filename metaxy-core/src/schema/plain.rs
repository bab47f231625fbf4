//! Decodes dictionaries and runs into plain values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, LargeListArray, ListArray, MapArray, RecordBatch, RecordBatchOptions,
    StructArray,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};

use crate::error::{Error, Result};

use super::sizes::row_bytes;
use super::untyped::of_type;

/// The size of the parts in which rows are expanded, far below the 2 GiB that 32-bit offsets can address.
const EXPANDED_BYTES: usize = 256 << 20;

/// Returns the type of the values, without dictionaries and runs at any depth.
pub fn plain_type(data_type: &DataType) -> DataType {
    let item = |item: &FieldRef| of_type(item, plain_type(item.data_type()));
    match data_type {
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::RunEndEncoded(_, values) => plain_type(values.data_type()),
        DataType::List(inner) => DataType::List(item(inner)),
        DataType::LargeList(inner) => DataType::LargeList(item(inner)),
        DataType::ListView(inner) => DataType::ListView(item(inner)),
        DataType::LargeListView(inner) => DataType::LargeListView(item(inner)),
        DataType::FixedSizeList(inner, size) => DataType::FixedSizeList(item(inner), *size),
        DataType::Map(entries, sorted) => DataType::Map(item(entries), *sorted),
        DataType::Struct(members) => DataType::Struct(members.iter().map(item).collect()),
        other => other.clone(),
    }
}

/// Returns whether a type contains a dictionary or runs.
fn has_encoding(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) | DataType::LargeListView(item) => {
            has_encoding(item.data_type())
        }
        DataType::FixedSizeList(item, _) | DataType::Map(item, _) => has_encoding(item.data_type()),
        DataType::Struct(members) => members.iter().any(|member| has_encoding(member.data_type())),
        _ => false,
    }
}

/// Decodes rows, into as many batches as their expanded values need.
pub(crate) fn plain_batches(batch: RecordBatch) -> Result<Vec<RecordBatch>> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| has_encoding(field.data_type())) {
        return Ok(vec![batch]);
    }
    let bytes: usize = batch.columns().iter().map(expanded_bytes).sum();
    if bytes > EXPANDED_BYTES && batch.num_rows() > 1 {
        let half = batch.num_rows() / 2;
        let mut parts = plain_batches(batch.slice(0, half))?;
        parts.extend(plain_batches(batch.slice(half, batch.num_rows() - half))?);
        return Ok(parts);
    }
    let columns = batch.columns().iter().map(plain_array).collect::<Result<Vec<_>>>()?;
    let plain = |(field, array): (&FieldRef, &ArrayRef)| of_type(field, array.data_type().clone());
    let fields: Fields = schema.fields().iter().zip(&columns).map(plain).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    Ok(vec![RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?])
}

/// Decodes an array into its [`plain_type`].
pub(crate) fn plain_array(array: &ArrayRef) -> Result<ArrayRef> {
    if !has_encoding(array.data_type()) {
        return Ok(array.clone());
    }
    let bytes = expanded_bytes(array);
    if bytes > i32::MAX as usize {
        return Err(Error::LimitExceeded {
            what: format!("{bytes} bytes of values behind one dictionary or run"),
            limit: "2 GiB in one batch".to_owned(),
            hint: "cut the batch into smaller ones".to_owned(),
        });
    }
    match array.data_type() {
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            Ok(take(&plain_array(dictionary.values())?, dictionary.keys(), None)?)
        }
        DataType::RunEndEncoded(_, values) => plain_array(&cast(array, values.data_type())?),
        _ => plain_children(array),
    }
}

/// Decodes the children of nested values.
fn plain_children(array: &ArrayRef) -> Result<ArrayRef> {
    let (nulls, length) = (array.nulls().cloned(), array.len());
    let item = |field: &FieldRef, values: &ArrayRef| -> Result<(FieldRef, ArrayRef)> {
        let values = plain_array(values)?;
        Ok((of_type(field, values.data_type().clone()), values))
    };
    Ok(match array.data_type() {
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            let (field, values) = item(field, list.values())?;
            Arc::new(ListArray::try_new(field, list.offsets().clone(), values, nulls)?)
        }
        DataType::LargeList(field) => {
            let list = array.as_list::<i64>();
            let (field, values) = item(field, list.values())?;
            Arc::new(LargeListArray::try_new(field, list.offsets().clone(), values, nulls)?)
        }
        DataType::FixedSizeList(field, size) => {
            let list = array.as_fixed_size_list();
            let (field, values) = item(field, list.values())?;
            Arc::new(FixedSizeListArray::try_new_with_length(field, *size, values, nulls, length)?)
        }
        DataType::ListView(field) => plain_children(&cast(array, &DataType::List(field.clone()))?)?,
        DataType::LargeListView(field) => plain_children(&cast(array, &DataType::LargeList(field.clone()))?)?,
        DataType::Map(field, sorted) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = plain_children(&entries)?;
            let field = of_type(field, entries.data_type().clone());
            let entries = entries.as_struct().clone();
            Arc::new(MapArray::try_new(field, map.offsets().clone(), entries, nulls, *sorted)?)
        }
        DataType::Struct(members) => {
            let parts = members.iter().zip(array.as_struct().columns()).map(|(member, values)| item(member, values));
            let (fields, values): (Vec<_>, Vec<_>) = parts.collect::<Result<Vec<_>>>()?.into_iter().unzip();
            Arc::new(StructArray::try_new_with_length(fields.into(), values, nulls, length)?)
        }
        _ => array.clone(),
    })
}

/// Returns the bytes that the values of an array take without encodings.
fn expanded_bytes(array: &ArrayRef) -> usize {
    row_bytes(array).into_iter().sum()
}

/// Returns the column of a new table: of plain type, and nullable.
pub(super) fn new_column(field: &Field) -> Field {
    field.clone().with_data_type(plain_type(field.data_type())).with_nullable(true)
}
