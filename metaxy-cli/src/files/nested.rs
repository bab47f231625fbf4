//! Nested values as JSON texts, for files that hold none.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;

/// Returns a batch whose nested columns are JSON texts.
pub fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = flat_schema(batch.schema_ref());
    let arrays = batch.columns().iter().map(|array| match array.data_type().is_nested() {
        true => json_texts(array),
        false => Ok(array.clone()),
    });
    RecordBatch::try_new(schema, arrays.collect::<Result<_, _>>()?)
}

/// Returns a schema whose nested columns are texts.
pub fn flat_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type().is_nested() {
        true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
        false => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Returns the values of a column as JSON texts.
fn json_texts(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    // The writer writes objects: each value is put into one, as its only member.
    let field = Arc::new(Field::new("v", array.data_type().clone(), true));
    let objects = StructArray::try_new(vec![field].into(), vec![array.clone()], None)?;
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
    writer.write(&RecordBatch::from(objects))?;
    writer.finish()?;
    let text = String::from_utf8_lossy(&bytes);
    let values = text.lines().map(|line| line.strip_prefix("{\"v\":").and_then(|line| line.strip_suffix('}')));
    let values = values.enumerate().map(|(row, text)| text.filter(|_| !array.is_null(row)));
    Ok(Arc::new(StringArray::from_iter(values)))
}
