//! Checkpoints as bytes: an Arrow IPC file of one row, with the positions in the metadata of its schema.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StructArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ipc;
use crate::key::FeatureKey;

use super::{Checkpoint, Contents, Mark, Serving};

/// The entry of the metadata.
const HEADER: &str = "metaxy.checkpoint";
/// The name of a checkpoint in errors.
const NAME: &str = "a checkpoint";
/// The columns: lists of keys, and two structs whose members are the columns of the increment.
const OPEN: &str = "open";
const EXPECTED: &str = "expected";
const ORPHANED: &str = "orphaned";

#[derive(Serialize, Deserialize)]
struct Header {
    feature: FeatureKey,
    definition: String,
    marks: Vec<Mark>,
    serving: Vec<Serving>,
}

impl Checkpoint {
    /// Returns the checkpoint as bytes, for a file or a database.
    ///
    /// # Errors
    /// [`Error::Arrow`] for ids that Arrow's file format cannot represent.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let contents = self.contents();
        let header = Header {
            feature: contents.feature.clone(),
            definition: contents.definition.clone(),
            marks: contents.marks.clone(),
            serving: contents.serving.clone(),
        };
        let header = serde_json::to_string(&header).unwrap_or_default();
        let shape = |schema: &SchemaRef| new_null_array(&DataType::Struct(schema.fields().clone()), 1);
        let mut columns: Vec<(&str, ArrayRef)> =
            vec![(EXPECTED, shape(&contents.expected)), (ORPHANED, shape(&contents.orphaned))];
        for keys in &contents.open {
            columns.push((OPEN, list_of_one(keys)?));
        }
        let fields: Vec<Field> =
            columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
        let metadata = HashMap::from([(HEADER.to_owned(), header)]);
        let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        ipc::encode(&schema, &[RecordBatch::try_new(schema.clone(), arrays)?])
    }

    /// Reads a checkpoint of [`to_bytes`](Self::to_bytes).
    ///
    /// # Errors
    /// [`Error::Corrupt`] for other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (schema, batches) = ipc::decode(NAME, bytes)?;
        let contents = contents_of(&schema, &batches)
            .ok_or_else(|| Error::corrupt(NAME, "it was written by another version of this library; remove it"))?;
        Ok(Self::new(contents))
    }
}

fn contents_of(schema: &SchemaRef, batches: &[RecordBatch]) -> Option<Contents> {
    let Header { feature, definition, marks, serving } = serde_json::from_str(schema.metadata().get(HEADER)?).ok()?;
    let [row] = batches else { return None };
    let of_keys = schema.fields().iter().zip(row.columns()).filter(|(field, _)| field.name() == OPEN);
    let open = of_keys.map(|(_, list)| keys_of(list)).collect::<Option<Vec<_>>>()?;
    let shape = |name: &str| match schema.field_with_name(name).ok()?.data_type() {
        DataType::Struct(fields) => Some(Arc::new(Schema::new(fields.clone()))),
        _ => None,
    };
    let (expected, orphaned) = (shape(EXPECTED)?, shape(ORPHANED)?);
    Some(Contents { feature, definition, marks, serving, open, expected, orphaned })
}

fn keys_of(list: &ArrayRef) -> Option<RecordBatch> {
    let keys = list.as_list_opt::<i32>().filter(|list| list.len() == 1)?.value(0);
    Some(RecordBatch::from(keys.as_struct_opt().filter(|keys| keys.null_count() == 0)?.clone()))
}

/// Returns rows as the only value of a list.
fn list_of_one(rows: &RecordBatch) -> Result<ArrayRef> {
    let rows = StructArray::from(rows.clone());
    let item = Arc::new(Field::new_list_field(rows.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths([rows.len()]);
    Ok(Arc::new(ListArray::try_new(item, offsets, Arc::new(rows), None)?))
}
