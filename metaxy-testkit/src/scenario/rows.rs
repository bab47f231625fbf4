//! Converts rows between JSON and Arrow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    StructArray, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use metaxy_core::{Error, Result, columns};
use serde_json::{Number, Value};

use super::{Row, Samples};

/// Builds a batch from rows: the user columns with their types, then the system columns of the rows.
///
/// # Errors
/// [`Error::Unsupported`] for a type that does not exist, [`Error::Arrow`] for a value that is not of its type.
pub fn record_batch(samples: &Samples) -> Result<RecordBatch> {
    let rows = &samples.rows;
    let mut arrays: Vec<(String, ArrayRef)> = Vec::new();
    for (name, kind) in &samples.columns {
        arrays.push((name.clone(), user_column(rows, name, &data_type(kind)?)?));
    }
    for name in columns::ALL {
        if rows.iter().any(|row| row.get(name).is_some_and(|value| !value.is_null())) {
            arrays.push((name.to_owned(), system_column(rows, name)?));
        }
    }
    let fields: Vec<_> = arrays.iter().map(|(name, array)| Field::new(name, array.data_type().clone(), true)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    let arrays = arrays.into_iter().map(|(_, array)| array).collect();
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

fn data_type(name: &str) -> Result<DataType> {
    Ok(match name {
        "string" | "str" | "utf8" => DataType::Utf8,
        "int" | "int64" => DataType::Int64,
        "float" | "float64" | "double" => DataType::Float64,
        "bool" | "boolean" => DataType::Boolean,
        "date" => DataType::Date32,
        "timestamp" | "datetime" => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => other_type(other).ok_or_else(|| Error::Unsupported {
            what: format!("a scenario column of type `{name}`"),
            hint: "use string, int64, float64, bool, or an Arrow type as Arrow spells it".to_owned(),
        })?,
    })
}

/// Parses `int32` as Arrow's `Int32`, and everything that Arrow itself can parse.
fn other_type(name: &str) -> Option<DataType> {
    let capital = name.replacen("uint", "UInt", 1).replacen("int", "Int", 1).replacen("float", "Float", 1);
    name.parse().or_else(|_| capital.parse()).ok()
}

fn user_column(rows: &[Row], name: &str, data_type: &DataType) -> Result<ArrayRef> {
    let values = rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
    let array: ArrayRef = match data_type {
        DataType::Boolean => Arc::new(values.map(Value::as_bool).collect::<BooleanArray>()),
        DataType::UInt64 => Arc::new(values.map(Value::as_u64).collect::<UInt64Array>()),
        other if other.is_integer() => Arc::new(values.map(Value::as_i64).collect::<Int64Array>()),
        other if other.is_floating() => Arc::new(values.map(Value::as_f64).collect::<Float64Array>()),
        _ => Arc::new(values.map(text).collect::<StringArray>()),
    };
    Ok(cast(&array, data_type)?)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn system_column(rows: &[Row], name: &str) -> Result<ArrayRef> {
    let values = || rows.iter().map(|row| row.get(name).unwrap_or(&Value::Null));
    let members: BTreeSet<String> = values().filter_map(Value::as_object).flat_map(Row::keys).cloned().collect();
    if values().any(Value::is_object) {
        let fields = columns::by_field_fields(&members);
        let member = |member: &String| -> ArrayRef {
            Arc::new(values().map(|value| value.get(member).and_then(text)).collect::<StringArray>())
        };
        let valid = NullBuffer::from_iter(values().map(Value::is_object));
        return Ok(Arc::new(StructArray::try_new(fields, members.iter().map(member).collect(), Some(valid))?));
    }
    let array: ArrayRef = Arc::new(values().map(text).collect::<StringArray>());
    match columns::field(name, Vec::<String>::new()) {
        Some(field) if matches!(field.data_type(), DataType::Timestamp(_, _)) => Ok(cast(&array, field.data_type())?),
        _ => Ok(array),
    }
}

/// Converts batches into rows of a scenario: user columns and the four version columns, without nulls.
///
/// # Errors
/// [`Error::Arrow`] for a type that cannot be converted.
pub fn json_rows(batches: &[RecordBatch]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in batches {
        let schema = batch.schema();
        let shown: Vec<(&String, &ArrayRef)> = schema
            .fields()
            .iter()
            .map(|field| field.name())
            .zip(batch.columns())
            .filter(|(name, _)| is_compared(name))
            .collect();
        for index in 0..batch.num_rows() {
            let mut row = Row::new();
            for (name, array) in &shown {
                row.insert((*name).clone(), json_value(array, index)?);
            }
            rows.push(normalized(&row));
        }
    }
    Ok(rows)
}

/// Returns whether a column is compared.
fn is_compared(name: &str) -> bool {
    !name.starts_with("metaxy_") || columns::VERSIONS.contains(&name)
}

/// Returns a row in the form for comparisons: without other system columns and nulls, members sorted, integers written as
/// such.
pub(super) fn normalized(row: &Row) -> Row {
    let shown = row.iter().filter(|(name, value)| is_compared(name) && !value.is_null());
    shown.map(|(name, value)| (name.clone(), normalized_value(value))).collect()
}

fn normalized_value(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().filter(|(_, value)| !value.is_null()).collect();
            Value::Object(sorted.into_iter().map(|(name, value)| (name.clone(), normalized_value(value))).collect())
        }
        Value::Number(number) if number.is_f64() => {
            // `2.0` and `2` are the same value; beyond 2^53 not every integer is a float.
            let whole = number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0);
            whole.map_or_else(|| value.clone(), |float| Value::from(float as i64))
        }
        other => other.clone(),
    }
}

/// Returns a value as JSON; values that JSON cannot represent are texts.
fn json_value(array: &ArrayRef, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    let float = |value: f64| Number::from_f64(value).map_or_else(|| Value::from(value.to_string()), Value::Number);
    Ok(match array.data_type() {
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(row)),
        DataType::Float32 => float(array.as_primitive::<Float32Type>().value(row).into()),
        DataType::UInt64 => {
            let value = cast(&array.slice(row, 1), &DataType::UInt64)?;
            Value::from(value.as_primitive::<arrow::datatypes::UInt64Type>().value(0))
        }
        other if other.is_integer() => {
            let value = cast(&array.slice(row, 1), &DataType::Int64)?;
            Value::from(value.as_primitive::<arrow::datatypes::Int64Type>().value(0))
        }
        DataType::Struct(fields) => {
            let members = array.as_struct();
            let member = |(position, field): (usize, &Arc<Field>)| {
                Ok((field.name().clone(), json_value(members.column(position), row)?))
            };
            Value::Object(fields.iter().enumerate().map(member).collect::<Result<_>>()?)
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let member = |entry: usize| {
                let name = json_value(entries.column(0), entry)?;
                let name = name.as_str().map_or_else(|| name.to_string(), str::to_owned);
                Ok((name, json_value(entries.column(1), entry)?))
            };
            Value::Object((0..entries.len()).map(member).collect::<Result<_>>()?)
        }
        DataType::List(_) => json_items(&array.as_list::<i32>().value(row))?,
        DataType::LargeList(_) => json_items(&array.as_list::<i64>().value(row))?,
        _ => Value::from(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).try_to_string()?),
    })
}

fn json_items(items: &ArrayRef) -> Result<Value> {
    Ok(Value::Array((0..items.len()).map(|item| json_value(items, item)).collect::<Result<_>>()?))
}
