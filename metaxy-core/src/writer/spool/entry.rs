//! The form of a batch in a file: framed, with the name of its feature.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};

use crate::columns;
use crate::error::{Error, Result};
use crate::fence;
use crate::ipc;
use crate::key::{FeatureKey, InvalidKey};

const FEATURE: &str = "metaxy.feature";

pub(super) fn encode(feature: &FeatureKey, batch: &RecordBatch) -> Result<Vec<u8>> {
    let mut metadata: HashMap<String, String> = batch.schema_ref().metadata().clone();
    metadata.insert(FEATURE.to_owned(), feature.to_string());
    let schema = Arc::new(Schema::new_with_metadata(batch.schema_ref().fields().clone(), metadata));
    ipc::encode(&schema, &[batch.clone().with_schema(schema.clone())?])
}

/// Returns the feature and its rows. Earlier versions have written files without a frame.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Result<(FeatureKey, RecordBatch)> {
    let (schema, batches) = match ipc::is_bare(bytes) {
        true => ipc::decode_bare(name, bytes)?,
        false => ipc::decode(name, bytes)?,
    };
    fence::decode(name, || {
        batches.iter().try_for_each(check_rows).map_err(|reason| damaged(name, reason))?;
        let mut metadata = schema.metadata().clone();
        let feature = metadata.remove(FEATURE).ok_or_else(|| damaged(name, "it names no feature"))?;
        let feature =
            feature.parse().map_err(|error: InvalidKey| damaged(name, error.to_string()).with_source(error))?;
        let schema = Arc::new(Schema::new_with_metadata(schema.fields().clone(), metadata));
        let batch = joined(schema, &batches)?;
        if batch.num_rows() == 0 { Err(damaged(name, "it has no rows")) } else { Ok((feature, batch)) }
    })
}

/// Concatenates the rows of a file, which is settled as a whole.
fn joined(schema: SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    let batch = concat_batches(batches.first().map_or(&schema, RecordBatch::schema_ref), batches)?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)?)
}

/// Checks that the rows have a time, as all rows of a writer do. Its bytes also confirm the number of rows.
fn check_rows(batch: &RecordBatch) -> Result<(), &'static str> {
    let time = batch.column_by_name(columns::UPDATED_AT).ok_or("its rows have no time")?;
    match time.data_type() == &columns::timestamp_type() && time.null_count() == 0 {
        true => Ok(()),
        false => Err("its rows have no time"),
    }
}

fn damaged(name: &str, reason: impl Into<String>) -> Error {
    Error::corrupt(name, reason)
}
