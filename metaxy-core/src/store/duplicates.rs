//! One row for each sample in a write: readers could not tell which of two counts.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};

use crate::engine::{self, Table};
use crate::error::{Error, Result};
use crate::spec::FeatureSpec;

/// What a write does with several rows of one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Refuses the write with [`Error::DuplicateId`].
    #[default]
    Error,
    /// Writes the last one, in the order of the batches and their rows.
    Last,
}

/// Returns one row for each sample, or the error that names a sample with several.
pub(super) fn one_row_each(
    spec: &FeatureSpec,
    schema: &SchemaRef,
    batches: Vec<RecordBatch>,
    duplicates: Duplicates,
) -> Result<Vec<RecordBatch>> {
    if engine::ids_increase(&batches, &spec.id_columns)? {
        return Ok(batches);
    }
    let table = Table::new(schema.clone(), batches)?;
    let last = engine::last_rows(&table, &spec.id_columns)?;
    match (last.repeated, duplicates) {
        (None, _) => Ok(table.into_batches()),
        (Some(_), Duplicates::Last) => table.retain(&last.rows),
        (Some((row, count)), Duplicates::Error) => {
            let id = shown_id(&table.take_in_one(&[row])?, &spec.id_columns, 0)?;
            Err(Error::DuplicateId { feature: spec.key.clone(), id, count })
        }
    }
}

/// Returns the ids of a row for messages: `video_id=7, part=2`.
pub(super) fn shown_id(batch: &RecordBatch, ids: &[String], row: usize) -> Result<String> {
    let options = FormatOptions::default().with_display_error(true);
    let shown = |id: &String| -> Result<String> {
        let array = batch.column(batch.schema_ref().index_of(id)?);
        let text: String = ArrayFormatter::try_new(array, &options)?.value(row).to_string().chars().take(100).collect();
        Ok(format!("{id}={text}"))
    };
    Ok(ids.iter().map(shown).collect::<Result<Vec<_>>>()?.join(", "))
}
